//! Maintenance of the database: the scrub, the sweep of orphaned files, and the leases of both.
//!
//! The scrub compares documents with their checksums and files with their hashes. Pages and indexes have checksums of
//! WiredTiger, which it verifies on every read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc};
use proto_json::{BlobHash, DamagedRecord, RecordKind, Timestamp};
use uuid::Uuid;

use crate::{DiskSpace, Maintenance, ScrubPosition, ScrubState, ScrubStep, StoreError};

use super::alarms::{AlarmDocument, LimitsDocument, ReceiverDocument, RulesDocument};
use super::blobs::{self, FileDocument};
use super::corrections::{CorrectionDocument, FateDocument};
use super::documents::{
    self, EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, PatientDocument, UploadDocument,
};
use super::failure::{broken, insert, within};
use super::reading::all;
use super::sealed::{Sealed, unseal};
use super::users::UserDocument;
use super::wards::{AdmissionDocument, BedDocument, WardDocument};
use super::waveforms::{self, StreamDocument};
use super::{Db, MongoStore, audit, calls};

/// The collections of records, in the order of the scrub. The files follow.
const PARTS: &[&str] = &[
    "patients",
    "former_names",
    "heart_rates",
    "ecgs",
    "images",
    "uploads",
    "corrections",
    "fates",
    "waveform_streams",
    "waveform_pieces",
    "waveforms",
    "alarms",
    "alarm_limits",
    "alarm_rules",
    "alarm_receivers",
    "wards",
    "beds",
    "admissions",
    "users",
];
const FILES: &str = "files";
/// The audit, which is verified in one step.
const AUDIT: &str = "audit";
/// Collections whose ids are texts.
const TEXT_IDS: [&str; 2] = ["alarm_limits", "users"];

/// A step ends after this many bytes of files.
const BYTES: u64 = 8 << 20;

/// `_id` of the documents in `leases`.
const SCRUB: &str = "scrub";
const SWEEP: &str = "sweep";

#[async_trait]
impl Maintenance for MongoStore {
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        calls::run(&self.db, move |db| async move { scrub(&db, from, records).await }).await
    }

    async fn scrub_total(&self) -> Result<u64, StoreError> {
        calls::run(&self.db, |db| async move {
            let mut total = within(db.limit, db.files.estimated_document_count()).await?;
            let parts = [&db.patients, &db.former_names, &db.heart_rates, &db.ecgs, &db.images, &db.uploads];
            for records in parts {
                total += within(db.limit, records.estimated_document_count()).await?;
            }
            for records in [&db.alarms, &db.alarm_limits, &db.alarm_rules, &db.alarm_receivers] {
                total += within(db.limit, records.estimated_document_count()).await?;
            }
            for records in [&db.waveform_streams, &db.wards, &db.beds, &db.admissions] {
                total += within(db.limit, records.estimated_document_count()).await?;
            }
            total += within(db.limit, db.users.estimated_document_count()).await?;
            total += within(db.limit, db.audit.estimated_document_count()).await?;
            for waveforms in [&db.waveform_pieces, &db.waveforms] {
                total += within(db.limit, waveforms.estimated_document_count()).await?;
            }
            Ok(total)
        })
        .await
    }

    async fn lease_scrub(&self, holder: Uuid, lease: Duration) -> Result<Option<ScrubState>, StoreError> {
        let held = calls::run(&self.db, move |db| async move { acquire(&db, SCRUB, holder, lease).await });
        // A state that cannot be read is damaged: the round starts again.
        let state = |held: Document| serde_json::from_str(held.get_str("state").ok()?).ok();
        Ok(held.await?.map(|held| state(held).unwrap_or_default()))
    }

    async fn save_scrub(&self, holder: Uuid, state: &ScrubState) -> Result<(), StoreError> {
        let state = serde_json::to_string(state).map_err(|error| broken("value", error))?;
        calls::run(&self.db, move |db| async move {
            let held = doc! { "_id": SCRUB, "holder": documents::uuid(&holder) };
            within(db.limit, db.leases.update_one(held, doc! { "$set": { "state": state } })).await.map(drop)
        })
        .await
    }

    async fn lease_sweep(&self, holder: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let held = calls::run(&self.db, move |db| async move { acquire(&db, SWEEP, holder, lease).await });
        Ok(held.await?.is_some())
    }

    async fn sweep_orphans(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        calls::run(&self.db, move |db| async move { blobs::sweep(&db, before, limit).await }).await
    }

    async fn disk_space(&self) -> Result<Option<DiskSpace>, StoreError> {
        calls::run(&self.db, |db| async move {
            Ok(disk_space(&within(db.limit, db.database.run_command(doc! { "dbStats": 1 })).await?))
        })
        .await
    }
}

