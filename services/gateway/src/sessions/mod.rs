//! Sessions of logged-in clients.
//!
//! A client proves its session with a random secret: a browser as a cookie, an app as a bearer token. Ingest stores the
//! sessions by the SHA-256 of their secrets. This gateway remembers the sessions in use and has them checked every second, so
//! that one that ends anywhere ends here within two seconds, with its event streams and WebSockets.
//!
//! Failure modes: while ingest cannot be reached, sessions that are known here stay valid for [`OUTAGE`], so that screens go
//! on; unknown ones get 503. After that, all of them end.

pub(crate) mod cookie;
pub(crate) mod oidc;
pub(crate) mod routes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_server::problem::{ApiError, ProblemType};
use parking_lot::{Mutex, RwLock};
use proto_json::users::{AccountLogin, Grant, LoginMethod, SessionCheck, StoredSession, ValidSessions};
use proto_json::{BedId, BlobHash, Mrn, Problem, Timestamp, WardId};
use ring::rand::{SecureRandom, SystemRandom};
use runtime::Shutdown;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::auth::tokens::{Client, Role};
use crate::reads::query::QueryService;

/// Interval at which sessions are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time for which sessions stay valid while ingest cannot be reached.
const OUTAGE: Duration = Duration::from_secs(300);
/// A session that is not in use is forgotten here after this time.
const FORGET_AFTER_MS: i64 = 60_000;
/// Largest response of ingest, in bytes.
const MAX_RESPONSE: usize = 16 << 20;
/// Prefix of secrets. It distinguishes them from access tokens.
const PREFIX: &str = "bedside-session-";

/// A new secret and its SHA-256.
pub(crate) struct NewSecret {
    pub(crate) text: String,
    pub(crate) key: BlobHash,
}

impl NewSecret {
    /// # Errors
    /// If the system provides no random numbers.
    pub(crate) fn generate() -> Result<Self, ApiError> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| ApiError::internal("the system provides no random numbers"))?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{digits}");
        Ok(NewSecret { key: BlobHash::of(text.as_bytes()), text })
    }
}

/// Returns whether a bearer token is the secret of a session.
pub(crate) fn is_secret(token: &str) -> bool {
    token.len() == PREFIX.len() + 64 && token.starts_with(PREFIX)
}

/// Returns the value that requests with the cookie must have in a header. It is derived from the secret, so that every gateway
/// knows it.
pub(crate) fn csrf(secret: &str) -> String {
    BlobHash::of(format!("csrf of {secret}").as_bytes()).to_string()
}

/// A session that is in use at this gateway.
#[derive(Debug)]
pub(crate) struct OpenSession {
    pub(crate) key: BlobHash,
    pub(crate) via: LoginMethod,
    pub(crate) display_name: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) idle: Duration,
    ended: CancellationToken,
    used_at: Mutex<Timestamp>,
    grants: RwLock<Vec<Grant>>,
}

impl OpenSession {
    fn new(stored: &StoredSession) -> Self {
        OpenSession {
            key: stored.key,
            via: stored.via,
            display_name: stored.display_name.clone(),
            expires_at: stored.expires_at,
            idle: stored.idle,
            ended: CancellationToken::new(),
            used_at: Mutex::new(stored.used_at),
            grants: RwLock::new(stored.grants.clone()),
        }
    }

    /// Resolves when the session has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        let idle = i64::try_from(self.idle.as_millis()).unwrap_or(i64::MAX / 4);
        !self.ended.is_cancelled() && now < self.expires_at && now < self.used_at.lock().plus_millis(idle)
    }

    fn touch(&self, now: Timestamp) {
        let mut used = self.used_at.lock();
        *used = now.max(*used);
    }

    /// Emergency accesses that are valid now.
    pub(crate) fn grants(&self, now: Timestamp) -> Vec<Grant> {
        self.grants.read().iter().filter(|grant| now < grant.until).copied().collect()
    }

    /// Whether the session has emergency access to a patient.
    pub(crate) fn may_access(&self, mrn: Mrn, now: Timestamp) -> bool {
        self.grants.read().iter().any(|grant| grant.mrn == mrn && now < grant.until)
    }

    pub(crate) fn set_grants(&self, grants: Vec<Grant>) {
        *self.grants.write() = grants;
    }
}

/// A session and the client that has it.
#[derive(Debug, Clone)]
struct Known {
    session: Arc<OpenSession>,
    client: Client,
}

