//! Reads of single records, histories and the list of patients.
//!
//! A flipped bit in a key or an index must not hide a record. So a range of rows is complete only if the checksums of the
//! keys match and the keys are in order, including the rows at both ends ([`Range`]). If a record is not found, the
//! neighbouring rows are verified ([`absent`]).

use std::cmp::Ordering;

use proto_json::wards::AdmissionRecord;
use proto_json::{
    CLOCK_TOLERANCE_MS, Cursor, DamagedRecord, EcgRecord, EcgStatus, ErrorMark, FormerName, HeartRateRecord,
    ImageRecord, Mrn, Page, PatientSummary, RecordId, Timestamp,
};
use rusqlite::{Connection, Row, ToSql, params};
use sqlite::Table;

use crate::records::{HistoryPart, Position, page};
use crate::search::Search;
use crate::{PendingEcg, StoreError, StoredUpload};

use super::failure::broken;
use super::rows::{self, Checked, checked, required};

/// Maximum number of damaged records that a page reports; with more, the list is an error.
const DAMAGED: usize = 100;

/// The records of a range of rows.
struct Range<T> {
    items: Vec<T>,
    damaged: Vec<DamagedRecord>,
}

impl<T> Range<T> {
    fn new() -> Self {
        Range { items: Vec::new(), damaged: Vec::new() }
    }

    fn add_damaged(&mut self, record: DamagedRecord) -> Result<(), StoreError> {
        if self.damaged.len() == DAMAGED {
            return Err(StoreError::Damaged(record));
        }
        self.damaged.push(record);
        Ok(())
    }

    fn into_page(self, limit: usize, cursor: impl Fn(&T) -> Cursor) -> Page<T> {
        Page { damaged: self.damaged, ..page(self.items, limit, cursor) }
    }
}

/// The error for an index entry that leads to a wrong row.
fn disordered(table: &Table) -> StoreError {
    StoreError::Corrupt(format!(
        "rows of {} are not in order, so an index is damaged; restore the file from a backup",
        table.name
    ))
}

pub(super) fn patient(connection: &Connection, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
    one(connection, &rows::PATIENTS, "mrn", &rows::number(mrn), rows::patient)
}

pub(super) fn ecg(connection: &Connection, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
    one(connection, &rows::ECGS, "id", id.as_uuid().as_bytes(), rows::ecg)
}

pub(super) fn image(connection: &Connection, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
    one(connection, &rows::IMAGES, "id", id.as_uuid().as_bytes(), rows::image)
}

pub(super) fn upload(
    connection: &Connection,
    id: proto_json::UploadId,
) -> Result<Option<StoredUpload>, StoreError> {
    one(connection, &rows::UPLOADS, "id", id.as_uuid().as_bytes(), rows::upload)
}

/// The newest former names of a patient.
pub(super) fn former_names(
    connection: &Connection,
    mrn: Mrn,
    limit: usize,
) -> Result<Vec<FormerName>, StoreError> {
    let table = rows::FORMER_NAMES;
    let order = "ORDER BY replaced_at DESC, upload_id DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(&format!("{} WHERE mrn = ?1 {order}", table.select()))?;
    let mut found = statement.query(params![rows::number(mrn), limit])?;
    let mut names = Vec::new();
    while let Some(row) = found.next()? {
        names.push(required(&table, row, rows::former_name)?);
    }
    Ok(names)
}