/// One step of the scrub.
async fn scrub(db: &Arc<Db>, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
    let ScrubPosition { part, after } = from.unwrap_or_else(|| begin(PARTS[0]));
    let place = after.as_deref();
    let after = place.map(|after| parse_id(&part, after)).transpose()?;
    let (mut step, last) = match part.as_str() {
        "patients" => check(db, &db.patients, after, records, intact::<PatientDocument>).await?,
        "former_names" => check(db, &db.former_names, after, records, intact::<FormerNameDocument>).await?,
        "heart_rates" => check(db, &db.heart_rates, after, records, intact::<HeartRateDocument>).await?,
        "ecgs" => check(db, &db.ecgs, after, records, intact::<EcgDocument>).await?,
        "images" => check(db, &db.images, after, records, intact::<ImageDocument>).await?,
        "uploads" => check(db, &db.uploads, after, records, intact::<UploadDocument>).await?,
        "corrections" => check(db, &db.corrections, after, records, intact::<CorrectionDocument>).await?,
        "fates" => check(db, &db.fates, after, records, intact::<FateDocument>).await?,
        "waveform_streams" => {
            check(db, &db.waveform_streams, after, records, intact::<StreamDocument>).await?
        }
        "waveform_pieces" => {
            let pieces = db.waveform_pieces.clone_with_type();
            check(db, &pieces, after, records, waveforms::intact_piece).await?
        }
        "waveforms" => {
            let chunks = db.waveforms.clone_with_type();
            check(db, &chunks, after, records, waveforms::intact_chunk).await?
        }
        "alarms" => check(db, &db.alarms, after, records, intact::<AlarmDocument>).await?,
        "alarm_limits" => check(db, &db.alarm_limits, after, records, intact::<LimitsDocument>).await?,
        "alarm_rules" => check(db, &db.alarm_rules, after, records, intact::<RulesDocument>).await?,
        "alarm_receivers" => {
            check(db, &db.alarm_receivers, after, records, intact::<ReceiverDocument>).await?
        }
        "wards" => check(db, &db.wards, after, records, intact::<WardDocument>).await?,
        "beds" => check(db, &db.beds, after, records, intact::<BedDocument>).await?,
        "admissions" => check(db, &db.admissions, after, records, intact::<AdmissionDocument>).await?,
        "users" => check(db, &db.users, after, records, intact::<UserDocument>).await?,
        AUDIT => {
            let verdict = audit::verify(db, None).await?;
            let damaged = verdict.defect.into_iter().map(|defect| format!("audit: {defect}")).collect();
            return Ok(ScrubStep { checked: verdict.verified, damaged, next: None });
        }
        _ => files(db, place, records).await?,
    };
    let following = PARTS.iter().position(|name| *name == part).map(|index| PARTS.get(index + 1));
    step.next = Some(match (last, following) {
        (Some(last), _) => ScrubPosition { part, after: Some(last) },
        (None, Some(following)) => begin(following.unwrap_or(&FILES)),
        (None, None) => begin(AUDIT),
    });
    Ok(step)
}

/// Acquires or renews a lease. Returns its document, or `None` while another process holds it.
pub(super) async fn acquire(
    db: &Db,
    name: &str,
    holder: Uuid,
    lease: Duration,
) -> Result<Option<Document>, StoreError> {
    let now = DateTime::now();
    let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let until = DateTime::from_millis(now.timestamp_millis().saturating_add(lease));
    let holder = documents::uuid(&holder);
    let free = doc! { "_id": name, "$or": [{ "holder": holder }, { "until": { "$lt": now } }] };
    let take = doc! { "$set": { "holder": holder, "until": until } };
    let found = within(db.limit, db.leases.find_one_and_update(free, take)).await?;
    if found.is_some() {
        return Ok(found);
    }
    let first = doc! { "_id": name, "holder": holder, "until": until };
    Ok(insert(db.limit, db.leases.insert_one(first.clone())).await?.then_some(first))
}

/// Disk space in the answer of `dbStats`, if the server reports it.
fn disk_space(statistics: &Document) -> Option<DiskSpace> {
    let bytes = |name| match statistics.get(name)? {
        Bson::Double(bytes) if *bytes >= 0.0 => Some(*bytes as u64),
        Bson::Int64(bytes) => u64::try_from(*bytes).ok(),
        Bson::Int32(bytes) => u64::try_from(*bytes).ok(),
        _ => None,
    };
    let (total, used) = (bytes("fsTotalSize")?, bytes("fsUsedSize")?);
    (total > 0).then(|| DiskSpace { free: total.saturating_sub(used), total })
}

fn begin(part: &str) -> ScrubPosition {
    ScrubPosition { part: part.to_owned(), after: None }
}

fn intact<D: Sealed>(raw: &RawDocument) -> Result<(), DamagedRecord> {
    unseal::<D>(raw).map(drop)
}

