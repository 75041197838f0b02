//! Routes of sessions, users and emergency access.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, RawPathParams, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use http_server::Network;
use http_server::problem::{ApiError, ProblemType};
use proto_json::users::{
    AccountLogin, BreakGlass, Grant, LoginMethod, LoginMethods, LoginRequest, Session, StoredSession,
};
use proto_json::{BlobHash, Mrn, Problem, Timestamp};
use runtime::Backoff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admission::{Rate, RateKey};
use crate::app::App;
use crate::auth::access::{self, address};
use crate::auth::audit_line::{AuditNotes, RequestId};
use crate::auth::tokens::{Client, Role};
use crate::auth::wards;
use crate::http::params::PathMrn;
use crate::sessions::cookie::{self, Attributes};
use crate::sessions::{self, Identity, NewSecret, csrf};
use crate::web;

/// Largest body of a login, in bytes.
const MAX_BODY: usize = 4 << 10;
/// Waits between attempts to raise the notice of an emergency access: for about an hour.
const NOTICE_FIRST_WAIT: Duration = Duration::from_millis(200);
const NOTICE_MAX_WAIT: Duration = Duration::from_secs(30);
const NOTICE_ATTEMPTS: usize = 130;
/// Length of the reason of an emergency access, in characters.
const REASON: std::ops::RangeInclusive<usize> = 5..=500;

/// How a client can log in here.
fn methods(app: &App) -> LoginMethods {
    let is_needed = app.tokens.is_some();
    LoginMethods { oidc: app.oidc.is_some(), local: is_needed, token: is_needed }
}

fn describe(app: &App, client: &Client, secret: Option<&str>) -> Session {
    let session = client.session.as_ref();
    let via = match (session, app.tokens.is_some()) {
        (Some(session), _) => session.via,
        (None, true) => LoginMethod::Token,
        (None, false) => LoginMethod::None,
    };
    Session {
        name: client.name.to_string(),
        display_name: session.map_or_else(|| client.name.to_string(), |session| session.display_name.clone()),
        role: client.role.name().to_owned(),
        wards: client.wards.as_deref().map(<[_]>::to_vec),
        via,
        expires_at: session.map(|session| session.expires_at).or(client.expires()),
        idle_s: session.map(|session| session.idle.as_secs()),
        csrf: secret.map(csrf),
        emergency: session.map(|session| session.grants(Timestamp::now())).unwrap_or_default(),
        emergency_access_s: Some(app.config.sessions.emergency_access.as_secs()),
        login: methods(app),
    }
}

/// Adds the ways to log in to a 401 problem document.
fn with_methods(app: &App, error: ApiError) -> Response {
    if error.kind != ProblemType::UNAUTHENTICATED {
        return error.into_response();
    }
    let problem = Problem {
        kind: format!("urn:bedside:problem:{}", error.kind.name),
        title: error.kind.title.to_owned(),
        status: error.kind.status.as_u16(),
        detail: Some(error.detail.clone()),
        names: None,
        merged_into: None,
    };
    let mut body = json!(problem);
    if let Value::Object(fields) = &mut body {
        fields.insert("login".to_owned(), json!(methods(app)));
    }
    let mut response = error.into_response();
    *response.body_mut() = body.to_string().into();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    // RFC 9110 requires it in each 401. Browsers open no dialog for this scheme.
    headers.entry(header::WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer"));
    response
}

/// The secret in the cookie of a request.
fn secret(headers: &HeaderMap) -> Option<&str> {
    cookie::value(headers, cookie::SESSION).filter(|_| !headers.contains_key(header::AUTHORIZATION))
}

/// `GET /api/v1/session`: who is logged in.
pub(crate) async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = address(&request, &app.config.trusted_proxies);
    let (method, headers) = (request.method().clone(), request.headers().clone());
    drop(request);
    let client = access::authenticate(&app, access::credentials(&app, &method, &headers)).await;
    match client {
        Ok(client) => Json(describe(&app, &client, secret(&headers))).into_response(),
        Err(error) => {
            let is_guess = secret(&headers).is_some() || headers.contains_key(header::AUTHORIZATION);
            let key = RateKey::Network(Network::from(address));
            match app.admission.check_rate(Rate::Failed, &key) {
                Err(limited) if is_guess => limited.into_response(),
                _ => with_methods(&app, error),
            }
        }
    }
}

