//! Corrections in the SQLite file. Each transaction is one write of the writer thread.

use std::path::Path;

use async_trait::async_trait;
use futures::FutureExt;
use proto_json::alarms::LimitScope;
use proto_json::wards::{AdmissionRecord, Ward};
use proto_json::{
    Correction, CorrectionAction, CorrectionId, CorrectionState, EcgRecord, EcgStatus, Fate, FormerName,
    HeartRateRecord, ImageRecord, Mrn, PatientSummary, RecordId, RetentionBody, RetentionReport, StreamId,
    Timestamp, UploadId, WardId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::corrections::latest::{self, NEWEST};
use crate::corrections::retention::{self, PATIENTS, TRANSACTIONS};
use crate::corrections::transaction::Transaction;
use crate::corrections::{MergedItem, StoredCorrection, begin, steps};
use crate::waveforms::StoredStream;
use crate::{
    BlobKey, CorrectionOutcome, CorrectionReader, CorrectionStep, Corrections, NewCorrection, StoreError,
    StoredUpload,
};

use super::failure::broken;
use super::rows::{self, required};
use super::{SqliteStore, blobs, lists, uploads, wards, waveforms};

/// Newest former names that are read; a patient has few.
const FORMER_NAMES: usize = 100;

/// A transaction of the writer. No operation waits, so its futures are ready at once.
struct SqliteTransaction<'a>(&'a Connection);

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let waits = || StoreError::Corrupt("a transaction of the SQLite store has waited".to_owned());
    future.now_or_never().unwrap_or_else(|| Err(waits()))
}

/// The patient that an upload for `addressed_to` is stored with; `None` if the patient or the upload was erased.
pub(super) fn receiver(
    db: &Connection,
    upload: UploadId,
    addressed_to: Mrn,
) -> Result<Option<Mrn>, StoreError> {
    if is_erased(db, *upload.as_uuid())? {
        return Ok(None);
    }
    Ok(match ready(begin::fate_of(&mut SqliteTransaction(db), addressed_to))? {
        None => Some(addressed_to),
        Some(Fate::Merged { into, .. }) => Some(into),
        Some(Fate::Erased { .. }) => None,
    })
}

/// Whether the patient of a number is erased.
pub(super) fn is_number_erased(db: &Connection, mrn: Mrn) -> Result<bool, StoreError> {
    Ok(matches!(ready(begin::fate_of(&mut SqliteTransaction(db), mrn))?, Some(Fate::Erased { .. })))
}

/// Whether an upload or a stream belonged to an erased patient.
pub(super) fn is_erased(db: &Connection, item: Uuid) -> Result<bool, StoreError> {
    lists::one(db, &rows::ERASED, "id", item.as_bytes(), |_| Ok(())).map(|found| found.is_some())
}

fn is_held(db: &Connection, mrn: Mrn) -> Result<bool, StoreError> {
    lists::one(db, &rows::HOLDS, "mrn", &rows::number(mrn), |_| Ok(())).map(|found| found.is_some())
}

fn fate(db: &Connection, mrn: Mrn) -> Result<Option<Fate>, StoreError> {
    let content = |row: &Row<'_>| rows::parse(&row.get::<_, String>("content")?);
    lists::one(db, &rows::FATES, "mrn", &rows::number(mrn), content)
}

fn correction_row(row: &Row<'_>) -> Result<StoredCorrection, StoreError> {
    rows::parse(&row.get::<_, String>("content")?)
}

fn correction(db: &Connection, id: CorrectionId) -> Result<Option<StoredCorrection>, StoreError> {
    lists::one(db, &rows::CORRECTIONS, "id", id.as_uuid().as_bytes(), correction_row)
}

fn corrections_of(db: &Connection, mrn: Mrn, limit: usize) -> Result<Vec<StoredCorrection>, StoreError> {
    let table = rows::CORRECTION_PATIENTS;
    let sql = format!("{} WHERE mrn = ?1 ORDER BY at DESC, id DESC LIMIT ?2", table.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![rows::number(mrn), limit])?;
    let mut ids: Vec<[u8; 16]> = Vec::new();
    while let Some(row) = found.next()? {
        ids.push(required(&table, row, |row| Ok(row.get("id")?))?);
    }
    let mut corrections = Vec::new();
    for id in ids {
        let id = CorrectionId::from_uuid(Uuid::from_bytes(id));
        corrections.push(correction(db, id)?.ok_or_else(|| broken("correction", "it is missing"))?);
    }
    Ok(corrections)
}

