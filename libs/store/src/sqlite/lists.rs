//! Reading: single records, histories and the list of patients.

use proto_json::{
    Bpm, CLOCK_TOLERANCE_MS, Cursor, EcgRecord, EcgStatus, HeartRateRecord, ImageRecord, Mrn, Page,
    PatientSummary, RecordId, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::records::{Place, page};
use crate::search::Search;
use crate::{PendingEcg, StoreError};

use super::failure::broken;
use super::rows;

/// Reads every row.
fn all<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read(row)?);
    }
    Ok(items)
}

pub(super) fn patient(connection: &Connection, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {} FROM patients WHERE mrn = ?1", rows::PATIENT))?;
    let mut found = statement.query([rows::number(mrn)])?;
    found.next()?.map(rows::patient).transpose()
}

pub(super) fn patients(
    connection: &Connection,
    search: Option<&Search>,
    after: Option<Mrn>,
    limit: usize,
) -> Result<Page<PatientSummary>, StoreError> {
    let after = after.map_or(-1, rows::number);
    let (columns, most) = (rows::PATIENT, (limit + 1) as i64);
    let items = match search {
        None => {
            let sql = format!("SELECT {columns} FROM patients WHERE mrn > ?1 ORDER BY mrn LIMIT ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            all(statement.query(params![after, most])?, rows::patient)?
        }
        // instr and substr know no wildcards, so there is nothing to escape.
        Some(search) => {
            let sql = format!(
                "SELECT {columns} FROM patients
                 WHERE mrn > ?1 AND (instr(name_key, ?3) > 0 OR substr(mrn, 1, length(?4)) = ?4)
                 ORDER BY mrn LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            all(statement.query(params![after, most, search.name, search.number])?, rows::patient)?
        }
    };
    Ok(page(items, limit, |patient| Cursor::Patient(patient.mrn)))
}

pub(super) fn mrns(connection: &Connection) -> Result<Vec<Mrn>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT mrn FROM patients ORDER BY mrn")?;
    all(statement.query([])?, |row| rows::mrn(row.get(0)?))
}

fn history_sql(columns: &str, table: &str, after: bool) -> String {
    let older = if after { "AND (at, id) < (?3, ?4)" } else { "" };
    format!("SELECT {columns} FROM {table} WHERE mrn = ?1 {older} ORDER BY at DESC, id DESC LIMIT ?2")
}

/// One page of a history, newest first. `columns` of `table` are read by `read`.
fn history<T>(
    connection: &Connection,
    (columns, table): (&str, &str),
    (mrn, after, limit): (Mrn, Option<Place>, usize),
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    place: impl Fn(&T) -> Place,
) -> Result<Page<T>, StoreError> {
    let most = (limit + 1) as i64;
    let mut statement = connection.prepare_cached(&history_sql(columns, table, after.is_some()))?;
    let found = match after {
        None => statement.query(params![rows::number(mrn), most])?,
        Some((at, id)) => {
            statement.query(params![rows::number(mrn), most, at.as_millis(), id.as_uuid().as_bytes()])?
        }
    };
    let items = all(found, read)?;
    Ok(page(items, limit, |item| {
        let (at, id) = place(item);
        Cursor::Record(at, id)
    }))
}

pub(super) fn heart_rates(
    connection: &Connection,
    part: (Mrn, Option<Place>, usize),
) -> Result<Page<HeartRateRecord>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(HeartRateRecord {
            id: rows::record_id(row.get(0)?),
            mrn: part.0,
            bpm: Bpm::new(row.get(1)?).map_err(|error| broken("heart rate", error))?,
            at: rows::time(row.get(2)?)?,
            source: rows::parse(&row.get::<_, String>(3)?)?,
            ecg_id: row.get::<_, Option<[u8; 16]>>(4)?.map(rows::record_id),
            received_at: row.get::<_, Option<i64>>(5)?.map(rows::time).transpose()?,
            recorded_at: row.get::<_, Option<i64>>(6)?.map(rows::time).transpose()?,
        })
    };
    let columns = "id, bpm, at, source, ecg_id, received_at, recorded_at";
    history(connection, (columns, "heart_rates"), part, read, |rate| (rate.at, rate.id))
}

