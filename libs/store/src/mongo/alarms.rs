//! Alarms in MongoDB. Every write concerns one document, so no transaction is needed.
//!
//! - `alarms`: an update selects the document by id and previous version. A partial unique index permits one open alarm of a
//!   patient and a rule.
//! - `alarm_limits`: one document for each scope.
//! - `alarm_rules`: one document for each patient.
//! - `alarm_receivers`: one document for each receiver of notifications.
//! - `leases`: the document `alarms`.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::Collection;
use mongodb::bson::{self, DateTime, Document, RawDocumentBuf, doc};
use proto_json::alarms::{Alarm, AlarmAction, AlarmLimits, LimitScope};
use proto_json::{Cursor, Fate, RecordId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alarms::{
    AlarmList, AlarmQuery, AlarmStore, AlarmWrite, LimitsWrite, MAX_OPEN_ALARMS, ReceiverState, RuleState,
    ScopeLimits,
};
use crate::records::Position;
use crate::{PageRequest, StoreError};

use super::documents::{self, date};
use super::failure::{answer, broken, explain, insert, is_duplicate, within};
use super::reading::all;
use super::sealed::{Sealed, required, seal, unseal};
use super::{Db, MongoStore, calls, corrections, maintenance};

/// `_id` of the document in `leases`.
const LEASE: &str = "alarms";

/// `alarms`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AlarmDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    rule: String,
    raised_at: DateTime,
    priority: String,
    open: bool,
    version: i64,
    /// JSON.
    record: String,
}

/// `alarm_limits`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LimitsDocument {
    #[serde(rename = "_id")]
    scope: String,
    version: i64,
    /// JSON.
    limits: String,
    by: String,
    at: DateTime,
}

/// `alarm_rules`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RulesDocument {
    #[serde(rename = "_id")]
    mrn: i64,
    /// JSON.
    state: String,
}

/// `alarm_receivers`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReceiverDocument {
    #[serde(rename = "_id")]
    receiver: String,
    /// JSON.
    state: String,
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| broken("value", error))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| broken("record", error))
}

fn version(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|error| broken("version", error))
}

impl AlarmDocument {
    fn of(alarm: &Alarm) -> Result<Self, StoreError> {
        Ok(AlarmDocument {
            id: documents::record(alarm.id),
            mrn: documents::number(alarm.mrn),
            rule: alarm.rule.name().to_owned(),
            raised_at: date(alarm.raised_at),
            priority: alarm.priority.name().to_owned(),
            open: alarm.is_open(),
            version: version(alarm.version)?,
            record: json(alarm)?,
        })
    }

    fn alarm(&self) -> Result<Alarm, StoreError> {
        parse(&self.record)
    }
}

impl TryFrom<LimitsDocument> for ScopeLimits {
    type Error = StoreError;

    fn try_from(stored: LimitsDocument) -> Result<Self, StoreError> {
        let time = stored.at.timestamp_millis();
        Ok(ScopeLimits {
            scope: stored.scope.parse().map_err(|error| broken("scope", error))?,
            limits: parse(&stored.limits)?,
            version: u64::try_from(stored.version).map_err(|error| broken("version", error))?,
            changed: AlarmAction {
                by: stored.by,
                at: proto_json::Timestamp::from_millis(time).map_err(|error| broken("time", error))?,
            },
        })
    }
}

/// The intact documents. Damaged ones are logged.
fn intact<D: Sealed>(found: &[RawDocumentBuf]) -> Vec<D> {
    let read = |raw: &RawDocumentBuf| match unseal::<D>(raw) {
        Ok(document) => Some(document),
        Err(record) => {
            tracing::error!(kind = record.kind.name(), "a damaged record is omitted");
            None
        }
    };
    found.iter().filter_map(read).collect()
}

/// Inserts a document, or replaces it in whatever version.
async fn replace<D: Sealed>(
    db: &Db,
    collection: &Collection<RawDocumentBuf>,
    key: Document,
    document: &D,
) -> Result<(), StoreError> {
    let sealed = seal(document)?;
    within(db.limit, collection.replace_one(key, sealed).upsert(true)).await.map(drop)
}

async fn find(db: &Db, filter: Document) -> Result<Option<Alarm>, StoreError> {
    let found = within(db.limit, db.alarms.find_one(filter).max_time(db.limit)).await?;
    found.map(|raw: RawDocumentBuf| required::<AlarmDocument>(&raw)?.alarm()).transpose()
}