/// Checks documents in the order of their `_id`. Returns the id of the last one if more may follow.
async fn check(
    db: &Db,
    collection: &Collection<RawDocumentBuf>,
    after: Option<Bson>,
    records: usize,
    intact: impl Fn(&RawDocument) -> Result<(), DamagedRecord>,
) -> Result<(ScrubStep, Option<String>), StoreError> {
    let filter = after.map_or_else(Document::new, |id| doc! { "_id": { "$gt": id } });
    let limit = i64::try_from(records).unwrap_or(i64::MAX);
    let found = all(db, collection.find(filter).sort(doc! { "_id": 1 }).limit(limit)).await?;
    let mut step = ScrubStep { checked: found.len() as u64, ..ScrubStep::default() };
    step.damaged.extend(found.iter().filter_map(|raw| intact(raw).err()).map(|record| record.to_string()));
    let last = found.last().filter(|_| found.len() >= records).and_then(|raw| id_of(raw));
    Ok((step, last))
}

/// The `_id` of a record as text: a number, a UUID or a text.
fn id_of(raw: &RawDocument) -> Option<String> {
    match raw.get("_id").ok()?? {
        bson::RawBsonRef::Int64(number) => Some(number.to_string()),
        bson::RawBsonRef::Int32(number) => Some(number.to_string()),
        bson::RawBsonRef::Binary(binary) => Some(Uuid::from_slice(binary.bytes).ok()?.to_string()),
        bson::RawBsonRef::String(text) => Some(text.to_owned()),
        _ => None,
    }
}

/// Reads the text of [`id_of`].
fn parse_id(part: &str, text: &str) -> Result<Bson, StoreError> {
    // Keys of parts of waveforms contain a slash.
    if part == FILES || TEXT_IDS.contains(&part) || text.contains('/') {
        return Ok(text.into());
    }
    match text.parse::<i64>() {
        Ok(number) => Ok(number.into()),
        Err(_) => {
            Uuid::parse_str(text).map(|id| documents::uuid(&id).into()).map_err(|_| broken("position", text))
        }
    }
}

/// Checks files in the order of their ids, some at a time.
async fn files(
    db: &Arc<Db>,
    after: Option<&str>,
    records: usize,
) -> Result<(ScrubStep, Option<String>), StoreError> {
    let filter = after.map_or_else(Document::new, |id| doc! { "_id": { "$gt": id } });
    let limit = i64::try_from(records).unwrap_or(i64::MAX);
    let files = db.files.clone_with_type::<RawDocumentBuf>();
    let found = all(db, files.find(filter).sort(doc! { "_id": 1 }).limit(limit)).await?;
    let (mut step, mut bytes, mut last) = (ScrubStep::default(), 0, None);
    let mut more = found.len() >= records;
    let count = found.len();
    for (index, raw) in found.into_iter().enumerate() {
        step.checked += 1;
        let id = raw.get_str("_id").unwrap_or_default().to_owned();
        let name = raw.get_str("filename").unwrap_or_default();
        let file = bson::deserialize_from_slice::<FileDocument>(raw.as_bytes());
        let damage = match (file, name.parse::<BlobHash>()) {
            (Ok(file), Ok(sha256)) => {
                bytes += u64::try_from(file.length).unwrap_or(0);
                damage_of(db, file, sha256).await?
            }
            _ => Some("its document cannot be read".to_owned()),
        };
        if let Some(damage) = damage {
            let record = DamagedRecord { kind: RecordKind::File, key: format!("_id {id}") };
            step.damaged.push(format!("{record} ({damage})"));
        }
        last = Some(id);
        if bytes >= BYTES {
            more |= index + 1 < count;
            break;
        }
    }
    Ok((step, last.filter(|_| more)))
}

async fn damage_of(db: &Arc<Db>, file: FileDocument, sha256: BlobHash) -> Result<Option<String>, StoreError> {
    let id = file.id.clone();
    let opened = blobs::read(db, sha256, file).await?;
    match opened.body.try_for_each(|_| async { Ok(()) }).await {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            // A file that the sweep has removed meanwhile is not damaged.
            let found = within(db.limit, db.files.find_one(doc! { "_id": id }).max_time(db.limit)).await?;
            Ok(found.map(|_| error.to_string()))
        }
        Err(error) => Err(StoreError::unavailable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_space_is_read_if_the_server_reports_it() {
        let full = doc! { "db": "bedside", "fsUsedSize": 750.0, "fsTotalSize": 1_000.0, "ok": 1.0 };
        assert_eq!(disk_space(&full), Some(DiskSpace { free: 250, total: 1_000 }));
        let whole = doc! { "fsUsedSize": 750_i64, "fsTotalSize": 1_000_i32 };
        assert_eq!(disk_space(&whole), Some(DiskSpace { free: 250, total: 1_000 }));
        assert_eq!(disk_space(&doc! { "db": "bedside", "totalSize": 0, "ok": 1.0 }), None);
    }
}