pub(super) fn ecgs(
    connection: &Connection,
    part: (Mrn, Option<Place>, usize),
) -> Result<Page<EcgRecord>, StoreError> {
    let read = |row: &Row<'_>| rows::parse(&row.get::<_, String>(0)?);
    history(connection, ("record", "ecgs"), part, read, |ecg: &EcgRecord| (ecg.at, ecg.id))
}

pub(super) fn images(
    connection: &Connection,
    part: (Mrn, Option<Place>, usize),
) -> Result<Page<ImageRecord>, StoreError> {
    history(connection, (IMAGE, "images"), part, read_image, |image| (image.at, image.id))
}

/// Columns of [`read_image`].
const IMAGE: &str = "id, mrn, upload_id, at, file";

fn read_image(row: &Row<'_>) -> Result<ImageRecord, StoreError> {
    Ok(ImageRecord {
        id: rows::record_id(row.get(0)?),
        mrn: rows::mrn(row.get(1)?)?,
        upload_id: rows::upload_id(row.get(2)?),
        at: rows::time(row.get(3)?)?,
        file: rows::parse(&row.get::<_, String>(4)?)?,
    })
}

pub(super) fn ecg(connection: &Connection, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
    let record: Option<String> = connection
        .prepare_cached("SELECT record FROM ecgs WHERE id = ?1")?
        .query_row([id.as_uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    record.as_deref().map(rows::parse).transpose()
}

pub(super) fn image(connection: &Connection, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {IMAGE} FROM images WHERE id = ?1"))?;
    let mut found = statement.query([id.as_uuid().as_bytes()])?;
    found.next()?.map(read_image).transpose()
}

const PENDING: &str = "SELECT record, options FROM ecgs WHERE pending = 1 AND received_at < ?1
                       ORDER BY received_at, id LIMIT ?2";
const PENDING_IN_FUTURE: &str = "SELECT record, options FROM ecgs WHERE pending = 1 AND received_at > ?1
                                 ORDER BY received_at, id LIMIT ?2";

pub(super) fn pending(
    connection: &Connection,
    before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEcg>, StoreError> {
    let mut found = pending_by(connection, PENDING, before, limit)?;
    let in_future = now.plus_millis(CLOCK_TOLERANCE_MS);
    found.extend(pending_by(connection, PENDING_IN_FUTURE, in_future, limit - found.len())?);
    Ok(found)
}

fn pending_by(
    connection: &Connection,
    query: &str,
    time: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEcg>, StoreError> {
    let mut statement = connection.prepare_cached(query)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(statement.query(params![time.as_millis(), limit])?, |row| {
        let ecg: EcgRecord = rows::parse(&row.get::<_, String>(0)?)?;
        debug_assert_eq!(ecg.status, EcgStatus::Pending);
        Ok(PendingEcg {
            id: ecg.id,
            upload_id: ecg.upload_id,
            mrn: ecg.mrn,
            received_at: ecg.received_at,
            signal: ecg.signal.ok_or_else(|| broken("ECG", "it waits for analysis without a signal"))?,
            options: rows::parse(&row.get::<_, String>(1)?)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What makes the 10,000th upload cost the same as the first.
    #[test]
    fn every_list_is_read_along_an_index_without_sorting() {
        let folder = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open_writer(&folder.path().join("store.db")).unwrap();
        let mut queries = vec![PENDING.to_owned(), PENDING_IN_FUTURE.to_owned()];
        for (columns, table) in [("id, bpm", "heart_rates"), ("record", "ecgs"), (IMAGE, "images")] {
            queries.extend([false, true].map(|after| history_sql(columns, table, after)));
        }
        for query in queries {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let count = statement.parameter_count();
            let nothing = rusqlite::params_from_iter(vec![rusqlite::types::Null; count]);
            let steps = statement.query_map(nothing, |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert_eq!(steps.len(), 1, "{query}: {steps:?}");
            assert!(steps[0].starts_with("SEARCH") && steps[0].contains("USING"), "{query}: {steps:?}");
            if query.contains("?3") {
                assert!(steps[0].contains("(mrn=? AND (at,id)<(?,?))"), "{query}: {steps:?}");
            }
        }
    }
}
