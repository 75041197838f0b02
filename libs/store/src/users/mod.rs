//! The port of users, sessions and failed logins.
//!
//! A session of a local account is valid only while the account exists, is enabled and has the epoch of the session. So a
//! change of the account ends its sessions in the same write, without a transaction over both.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use proto_json::users::{Grant, StoredSession, StoredUser, UserName};
use proto_json::{BlobHash, Timestamp};

use crate::StoreError;

/// Result of adding a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserAdded {
    /// The user is stored.
    Added,
    /// Another user has this name; nothing was changed.
    Exists,
    /// The store has as many users as it may have; nothing was changed.
    Full,
}

/// Logins that were counted under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Their number in the current window, with this one.
    pub count: u32,
    /// End of the window.
    pub until: Timestamp,
}

/// Users, sessions and failed logins. Ingest is the only writer.
///
/// Every method fails with [`StoreError::Unavailable`] when the store cannot be reached. Every write is durable when it
/// returns and can be repeated.
#[async_trait]
pub trait UserStore: Debug + Send + Sync + 'static {
    /// All users, ascending by name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one of them is damaged.
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError>;

    /// The users with these names, in any order; unknown names are left out.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one of them is damaged.
    async fn users_named(&self, names: &[UserName]) -> Result<Vec<StoredUser>, StoreError>;

    /// Adds a user. A repetition with the same content is [`UserAdded::Added`].
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn add_user(&self, user: &StoredUser) -> Result<UserAdded, StoreError>;

    /// Replaces the user whose version is one less than that of `user`. False, without any change, if there is none; a
    /// repetition with the same content is true.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn replace_user(&self, user: &StoredUser) -> Result<bool, StoreError>;

    /// Removes a user and its sessions. False if there is none.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError>;

    /// Adds a session. One that exists stays as it is.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn add_session(&self, session: &StoredSession) -> Result<(), StoreError>;

    /// The sessions with these keys, in any order, whether they are valid or not; unknown keys are left out. A damaged session
    /// is unknown.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn sessions(&self, keys: &[BlobHash]) -> Result<Vec<StoredSession>, StoreError>;

    /// Stores when sessions were used. An earlier time than the stored one changes nothing.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn use_sessions(&self, uses: &[(BlobHash, Timestamp)]) -> Result<(), StoreError>;

    /// Replaces the emergency accesses of a session. False if there is no such session.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn set_grants(&self, key: BlobHash, grants: &[Grant]) -> Result<bool, StoreError>;

    /// Removes a session. False if there is none.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn remove_session(&self, key: BlobHash) -> Result<bool, StoreError>;

    /// Removes sessions that expired, and attempts whose window ended, before this time.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn sweep_sessions(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Counts a login under a key, before its password is verified. The first login after a window begins a new one.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn count_attempt(
        &self,
        key: &str,
        now: Timestamp,
        window: Duration,
    ) -> Result<Attempts, StoreError>;

    /// Takes back one counted login, or all of a key, after a login has succeeded.
    ///
    /// # Errors
    /// When the store cannot be reached.
    async fn forgive_attempts(&self, key: &str, all: bool) -> Result<(), StoreError>;
}

/// The sessions with these keys that are valid at `now`, for their own time limits and for their account.
///
/// # Errors
/// When the store cannot be reached.
pub async fn valid_sessions(
    store: &dyn UserStore,
    keys: &[BlobHash],
    now: Timestamp,
) -> Result<Vec<StoredSession>, StoreError> {
    let mut sessions = store.sessions(keys).await?;
    sessions.retain(|session| session.is_valid(now));
    let names: Vec<UserName> = sessions
        .iter()
        .filter(|session| session.epoch.is_some())
        .filter_map(|session| session.name.parse().ok())
        .collect();
    let users = if names.is_empty() { Vec::new() } else { store.users_named(&names).await? };
    let epochs: HashMap<&str, u64> = users
        .iter()
        .filter(|stored| !stored.user.disabled)
        .map(|stored| (stored.user.name.as_str(), stored.epoch))
        .collect();
    sessions.retain(|session| {
        session.epoch.is_none_or(|epoch| epochs.get(session.name.as_str()) == Some(&epoch))
    });
    for session in &mut sessions {
        session.grants.retain(|grant| now < grant.until);
    }
    Ok(sessions)
}
