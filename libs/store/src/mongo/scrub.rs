//! The scrub of the database: documents by their checksums, files by their hashes.
//!
//! Pages and indexes have checksums of the database's own (WiredTiger), which it compares on every read.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc};
use proto_json::{BlobHash, DamagedRecord, RecordKind};
use uuid::Uuid;

use crate::{Scrub, ScrubPosition, ScrubState, ScrubStep, StoreError};

use super::blobs::{self, FileDocument};
use super::documents::{
    self, EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, PatientDocument, UploadDocument,
    WritesField,
};
use super::failure::{broken, insert, within};
use super::patients::WRITES;
use super::reading::all;
use super::sealed::{Sealed, unseal};
use super::{Db, MongoStore};

/// The collections of records, in the order in which they are checked; then come the files.
const PARTS: [&str; 6] = ["patients", "former_names", "heart_rates", "ecgs", "images", "uploads"];
const FILES: &str = "files";

/// Bytes of files after which a step ends.
const BYTES: u64 = 8 << 20;

/// `_id` of the only document in `scrub`.
const STATE: &str = "state";

#[async_trait]
impl Scrub for MongoStore {
    async fn scrub(&self, from: Option<ScrubPosition>, records: usize) -> Result<ScrubStep, StoreError> {
        let db = &*self.db;
        let ScrubPosition { part, after } = from.unwrap_or_else(|| begin(PARTS[0]));
        let after = after.as_deref();
        let (mut step, last) = match part.as_str() {
            "patients" => check(db, &db.patients, after, records, patient).await?,
            "former_names" => {
                check(db, &db.former_names, after, records, intact::<FormerNameDocument>).await?
            }
            "heart_rates" => check(db, &db.heart_rates, after, records, intact::<HeartRateDocument>).await?,
            "ecgs" => check(db, &db.ecgs, after, records, intact::<EcgDocument>).await?,
            "images" => check(db, &db.images, after, records, intact::<ImageDocument>).await?,
            "uploads" => check(db, &db.uploads, after, records, intact::<UploadDocument>).await?,
            _ => self.files(after, records).await?,
        };
        let following = PARTS.iter().position(|name| *name == part).map(|index| PARTS.get(index + 1));
        step.next = match (last, following) {
            (Some(last), _) => Some(ScrubPosition { part, after: Some(last) }),
            (None, Some(following)) => Some(begin(following.unwrap_or(&FILES))),
            (None, None) => None,
        };
        Ok(step)
    }

    async fn scrub_total(&self) -> Result<u64, StoreError> {
        let db = &*self.db;
        let mut total = within(db.limit, db.files.estimated_document_count()).await?;
        for records in [&db.patients, &db.former_names, &db.heart_rates, &db.ecgs, &db.images, &db.uploads] {
            total += within(db.limit, records.estimated_document_count()).await?;
        }
        Ok(total)
    }

    async fn lease_scrub(&self, holder: Uuid, lease: Duration) -> Result<Option<ScrubState>, StoreError> {
        let db = &*self.db;
        let now = DateTime::now();
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let until = DateTime::from_millis(now.timestamp_millis().saturating_add(lease));
        let holder = documents::uuid(&holder);
        let free = doc! { "_id": STATE, "$or": [{ "holder": holder }, { "until": { "$lt": now } }] };
        let take = doc! { "$set": { "holder": holder, "until": until } };
        let found = within(db.limit, db.scrub.find_one_and_update(free, take)).await?;
        if let Some(found) = found {
            // A state that cannot be read is damaged: the round starts anew.
            let state = found.get_str("state").ok().and_then(|state| serde_json::from_str(state).ok());
            return Ok(Some(state.unwrap_or_default()));
        }
        let first = doc! { "_id": STATE, "holder": holder, "until": until };
        Ok(insert(db.limit, db.scrub.insert_one(first)).await?.then(ScrubState::default))
    }

    async fn save_scrub(&self, holder: Uuid, state: &ScrubState) -> Result<(), StoreError> {
        let db = &*self.db;
        let state = serde_json::to_string(state).map_err(|error| broken("value", error))?;
        let held = doc! { "_id": STATE, "holder": documents::uuid(&holder) };
        within(db.limit, db.scrub.update_one(held, doc! { "$set": { "state": state } })).await.map(drop)
    }
}

fn begin(part: &str) -> ScrubPosition {
    ScrubPosition { part: part.to_owned(), after: None }
}

fn intact<D: Sealed>(raw: &RawDocument) -> Result<(), DamagedRecord> {
    unseal::<D>(raw).map(drop)
}

