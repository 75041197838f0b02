//! Calls of the gateway about users and sessions.
//!
//! `/internal/…` are calls of the gateway itself; it never forwards a request of a client to them. `/api/v1/users…` are
//! forwarded calls of administrators, and of users who change their own password.
//!
//! Failed logins are limited by name, by network, and by both together. A login is counted before its password is verified, so
//! that many logins at the same time are limited, too. A name without an account takes the same time and gets the same answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_server::internal::Actor;
use http_server::problem::{ApiError, ProblemType};
use proto_json::users::{
    AccountLogin, Grant, LoginMethod, MAX_GRANTS, NewUser, PasswordChange, SessionCheck, StoredSession,
    StoredUser, User, UserChange, UserList, UserName, ValidSessions, check_display_name, check_password,
    check_wards,
};
use proto_json::{BlobHash, Timestamp};
use serde::de::DeserializeOwned;
use store::users::{UserAdded, valid_sessions};
use store::{StoreError, UserStore};

use crate::Ports;
use crate::passwords::{self, HashError};

/// Window in which failed logins are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// Failed logins in a window for one name from one network.
const PER_NAME_AND_NETWORK: u32 = 5;
/// Failed logins in a window from one network, for any names.
const PER_NETWORK: u32 = 100;
/// Failed logins in a window for one name, from any networks.
const PER_NAME: u32 = 100;
/// Interval at which ended sessions are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The routes.
pub(crate) fn router() -> Router<Arc<Ports>> {
    Router::new()
        .route("/internal/login", post(login))
        .route("/internal/sessions", post(open))
        .route("/internal/sessions/check", post(check))
        .route("/internal/sessions/{key}", delete(close))
        .route("/internal/sessions/{key}/grants", post(grant))
        .route("/internal/accounts/{name}", get(has_account))
        .route("/api/v1/users", get(list).post(add))
        .route("/api/v1/users/{name}", patch(change).delete(remove))
        .route("/api/v1/users/{name}/password", post(change_password))
}

/// Removes ended sessions, forever.
pub(crate) async fn sweep(users: &dyn UserStore) {
    let mut period = tokio::time::interval(SWEEP_EVERY);
    loop {
        period.tick().await;
        if let Err(error) = users.sweep_sessions(Timestamp::now()).await {
            tracing::warn!(%error, "ended sessions were not removed");
        }
    }
}

fn failed(error: StoreError) -> ApiError {
    if error.is_outage() {
        tracing::warn!(%error, "the store of users failed");
        return ApiError::unavailable("The users cannot be read or written for now.", 2);
    }
    ApiError::internal(error)
}

fn not_hashed(error: HashError) -> ApiError {
    ApiError::internal(error)
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    http_server::json::read_object(bytes).map_err(|error| {
        ApiError::new(ProblemType::UNPROCESSABLE, format!("The body is not valid: {error}."))
    })
}

fn unprocessable(field: &str, problem: &str) -> ApiError {
    ApiError::new(ProblemType::UNPROCESSABLE, format!("`{field}` {problem}."))
}

fn conflict(detail: impl Into<String>) -> ApiError {
    ApiError::new(ProblemType::CONFLICT, detail)
}

fn name_of(path: &str) -> Result<UserName, ApiError> {
    path.parse().map_err(|_| no_user())
}

fn no_user() -> ApiError {
    ApiError::not_found("There is no user with this name.")
}

async fn find(users: &dyn UserStore, name: &UserName) -> Result<Option<StoredUser>, ApiError> {
    Ok(users.users_named(std::slice::from_ref(name)).await.map_err(failed)?.pop())
}

/// A kind of failed logins that are counted together.
struct Limit {
    key: String,
    most: u32,
    /// Whether a success forgives all of them, or only itself.
    forgives_all: bool,
}

/// Returns the limits that apply to a login. The name is hashed, because it may be a password that was typed into the wrong
/// field.
fn limits(user: &str, network: &str) -> [Limit; 3] {
    let name = BlobHash::of(user.as_bytes());
    [
        Limit {
            key: format!("name {name} network {network}"),
            most: PER_NAME_AND_NETWORK,
            forgives_all: true,
        },
        Limit { key: format!("network {network}"), most: PER_NETWORK, forgives_all: false },
        Limit { key: format!("name {name}"), most: PER_NAME, forgives_all: false },
    ]
}