/// Whether cookies are sent only over TLS.
fn is_secure(app: &App, headers: &HeaderMap) -> bool {
    // A client that claims TLS without it only denies itself the cookie.
    app.config.tls.certificate.is_some()
        || headers.get("x-forwarded-proto").is_some_and(|value| value.as_bytes() == b"https")
}

fn session_cookie(value: &str, max_age: Option<Duration>, secure: bool) -> Result<HeaderValue, ApiError> {
    let name = cookie::SESSION;
    cookie::set(value, &Attributes { name, path: "/", max_age, same_site: "Strict", secure })
}

async fn read<T: DeserializeOwned>(request: Request, expected: &str) -> Result<T, ApiError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Forms of other pages cannot send this type without asking first.
    if content_type.is_none_or(|value| !value.starts_with("application/json")) {
        return Err(ApiError::new(ProblemType::UNSUPPORTED, "Send the body as application/json."));
    }
    let body = http_body_util::Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| {
        ApiError::new(ProblemType::TOO_LARGE, format!("The body has at most {MAX_BODY} bytes."))
    })?;
    http_server::json::read_object(&body.to_bytes())
        .map_err(|_| ApiError::invalid(format!("The body must be {expected}.")))
}

/// The audit line of a login or its end.
#[derive(Serialize)]
struct LoginLine<'a> {
    message: &'static str,
    request_id: Option<String>,
    client: Option<&'a str>,
    role: Option<&'a str>,
    via: LoginMethod,
    address: IpAddr,
    outcome: &'static str,
}

/// Writes the audit line of a login. The name of a failed one is not written, because it may be a password.
pub(crate) fn audit_login(
    app: &App,
    request: Option<RequestId>,
    address: IpAddr,
    via: LoginMethod,
    session: Result<&StoredSession, &ApiError>,
) {
    app.audit.write(&LoginLine {
        message: "login",
        request_id: request.map(|id| id.0.to_string()),
        client: session.ok().map(|session| session.name.as_str()),
        role: session.ok().map(|session| session.role.as_str()),
        via,
        address,
        outcome: match session {
            Ok(_) => "ok",
            Err(error) if error.kind.status.is_server_error() => "failed",
            Err(_) => "denied",
        },
    });
}

/// `POST /api/v1/session`: logs in.
pub(crate) async fn log_in(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = address(&request, &app.config.trusted_proxies);
    let id = request.extensions().get::<RequestId>().copied();
    let headers = request.headers().clone();
    let login = match cookie::check_origin(&headers) {
        Ok(()) => read(request, "{\"token\": …} or {\"user\": …, \"password\": …}").await,
        Err(error) => Err(error),
    };
    let login: LoginRequest = match login {
        Ok(login) => login,
        Err(error) => return error.into_response(),
    };
    if app.tokens.is_none() {
        return Json(describe(&app, &Client::local(), None)).into_response();
    }
    let via = match login {
        LoginRequest::Token { .. } => LoginMethod::Token,
        LoginRequest::Account { .. } => LoginMethod::Local,
    };
    let opened = open(&app, login, address).await;
    audit_login(&app, id, address, via, opened.as_ref().map(|(stored, _)| stored));
    match opened.and_then(|(stored, secret)| accept(&app, &headers, &stored, &secret)) {
        Ok(response) => response,
        Err(error) if error.kind == ProblemType::UNAUTHENTICATED => {
            let key = RateKey::Network(Network::from(address));
            let limited = app.admission.check_rate(Rate::Failed, &key).err();
            with_methods(&app, limited.unwrap_or(error))
        }
        Err(error) => error.into_response(),
    }
}