fn patient(raw: &RawDocument) -> Result<(), DamagedRecord> {
    let patient = intact::<PatientDocument>(raw);
    let writes = raw.get_document(WRITES).is_ok_and(|writes| unseal::<WritesField>(writes).is_ok());
    match patient {
        Ok(()) if !writes => {
            let key = "the list of its last writes".to_owned();
            Err(DamagedRecord { kind: RecordKind::Patient, key })
        }
        patient => patient,
    }
}

/// Checks documents in the order of their `_id`. Returns the last one, if there may be more.
async fn check(
    db: &Db,
    collection: &Collection<RawDocumentBuf>,
    after: Option<&str>,
    records: usize,
    intact: impl Fn(&RawDocument) -> Result<(), DamagedRecord>,
) -> Result<(ScrubStep, Option<String>), StoreError> {
    let after = after.map(|text| parse_id(text).ok_or_else(|| broken("position", text))).transpose()?;
    let filter = after.map_or_else(Document::new, |id| doc! { "_id": { "$gt": id } });
    let limit = i64::try_from(records).unwrap_or(i64::MAX);
    let found = all(db, collection.find(filter).sort(doc! { "_id": 1 }).limit(limit)).await?;
    let mut step = ScrubStep { checked: found.len() as u64, ..ScrubStep::default() };
    step.damaged.extend(found.iter().filter_map(|raw| intact(raw).err()).map(|record| record.to_string()));
    let last = found.last().filter(|_| found.len() >= records).and_then(|raw| id_of(raw));
    Ok((step, last))
}

/// The `_id` of a record as text: a number or a UUID.
fn id_of(raw: &RawDocument) -> Option<String> {
    match raw.get("_id").ok()?? {
        bson::RawBsonRef::Int64(number) => Some(number.to_string()),
        bson::RawBsonRef::Int32(number) => Some(number.to_string()),
        bson::RawBsonRef::Binary(binary) => Some(Uuid::from_slice(binary.bytes).ok()?.to_string()),
        _ => None,
    }
}

fn parse_id(text: &str) -> Option<Bson> {
    match text.parse::<i64>() {
        Ok(number) => Some(number.into()),
        Err(_) => Some(documents::uuid(&Uuid::parse_str(text).ok()?).into()),
    }
}

impl MongoStore {
    /// Checks files in the order of their names, some at a time.
    async fn files(
        &self,
        after: Option<&str>,
        records: usize,
    ) -> Result<(ScrubStep, Option<String>), StoreError> {
        let db = &self.db;
        let filter = after.map_or_else(Document::new, |name| doc! { "filename": { "$gt": name } });
        let limit = i64::try_from(records).unwrap_or(i64::MAX);
        let files = db.files.clone_with_type::<RawDocumentBuf>();
        let found = all(db, files.find(filter).sort(doc! { "filename": 1 }).limit(limit)).await?;
        let (mut step, mut bytes, mut last) = (ScrubStep::default(), 0, None);
        let mut more = found.len() >= records;
        let count = found.len();
        for (index, raw) in found.into_iter().enumerate() {
            step.checked += 1;
            let name = raw.get_str("filename").unwrap_or_default().to_owned();
            let file = bson::deserialize_from_slice::<FileDocument>(raw.as_bytes());
            let hash = name.parse::<BlobHash>();
            let damage = match (file, hash) {
                (Ok(file), Ok(sha256)) => {
                    bytes += u64::try_from(file.length).unwrap_or(0);
                    self.damage_of(sha256).await?
                }
                _ => Some("its document cannot be read".to_owned()),
            };
            if let Some(damage) = damage {
                let record = DamagedRecord { kind: RecordKind::File, key: format!("sha256 {name}") };
                step.damaged.push(format!("{record} ({damage})"));
            }
            last = Some(name);
            if bytes >= BYTES {
                more |= index + 1 < count;
                break;
            }
        }
        Ok((step, last.filter(|_| more)))
    }

    async fn damage_of(&self, sha256: BlobHash) -> Result<Option<String>, StoreError> {
        let opened = match blobs::open(&self.db, sha256).await {
            // It was removed meanwhile.
            Ok(None) => return Ok(None),
            Ok(Some(opened)) => opened,
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
        };
        match opened.body.try_for_each(|_| async { Ok(()) }).await {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                // Removed while it was read?
                let there = blobs::open(&self.db, sha256).await?.is_some();
                Ok(there.then(|| error.to_string()))
            }
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }
}