/// The row of `table` with this value in the column `key`, which has a unique index.
pub(super) fn one<K, T>(
    connection: &Connection,
    table: &Table,
    key: &str,
    value: &K,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError>
where
    K: ToSql + rusqlite::types::FromSql + Ord,
{
    let mut statement = connection.prepare_cached(&format!("{} WHERE {key} = ?1", table.select()))?;
    let mut found = statement.query([value])?;
    if let Some(row) = found.next()? {
        return required(table, row, |row| match row.get::<_, K>(key)?.cmp(value) {
            Ordering::Equal => read(row).map(Some),
            _ => Err(disordered(table)),
        });
    }
    absent(connection, table, key, value)?;
    Ok(None)
}

/// Verifies that a row that was not found does not exist: its neighbours must be in order.
fn absent<K>(connection: &Connection, table: &Table, key: &str, value: &K) -> Result<(), StoreError>
where
    K: ToSql + rusqlite::types::FromSql + Ord,
{
    let neighbours = [("<", "DESC", Ordering::Less), (">", "ASC", Ordering::Greater)];
    for (relation, direction, expected) in neighbours {
        let sql = format!("{} WHERE {key} {relation} ?1 ORDER BY {key} {direction} LIMIT 1", table.select());
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query([value])?;
        let Some(row) = found.next()? else { continue };
        if !table.verify(row)?.key {
            return Err(StoreError::Damaged(rows::damaged(table, row)?));
        }
        if row.get::<_, K>(key)?.cmp(value) != expected {
            return Err(disordered(table));
        }
    }
    Ok(())
}

pub(super) fn patients(
    connection: &Connection,
    search: Option<&Search>,
    after: Option<Mrn>,
    limit: usize,
) -> Result<Page<PatientSummary>, StoreError> {
    let table = rows::PATIENTS;
    let after = after.map_or(-1, rows::number);
    let matching = match search {
        None => "",
        // instr and substr have no wildcards, so nothing is escaped.
        Some(_) => " AND (instr(name_key, ?2) > 0 OR substr(mrn, 1, length(?3)) = ?3)",
    };
    let sql = format!("{} WHERE mrn > ?1{matching} ORDER BY mrn", table.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = match search {
        None => statement.query([after])?,
        Some(search) => statement.query(params![after, search.name, search.number])?,
    };
    let mut range = Range::new();
    while range.items.len() <= limit
        && let Some(row) = found.next()?
    {
        match checked(&table, row, rows::patient)? {
            Checked::Intact(patient) => range.items.push(patient),
            Checked::Damaged(record) => range.add_damaged(record)?,
        }
    }
    // A damaged row just before the beginning may hide others, or may belong after it.
    let sql = format!("{} WHERE mrn <= ?1 ORDER BY mrn DESC LIMIT 1", table.select());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query([after])?;
    if let Some(row) = found.next()?
        && !table.verify(row)?.key
    {
        range.add_damaged(rows::damaged(&table, row)?)?;
    }
    Ok(range.into_page(limit, |patient| Cursor::Patient(patient.mrn)))
}

/// All record numbers. A damaged record is an error, because this list cannot report it.
pub(super) fn mrns(connection: &Connection) -> Result<Vec<Mrn>, StoreError> {
    let table = rows::PATIENTS;
    let mut statement = connection.prepare_cached(&format!("{} ORDER BY mrn", table.select()))?;
    let mut found = statement.query([])?;
    let mut numbers = Vec::new();
    while let Some(row) = found.next()? {
        if !table.verify(row)?.key {
            return Err(StoreError::Damaged(rows::damaged(&table, row)?));
        }
        numbers.push(rows::mrn(row.get(0)?)?);
    }
    Ok(numbers)
}

/// The rows before a position, newest first. They are not limited to one patient: the first row of another patient proves
/// that the history ends there.
fn history_sql(table: &Table) -> String {
    format!("{} WHERE (mrn, at, id) < (?1, ?2, ?3) ORDER BY mrn DESC, at DESC, id DESC", table.select())
}

/// The row at the position, or the first one after it.
fn newer_sql(table: &Table) -> String {
    format!("{} WHERE (mrn, at, id) >= (?1, ?2, ?3) ORDER BY mrn, at, id LIMIT 1", table.select())
}

/// The columns that order a history.
type Key = (i64, i64, Vec<u8>);

fn key_of(row: &Row<'_>) -> Result<Key, StoreError> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// One page of a history, newest first.
fn history<T>(
    connection: &Connection,
    table: &Table,
    (mrn, after, limit, include_errors): HistoryPart,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    place: impl Fn(&T) -> Position,
    mark: impl Fn(&T) -> Option<&ErrorMark>,
) -> Result<Page<T>, StoreError> {
    let number = rows::number(mrn);
    let start: Key = match after {
        None => (number, i64::MAX, Vec::new()),
        Some((at, id)) => (number, at.as_millis(), id.as_uuid().as_bytes().to_vec()),
    };
    let bounds = params![start.0, start.1, start.2];
    let mut range = Range::new();
    let mut statement = connection.prepare_cached(&newer_sql(table))?;
    let mut found = statement.query(bounds)?;
    if let Some(row) = found.next()? {
        if !table.verify(row)?.key {
            range.add_damaged(rows::damaged(table, row)?)?;
        } else if key_of(row)? < start {
            return Err(disordered(table));
        }
    }
    let mut statement = connection.prepare_cached(&history_sql(table))?;
    let mut found = statement.query(bounds)?;
    let mut above = start;
    while range.items.len() <= limit
        && let Some(row) = found.next()?
    {
        let integrity = table.verify(row)?;
        if integrity.key {
            let key = key_of(row)?;
            if key >= above {
                return Err(disordered(table));
            }
            if key.0 != number {
                break;
            }
            above = key;
        }
        if integrity.row {
            let item = read(row)?;
            if include_errors || mark(&item).is_none() {
                range.items.push(item);
            }
        } else {
            range.add_damaged(rows::damaged(table, row)?)?;
        }
    }
    Ok(range.into_page(limit, |item| {
        let (at, id) = place(item);
        Cursor::Record(at, id)
    }))
}

pub(super) fn heart_rates(
    connection: &Connection,
    part: HistoryPart,
) -> Result<Page<HeartRateRecord>, StoreError> {
    history(
        connection,
        &rows::HEART_RATES,
        part,
        rows::heart_rate,
        |rate| (rate.at, rate.id),
        |rate| rate.entered_in_error.as_ref(),
    )
}

pub(super) fn ecgs(connection: &Connection, part: HistoryPart) -> Result<Page<EcgRecord>, StoreError> {
    history(
        connection,
        &rows::ECGS,
        part,
        rows::ecg,
        |ecg| (ecg.at, ecg.id),
        |ecg| ecg.entered_in_error.as_ref(),
    )
}

pub(super) fn images(connection: &Connection, part: HistoryPart) -> Result<Page<ImageRecord>, StoreError> {
    history(
        connection,
        &rows::IMAGES,
        part,
        rows::image,
        |image| (image.at, image.id),
        |image| image.entered_in_error.as_ref(),
    )
}

pub(super) fn admissions(
    connection: &Connection,
    part: (Mrn, Option<Position>, usize),
) -> Result<Page<AdmissionRecord>, StoreError> {
    let (mrn, after, limit) = part;
    let part = (mrn, after, limit, true);
    history(connection, &rows::ADMISSIONS, part, rows::admission, |stay| (stay.began.at, stay.id), |_| None)
}

/// ECGs that wait for their analysis, by a condition on the time of their receipt.
fn pending_sql(received: &str) -> String {
    let select = rows::ECGS.select();
    format!("{select} WHERE pending = 1 AND received_at {received} ?1 ORDER BY received_at, id LIMIT ?2")
}

/// ECGs that wait for their analysis. Damaged ones are left out: they cannot be analysed.
pub(super) fn pending(
    connection: &Connection,
    before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEcg>, StoreError> {
    let mut found = pending_by(connection, "<", before, limit)?;
    let in_future = now.plus_millis(CLOCK_TOLERANCE_MS);
    found.extend(pending_by(connection, ">", in_future, limit - found.len())?);
    Ok(found)
}

fn pending_by(
    connection: &Connection,
    received: &str,
    time: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEcg>, StoreError> {
    let mut statement = connection.prepare_cached(&pending_sql(received))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = statement.query(params![time.as_millis(), limit])?;
    let mut pending = Vec::new();
    while let Some(row) = found.next()? {
        match checked(&rows::ECGS, row, pending_ecg)? {
            Checked::Intact(ecg) => pending.push(ecg),
            Checked::Damaged(record) => {
                tracing::error!(kind = record.kind.name(), "a damaged ECG is not analysed");
            }
        }
    }
    Ok(pending)
}

fn pending_ecg(row: &Row<'_>) -> Result<PendingEcg, StoreError> {
    let ecg = rows::ecg(row)?;
    debug_assert_eq!(ecg.status, EcgStatus::Pending);
    Ok(PendingEcg {
        id: ecg.id,
        upload_id: ecg.upload_id,
        mrn: ecg.mrn,
        received_at: ecg.received_at,
        signal: ecg.signal.ok_or_else(|| broken("ECG", "it waits for analysis without a signal"))?,
        options: rows::parse(&row.get::<_, String>("options")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cost of a list does not depend on the length of the history.
    #[test]
    fn every_list_is_read_along_an_index_without_sorting() {
        let folder = tempfile::tempdir().unwrap();
        let file = sqlite::DatabaseFile::open(&folder.path().join("store.db"), &super::super::schema::FORMAT);
        let connection = file.unwrap().db;
        let mut queries = vec![(pending_sql("<"), "received_at<?"), (pending_sql(">"), "received_at>?")];
        for table in [rows::HEART_RATES, rows::ECGS, rows::IMAGES, rows::ADMISSIONS] {
            queries.push((history_sql(&table), "((mrn,at,id)<(?,?,?))"));
            queries.push((newer_sql(&table), "((mrn,at,id)>(?,?,?))"));
        }
        for (query, along) in queries {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let count = statement.parameter_count();
            let nothing = rusqlite::params_from_iter(vec![rusqlite::types::Null; count]);
            let steps = statement.query_map(nothing, |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert_eq!(steps.len(), 1, "{query}: {steps:?}");
            assert!(steps[0].starts_with("SEARCH") && steps[0].contains(along), "{query}: {steps:?}");
        }
    }
}
