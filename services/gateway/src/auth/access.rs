//! Who may do what, and the audit line of every access to patient data.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::RequestExt;
use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto_json::{Mrn, RecordId, UploadId};
use runtime::Lane;
use runtime::http::{Connection, Network, NoSlot};
use runtime::problem::{ApiError, ProblemType};
use serde::Serialize;
use uuid::Uuid;

use crate::App;
use crate::admission::{Rate, RateKey, too_many};
use crate::auth::audit::AuditLog;
use crate::auth::proxies::TrustedProxy;
use crate::auth::tokens::{Client, Need};
use crate::http::routes::is_legacy;

/// Number of a request: each answer carries it as `X-Request-Id`, and so does the audit line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId(Uuid);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler learns about its request that the audit line says.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default, Clone, Copy)]
struct Notes {
    patient: Option<Mrn>,
    upload_id: Option<UploadId>,
}

impl AuditNotes {
    /// Whose data the request is about.
    pub(crate) fn patient(&self, mrn: Mrn) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).patient = Some(mrn);
    }

    /// The upload that it brought.
    pub(crate) fn upload(&self, id: UploadId) {
        self.upload_of(Some(id));
    }

    pub(crate) fn upload_of(&self, id: Option<UploadId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).upload_id = id;
    }

    fn read(&self) -> Notes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a request pass if its token allows it, and writes the audit line.
pub(crate) async fn guard(
    State((app, need)): State<(Arc<App>, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let client = authenticate(&app, request.headers());
    if let (Ok(client), Some(_), Some(lane)) = (&client, &app.tokens, request.extensions().get::<Lane>()) {
        lane.keep_to(app.admission.threads.of(&client.name));
    }
    let params = request.extract_parts::<RawPathParams>().await.ok();
    let named = params.iter().flatten().next().map(|(name, value)| named_in_path(&route, name, value));
    let named = named.unwrap_or_default();
    let notes = AuditNotes::default();
    if let Some(mrn) = named.patient {
        notes.patient(mrn);
    }
    let mut line = AuditLine {
        audit: app.audit.clone(),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0),
        client: client.as_ref().ok().cloned(),
        address: address(&request, &app.config.trusted_proxies),
        method: request.method().clone(),
        notes: notes.clone(),
        id: named.id,
        route,
        status: None,
    };
    request.extensions_mut().insert(notes);
    let response = match within_limits(&app, client, &request, line.address) {
        Ok(client) if client.role.may(need) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Ok(client) => {
            let needed = match need {
                Need::Upload => "uploader",
                Need::Read | Need::ReadUpload => "viewer",
                Need::Operate => "admin",
            };
            let sentence = format!(
                "A token of role {} is not allowed to do this; it takes {needed}.",
                client.role.name()
            );
            refuse(&path, ApiError::new(ProblemType::FORBIDDEN, sentence))
        }
        Err(error) => refuse(&path, error),
    };
    line.status = Some(response.status().as_u16());
    response
}

/// The audit line of a request. It is written when this is dropped, so that a request whose client goes away in the middle
/// leaves one, too.
struct AuditLine {
    audit: Arc<AuditLog>,
    request_id: Option<Uuid>,
    client: Option<Client>,
    address: IpAddr,
    method: Method,
    route: String,
    notes: AuditNotes,
    id: Option<String>,
    /// `None` until there is an answer.
    status: Option<u16>,
}

/// What an audit line says. It holds the template of the route, not the path: a path may hold a record number.
#[derive(Serialize)]
struct Access<'a> {
    message: &'static str,
    request_id: Option<String>,
    client: Option<&'a str>,
    role: Option<&'static str>,
    address: IpAddr,
    method: &'a str,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_id: Option<UploadId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    status: u16,
    outcome: &'static str,
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// As web servers log a client that went away before its answer.
const CLIENT_GONE: u16 = 499;

fn outcome(status: u16) -> &'static str {
    match status {
        200..=399 => "ok",
        401 | 403 | 429 => "denied",
        CLIENT_GONE => "client gone",
        400..=498 => "rejected",
        _ => "failed",
    }
}