/// The sessions that are in use at this gateway.
#[derive(Debug)]
pub(crate) struct Sessions {
    known: RwLock<HashMap<BlobHash, Known>>,
    /// When ingest answered last.
    reached: Mutex<Instant>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Sessions { known: RwLock::default(), reached: Mutex::new(Instant::now()) }
    }

    /// Returns the client of a secret, and counts this as a use; `None` if there is no such session.
    ///
    /// # Errors
    /// 503 if the session is not known here and ingest cannot be reached.
    pub(crate) async fn client(
        &self,
        records: &QueryService,
        secret: &str,
    ) -> Result<Option<Client>, ApiError> {
        let (key, now) = (BlobHash::of(secret.as_bytes()), Timestamp::now());
        let known = self.known.read().get(&key).cloned();
        if let Some(known) = known {
            if !known.session.is_valid(now) {
                self.end(key);
                return Ok(None);
            }
            known.session.touch(now);
            return Ok(Some(known.client));
        }
        let check = SessionCheck { sessions: vec![(key, now)] };
        let found: ValidSessions = call(records, Method::POST, "/internal/sessions/check", &check).await?;
        Ok(found.sessions.first().and_then(|stored| self.remember(stored)))
    }

    /// Makes a session known here; `None` if it has a role of a later version.
    pub(crate) fn remember(&self, stored: &StoredSession) -> Option<Client> {
        let mut known = self.known.write();
        if let Some(known) = known.get(&stored.key) {
            return Some(known.client.clone());
        }
        let role = Role::of_name(&stored.role)?;
        let session = Arc::new(OpenSession::new(stored));
        let client = Client::of_session(stored, role, session.clone());
        known.insert(stored.key, Known { session, client: client.clone() });
        metrics::gauge!("bedside_gateway_sessions").set(known.len() as f64);
        Some(client)
    }

    /// Ends a session here.
    pub(crate) fn end(&self, key: BlobHash) {
        let mut known = self.known.write();
        if let Some(ended) = known.remove(&key) {
            ended.session.ended.cancel();
        }
        metrics::gauge!("bedside_gateway_sessions").set(known.len() as f64);
    }

    /// Checks the sessions every second until the shutdown begins.
    pub(crate) async fn watch(&self, records: &QueryService, shutdown: &Shutdown) {
        let mut period = tokio::time::interval(CHECK_EVERY);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.unless_begun(period.tick()).await.is_some() {
            if shutdown.unless_begun(self.check(records)).await.is_none() {
                return;
            }
        }
    }

    async fn check(&self, records: &QueryService) {
        let now = Timestamp::now();
        let mut sessions = Vec::new();
        let mut ended = Vec::new();
        {
            let mut known = self.known.write();
            known.retain(|key, known| {
                // The map has one reference, and one is in the client that it holds. Further ones are those of open streams
                // and of requests, which use the session.
                if Arc::strong_count(&known.session) > 2 {
                    known.session.touch(now);
                }
                let used = *known.session.used_at.lock();
                if !known.session.is_valid(now) {
                    ended.push(*key);
                    return true;
                }
                let forgotten = now.millis_since(used) > FORGET_AFTER_MS;
                if !forgotten {
                    sessions.push((*key, used));
                }
                !forgotten
            });
        }
        for key in ended {
            self.end(key);
        }
        if sessions.is_empty() {
            *self.reached.lock() = Instant::now();
            return;
        }
        let check = SessionCheck { sessions };
        match call::<ValidSessions>(records, Method::POST, "/internal/sessions/check", &check).await {
            Ok(valid) => {
                *self.reached.lock() = Instant::now();
                let valid: HashMap<BlobHash, StoredSession> =
                    valid.sessions.into_iter().map(|stored| (stored.key, stored)).collect();
                for (key, _) in check.sessions {
                    match valid.get(&key) {
                        None => self.end(key),
                        Some(stored) => {
                            let known = self.known.read().get(&key).map(|known| known.session.clone());
                            if let Some(session) = known {
                                session.touch(stored.used_at);
                                session.set_grants(stored.grants.clone());
                            }
                        }
                    }
                }
            }
            Err(error) => {
                let outage = self.reached.lock().elapsed();
                tracing::warn!(error = %error.detail, "sessions cannot be checked");
                if outage > OUTAGE {
                    for (key, _) in check.sessions {
                        self.end(key);
                    }
                }
            }
        }
    }
}