fn running(db: &Connection) -> Result<Vec<StoredCorrection>, StoreError> {
    let sql = format!("{} WHERE running = 1 ORDER BY at", rows::CORRECTIONS.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query([])?;
    let mut corrections = Vec::new();
    while let Some(row) = found.next()? {
        corrections.push(required(&rows::CORRECTIONS, row, correction_row)?);
    }
    Ok(corrections)
}

fn put_correction(db: &Connection, stored: &StoredCorrection) -> Result<(), StoreError> {
    let correction = &stored.correction;
    let id = correction.id.as_uuid().as_bytes();
    let at = correction.at.as_millis();
    delete_correction_patients(db, correction.id)?;
    for mrn in &correction.patients {
        rows::CORRECTION_PATIENTS.put(db, params![rows::number(*mrn), at, id])?;
    }
    Ok(rows::CORRECTIONS.put(db, params![id, at, stored.is_running(), rows::json(stored)?])?)
}

fn delete_correction_patients(db: &Connection, id: CorrectionId) -> Result<(), StoreError> {
    let Some(known) = correction(db, id)? else { return Ok(()) };
    let mut delete =
        db.prepare_cached("DELETE FROM correction_patients WHERE mrn = ?1 AND at = ?2 AND id = ?3")?;
    for mrn in &known.correction.patients {
        let at = known.correction.at.as_millis();
        delete.execute(params![rows::number(*mrn), at, id.as_uuid().as_bytes()])?;
    }
    Ok(())
}

/// Deletes the row with this id.
fn delete_by_id(db: &Connection, table: &str, id: &Uuid) -> Result<(), StoreError> {
    Ok(db
        .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
        .execute([id.as_bytes()])
        .map(drop)?)
}

/// Rows of a history before a time, oldest first.
fn old<T>(
    db: &Connection,
    table: &sqlite::Table,
    (mrn, before, limit): (Mrn, Timestamp, usize),
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let sql = format!("{} WHERE mrn = ?1 AND at < ?2 ORDER BY at, id LIMIT ?3", table.select());
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query(params![rows::number(mrn), before.as_millis(), limit])?;
    let mut records = Vec::new();
    while let Some(row) = found.next()? {
        records.push(required(table, row, &read)?);
    }
    Ok(records)
}

/// Deletes, or only counts, some of the rows that `from` selects by number and time. Returns how many.
fn delete_old(
    db: &Connection,
    from: &str,
    (mrn, before, limit): (Mrn, Timestamp, usize),
    delete: bool,
) -> Result<usize, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT id FROM {from} LIMIT ?3");
    let mut statement = db.prepare_cached(&sql)?;
    let found =
        statement.query_map(params![rows::number(mrn), before.as_millis(), limit], |row| row.get(0))?;
    let ids = found.collect::<rusqlite::Result<Vec<[u8; 16]>>>()?;
    if delete && let Some((table, _)) = from.split_once(' ') {
        for id in &ids {
            delete_by_id(db, table, &Uuid::from_bytes(*id))?;
        }
    }
    Ok(ids.len())
}

/// Tables with a column `mrn` that corrections handle themselves. The audit stays.
const OWN_TABLES: [&str; 10] = [
    "patients",
    "former_names",
    "heart_rates",
    "ecgs",
    "images",
    "uploads",
    "wave_streams",
    "correction_patients",
    "fates",
    "holds",
];

/// Tables of other parts of the system with data about patients.
fn other_tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached(
        "SELECT tables.name FROM sqlite_master AS tables
         JOIN pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND columns.name = 'mrn'",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_other = |name: &String| !OWN_TABLES.contains(&name.as_str()) && !name.starts_with("audit");
    Ok(names.into_iter().filter(is_other).collect())
}