impl Drop for AuditLine {
    fn drop(&mut self) {
        let Notes { patient, upload_id } = self.notes.read();
        let status = self.status.unwrap_or(CLIENT_GONE);
        self.audit.write(&Access {
            message: "access",
            request_id: self.request_id.map(|id| id.to_string()),
            client: self.client.as_ref().map(|client| &*client.name),
            role: self.client.as_ref().map(|client| client.role.name()),
            address: self.address,
            method: self.method.as_str(),
            route: &self.route,
            patient: patient.map(|mrn| self.audit.patient(mrn)),
            upload_id,
            id: self.id.as_deref(),
            status,
            outcome: outcome(status),
        });
    }
}

/// Counts the request against the rate of its client, or of its network where it has no known token, and its connection
/// against the share of the client.
fn within_limits(
    app: &App,
    who: Result<Client, ApiError>,
    request: &Request,
    address: IpAddr,
) -> Result<Client, ApiError> {
    let connection = request.extensions().get::<Connection>();
    // A connection ends with a request that has no known token, and with one for which there is no slot.
    let last = |error: ApiError| match connection {
        Some(connection) if connection.is_of_one_client() => error.header(header::CONNECTION, CLOSE),
        _ => error,
    };
    let client = match who {
        Ok(client) => client,
        Err(error) => {
            let key = RateKey::Network(Network::from(address));
            let limited = app.admission.check_rate(Rate::Failed, &key);
            return Err(last(limited.err().unwrap_or(error)));
        }
    };
    match connection.map_or(Ok(()), |connection| connection.authenticate(&client.name)) {
        Ok(()) => {}
        Err(NoSlot::Client) => return Err(last(too_many("connections"))),
        Err(NoSlot::Server) => {
            let sentence = "As many connections are open as this server takes; try again in a moment.";
            return Err(last(ApiError::unavailable(sentence, 1)));
        }
    }
    if app.tokens.is_some() {
        app.admission.check_rate(Rate::Authenticated, &RateKey::Client(client.name.clone()))?;
    }
    Ok(client)
}

/// Limits the rate of requests for which no token is needed, for each network.
pub(crate) async fn limit_public(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.tokens.is_some() {
        let key = RateKey::Network(Network::from(address(&request, &app.config.trusted_proxies)));
        if let Err(error) = app.admission.check_rate(Rate::Public, &key) {
            return in_format_of(request.uri().path(), error);
        }
    }
    next.run(request).await
}

/// The client's address: what a trusted proxy says if the connection comes from one, else the connection's.
fn address(request: &Request, trusted: &[TrustedProxy]) -> IpAddr {
    let forwarded = || {
        // What stands before the last address is what the client says about itself.
        let last = request.headers().get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let connected = connected.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let from_proxy = trusted.iter().any(|proxy| proxy.includes(connected));
    from_proxy.then(forwarded).flatten().unwrap_or(connected).to_canonical()
}

fn refuse(path: &str, error: ApiError) -> Response {
    if is_legacy(path) { error.into_text() } else { error.into_response() }
}

/// An error in the format of a path where no token is needed: problem documents below `/api/`, text elsewhere.
pub(crate) fn in_format_of(path: &str, error: ApiError) -> Response {
    if path.starts_with("/api/") { refuse(path, error) } else { error.into_text() }
}

/// What the path of a request names.
#[derive(Debug, Default, PartialEq, Eq)]
struct NamedInPath {
    patient: Option<Mrn>,
    /// The id of a record, an upload or a dead letter. Values that are none are left out: they could be anything.
    id: Option<String>,
}

fn named_in_path(route: &str, name: &str, value: &str) -> NamedInPath {
    let patient = || value.parse::<Mrn>().ok();
    match name {
        // The legacy routes call the record number `id`.
        "mrn" => NamedInPath { patient: patient(), id: None },
        "id" if is_legacy(route) => NamedInPath { patient: patient(), id: None },
        "id" if route.starts_with("/api/v1/dead-letters/") => {
            NamedInPath { patient: None, id: value.parse::<u64>().ok().map(|id| id.to_string()) }
        }
        _ => NamedInPath { patient: None, id: value.parse::<RecordId>().ok().map(|id| id.to_string()) },
    }
}

fn authenticate(app: &App, headers: &HeaderMap) -> Result<Client, ApiError> {
    let Some(tokens) = &app.tokens else { return Ok(Client::local()) };
    let unauthenticated = |sentence: &str, challenge: &'static str| {
        ApiError::new(ProblemType::UNAUTHENTICATED, sentence)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    };
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| unauthenticated("Send a token as `Authorization: Bearer …`.", "Bearer"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated("Send a token as `Authorization: Bearer …`.", "Bearer"));
    }
    let tokens = tokens.borrow().clone();
    tokens
        .holder(token.trim())
        .cloned()
        .ok_or_else(|| unauthenticated("This token is not known.", "Bearer error=\"invalid_token\""))
}

