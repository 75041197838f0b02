//! The highest time that the server's clock has shown, and records whose time is in the future.

use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use proto_json::{CLOCK_TOLERANCE_MS, PatientSummary, Timestamp};

use crate::StoreError;

use super::Db;
use super::documents::{ClockDocument, date};
use super::failure::{answer, upserted, within};
use super::{patients, reading};

/// Fields of a patient that hold its latest records.
const LATEST: [&str; 3] = ["latest_heart_rate", "latest_ecg", "latest_image"];

fn this() -> Document {
    doc! { "_id": ClockDocument::ID }
}

pub(super) async fn highest(db: &Db) -> Result<Option<Timestamp>, StoreError> {
    let found = within(db.limit, db.clock.find_one(this()).max_time(db.limit)).await?;
    found.map(|clock| clock.highest()).transpose()
}

/// Stores that the clock shows `now`, and returns the highest time it has shown.
pub(super) async fn observe(db: &Db, now: Timestamp) -> Result<Timestamp, StoreError> {
    set(db, doc! { "$max": { "highest": date(now) } }).await
}

pub(super) async fn accept(db: &Db, now: Timestamp) -> Result<(), StoreError> {
    set(db, doc! { "$set": { "highest": date(now) } }).await.map(drop)
}

async fn set(db: &Db, update: Document) -> Result<Timestamp, StoreError> {
    let clock = upserted(|| {
        let update = db.clock.find_one_and_update(this(), update.clone());
        answer(db.limit, update.upsert(true).return_document(ReturnDocument::After))
    });
    clock.await?.highest()
}

/// Marks latest records whose time is in the future. Reads all patients, so it runs only after a clock was wrong.
pub(super) async fn mark_wrong(db: &Db, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
    let limit = date(now.plus_millis(CLOCK_TOLERANCE_MS));
    let conditions: Vec<Document> = LATEST
        .iter()
        .map(|latest| {
            doc! {
                format!("{latest}.at"): { "$gt": limit },
                format!("{latest}.clock_wrong"): { "$ne": true },
            }
        })
        .collect();
    let mut marked = Vec::new();
    for mrn in reading::mrns_where(db, doc! { "$or": conditions }).await? {
        match patients::mark_clock_wrong(db, mrn, now).await {
            Ok(patient) => marked.extend(patient),
            Err(StoreError::Damaged(record)) => {
                tracing::error!(
                    kind = record.kind.name(),
                    "a damaged patient is not checked for wrong times"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(marked)
}