/// Stores a new session. Returns it with its secret.
async fn open(
    app: &App,
    login: LoginRequest,
    address: IpAddr,
) -> Result<(StoredSession, NewSecret), ApiError> {
    let secret = NewSecret::generate()?;
    let (lifetime, idle) = (app.config.sessions.session_lifetime, app.config.sessions.session_idle);
    let stored = match login {
        LoginRequest::Account { user, password } => {
            let network = format!("{:?}", Network::from(address));
            let login = AccountLogin { user, password, network, key: secret.key, lifetime, idle };
            sessions::log_in(&app.records, &login).await?
        }
        LoginRequest::Token { token } => {
            let tokens = app.tokens.as_ref().map(|tokens| tokens.borrow().clone());
            let client = tokens.and_then(|tokens| tokens.client(token.0.trim()).cloned());
            let client = client
                .ok_or_else(|| ApiError::new(ProblemType::UNAUTHENTICATED, "This token is not known."))?;
            let identity = Identity {
                name: client.name.to_string(),
                display_name: client.name.to_string(),
                role: client.role,
                wards: client.wards.as_deref().map(<[_]>::to_vec),
                bed: client.bed,
                via: LoginMethod::Token,
                token: client.token(),
                until: client.expires(),
            };
            let stored = identity.session(secret.key, lifetime, idle);
            sessions::store(&app.records, &stored).await?;
            stored
        }
    };
    Ok((stored, secret))
}

/// The response to a login: the session, and its cookie.
fn accept(
    app: &App,
    headers: &HeaderMap,
    stored: &StoredSession,
    secret: &NewSecret,
) -> Result<Response, ApiError> {
    let client = app.sessions.remember(stored).ok_or_else(|| ApiError::internal("the role is not known"))?;
    let cookie = session_cookie(&secret.text, None, is_secure(app, headers))?;
    let session = describe(app, &client, Some(&secret.text));
    Ok(([(header::SET_COOKIE, cookie)], Json(session)).into_response())
}