/// Logs in with a local account.
///
/// # Errors
/// 401, 429 or 503.
pub(crate) async fn log_in(records: &QueryService, login: &AccountLogin) -> Result<StoredSession, ApiError> {
    call(records, Method::POST, "/internal/login", login).await
}

/// Stores a session.
///
/// # Errors
/// 503 if ingest cannot be reached.
pub(crate) async fn store(records: &QueryService, session: &StoredSession) -> Result<(), ApiError> {
    send(records, Method::POST, "/internal/sessions", json(session)?).await.map(drop)
}

/// Removes a session everywhere.
///
/// # Errors
/// 503 if ingest cannot be reached.
pub(crate) async fn remove(records: &QueryService, key: BlobHash) -> Result<(), ApiError> {
    send(records, Method::DELETE, &format!("/internal/sessions/{key}"), Bytes::new()).await.map(drop)
}

/// Gives a session emergency access to a patient.
///
/// # Errors
/// 401 if the session has ended, 409 if it has too many, 503 if ingest cannot be reached.
pub(crate) async fn add_grant(
    records: &QueryService,
    key: BlobHash,
    grant: &Grant,
) -> Result<StoredSession, ApiError> {
    call(records, Method::POST, &format!("/internal/sessions/{key}/grants"), grant).await
}

/// Returns whether there is a local account with this name.
///
/// # Errors
/// 503 if ingest cannot be reached.
pub(crate) async fn has_account(records: &QueryService, name: &str) -> Result<bool, ApiError> {
    match send(records, Method::GET, &format!("/internal/accounts/{name}"), Bytes::new()).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind.status == StatusCode::NOT_FOUND => Ok(false),
        Err(error) => Err(error),
    }
}

/// The values of a session of a person or of a token.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) role: Role,
    pub(crate) wards: Option<Vec<WardId>>,
    pub(crate) bed: Option<BedId>,
    pub(crate) via: LoginMethod,
    pub(crate) token: Option<BlobHash>,
    /// The session ends at this time at the latest.
    pub(crate) until: Option<Timestamp>,
}

impl Identity {
    /// Returns the session of this identity, as it is stored.
    pub(crate) fn session(self, key: BlobHash, lifetime: Duration, idle: Duration) -> StoredSession {
        let now = Timestamp::now();
        let end = now.plus_millis(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 4));
        StoredSession {
            key,
            name: self.name,
            display_name: self.display_name,
            role: self.role.name().to_owned(),
            wards: self.wards,
            bed: self.bed,
            via: self.via,
            token: self.token,
            epoch: None,
            created_at: now,
            used_at: now,
            expires_at: self.until.map_or(end, |until| until.min(end)),
            idle,
            grants: Vec::new(),
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(ApiError::internal)
}

/// Calls ingest and parses its response.
async fn call<T: DeserializeOwned>(
    records: &QueryService,
    method: Method,
    path: &str,
    value: &impl Serialize,
) -> Result<T, ApiError> {
    let response = send(records, method, path, json(value)?).await?;
    serde_json::from_slice(&response).map_err(ApiError::internal)
}

async fn send(records: &QueryService, method: Method, path: &str, body: Bytes) -> Result<Bytes, ApiError> {
    let path = PathAndQuery::try_from(path).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let response = records.request_with(method, path, headers, body).await?;
    let (status, retry_after) = (response.status(), response.headers().get(header::RETRY_AFTER).cloned());
    let body = read(response).await?;
    if status.is_success() {
        return Ok(body);
    }
    let detail = serde_json::from_slice::<Problem>(&body).ok().and_then(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|| "The service of users failed.".to_owned());
    let kind = match status {
        StatusCode::UNAUTHORIZED => ProblemType::UNAUTHENTICATED,
        StatusCode::NOT_FOUND => ProblemType::NOT_FOUND,
        StatusCode::CONFLICT => ProblemType::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS => ProblemType::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE => ProblemType::UNAVAILABLE,
        _ => ProblemType::BAD_GATEWAY,
    };
    let error = ApiError::new(kind, detail);
    Err(match retry_after {
        Some(value) => error.header(header::RETRY_AFTER, value),
        None => error,
    })
}

async fn read(response: Response) -> Result<Bytes, ApiError> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
    Ok(body.map_err(ApiError::internal)?.to_bytes())
}