impl Transaction for SqliteTransaction<'_> {
    type Error = StoreError;

    async fn patient(&mut self, mrn: Mrn) -> Result<Option<PatientSummary>, StoreError> {
        lists::patient(self.0, mrn)
    }

    async fn put_patient(&mut self, patient: &PatientSummary) -> Result<(), StoreError> {
        uploads::write_patient(self.0, patient)
    }

    async fn delete_patient(&mut self, mrn: Mrn) -> Result<(), StoreError> {
        self.0.prepare_cached("DELETE FROM patients WHERE mrn = ?1")?.execute([rows::number(mrn)])?;
        Ok(())
    }

    async fn upload(&mut self, id: UploadId) -> Result<Option<StoredUpload>, StoreError> {
        lists::upload(self.0, id)
    }

    async fn uploads_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredUpload>, StoreError> {
        let sql = format!("{} WHERE mrn = ?1 ORDER BY id LIMIT ?2", rows::UPLOADS.select());
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut found = statement.query(params![rows::number(mrn), limit])?;
        let mut uploads = Vec::new();
        while let Some(row) = found.next()? {
            uploads.push(required(&rows::UPLOADS, row, rows::upload)?);
        }
        Ok(uploads)
    }

    async fn put_upload(&mut self, upload: &StoredUpload) -> Result<(), StoreError> {
        let id = upload.receipt.upload_id;
        let mut stored_at = self.0.prepare_cached("SELECT stored_at FROM uploads WHERE id = ?1")?;
        let stored_at: i64 = stored_at.query_row([id.as_uuid().as_bytes()], |row| row.get(0))?;
        let mrn = upload.receipt.mrn;
        let values = params![
            id.as_uuid().as_bytes(),
            rows::number(mrn),
            upload.fingerprint.as_bytes(),
            stored_at,
            rows::json(&upload.receipt)?,
            upload.uploaded_by,
            (upload.addressed_to != mrn).then(|| rows::number(upload.addressed_to)),
        ];
        Ok(rows::UPLOADS.put(self.0, values)?)
    }

    async fn delete_upload(&mut self, id: UploadId) -> Result<(), StoreError> {
        delete_by_id(self.0, "uploads", id.as_uuid())
    }

    async fn ecg(&mut self, id: RecordId) -> Result<Option<EcgRecord>, StoreError> {
        lists::ecg(self.0, id)
    }

    async fn put_ecg(&mut self, ecg: &EcgRecord) -> Result<(), StoreError> {
        let mut options = self.0.prepare_cached("SELECT options FROM ecgs WHERE id = ?1")?;
        let options: Option<Option<String>> =
            options.query_row([ecg.id.as_uuid().as_bytes()], |row| row.get(0)).optional()?;
        let options = options.flatten().map(|options| rows::parse(&options)).transpose()?;
        let is_pending = ecg.status == EcgStatus::Pending;
        uploads::put_ecg(self.0, ecg, options.as_ref().filter(|_| is_pending))
    }

    async fn delete_ecg(&mut self, id: RecordId) -> Result<(), StoreError> {
        delete_by_id(self.0, "ecgs", id.as_uuid())
    }

    async fn image(&mut self, id: RecordId) -> Result<Option<ImageRecord>, StoreError> {
        lists::image(self.0, id)
    }

    async fn put_image(&mut self, image: &ImageRecord) -> Result<(), StoreError> {
        let values = params![
            rows::number(image.mrn),
            image.at.as_millis(),
            image.id.as_uuid().as_bytes(),
            image.upload_id.as_uuid().as_bytes(),
            rows::json(&image.file)?,
            rows::optional_json(image.entered_in_error.as_ref())?,
        ];
        Ok(rows::IMAGES.put(self.0, values)?)
    }

    async fn delete_image(&mut self, id: RecordId) -> Result<(), StoreError> {
        delete_by_id(self.0, "images", id.as_uuid())
    }

    async fn rate(&mut self, id: RecordId) -> Result<Option<HeartRateRecord>, StoreError> {
        lists::one(self.0, &rows::HEART_RATES, "id", id.as_uuid().as_bytes(), rows::heart_rate)
    }

    async fn put_rate(&mut self, before: &HeartRateRecord, rate: &HeartRateRecord) -> Result<(), StoreError> {
        self.delete_rate(before).await?;
        uploads::insert_heart_rate(self.0, rate)
    }

    async fn delete_rate(&mut self, rate: &HeartRateRecord) -> Result<(), StoreError> {
        let delete = "DELETE FROM heart_rates WHERE mrn = ?1 AND at = ?2 AND id = ?3";
        let key = params![rows::number(rate.mrn), rate.at.as_millis(), rate.id.as_uuid().as_bytes()];
        Ok(self.0.prepare_cached(delete)?.execute(key).map(drop)?)
    }

    async fn newest_rates(&mut self, mrn: Mrn) -> Result<Vec<HeartRateRecord>, StoreError> {
        Ok(lists::heart_rates(self.0, (mrn, None, NEWEST, false))?.items)
    }

    async fn newest_ecgs(&mut self, mrn: Mrn) -> Result<Vec<EcgRecord>, StoreError> {
        Ok(lists::ecgs(self.0, (mrn, None, NEWEST, false))?.items)
    }

    async fn newest_images(&mut self, mrn: Mrn) -> Result<Vec<ImageRecord>, StoreError> {
        Ok(lists::images(self.0, (mrn, None, NEWEST, false))?.items)
    }

    async fn old_rates(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<HeartRateRecord>, StoreError> {
        old(self.0, &rows::HEART_RATES, (mrn, before, limit), rows::heart_rate)
    }

    async fn old_ecgs(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<EcgRecord>, StoreError> {
        old(self.0, &rows::ECGS, (mrn, before, limit), rows::ecg)
    }

    async fn old_images(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ImageRecord>, StoreError> {
        old(self.0, &rows::IMAGES, (mrn, before, limit), rows::image)
    }

    async fn former_names(&mut self, mrn: Mrn) -> Result<Vec<FormerName>, StoreError> {
        lists::former_names(self.0, mrn, FORMER_NAMES)
    }

    async fn put_former_name(&mut self, mrn: Mrn, former: &FormerName) -> Result<(), StoreError> {
        uploads::insert_former_name(self.0, mrn, former)
    }

    async fn delete_former_name(&mut self, mrn: Mrn, former: &FormerName) -> Result<(), StoreError> {
        let delete = "DELETE FROM former_names WHERE mrn = ?1 AND replaced_at = ?2 AND upload_id = ?3";
        let upload = former.upload_id.as_uuid().as_bytes();
        let key = params![rows::number(mrn), former.replaced_at.as_millis(), upload];
        Ok(self.0.prepare_cached(delete)?.execute(key).map(drop)?)
    }

    async fn release_file(&mut self, key: BlobKey) -> Result<(), StoreError> {
        blobs::release(self.0, key)
    }

    async fn delete_files(&mut self, upload: UploadId, budget: &mut usize) -> Result<bool, StoreError> {
        blobs::delete_all(self.0, upload, budget)
    }

    async fn fate(&mut self, mrn: Mrn) -> Result<Option<Fate>, StoreError> {
        fate(self.0, mrn)
    }

    async fn put_fate(&mut self, mrn: Mrn, fate: &Fate) -> Result<(), StoreError> {
        Ok(rows::FATES.put(self.0, params![rows::number(mrn), rows::json(fate)?])?)
    }

    async fn delete_fate(&mut self, mrn: Mrn) -> Result<(), StoreError> {
        let deleted = self.0.prepare_cached("DELETE FROM fates WHERE mrn = ?1")?.execute([rows::number(mrn)]);
        Ok(deleted.map(drop)?)
    }

    async fn put_erased(&mut self, item: Uuid) -> Result<(), StoreError> {
        Ok(rows::ERASED.put(self.0, params![item.as_bytes()])?)
    }

    async fn is_held(&mut self, mrn: Mrn) -> Result<bool, StoreError> {
        is_held(self.0, mrn)
    }

    async fn set_held(&mut self, mrn: Mrn, held: bool) -> Result<(), StoreError> {
        if held {
            return Ok(rows::HOLDS.put(self.0, params![rows::number(mrn)])?);
        }
        let deleted = self.0.prepare_cached("DELETE FROM holds WHERE mrn = ?1")?.execute([rows::number(mrn)]);
        Ok(deleted.map(drop)?)
    }

    async fn correction(&mut self, id: CorrectionId) -> Result<Option<StoredCorrection>, StoreError> {
        correction(self.0, id)
    }

    async fn put_correction(&mut self, correction: &StoredCorrection) -> Result<(), StoreError> {
        put_correction(self.0, correction)
    }

    async fn delete_correction(&mut self, id: CorrectionId) -> Result<(), StoreError> {
        delete_correction_patients(self.0, id)?;
        delete_by_id(self.0, "corrections", id.as_uuid())
    }

    async fn corrections_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredCorrection>, StoreError> {
        corrections_of(self.0, mrn, limit)
    }

    async fn running(&mut self) -> Result<Vec<StoredCorrection>, StoreError> {
        running(self.0)
    }

    async fn put_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), StoreError> {
        let (kind, id) = item.parts();
        Ok(rows::MERGED_ITEMS.put(self.0, params![merge.as_uuid().as_bytes(), kind, id.as_bytes()])?)
    }

    async fn items(&mut self, merge: CorrectionId, limit: usize) -> Result<Vec<MergedItem>, StoreError> {
        let table = rows::MERGED_ITEMS;
        let sql = format!("{} WHERE merge = ?1 ORDER BY kind, id LIMIT ?2", table.select());
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut found = statement.query(params![merge.as_uuid().as_bytes(), limit])?;
        let mut items = Vec::new();
        while let Some(row) = found.next()? {
            items.push(required(&table, row, |row| {
                let item = MergedItem::of(row.get("kind")?, Uuid::from_bytes(row.get("id")?));
                item.ok_or_else(|| broken("merge", "it has moved something unknown"))
            })?);
        }
        Ok(items)
    }

    async fn delete_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), StoreError> {
        let (kind, id) = item.parts();
        let delete = "DELETE FROM merged_items WHERE merge = ?1 AND kind = ?2 AND id = ?3";
        let key = params![merge.as_uuid().as_bytes(), kind, id.as_bytes()];
        Ok(self.0.prepare_cached(delete)?.execute(key).map(drop)?)
    }

    async fn stream(&mut self, id: StreamId) -> Result<Option<StoredStream>, StoreError> {
        waveforms::find_stream(self.0, id)
    }

    async fn streams_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredStream>, StoreError> {
        waveforms::oldest_streams(self.0, mrn, limit)
    }

    async fn move_stream(&mut self, stream: &StoredStream, to: Mrn) -> Result<(), StoreError> {
        waveforms::move_stream(self.0, stream, to)
    }

    async fn delete_parts(&mut self, stream: StreamId, budget: &mut usize) -> Result<bool, StoreError> {
        waveforms::delete_parts(self.0, stream, budget)
    }

    async fn delete_stream(&mut self, stream: StreamId) -> Result<(), StoreError> {
        waveforms::delete_stream(self.0, stream)
    }

    async fn old_parts(
        &mut self,
        stream: &StoredStream,
        before_us: i64,
        limit: usize,
        delete: bool,
    ) -> Result<u64, StoreError> {
        waveforms::old_parts(self.0, stream, before_us, limit, delete)
    }

    async fn ward(&mut self, id: WardId) -> Result<Option<Ward>, StoreError> {
        wards::ward(self.0, id)
    }

    async fn put_ward(&mut self, ward: &Ward) -> Result<(), StoreError> {
        wards::put_ward(self.0, ward)
    }

    async fn stay(&mut self, id: RecordId) -> Result<Option<AdmissionRecord>, StoreError> {
        wards::stay(self.0, id)
    }

    async fn put_stay(&mut self, stay: &AdmissionRecord) -> Result<(), StoreError> {
        wards::put_stay(self.0, stay)
    }

    async fn stays_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<AdmissionRecord>, StoreError> {
        let sql = format!("{} WHERE mrn = ?1 ORDER BY at, id LIMIT ?2", rows::ADMISSIONS.select());
        let mut statement = self.0.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = statement.query(params![rows::number(mrn), limit])?;
        let mut stays = Vec::new();
        while let Some(row) = found.next()? {
            stays.push(required(&rows::ADMISSIONS, row, rows::admission)?);
        }
        Ok(stays)
    }

    async fn old_stays(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
        delete: bool,
    ) -> Result<usize, StoreError> {
        delete_old(
            self.0,
            "admissions WHERE mrn = ?1 AND at < ?2 AND bed IS NULL",
            (mrn, before, limit),
            delete,
        )
    }

    async fn old_alarms(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
        delete: bool,
    ) -> Result<usize, StoreError> {
        let ended = "alarms WHERE mrn = ?1 AND raised_at < ?2 AND is_open = 0";
        delete_old(self.0, ended, (mrn, before, limit), delete)
    }

    async fn delete_other_data(&mut self, mrn: Mrn) -> Result<(), StoreError> {
        for table in other_tables(self.0)? {
            self.0
                .prepare_cached(&format!("DELETE FROM {table} WHERE mrn = ?1"))?
                .execute([rows::number(mrn)])?;
        }
        self.0
            .prepare_cached("DELETE FROM alarm_limits WHERE scope = ?1")?
            .execute([LimitScope::Patient { mrn }.to_string()])?;
        self.0
            .prepare_cached(
                "UPDATE sessions SET grants = (
                     SELECT json_group_array(json(value)) FROM json_each(sessions.grants)
                     WHERE json_extract(value, '$.mrn') <> ?1
                 )
                 WHERE EXISTS (
                     SELECT 1 FROM json_each(sessions.grants) WHERE json_extract(value, '$.mrn') = ?1
                 )",
            )?
            .execute([rows::number(mrn)])?;
        Ok(())
    }
}

