//! Users, sessions and failed logins in MongoDB. Each write is one operation on one document.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::bson::{self, DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReturnDocument;
use proto_json::users::{
    Grant, LoginMethod, MAX_USERS, Sensitive, StoredSession, StoredUser, User, UserName,
};
use proto_json::{BedId, BlobHash, RecordKind, Timestamp, WardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;
use crate::users::{Attempts, UserAdded, UserStore};

use super::documents::{date, uuid};
use super::failure::{answer, broken, insert, upserted, within};
use super::sealed::{self, Sealed, seal};
use super::{Db, MongoStore, calls};

/// `users`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UserDocument {
    #[serde(rename = "_id")]
    name: String,
    display_name: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wards: Option<Vec<bson::Uuid>>,
    disabled: bool,
    version: i64,
    epoch: i64,
    created_at: DateTime,
    changed_at: DateTime,
    changed_by: String,
    password_hash: String,
}

impl Sealed for UserDocument {
    const COLLECTION: &'static str = "users";
    const KIND: RecordKind = RecordKind::User;
}

fn number(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|error| broken("number", error))
}

fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|error| broken("number", error))
}

fn time(date: DateTime) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(date.timestamp_millis()).map_err(|error| broken("time", error))
}

fn to_bson(wards: Option<&[WardId]>) -> Option<Vec<bson::Uuid>> {
    wards.map(|wards| wards.iter().map(|ward| uuid(ward.as_uuid())).collect())
}

fn from_bson(wards: Option<Vec<bson::Uuid>>) -> Option<Vec<WardId>> {
    let id = |ward: bson::Uuid| WardId::from_uuid(Uuid::from_bytes(ward.bytes()));
    wards.map(|wards| wards.into_iter().map(id).collect())
}

impl UserDocument {
    fn new(stored: &StoredUser) -> Result<Self, StoreError> {
        let user = &stored.user;
        Ok(UserDocument {
            name: user.name.to_string(),
            display_name: user.display_name.clone(),
            role: user.role.name().to_owned(),
            wards: to_bson(user.wards.as_deref()),
            disabled: user.disabled,
            version: number(user.version)?,
            epoch: number(stored.epoch)?,
            created_at: date(user.created_at),
            changed_at: date(user.changed_at),
            changed_by: user.changed_by.clone(),
            password_hash: stored.password_hash.0.clone(),
        })
    }

    fn read(raw: &RawDocumentBuf) -> Result<StoredUser, StoreError> {
        let document = sealed::required::<UserDocument>(raw)?;
        Ok(StoredUser {
            user: User {
                name: document.name.parse().map_err(|error| broken("user", error))?,
                display_name: document.display_name,
                role: document.role.parse().map_err(|error| broken("role", error))?,
                wards: from_bson(document.wards),
                disabled: document.disabled,
                version: unsigned(document.version)?,
                created_at: time(document.created_at)?,
                changed_at: time(document.changed_at)?,
                changed_by: document.changed_by,
            },
            password_hash: Sensitive(document.password_hash),
            epoch: unsigned(document.epoch)?,
        })
    }
}

/// `sessions`. `_id` is the SHA-256 of the secret as hexadecimal text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionDocument {
    #[serde(rename = "_id")]
    key: String,
    name: String,
    display_name: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wards: Option<Vec<bson::Uuid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bed: Option<bson::Uuid>,
    via: LoginMethod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    created_at: DateTime,
    used_at: DateTime,
    expires_at: DateTime,
    idle_ms: i64,
    grants: Vec<GrantField>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GrantField {
    mrn: i64,
    until: DateTime,
}

fn grants(grants: &[Grant]) -> Vec<GrantField> {
    let field =
        |grant: &Grant| GrantField { mrn: super::documents::number(grant.mrn), until: date(grant.until) };
    grants.iter().map(field).collect()
}

impl SessionDocument {
    fn new(session: &StoredSession) -> Result<Self, StoreError> {
        Ok(SessionDocument {
            key: session.key.to_string(),
            name: session.name.clone(),
            display_name: session.display_name.clone(),
            role: session.role.clone(),
            wards: to_bson(session.wards.as_deref()),
            bed: session.bed.map(|bed| uuid(bed.as_uuid())),
            via: session.via,
            token: session.token.map(|token| token.to_string()),
            epoch: session.epoch.map(number).transpose()?,
            created_at: date(session.created_at),
            used_at: date(session.used_at),
            expires_at: date(session.expires_at),
            idle_ms: i64::try_from(session.idle.as_millis()).map_err(|error| broken("duration", error))?,
            grants: grants(&session.grants),
        })
    }