async fn open_alarms(db: &Db) -> Result<Vec<Alarm>, StoreError> {
    let action = db.alarms.find(doc! { "open": true }).sort(doc! { "mrn": 1, "rule": 1 });
    let found = all(db, action.limit(MAX_OPEN_ALARMS as i64)).await?;
    intact::<AlarmDocument>(&found).iter().map(AlarmDocument::alarm).collect()
}

async fn list(
    db: &Db,
    query: AlarmQuery,
    after: Option<Position>,
    limit: usize,
) -> Result<AlarmList, StoreError> {
    let mut filter = Document::new();
    if let Some(mrn) = query.mrn {
        filter.insert("mrn", documents::number(mrn));
    }
    if let Some(priority) = query.priority {
        filter.insert("priority", priority.name());
    }
    if let Some(is_open) = query.is_open {
        filter.insert("open", is_open);
    }
    if let Some((at, id)) = after {
        // The first condition bounds the index scan; the second decides between equal times.
        let at = date(at);
        filter.insert("raised_at", doc! { "$lte": at });
        let earlier =
            vec![doc! { "raised_at": { "$lt": at } }, doc! { "_id": { "$lt": documents::record(id) } }];
        filter.insert("$or", earlier);
    }
    let action = db.alarms.find(filter).sort(doc! { "raised_at": -1, "_id": -1 }).limit((limit + 1) as i64);
    let mut found = all(db, action).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let items =
        intact::<AlarmDocument>(&found).iter().map(AlarmDocument::alarm).collect::<Result<Vec<_>, _>>()?;
    let next = items.last().filter(|_| more).map(|last| Cursor::Record(last.raised_at, last.id));
    Ok(AlarmList { items, next })
}

async fn put(db: &Db, alarm: &Alarm) -> Result<AlarmWrite, StoreError> {
    let sealed = seal(&AlarmDocument::of(alarm)?)?;
    let id = documents::record(alarm.id);
    let written = if alarm.version == 1 {
        // An erasure marks the number first. Its last step, which deletes the alarms, is a later transaction.
        if matches!(corrections::fate_of(db, alarm.mrn).await?, Some(Fate::Erased { .. })) {
            return Ok(AlarmWrite::Erased);
        }
        answer(db.limit, db.alarms.insert_one(sealed)).await?.map(|_| true)
    } else {
        let before = doc! { "_id": id, "version": version(alarm.version - 1)? };
        let replaced = answer(db.limit, db.alarms.replace_one(before, sealed)).await?;
        replaced.map(|replaced| replaced.matched_count > 0)
    };
    match written {
        Ok(true) => return Ok(AlarmWrite::Stored),
        Err(error) if !is_duplicate(&error) => return Err(explain(&error)),
        Ok(false) | Err(_) => {}
    }
    match find(db, doc! { "_id": id }).await? {
        Some(stored) if stored == *alarm => return Ok(AlarmWrite::Stored),
        Some(stored) if stored.version + 1 != alarm.version => {
            return Ok(AlarmWrite::Conflict(Box::new(stored)));
        }
        _ => {}
    }
    let other = doc! { "mrn": documents::number(alarm.mrn), "rule": alarm.rule.name(), "open": true };
    match find(db, other).await? {
        Some(other) if other.id != alarm.id => Ok(AlarmWrite::Conflict(Box::new(other))),
        _ => Err(StoreError::refused("an alarm was changed by another process at the same time")),
    }
}

async fn limits(db: &Db) -> Result<Vec<ScopeLimits>, StoreError> {
    let found = all(db, db.alarm_limits.find(doc! {}).sort(doc! { "_id": 1 })).await?;
    found.iter().map(|raw| required::<LimitsDocument>(raw)?.try_into()).collect()
}

async fn put_limits(db: &Db, new: &ScopeLimits) -> Result<LimitsWrite, StoreError> {
    let scope = new.scope.to_string();
    let sealed = |version| {
        seal(&LimitsDocument {
            scope: scope.clone(),
            version,
            limits: json(&new.limits)?,
            by: new.changed.by.clone(),
            at: date(new.changed.at),
        })
    };
    let is_written = match i64::try_from(new.version) {
        // No stored version is as large.
        Err(_) => false,
        Ok(1) => insert(db.limit, db.alarm_limits.insert_one(sealed(1)?)).await?,
        Ok(version) => {
            let before = doc! { "_id": &scope, "version": version - 1 };
            within(db.limit, db.alarm_limits.replace_one(before, sealed(version)?)).await?.matched_count > 0
        }
    };
    if is_written {
        return Ok(LimitsWrite::Stored(new.clone()));
    }
    let found = within(db.limit, db.alarm_limits.find_one(doc! { "_id": &scope })).await?;
    let stored: Option<ScopeLimits> =
        found.map(|raw: RawDocumentBuf| required::<LimitsDocument>(&raw)?.try_into()).transpose()?;
    Ok(LimitsWrite::Conflict(stored.map_or(0, |stored| stored.version)))
}