#[async_trait]
impl CorrectionReader for SqliteStore {
    async fn fate(&self, mrn: Mrn) -> Result<Option<Fate>, StoreError> {
        self.readers.read(move |db| ready(begin::fate_of(&mut SqliteTransaction(db), mrn))).await
    }

    async fn corrections(&self, mrn: Mrn, limit: usize) -> Result<Vec<Correction>, StoreError> {
        let found = self.readers.read(move |db| corrections_of(db, mrn, limit)).await?;
        Ok(found.into_iter().map(|stored| stored.correction).collect())
    }

    async fn is_erased(&self, item: Uuid) -> Result<bool, StoreError> {
        self.readers.read(move |db| is_erased(db, item)).await
    }
}

#[async_trait]
impl Corrections for SqliteStore {
    async fn correct(&self, correction: &NewCorrection) -> Result<CorrectionOutcome, StoreError> {
        let new = correction.clone();
        self.writer.write(move |db| ready(begin::begin(&mut SqliteTransaction(db), &new))).await
    }

    async fn running_corrections(&self) -> Result<Vec<CorrectionId>, StoreError> {
        let found = self.readers.read(running).await?;
        Ok(found.into_iter().map(|stored| stored.correction.id).collect())
    }

    async fn continue_correction(
        &self,
        id: CorrectionId,
        now: Timestamp,
    ) -> Result<CorrectionStep, StoreError> {
        self.writer.write(move |db| ready(steps::step(&mut SqliteTransaction(db), id, now))).await
    }