/// `DELETE /api/v1/session`: logs out. Without a session, nothing happens.
pub(crate) async fn log_out(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = address(&request, &app.config.trusted_proxies);
    let id = request.extensions().get::<RequestId>().copied();
    let (method, headers) = (request.method().clone(), request.headers().clone());
    drop(request);
    let credentials = access::credentials(&app, &method, &headers);
    if let access::Credentials::Rejected(error) = &credentials
        && error.kind == ProblemType::FORBIDDEN
    {
        return error.clone().into_response();
    }
    let ended = match access::authenticate(&app, credentials).await {
        Ok(client) => match &client.session {
            Some(session) => end(&app, &client, session.key, address, id).await,
            None => {
                let detail = "A token has no session; it is revoked in the token file.";
                return ApiError::new(ProblemType::CONFLICT, detail).into_response();
            }
        },
        Err(error) if error.kind == ProblemType::UNAUTHENTICATED => Ok(()),
        Err(error) => Err(error),
    };
    let cookie = session_cookie("", Some(Duration::ZERO), is_secure(&app, &headers));
    match ended.and(cookie) {
        Ok(cookie) => (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn end(
    app: &App,
    client: &Client,
    key: BlobHash,
    address: IpAddr,
    id: Option<RequestId>,
) -> Result<(), ApiError> {
    sessions::remove(&app.records, key).await?;
    app.sessions.end(key);
    app.audit.write(&LoginLine {
        message: "logout",
        request_id: id.map(|id| id.0.to_string()),
        client: Some(&client.name),
        role: Some(client.role.name()),
        via: client.session.as_ref().map_or(LoginMethod::None, |session| session.via),
        address,
        outcome: "ok",
    });
    Ok(())
}

/// `GET /api/v1/session/oidc`: sends the browser to the provider.
pub(crate) async fn begin_oidc(State(app): State<Arc<App>>, request: Request) -> Response {
    let headers = request.headers().clone();
    drop(request);
    let secure = is_secure(&app, &headers);
    let Some(oidc) = &app.oidc else { return no_provider().into_response() };
    let begun = async {
        let secret = NewSecret::generate()?;
        let address = oidc.begin(&secret.text).await?;
        let cookie = cookie::set(&secret.text, &oidc.attributes(secure))?;
        let location = HeaderValue::try_from(address).map_err(ApiError::internal)?;
        Ok::<_, ApiError>([(header::LOCATION, location), (header::SET_COOKIE, cookie)])
    };
    match begun.await {
        Ok(headers) => (StatusCode::SEE_OTHER, headers).into_response(),
        Err(error) => failed_oidc(&headers, &error),
    }
}

/// The answer to a login that failed. A browser is sent to the page, which says so.
fn failed_oidc(headers: &HeaderMap, error: &ApiError) -> Response {
    if !web::is_browser(headers) {
        return error.clone().into_response();
    }
    let reason = if error.kind == ProblemType::FORBIDDEN { "denied" } else { "failed" };
    (StatusCode::SEE_OTHER, [(header::LOCATION, format!("/#/login/{reason}"))]).into_response()
}

fn no_provider() -> ApiError {
    ApiError::not_found("This server has no OpenID Connect provider; log in with an account or a token.")
}

/// `GET /api/v1/session/oidc/callback`: the browser comes back from the provider.
pub(crate) async fn finish_oidc(State(app): State<Arc<App>>, request: Request) -> Response {
    let address = address(&request, &app.config.trusted_proxies);
    let id = request.extensions().get::<RequestId>().copied();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers = request.headers().clone();
    drop(request);
    let secure = is_secure(&app, &headers);
    let Some(oidc) = &app.oidc else { return no_provider().into_response() };
    let opened = async {
        let begun = cookie::value(&headers, oidc.attributes(secure).name).ok_or_else(|| {
            ApiError::invalid("The login was begun in another browser or too long ago; log in again.")
        })?;
        let identity = oidc.finish(begun, &query).await?;
        // Both would have the same name in the audit.
        if sessions::has_account(&app.records, &identity.name).await?
            || app.tokens.as_ref().is_some_and(|tokens| tokens.borrow().has_name(&identity.name))
        {
            let detail = "A local account or token has the name of this user; an administrator must rename or remove it.";
            return Err(ApiError::new(ProblemType::FORBIDDEN, detail));
        }
        let secret = NewSecret::generate()?;
        let config = &app.config.sessions;
        let stored = identity.session(secret.key, config.session_lifetime, config.session_idle);
        sessions::store(&app.records, &stored).await?;
        app.sessions.remember(&stored);
        Ok((stored, secret))
    };
    let opened = opened.await;
    audit_login(&app, id, address, LoginMethod::Oidc, opened.as_ref().map(|(stored, _)| stored));
    let answered = opened.and_then(|(_, secret)| {
        let session = session_cookie(&secret.text, None, secure)?;
        let begun = Attributes { max_age: Some(Duration::ZERO), ..oidc.attributes(secure) };
        Ok([(header::SET_COOKIE, session), (header::SET_COOKIE, cookie::set("", &begun)?)])
    });
    match answered {
        Ok(cookies) => {
            let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
            for (name, value) in cookies {
                response.headers_mut().append(name, value);
            }
            response
        }
        Err(error) => failed_oidc(&headers, &error),
    }
}

/// Forwards a call about users to ingest.
pub(crate) async fn forward(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    crate::forward::call(&app, &app.records, &client, &notes, request).await
}

/// `POST /api/v1/users/{name}/password`: a user changes the own password.
pub(crate) async fn change_password(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(notes): Extension<AuditNotes>,
    params: RawPathParams,
    request: Request,
) -> Response {
    let is_own = params.iter().next().is_some_and(|(_, name)| name == &*client.name);
    let is_account = client.session.as_ref().is_some_and(|session| session.via == LoginMethod::Local);
    if !(is_own && is_account) {
        let detail = "Users change only their own password, after a login with it. An administrator sets another one with \
                      PATCH /api/v1/users/{name}.";
        return ApiError::new(ProblemType::FORBIDDEN, detail).into_response();
    }
    crate::forward::call(&app, &app.records, &client, &notes, request).await
}

/// The audit line of an emergency access.
#[derive(Serialize)]
struct EmergencyLine<'a> {
    message: &'static str,
    request_id: Option<String>,
    client: &'a str,
    role: &'static str,
    patient: String,
    until: Timestamp,
    reason: &'a str,
}

/// `POST /api/v1/patients/{mrn}/break-glass`: gives this session access to a patient of another ward for a limited time.
pub(crate) async fn break_glass(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    mrn: Result<PathMrn, ApiError>,
    request: Request,
) -> Response {
    match access_patient(&app, &client, mrn, request).await {
        Ok(grant) => {
            tokio::spawn(notify_emergency(app, client, grant.mrn));
            Json(grant).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// Has the alarms raise a notice of an emergency access. It is repeated while they cannot be reached, and the access does not
/// wait for it.
async fn notify_emergency(app: Arc<App>, client: Client, mrn: Mrn) {
    let path = PathAndQuery::try_from(format!("/api/v1/patients/{mrn}/emergency"));
    let Ok(path) = path.inspect_err(|error| tracing::error!(%error, "no path of a notice")) else { return };
    let mut headers = HeaderMap::new();
    headers.extend(wards::actor(&client, None).header());
    let body = Bytes::from(json!({ "at": Timestamp::now() }).to_string());
    let mut backoff = Backoff::new(NOTICE_FIRST_WAIT, NOTICE_MAX_WAIT);
    for _ in 0..NOTICE_ATTEMPTS {
        let call = app.alarms.request_with(Method::POST, path.clone(), headers.clone(), body.clone());
        match app.shutdown.unless_begun(call).await {
            Some(Ok(response)) if response.status().is_success() => return,
            Some(Ok(response)) if response.status().is_client_error() => {
                tracing::error!(status = %response.status(), "the notice of an emergency access was rejected");
                return;
            }
            Some(_) => {}
            None => break,
        }
        if app.shutdown.unless_begun(backoff.wait()).await.is_none() {
            break;
        }
    }
    tracing::error!("the notice of an emergency access was not raised; the audit log names the access");
}

async fn access_patient(
    app: &App,
    client: &Client,
    mrn: Result<PathMrn, ApiError>,
    request: Request,
) -> Result<Grant, ApiError> {
    let PathMrn(mrn) = mrn?;
    let id = request.extensions().get::<RequestId>().map(|id| id.0.to_string());
    let BreakGlass { reason } = read(request, "{\"reason\": …}").await?;
    let length = reason.chars().count();
    let is_text = !reason.trim().is_empty() && !reason.chars().any(char::is_control);
    if !REASON.contains(&length) || !is_text {
        let (min, max) = (REASON.start(), REASON.end());
        let detail = format!("`reason` has {min} to {max} characters and no control characters.");
        return Err(ApiError::new(ProblemType::UNPROCESSABLE, detail));
    }
    let Some(session) = client.session.as_ref().filter(|session| session.via != LoginMethod::Token) else {
        let detail = "Emergency access needs a login of a person, not a token.";
        return Err(ApiError::new(ProblemType::FORBIDDEN, detail));
    };
    let now = Timestamp::now();
    if !session.may_access(mrn, now) && wards::may_access(app, client, mrn).await? {
        // Also the answer for an unknown patient, who is in no ward.
        let detail = format!("Patient {mrn} is accessible without emergency access, or does not exist.");
        return Err(ApiError::new(ProblemType::CONFLICT, detail));
    }
    let duration = i64::try_from(app.config.sessions.emergency_access.as_millis()).unwrap_or(i64::MAX / 4);
    let grant = Grant { mrn, until: now.plus_millis(duration).min(session.expires_at) };
    // Written first: no access without its line.
    app.audit.write(&EmergencyLine {
        message: "emergency access",
        request_id: id,
        client: &client.name,
        role: client.role.name(),
        patient: app.audit.patient(mrn),
        until: grant.until,
        reason: &reason,
    });
    let stored = sessions::add_grant(&app.records, session.key, &grant).await?;
    session.set_grants(stored.grants);
    metrics::counter!("bedside_gateway_emergency_accesses_total").increment(1);
    tracing::warn!(
        role = client.role.name(),
        "a patient of another ward was accessed in an emergency; the audit log says by whom and why"
    );
    Ok(grant)
}

/// Whether a role is one of a person, for mappings of a provider.
pub(crate) fn is_of_person(role: Role) -> bool {
    !matches!(role, Role::Uploader | Role::Device)
}