    fn read(self) -> Result<StoredSession, StoreError> {
        let hash = |text: &str| text.parse::<BlobHash>().map_err(|error| broken("hash", error));
        let grant = |field: GrantField| {
            Ok::<_, StoreError>(Grant { mrn: super::documents::mrn(field.mrn)?, until: time(field.until)? })
        };
        Ok(StoredSession {
            key: hash(&self.key)?,
            name: self.name,
            display_name: self.display_name,
            role: self.role,
            wards: from_bson(self.wards),
            bed: self.bed.map(|bed| BedId::from_uuid(Uuid::from_bytes(bed.bytes()))),
            via: self.via,
            token: self.token.as_deref().map(hash).transpose()?,
            epoch: self.epoch.map(unsigned).transpose()?,
            created_at: time(self.created_at)?,
            used_at: time(self.used_at)?,
            expires_at: time(self.expires_at)?,
            idle: Duration::from_millis(unsigned(self.idle_ms)?),
            grants: self.grants.into_iter().map(grant).collect::<Result<_, _>>()?,
        })
    }
}

/// `login_attempts`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AttemptsDocument {
    #[serde(rename = "_id")]
    key: String,
    count: i64,
    until: DateTime,
}

async fn users(db: &Db, filter: Document) -> Result<Vec<StoredUser>, StoreError> {
    let found =
        async { db.users.find(filter).sort(doc! { "_id": 1 }).max_time(db.limit).await?.try_collect().await };
    let found: Vec<RawDocumentBuf> = within(db.limit, found).await?;
    found.iter().map(UserDocument::read).collect()
}

fn named(name: &UserName) -> Document {
    doc! { "_id": name.as_str() }
}

async fn find(db: &Db, name: &UserName) -> Result<Option<StoredUser>, StoreError> {
    let found = within(db.limit, db.users.find_one(named(name)).max_time(db.limit)).await?;
    found.as_ref().map(UserDocument::read).transpose()
}

async fn add(db: &Db, user: &StoredUser) -> Result<UserAdded, StoreError> {
    // The limit is approximate: users that are added at the same time do not see each other.
    let count = within(db.limit, db.users.estimated_document_count()).await?;
    if usize::try_from(count).is_ok_and(|count| count >= MAX_USERS) {
        return Ok(UserAdded::Full);
    }
    let document = seal(&UserDocument::new(user)?)?;
    if insert(db.limit, db.users.insert_one(document)).await? {
        return Ok(UserAdded::Added);
    }
    let known = find(db, &user.user.name).await?;
    Ok(if known.as_ref() == Some(user) { UserAdded::Added } else { UserAdded::Exists })
}

async fn replace(db: &Db, user: &StoredUser) -> Result<bool, StoreError> {
    let before = number(user.user.version)? - 1;
    let filter = doc! { "_id": user.user.name.as_str(), "version": before };
    let document = seal(&UserDocument::new(user)?)?;
    let replaced = within(db.limit, db.users.replace_one(filter, document)).await?;
    if replaced.matched_count == 1 {
        return Ok(true);
    }
    Ok(find(db, &user.user.name).await?.as_ref() == Some(user))
}

async fn remove(db: &Db, name: &UserName) -> Result<bool, StoreError> {
    // First the user: without it, the sessions are invalid.
    let removed = within(db.limit, db.users.delete_one(named(name))).await?;
    let sessions = doc! { "name": name.as_str(), "via": "local" };
    within(db.limit, db.sessions.delete_many(sessions)).await?;
    Ok(removed.deleted_count > 0)
}

async fn sessions(db: &Db, keys: Vec<BlobHash>) -> Result<Vec<StoredSession>, StoreError> {
    let keys: Vec<String> = keys.iter().map(BlobHash::to_string).collect();
    let raw = db.sessions.clone_with_type::<RawDocumentBuf>();
    let filter = doc! { "_id": { "$in": keys } };
    let found = async { raw.find(filter).max_time(db.limit).await?.try_collect().await };
    let found: Vec<RawDocumentBuf> = within(db.limit, found).await?;
    let read = |raw: &RawDocumentBuf| {
        let document: Option<SessionDocument> = bson::deserialize_from_slice(raw.as_bytes()).ok();
        let session = document.and_then(|document| document.read().ok());
        if session.is_none() {
            tracing::error!("a stored session cannot be read; it is invalid");
        }
        session
    };
    Ok(found.iter().filter_map(read).collect())
}

async fn use_all(db: &Db, uses: Vec<(BlobHash, Timestamp)>) -> Result<(), StoreError> {
    for (key, at) in uses {
        let update = doc! { "$max": { "used_at": date(at) } };
        within(db.limit, db.sessions.update_one(doc! { "_id": key.to_string() }, update)).await?;
    }
    Ok(())
}

