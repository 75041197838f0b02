//! Users, sessions and failed logins in the SQLite file.

use std::time::Duration;

use async_trait::async_trait;
use proto_json::users::{Grant, MAX_USERS, StoredSession, StoredUser, UserName};
use proto_json::{BlobHash, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sqlite::Table;

use crate::StoreError;
use crate::users::{Attempts, UserAdded, UserStore};

use super::SqliteStore;
use super::failure::broken;
use super::rows::{self, required};

pub(super) const USERS: Table =
    Table { name: "users", columns: &["name", "version", "record"], key: 1, unique: "name" };

fn stored(row: &Row<'_>) -> Result<StoredUser, StoreError> {
    rows::parse(&row.get::<_, String>("record")?)
}

fn find(db: &Connection, name: &str) -> Result<Option<StoredUser>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{} WHERE name = ?1", USERS.select()))?;
    let mut found = statement.query([name])?;
    found.next()?.map(|row| required(&USERS, row, stored)).transpose()
}

fn put(db: &Connection, stored: &StoredUser) -> Result<(), StoreError> {
    let user = &stored.user;
    let version = i64::try_from(user.version).map_err(|error| broken("version", error))?;
    Ok(USERS.put(db, params![user.name.as_str(), version, rows::json(stored)?])?)
}

fn add(db: &Connection, user: &StoredUser) -> Result<UserAdded, StoreError> {
    if let Some(known) = find(db, user.user.name.as_str())? {
        return Ok(if known == *user { UserAdded::Added } else { UserAdded::Exists });
    }
    let count: i64 = db.prepare_cached("SELECT COUNT(*) FROM users")?.query_row([], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count >= MAX_USERS) {
        return Ok(UserAdded::Full);
    }
    put(db, user)?;
    Ok(UserAdded::Added)
}

fn replace(db: &Connection, user: &StoredUser) -> Result<bool, StoreError> {
    match find(db, user.user.name.as_str())? {
        Some(known) if known == *user => Ok(true),
        Some(known) if known.user.version + 1 == user.user.version => put(db, user).map(|()| true),
        _ => Ok(false),
    }
}

fn session(row: &Row<'_>) -> Result<StoredSession, StoreError> {
    let session: StoredSession = rows::parse(&row.get::<_, String>("record")?)?;
    Ok(StoredSession {
        used_at: rows::time(row.get("used_at")?)?,
        grants: rows::parse(&row.get::<_, String>("grants")?)?,
        ..session
    })
}

fn sessions(db: &Connection, keys: &[BlobHash]) -> Result<Vec<StoredSession>, StoreError> {
    let mut statement = db.prepare_cached("SELECT used_at, grants, record FROM sessions WHERE key = ?1")?;
    let mut found = Vec::new();
    for key in keys {
        let mut rows = statement.query([key.as_bytes()])?;
        let Some(row) = rows.next()? else { continue };
        match session(row) {
            Ok(session) if session.key == *key => found.push(session),
            _ => tracing::error!("a stored session cannot be read; it is invalid"),
        }
    }
    Ok(found)
}

fn count(db: &Connection, key: &str, now: Timestamp, window: Duration) -> Result<Attempts, StoreError> {
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX / 4);
    let until = now.plus_millis(window).as_millis();
    let sql = "INSERT INTO login_attempts (key, count, until) VALUES (?1, 1, ?3)
               ON CONFLICT (key) DO UPDATE SET
                   count = CASE WHEN until > ?2 THEN count + 1 ELSE 1 END,
                   until = CASE WHEN until > ?2 THEN until ELSE ?3 END
               RETURNING count, until";
    let (count, until): (u32, i64) = db
        .prepare_cached(sql)?
        .query_row(params![key, now.as_millis(), until], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Attempts { count, until: rows::time(until)? })
}