/// Headers by which a request of a web page is recognised.
const HOST_HEADERS: [HeaderName; 3] =
    [header::HOST, header::ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// Without tokens, every program on this machine may do everything; a web page that a browser on this machine has open must
/// not. Such a page can send requests here under a name of its own that leads to this machine (DNS rebinding), or from
/// another origin, also one of this machine; both show in the headers.
pub(crate) async fn only_this_machine(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.tokens.is_none()
        && let Err(error) = from_this_machine(&request)
    {
        return refuse(request.uri().path(), error);
    }
    next.run(request).await
}

fn from_this_machine(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    if let Some(name) = HOST_HEADERS.iter().find(|name| headers.get_all(*name).iter().count() > 1) {
        return Err(ApiError::invalid(format!("The header `{name}` is given more than once.")));
    }
    // A value that is no text is no name of this machine.
    let value = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let [host, origin, site] = HOST_HEADERS.each_ref().map(value);
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let named_here = host.into_iter().chain(authority).all(is_loopback);
    let host = host.or(authority).unwrap_or_default();
    let own_page = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, of_page)| of_page.eq_ignore_ascii_case(host))
    });
    // What a browser says about the page that sends the request; `none` is the address bar.
    let own_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    if named_here && own_page && own_site {
        return Ok(());
    }
    let sentence = "Without tokens this server answers only to programs on its own machine, under localhost.";
    Err(ApiError::new(ProblemType::FORBIDDEN, sentence))
}

/// Whether `host[:port]` names this machine without asking a name server.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Headers that every reply carries unless it says something stricter.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Gives the request a number, and adds it and the security headers to the answer.
pub(crate) async fn secure(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId(Uuid::now_v7());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::try_from(id.0.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    if app.config.tls.certificate.is_some() {
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in
            ["localhost", "LOCALHOST:5011", "127.0.0.1:5011", "127.1.2.3", "[::1]:5011", "a.localhost."]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "?",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            "[::2]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn forwarded_address_counts_only_from_a_trusted_proxy() {
        let mut request = Request::new(axum::body::Body::empty());
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.9, 192.0.2.1"));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1))));
        let trusting = |proxies: &[&str]| -> Vec<TrustedProxy> {
            proxies.iter().map(|proxy| proxy.parse().unwrap()).collect()
        };
        assert_eq!(address(&request, &[]).to_string(), "10.0.0.1");
        assert_eq!(address(&request, &trusting(&["10.0.0.2", "192.0.2.0/24"])).to_string(), "10.0.0.1");
        assert_eq!(address(&request, &trusting(&["10.0.0.2", "private"])).to_string(), "192.0.2.1");
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("unknown"));
        assert_eq!(address(&request, &trusting(&["private"])).to_string(), "10.0.0.1");
    }

    #[test]
    fn path_names_a_patient_or_a_record() {
        let id = UploadId::generate().record("ecg", 0).to_string();
        let named = named_in_path("/api/v1/ecgs/{id}/plot", "id", &id);
        assert_eq!(named, NamedInPath { patient: None, id: Some(id) });
        let letter = named_in_path("/api/v1/dead-letters/{id}/retry", "id", "12");
        assert_eq!(letter, NamedInPath { patient: None, id: Some("12".to_owned()) });
        let patient = NamedInPath { patient: Mrn::new(7).ok(), id: None };
        assert_eq!(named_in_path("/api/get_patient/{id}", "id", " 7"), patient);
        assert_eq!(named_in_path("/api/v1/patients/{mrn}", "mrn", "7"), patient);
        for (route, name) in [("/api/v1/images/{id}", "id"), ("/api/v1/patients/{mrn}/ecgs", "mrn")] {
            assert_eq!(named_in_path(route, name, "Ann Uncommon"), NamedInPath::default());
        }
    }
}