    /// Also empties the write-ahead log, which contains former versions of pages.
    async fn finish_erasure(&self, id: CorrectionId) -> Result<(), StoreError> {
        self.writer.clean_up().await?;
        self.writer.write(move |db| ready(steps::finish_erasure(&mut SqliteTransaction(db), id))).await
    }

    async fn discard_files(&self, upload: UploadId) -> Result<(), StoreError> {
        loop {
            let delete = move |db: &Connection| blobs::delete_all(db, upload, &mut { FILE_CHUNKS });
            if self.writer.write(delete).await? {
                return Ok(());
            }
        }
    }

    async fn retain(
        &self,
        rule: RetentionBody,
        now: Timestamp,
    ) -> Result<(RetentionReport, Vec<PatientSummary>), StoreError> {
        let mut progress = retention::Progress::new(rule, now);
        loop {
            let after = progress.last;
            let page = self.readers.read(move |db| lists::patients(db, None, after, PATIENTS)).await?;
            for patient in page.items {
                let (mrn, apply) = (patient.mrn, progress.apply);
                let retain = move |db: &Connection| {
                    ready(retention::retain(&mut SqliteTransaction(db), rule.kind, mrn, rule.before, apply))
                };
                loop {
                    let done = match apply {
                        Some(_) => self.writer.write(retain).await?,
                        None => self.readers.read(retain).await?,
                    };
                    if !progress.add(mrn, done) {
                        break;
                    }
                }
                if progress.transactions >= TRANSACTIONS {
                    break;
                }
            }
            if progress.is_complete(page.next.is_some()) {
                return Ok(progress.finish());
            }
        }
    }
}