#[async_trait]
impl UserStore for SqliteStore {
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.readers
            .read(|db| {
                let mut statement = db.prepare_cached(&format!("{} ORDER BY name", USERS.select()))?;
                let mut found = statement.query([])?;
                let mut users = Vec::new();
                while let Some(row) = found.next()? {
                    users.push(required(&USERS, row, stored)?);
                }
                Ok(users)
            })
            .await
    }

    async fn users_named(&self, names: &[UserName]) -> Result<Vec<StoredUser>, StoreError> {
        let names = names.to_vec();
        self.readers
            .read(move |db| {
                let found = names.iter().map(|name| find(db, name.as_str()));
                Ok(found.collect::<Result<Vec<_>, StoreError>>()?.into_iter().flatten().collect())
            })
            .await
    }

    async fn add_user(&self, user: &StoredUser) -> Result<UserAdded, StoreError> {
        let user = user.clone();
        self.writer.write(move |db| add(db, &user)).await
    }

    async fn replace_user(&self, user: &StoredUser) -> Result<bool, StoreError> {
        let user = user.clone();
        self.writer.write(move |db| replace(db, &user)).await
    }

    async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.writer
            .write(move |db| {
                let removed =
                    db.prepare_cached("DELETE FROM users WHERE name = ?1")?.execute([name.as_str()])?;
                // Not those of a token with the same name.
                let sessions = "DELETE FROM sessions WHERE name = ?1 AND record ->> 'via' = 'local'";
                db.prepare_cached(sessions)?.execute([name.as_str()])?;
                Ok(removed > 0)
            })
            .await
    }

    async fn add_session(&self, session: &StoredSession) -> Result<(), StoreError> {
        let session = session.clone();
        self.writer
            .write(move |db| {
                let sql = "INSERT INTO sessions (key, name, used_at, expires_at, grants, record)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO NOTHING";
                db.prepare_cached(sql)?.execute(params![
                    session.key.as_bytes(),
                    session.name,
                    session.used_at.as_millis(),
                    session.expires_at.as_millis(),
                    rows::json(&session.grants)?,
                    rows::json(&session)?,
                ])?;
                Ok(())
            })
            .await
    }

    async fn sessions(&self, keys: &[BlobHash]) -> Result<Vec<StoredSession>, StoreError> {
        let keys = keys.to_vec();
        self.readers.read(move |db| sessions(db, &keys)).await
    }

    async fn use_sessions(&self, uses: &[(BlobHash, Timestamp)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.writer
            .write(move |db| {
                let sql = "UPDATE sessions SET used_at = ?2 WHERE key = ?1 AND used_at < ?2";
                let mut statement = db.prepare_cached(sql)?;
                for (key, at) in &uses {
                    statement.execute(params![key.as_bytes(), at.as_millis()])?;
                }
                Ok(())
            })
            .await
    }

    async fn set_grants(&self, key: BlobHash, grants: &[Grant]) -> Result<bool, StoreError> {
        let grants = rows::json(&grants)?;
        self.writer
            .write(move |db| {
                let sql = "UPDATE sessions SET grants = ?2 WHERE key = ?1";
                Ok(db.prepare_cached(sql)?.execute(params![key.as_bytes(), grants])? > 0)
            })
            .await
    }

    async fn remove_session(&self, key: BlobHash) -> Result<bool, StoreError> {
        self.writer
            .write(move |db| {
                let sql = "DELETE FROM sessions WHERE key = ?1";
                Ok(db.prepare_cached(sql)?.execute([key.as_bytes()])? > 0)
            })
            .await
    }

    async fn sweep_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let is_due = self
            .readers
            .read(move |db| {
                let sql = "SELECT EXISTS (SELECT 1 FROM sessions WHERE expires_at < ?1)
                           OR EXISTS (SELECT 1 FROM login_attempts WHERE until < ?1)";
                let due =
                    db.prepare_cached(sql)?.query_row([before.as_millis()], |row| row.get::<_, bool>(0));
                Ok::<_, StoreError>(due.optional()?.unwrap_or(false))
            })
            .await?;
        if !is_due {
            return Ok(0);
        }
        self.writer
            .write(move |db| {
                let before = before.as_millis();
                db.prepare_cached("DELETE FROM login_attempts WHERE until < ?1")?.execute([before])?;
                let removed =
                    db.prepare_cached("DELETE FROM sessions WHERE expires_at < ?1")?.execute([before])?;
                Ok(removed as u64)
            })
            .await
    }

    async fn count_attempt(
        &self,
        key: &str,
        now: Timestamp,
        window: Duration,
    ) -> Result<Attempts, StoreError> {
        let key = key.to_owned();
        self.writer.write(move |db| count(db, &key, now, window)).await
    }

    async fn forgive_attempts(&self, key: &str, all: bool) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.writer
            .write(move |db| {
                let sql = if all {
                    "DELETE FROM login_attempts WHERE key = ?1"
                } else {
                    "UPDATE login_attempts SET count = MAX(count - 1, 0) WHERE key = ?1"
                };
                db.prepare_cached(sql)?.execute([key])?;
                Ok(())
            })
            .await
    }
}
