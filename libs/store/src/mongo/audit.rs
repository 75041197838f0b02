//! The audit in two collections: its entries, and the head of their chain.
//!
//! A batch is one transaction that reads the head, inserts the entries after it and replaces the head. Two processes that append
//! at the same time meet a write conflict on the head, and the driver repeats one of the transactions.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, TryStreamExt};
use mongodb::ClientSession;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use mongodb::error::Error;
use proto_json::audit::{AuditBatch, AuditHead, AuditPage, AuditVerdict};
use proto_json::{BlobHash, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{Chain, NewEvent, StoredEntry, Verification, serialized};
use crate::{AuditFilter, AuditReader, AuditStore, StoreError};

use super::documents::{date, number, uuid};
use super::failure::{broken, within};
use super::transaction::{self, abort};
use super::{Db, MongoStore, calls};

/// `_id` of the head.
const HEAD: &str = "head";

/// An entry. `_id` is its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryDocument {
    #[serde(rename = "_id")]
    number: i64,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mrn: Option<i64>,
    client: String,
    /// JSON; the hash covers this text.
    event: String,
    hash: Binary,
}

fn binary(hash: &BlobHash) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: hash.as_bytes().to_vec() }
}

fn hash(binary: &Binary) -> Result<BlobHash, StoreError> {
    let bytes = binary.bytes.as_slice().try_into().map_err(|error| broken("hash", error))?;
    Ok(BlobHash::from_bytes(bytes))
}

fn head_of(document: &Document) -> Result<AuditHead, StoreError> {
    let number = document.get_i64("number").map_err(|error| broken("head of the audit", error))?;
    let bytes = document.get_binary_generic("hash").map_err(|error| broken("head of the audit", error))?;
    let bytes = bytes.as_slice().try_into().map_err(|error| broken("hash", error))?;
    Ok(AuditHead { number: number.unsigned_abs(), hash: BlobHash::from_bytes(bytes) })
}

impl EntryDocument {
    fn stored(self) -> Result<StoredEntry, StoreError> {
        let hash = hash(&self.hash)?;
        Ok(StoredEntry { number: self.number.unsigned_abs(), event: self.event, hash })
    }
}

async fn head(db: &Db) -> Result<Option<AuditHead>, StoreError> {
    let found = within(db.limit, db.audit_heads.find_one(doc! { "_id": HEAD }).max_time(db.limit)).await?;
    found.as_ref().map(head_of).transpose()
}

/// The batches of gateways that have ended are removed after a day: no gateway repeats one for longer.
const BATCHES_KEPT_MS: i64 = 24 * 3_600_000;

async fn append(
    db: &Db,
    session: &mut ClientSession,
    (gateway, batch): (Uuid, i64),
    events: &[NewEvent],
) -> Result<(), Error> {
    let gateway = Bson::from(uuid(&gateway));
    let stored = db.audit_heads.find_one(doc! { "_id": &gateway }).session(&mut *session).await?;
    if stored.is_some_and(|stored| stored.get_i64("batch").is_ok_and(|stored| stored >= batch)) {
        return Ok(());
    }
    let found = db.audit_heads.find_one(doc! { "_id": HEAD }).session(&mut *session).await?;
    let mut chain = Chain::after(found.as_ref().map(head_of).transpose().map_err(abort)?);
    let entries: Vec<EntryDocument> = events
        .iter()
        .map(|event| {
            let entry = chain.append(&event.event);
            EntryDocument {
                number: entry.number.cast_signed(),
                at: date(event.at),
                mrn: event.mrn.map(number),
                client: event.client.clone(),
                event: event.event.clone(),
                hash: binary(&entry.hash),
            }
        })
        .collect();
    // The head comes first: a conflict ends the transaction before the entries are sent.
    let head = doc! { "number": chain.number.cast_signed(), "hash": binary(&chain.hash) };
    db.audit_heads
        .update_one(doc! { "_id": HEAD }, doc! { "$set": head })
        .upsert(true)
        .session(&mut *session)
        .await?;
    let mine = doc! { "$set": { "batch": batch, "at": date(Timestamp::now()) } };
    db.audit_heads.update_one(doc! { "_id": gateway }, mine).upsert(true).session(&mut *session).await?;
    db.audit.insert_many(entries).session(session).await.map(drop)
}

async fn list(db: &Db, filter: AuditFilter) -> Result<AuditPage, StoreError> {
    let mut query = Document::new();
    if let Some(before) = filter.before {
        query.insert("_id", doc! { "$lt": before.cast_signed() });
    }
    if let Some(mrn) = filter.mrn {
        query.insert("mrn", number(mrn));
    }
    if let Some(client) = filter.client {
        query.insert("client", client);
    }
    let mut times = Document::new();
    if let Some(from) = filter.from {
        times.insert("$gte", date(from));
    }
    if let Some(to) = filter.to {
        times.insert("$lt", date(to));
    }
    if !times.is_empty() {
        query.insert("at", times);
    }
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX).saturating_add(1);
    let found = db.audit.find(query).sort(doc! { "_id": -1 }).limit(limit).max_time(db.limit);
    let entries: Vec<EntryDocument> = within(db.limit, async { found.await?.try_collect().await }).await?;
    let has_more = entries.len() > filter.limit;
    let entries = entries.into_iter().take(filter.limit).map(|entry| entry.stored()?.parse());
    let items = entries.collect::<Result<Vec<_>, _>>()?;
    let next = items.last().filter(|_| has_more).map(|last| last.number);
    Ok(AuditPage { items, next })
}

pub(super) async fn verify(db: &Db, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
    // Entries that are appended meanwhile are after this head and not verified.
    let head = head(db).await?;
    let mut verification = Verification::new(anchor);
    let upper = doc! { "_id": { "$lte": head.map_or(i64::MAX, |head| head.number.cast_signed()) } };
    let mut entries =
        within(db.limit, db.audit.find(upper).sort(doc! { "_id": 1 }).max_time(db.limit)).await?;
    while let Some(entry) = within(db.limit, entries.try_next()).await? {
        if !verification.check(&entry.stored()?) {
            break;
        }
    }
    Ok(verification.end(head))
}

#[async_trait]
impl AuditReader for MongoStore {
    async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, StoreError> {
        calls::run(&self.db, move |db| async move { list(&db, filter).await }).await
    }

    async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        calls::run(&self.db, |db| async move { head(&db).await }).await
    }

    async fn verify_audit(&self, anchor: Option<AuditHead>) -> Result<AuditVerdict, StoreError> {
        calls::run(&self.db, move |db| async move { verify(&db, anchor).await }).await
    }
}

#[async_trait]
impl AuditStore for MongoStore {
    async fn append_audit(&self, batch: AuditBatch) -> Result<(), StoreError> {
        let AuditBatch { gateway, batch, events } = batch;
        let batch = i64::try_from(batch).map_err(|error| broken("number of a batch", error))?;
        let events = serialized(events)?;
        calls::run(&self.db, move |db: Arc<Db>| async move {
            // Appenders of this process wait for each other, which costs less than a write conflict.
            let _turn = calls::operation(db.limit, db.audit_turn.lock()).await?;
            let context = (&*db, (gateway, batch), &events);
            let appended = transaction::run(&db, context, |session, (db, batch, events)| {
                append(db, session, *batch, events).boxed()
            });
            appended.await?;
            if batch == 1 {
                let old = Timestamp::now().plus_millis(-BATCHES_KEPT_MS);
                let filter = doc! { "at": { "$lt": date(old) } };
                within(db.limit, db.audit_heads.delete_many(filter)).await?;
            }
            Ok(())
        })
        .await
    }
}