/// Counts a login.
///
/// # Errors
/// 429 if there were too many failed ones.
async fn count(users: &dyn UserStore, limits: &[Limit], now: Timestamp) -> Result<(), ApiError> {
    for limit in limits {
        let attempts = users.count_attempt(&limit.key, now, WINDOW).await.map_err(failed)?;
        if attempts.count > limit.most {
            let seconds = u64::try_from(attempts.until.millis_since(now)).unwrap_or(0).div_ceil(1_000).max(1);
            metrics::counter!("bedside_ingest_logins_limited_total").increment(1);
            let detail = format!("Too many logins have failed; try again in {} min.", seconds.div_ceil(60));
            return Err(ApiError::new(ProblemType::TOO_MANY_REQUESTS, detail)
                .header(header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
    }
    Ok(())
}

async fn forgive(users: &dyn UserStore, limits: &[Limit]) -> Result<(), ApiError> {
    for limit in limits {
        users.forgive_attempts(&limit.key, limit.forgives_all).await.map_err(failed)?;
    }
    Ok(())
}

async fn login(State(ports): State<Arc<Ports>>, bytes: Bytes) -> Result<Json<StoredSession>, ApiError> {
    let login: AccountLogin = body(&bytes)?;
    let (users, now) = (&*ports.users, Timestamp::now());
    let entered = login.user.trim().to_ascii_lowercase();
    let limits = limits(&entered, &login.network);
    count(users, &limits, now).await?;
    let known = match entered.parse::<UserName>() {
        Ok(name) => find(users, &name).await?.filter(|stored| !stored.user.disabled),
        Err(_) => None,
    };
    let hash = known.as_ref().map(|stored| stored.password_hash.clone());
    let matches = passwords::verify(login.password, hash).await.map_err(not_hashed)?;
    let Some(stored) = known.filter(|_| matches) else {
        metrics::counter!("bedside_ingest_logins_failed_total").increment(1);
        return Err(ApiError::new(ProblemType::UNAUTHENTICATED, "The name or the password is wrong."));
    };
    forgive(users, &limits).await?;
    let lifetime = i64::try_from(login.lifetime.as_millis()).unwrap_or(i64::MAX / 4);
    let session = StoredSession {
        key: login.key,
        name: stored.user.name.to_string(),
        display_name: stored.user.display_name,
        role: stored.user.role.name().to_owned(),
        wards: stored.user.wards,
        bed: None,
        via: LoginMethod::Local,
        token: None,
        epoch: Some(stored.epoch),
        created_at: now,
        used_at: now,
        expires_at: now.plus_millis(lifetime),
        idle: login.idle,
        grants: Vec::new(),
    };
    users.add_session(&session).await.map_err(failed)?;
    Ok(Json(session))
}

async fn open(State(ports): State<Arc<Ports>>, bytes: Bytes) -> Result<StatusCode, ApiError> {
    let session: StoredSession = body(&bytes)?;
    ports.users.add_session(&session).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(State(ports): State<Arc<Ports>>, bytes: Bytes) -> Result<Json<ValidSessions>, ApiError> {
    let SessionCheck { sessions: known } = body(&bytes)?;
    let now = Timestamp::now();
    let keys: Vec<BlobHash> = known.iter().map(|(key, _)| *key).collect();
    let mut sessions = valid_sessions(&*ports.users, &keys, now).await.map_err(failed)?;
    let reported: HashMap<BlobHash, Timestamp> = known.into_iter().collect();
    let mut uses = Vec::new();
    for session in &mut sessions {
        let used = reported.get(&session.key).copied();
        // A gateway whose clock is ahead must not extend a session.
        let Some(used) = used.map(|used| used.min(now)).filter(|used| *used > session.used_at) else {
            continue;
        };
        // Much shorter than the time after which it ends.
        let precision = StoredSession::USE_PRECISION.min(session.idle / 4);
        if used.millis_since(session.used_at) >= i64::try_from(precision.as_millis()).unwrap_or(i64::MAX) {
            uses.push((session.key, used));
        }
        session.used_at = used;
    }
    if !uses.is_empty() {
        ports.users.use_sessions(&uses).await.map_err(failed)?;
    }
    Ok(Json(ValidSessions { sessions }))
}

fn key_of(path: &str) -> Result<BlobHash, ApiError> {
    path.parse().map_err(|_| ApiError::invalid("The key of a session is a SHA-256."))
}

async fn close(State(ports): State<Arc<Ports>>, Path(key): Path<String>) -> Result<StatusCode, ApiError> {
    ports.users.remove_session(key_of(&key)?).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds or extends an emergency access. Returns those of the session.
async fn grant(
    State(ports): State<Arc<Ports>>,
    Path(key): Path<String>,
    bytes: Bytes,
) -> Result<Json<StoredSession>, ApiError> {
    let (key, new): (BlobHash, Grant) = (key_of(&key)?, body(&bytes)?);
    let mut found = valid_sessions(&*ports.users, &[key], Timestamp::now()).await.map_err(failed)?;
    let ended = || ApiError::new(ProblemType::UNAUTHENTICATED, "This session has ended; log in again.");
    let mut session = found.pop().ok_or_else(ended)?;
    session.grants.retain(|grant| grant.mrn != new.mrn);
    if session.grants.len() >= MAX_GRANTS {
        let detail = format!("A session has at most {MAX_GRANTS} emergency accesses at the same time.");
        return Err(conflict(detail));
    }
    session.grants.push(new);
    if !ports.users.set_grants(key, &session.grants).await.map_err(failed)? {
        return Err(ended());
    }
    Ok(Json(session))
}

/// 204 if there is a local account with this name, enabled or not.
async fn has_account(
    State(ports): State<Arc<Ports>>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let known = find(&*ports.users, &name_of(&name)?).await?;
    known.map(|_| StatusCode::NO_CONTENT).ok_or_else(no_user)
}

async fn list(State(ports): State<Arc<Ports>>) -> Result<Json<UserList>, ApiError> {
    let users = ports.users.users().await.map_err(failed)?;
    Ok(Json(UserList { items: users.into_iter().map(|stored| stored.user).collect() }))
}

/// Checks a new user and returns it with the hash of its password.
///
/// # Errors
/// Which field is wrong, and what it must be.
pub async fn new_user(new: NewUser, by: &str, now: Timestamp) -> Result<StoredUser, ApiError> {
    check_password(&new.password, &new.name).map_err(|problem| unprocessable("password", &problem))?;
    let display_name = new.display_name.unwrap_or_else(|| new.name.to_string());
    let display_name =
        check_display_name(&display_name).map_err(|problem| unprocessable("display_name", &problem))?;
    let wards = check_wards(new.wards).map_err(|problem| unprocessable("wards", &problem))?;
    let password_hash = passwords::hash_password(new.password).await.map_err(not_hashed)?;
    Ok(StoredUser {
        user: User {
            name: new.name,
            display_name,
            role: new.role,
            wards,
            disabled: false,
            version: 1,
            created_at: now,
            changed_at: now,
            changed_by: by.to_owned(),
        },
        password_hash,
        epoch: u64::try_from(now.as_millis()).unwrap_or(0),
    })
}

/// Adds a user who was checked by [`new_user`].
///
/// # Errors
/// 409 if there is one with this name.
pub async fn add_user(users: &dyn UserStore, stored: StoredUser) -> Result<User, ApiError> {
    match users.add_user(&stored).await.map_err(failed)? {
        UserAdded::Added => Ok(stored.user),
        UserAdded::Exists => Err(conflict(format!("There is already a user {}.", stored.user.name))),
        UserAdded::Full => Err(conflict("There are as many users as this site may have.")),
    }
}

async fn add(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    bytes: Bytes,
) -> Result<(StatusCode, Json<User>), ApiError> {
    let stored = new_user(body(&bytes)?, &actor.name, Timestamp::now()).await?;
    let user = add_user(&*ports.users, stored).await?;
    tracing::info!(role = user.role.name(), "a user was added");
    Ok((StatusCode::CREATED, Json(user)))
}

async fn change(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Result<Json<User>, ApiError> {
    let (name, change): (UserName, UserChange) = (name_of(&name)?, body(&bytes)?);
    change_user(&*ports.users, &name, change, &actor.name).await.map(Json)
}

/// Changes a user.
///
/// # Errors
/// 404 if there is no such user, 409 if the user was changed meanwhile or is `by`, 422 for a value that is not valid.
pub async fn change_user(
    users: &dyn UserStore,
    name: &UserName,
    change: UserChange,
    by: &str,
) -> Result<User, ApiError> {
    let before = find(users, name).await?.ok_or_else(no_user)?;
    if change.version.is_some_and(|version| version != before.user.version) {
        return Err(conflict("The user was changed meanwhile; load it again."));
    }
    let mut after = before.clone();
    if let Some(display_name) = change.display_name {
        after.user.display_name =
            check_display_name(&display_name).map_err(|problem| unprocessable("display_name", &problem))?;
    }
    if let Some(role) = change.role {
        after.user.role = role;
    }
    if let Some(wards) = change.wards {
        after.user.wards = check_wards(wards).map_err(|problem| unprocessable("wards", &problem))?;
    }
    if let Some(disabled) = change.disabled {
        after.user.disabled = disabled;
    }
    if let Some(password) = change.password {
        check_password(&password, name).map_err(|problem| unprocessable("password", &problem))?;
        after.password_hash = passwords::hash_password(password).await.map_err(not_hashed)?;
    }
    let loses_admin = after.user.role != before.user.role || (after.user.disabled && !before.user.disabled);
    if loses_admin && by == name.as_str() {
        return Err(conflict("Another administrator must change your role or disable you."));
    }
    replace(users, &before, after, by).await
}

/// Stores a changed user. Does nothing if nothing has changed.
async fn replace(
    users: &dyn UserStore,
    before: &StoredUser,
    mut after: StoredUser,
    by: &str,
) -> Result<User, ApiError> {
    if after == *before {
        return Ok(after.user);
    }
    let same_access = after.user.role == before.user.role
        && after.user.wards == before.user.wards
        && after.user.disabled == before.user.disabled
        && after.password_hash == before.password_hash;
    if !same_access {
        after.epoch += 1;
    }
    after.user.version += 1;
    after.user.changed_at = Timestamp::now();
    after.user.changed_by = by.to_owned();
    if !users.replace_user(&after).await.map_err(failed)? {
        return Err(conflict("The user was changed meanwhile; load it again."));
    }
    Ok(after.user)
}

async fn remove(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name = name_of(&name)?;
    if actor.name == name.as_str() {
        return Err(conflict("Another administrator must remove you."));
    }
    if ports.users.remove_user(&name).await.map_err(failed)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_user())
    }
}

/// A user changes the own password. The gateway has checked that the actor is this user. All sessions of the user end.
async fn change_password(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Result<StatusCode, ApiError> {
    let (name, change): (UserName, PasswordChange) = (name_of(&name)?, body(&bytes)?);
    let users = &*ports.users;
    let key = format!("password of {}", BlobHash::of(name.as_str().as_bytes()));
    let limits = [Limit { key, most: PER_NAME_AND_NETWORK, forgives_all: true }];
    count(users, &limits, Timestamp::now()).await?;
    let before = find(users, &name).await?.filter(|stored| !stored.user.disabled).ok_or_else(no_user)?;
    let hash = Some(before.password_hash.clone());
    if !passwords::verify(change.current, hash).await.map_err(not_hashed)? {
        return Err(unprocessable("current", "is not the current password"));
    }
    forgive(users, &limits).await?;
    check_password(&change.new, &name).map_err(|problem| unprocessable("new", &problem))?;
    let mut after = before.clone();
    after.password_hash = passwords::hash_password(change.new).await.map_err(not_hashed)?;
    replace(users, &before, after, &actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