async fn rule_states(db: &Db) -> Result<Vec<RuleState>, StoreError> {
    let found = all(db, db.alarm_rules.find(doc! {}).sort(doc! { "_id": 1 })).await?;
    let state =
        |stored: RulesDocument| Ok(RuleState { mrn: documents::mrn(stored.mrn)?, state: stored.state });
    let stored = intact::<RulesDocument>(&found).into_iter().filter(|stored| !stored.state.is_empty());
    stored.map(state).collect()
}

async fn put_rule_states(db: &Db, states: Vec<RuleState>) -> Result<(), StoreError> {
    for RuleState { mrn, state } in states {
        let mrn = documents::number(mrn);
        let key = doc! { "_id": mrn };
        if state.is_empty() {
            // The service has no right to remove documents.
            let sealed = seal(&RulesDocument { mrn, state })?;
            within(db.limit, db.alarm_rules.replace_one(key, sealed)).await?;
        } else {
            replace(db, &db.alarm_rules, key, &RulesDocument { mrn, state }).await?;
        }
    }
    Ok(())
}

async fn receiver_states(db: &Db) -> Result<Vec<ReceiverState>, StoreError> {
    let found = all(db, db.alarm_receivers.find(doc! {}).sort(doc! { "_id": 1 })).await?;
    let stored = intact::<ReceiverDocument>(&found).into_iter();
    Ok(stored.map(|stored| ReceiverState { receiver: stored.receiver, state: stored.state }).collect())
}

#[async_trait]
impl AlarmStore for MongoStore {
    async fn alarm(&self, id: RecordId) -> Result<Option<Alarm>, StoreError> {
        let filter = doc! { "_id": documents::record(id) };
        calls::run(&self.db, move |db| async move { find(&db, filter).await }).await
    }

    async fn open_alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        calls::run(&self.db, move |db| async move { open_alarms(&db).await }).await
    }

    async fn alarms(&self, query: AlarmQuery, page: PageRequest) -> Result<AlarmList, StoreError> {
        let (after, limit) = (page.after_record()?, page.size());
        calls::run(&self.db, move |db| async move { list(&db, query, after, limit).await }).await
    }

    async fn put_alarm(&self, alarm: &Alarm) -> Result<AlarmWrite, StoreError> {
        let alarm = alarm.clone();
        calls::run(&self.db, move |db| async move { put(&db, &alarm).await }).await
    }

    async fn limits(&self) -> Result<Vec<ScopeLimits>, StoreError> {
        calls::run(&self.db, move |db| async move { limits(&db).await }).await
    }

    async fn put_limits(
        &self,
        scope: LimitScope,
        limits: AlarmLimits,
        version: u64,
        changed: AlarmAction,
    ) -> Result<LimitsWrite, StoreError> {
        let new = ScopeLimits { scope, limits, version: version.saturating_add(1), changed };
        calls::run(&self.db, move |db| async move { put_limits(&db, &new).await }).await
    }

    async fn rule_states(&self) -> Result<Vec<RuleState>, StoreError> {
        calls::run(&self.db, move |db| async move { rule_states(&db).await }).await
    }

    async fn put_rule_states(&self, states: Vec<RuleState>) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move { put_rule_states(&db, states).await }).await
    }

    async fn receiver_states(&self) -> Result<Vec<ReceiverState>, StoreError> {
        calls::run(&self.db, move |db| async move { receiver_states(&db).await }).await
    }

    async fn put_receiver_state(&self, state: ReceiverState) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move {
            let ReceiverState { receiver, state } = state;
            let key = doc! { "_id": &receiver };
            replace(&db, &db.alarm_receivers, key, &ReceiverDocument { receiver, state }).await
        })
        .await
    }

    async fn lease_alarms(&self, holder: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let held =
            calls::run(
                &self.db,
                move |db| async move { maintenance::acquire(&db, LEASE, holder, lease).await },
            );
        Ok(held.await?.is_some())
    }

    async fn release_alarms(&self, holder: Uuid) -> Result<(), StoreError> {
        calls::run(&self.db, move |db| async move {
            let held = doc! { "_id": LEASE, "holder": documents::uuid(&holder) };
            let past = doc! { "$set": { "until": DateTime::from_millis(0) } };
            within(db.limit, db.leases.update_one(held, past)).await.map(drop)
        })
        .await
    }
}