async fn sweep(db: &Db, before: Timestamp) -> Result<u64, StoreError> {
    within(db.limit, db.login_attempts.delete_many(doc! { "until": { "$lt": date(before) } })).await?;
    let filter = doc! { "expires_at": { "$lt": date(before) } };
    Ok(within(db.limit, db.sessions.delete_many(filter)).await?.deleted_count)
}

async fn count(db: &Db, key: String, now: Timestamp, window: Duration) -> Result<Attempts, StoreError> {
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX / 4);
    let until = now.plus_millis(window);
    // A window that has ended is removed first; of two processes that do so, both count in the new window.
    let ended = doc! { "_id": &key, "until": { "$lte": date(now) } };
    within(db.limit, db.login_attempts.delete_one(ended)).await?;
    let counted = upserted(|| {
        let update = doc! { "$inc": { "count": 1_i64 }, "$setOnInsert": { "until": date(until) } };
        let update = db.login_attempts.find_one_and_update(doc! { "_id": &key }, update);
        answer(db.limit, update.upsert(true).return_document(ReturnDocument::After))
    });
    let counted: AttemptsDocument = counted.await?;
    Ok(Attempts { count: u32::try_from(counted.count).unwrap_or(u32::MAX), until: time(counted.until)? })
}

async fn forgive(db: &Db, key: String, all: bool) -> Result<(), StoreError> {
    if all {
        within(db.limit, db.login_attempts.delete_one(doc! { "_id": key })).await?;
    } else {
        let filter = doc! { "_id": key, "count": { "$gt": 0 } };
        let update = doc! { "$inc": { "count": -1_i64 } };
        within(db.limit, db.login_attempts.update_one(filter, update)).await?;
    }
    Ok(())
}

/// Runs a call in a task of its own.
async fn run<T, F>(store: &MongoStore, call: impl FnOnce(Arc<Db>) -> F + Send) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
    T: Send + 'static,
{
    calls::run(&store.db, call).await
}

#[async_trait]
impl UserStore for MongoStore {
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        run(self, |db| async move { users(&db, doc! {}).await }).await
    }

    async fn users_named(&self, names: &[UserName]) -> Result<Vec<StoredUser>, StoreError> {
        let names: Vec<String> = names.iter().map(UserName::to_string).collect();
        run(self, move |db| async move { users(&db, doc! { "_id": { "$in": names } }).await }).await
    }

    async fn add_user(&self, user: &StoredUser) -> Result<UserAdded, StoreError> {
        let user = user.clone();
        run(self, move |db| async move { add(&db, &user).await }).await
    }

    async fn replace_user(&self, user: &StoredUser) -> Result<bool, StoreError> {
        let user = user.clone();
        run(self, move |db| async move { replace(&db, &user).await }).await
    }

    async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let name = name.clone();
        run(self, move |db| async move { remove(&db, &name).await }).await
    }

    async fn add_session(&self, session: &StoredSession) -> Result<(), StoreError> {
        let document = SessionDocument::new(session)?;
        run(self, move |db| async move { insert(db.limit, db.sessions.insert_one(document)).await.map(drop) })
            .await
    }

    async fn sessions(&self, keys: &[BlobHash]) -> Result<Vec<StoredSession>, StoreError> {
        let keys = keys.to_vec();
        run(self, move |db| async move { sessions(&db, keys).await }).await
    }

    async fn use_sessions(&self, uses: &[(BlobHash, Timestamp)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        run(self, move |db| async move { use_all(&db, uses).await }).await
    }

    async fn set_grants(&self, key: BlobHash, grants_now: &[Grant]) -> Result<bool, StoreError> {
        let grants = bson::serialize_to_bson(&grants(grants_now)).map_err(|error| broken("grants", error))?;
        run(self, move |db| async move {
            let update = doc! { "$set": { "grants": grants } };
            let action = db.sessions.update_one(doc! { "_id": key.to_string() }, update);
            Ok(within(db.limit, action).await?.matched_count > 0)
        })
        .await
    }

    async fn remove_session(&self, key: BlobHash) -> Result<bool, StoreError> {
        run(self, move |db| async move {
            let action = db.sessions.delete_one(doc! { "_id": key.to_string() });
            Ok(within(db.limit, action).await?.deleted_count > 0)
        })
        .await
    }

    async fn sweep_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        run(self, move |db| async move { sweep(&db, before).await }).await
    }

    async fn count_attempt(
        &self,
        key: &str,
        now: Timestamp,
        window: Duration,
    ) -> Result<Attempts, StoreError> {
        let key = key.to_owned();
        run(self, move |db| async move { count(&db, key, now, window).await }).await
    }

    async fn forgive_attempts(&self, key: &str, all: bool) -> Result<(), StoreError> {
        let key = key.to_owned();
        run(self, move |db| async move { forgive(&db, key, all).await }).await
    }
}