/// Chunks of files that one transaction deletes.
const FILE_CHUNKS: usize = 64;

/// Applies the erasures of the SQLite file `from` to the file `to`, a restored backup that no process has open: the patients
/// are removed at once, and their data when ingest runs. Returns the number of erased numbers. `from` is not changed.
///
/// # Errors
/// When one of them cannot be read or written.
pub fn carry_erasures(from: &Path, to: &Path) -> Result<usize, StoreError> {
    let old = sqlite::open_reader(from)?;
    let exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'fates'";
    if !old.prepare(exists)?.exists([])? {
        // A file of an earlier version has no erasures.
        return Ok(0);
    }
    let mut numbers: Vec<(Mrn, CorrectionId, Fate)> = Vec::new();
    {
        let mut statement = old.prepare(&rows::FATES.select())?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let mrn = required(&rows::FATES, row, |row| rows::mrn(row.get("mrn")?))?;
            // A number that was merged into an erased patient is erased, too.
            let fate = ready(begin::fate_of(&mut SqliteTransaction(&old), mrn))?;
            if let Some(Fate::Erased { erasure, .. }) = fate {
                numbers.extend(fate.map(|fate| (mrn, erasure, fate)));
            }
        }
    }
    if numbers.is_empty() {
        return Ok(0);
    }
    let mut items: Vec<[u8; 16]> = Vec::new();
    {
        let mut statement = old.prepare(&rows::ERASED.select())?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            items.push(required(&rows::ERASED, row, |row| Ok(row.get("id")?))?);
        }
    }
    let mut file = sqlite::DatabaseFile::open(to, &super::schema::FORMAT)?;
    let restored = file.db.transaction()?;
    for (mrn, erasure, fate) in &numbers {
        let stored = correction(&old, *erasure)?.ok_or_else(|| broken("erasure", "it is missing"))?;
        ready(reapply(&mut SqliteTransaction(&restored), *mrn, fate, stored))?;
    }
    for item in &items {
        rows::ERASED.put(&restored, params![item])?;
        // An upload that was moved to an erased patient after the backup.
        let id = UploadId::from_uuid(Uuid::from_bytes(*item));
        let tx = &mut SqliteTransaction(&restored);
        let moved = lists::upload(&restored, id)?
            .filter(|upload| !numbers.iter().any(|(mrn, ..)| *mrn == upload.receipt.mrn));
        if let (Some(upload), Some((erased, ..))) = (moved, numbers.first()) {
            let (owner, version) = (upload.receipt.mrn, upload.receipt.version);
            ready(begin::move_upload(tx, upload, *erased, version))?;
            if let Some(patient) = lists::patient(&restored, owner)? {
                let now = patient.updated_at;
                ready(latest::refresh(tx, patient, now))?;
            }
        }
    }
    restored.commit()?;
    Ok(numbers.len())
}

/// Erases a number again, as a running correction.
async fn reapply(
    tx: &mut SqliteTransaction<'_>,
    mrn: Mrn,
    fate: &Fate,
    mut erasure: StoredCorrection,
) -> Result<(), StoreError> {
    let correction = &mut erasure.correction;
    if correction.action != (CorrectionAction::Erased { mrn }) {
        let id = RecordId::from_uuid(*correction.id.as_uuid()).derived(&mrn.to_string());
        correction.id = CorrectionId::from_uuid(*id.as_uuid());
        correction.action = CorrectionAction::Erased { mrn };
        correction.patients = vec![mrn];
    }
    correction.state = CorrectionState::Running;
    tx.delete_patient(mrn).await?;
    tx.put_fate(mrn, fate).await?;
    tx.put_correction(&erasure).await
}
