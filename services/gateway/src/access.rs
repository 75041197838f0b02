//! Who may do what, and the line that every access to patient data leaves behind.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto_json::{RecordId, UploadId};
use runtime::Lane;
use runtime::problem::{ApiError, Kind};

use crate::App;
use crate::rate::Whose;
use crate::routes::is_legacy;
use crate::tokens::{Client, Need};

/// The upload that a request brought; goes on the response, for the audit line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AboutUpload(pub(crate) UploadId);

/// Lets a request pass if its token allows it, and writes the audit line.
pub(crate) async fn guard(
    State((app, need)): State<(Arc<App>, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let who = authenticate(&app, request.headers());
    if let (Ok(client), Some(_), Some(lane)) = (&who, &app.tokens, request.extensions().get::<Lane>()) {
        lane.keep_to(app.at_threads.of(&client.name));
    }
    let mut line = AuditLine {
        who: who.as_ref().ok().cloned(),
        method: request.method().clone(),
        upload_id: None,
        id: record_id(&route, &path),
        route,
        status: None,
    };
    let response = match within_rate(&app, who, &request) {
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
            refuse(&path, ApiError::new(Kind::FORBIDDEN, sentence))
        }
        Err(error) => refuse(&path, error),
    };
    line.upload_id = response.extensions().get::<AboutUpload>().map(|about| about.0);
    line.status = Some(response.status().as_u16());
    response
}

/// What every access to patient data leaves behind; written when dropped, so that a request whose client goes away in the
/// middle leaves it, too. Names and record numbers never go into logs: the route's template and the ids of uploads and
/// records do.
struct AuditLine {
    who: Option<Client>,
    method: Method,
    route: String,
    upload_id: Option<UploadId>,
    id: Option<String>,
    /// `None` until there is an answer.
    status: Option<u16>,
}

/// As web servers log a client that went away before its answer.
const CLIENT_GONE: u16 = 499;

impl Drop for AuditLine {
    fn drop(&mut self) {
        tracing::info!(
            target: "audit",
            who = self.who.as_ref().map_or("-", |client| &client.name),
            role = self.who.as_ref().map_or("-", |client| client.role.name()),
            method = self.method.as_str(),
            route = self.route,
            upload_id = self.upload_id.map(|id| id.to_string()),
            id = self.id,
            status = self.status.unwrap_or(CLIENT_GONE),
            "access"
        );
    }
}

/// Lets so many requests pass: of each holder; and of each network, those without a token that is known.
fn within_rate(app: &App, who: Result<Client, ApiError>, request: &Request) -> Result<Client, ApiError> {
    let (rate, whose) = match &who {
        Ok(_) if app.tokens.is_none() => return who,
        Ok(client) => (&app.rate, Whose::Holder(client.name.clone())),
        Err(_) => (&app.failed_rate, Whose::network(address(request, app.config.behind_proxy))),
    };
    match rate.take(whose, Instant::now()) {
        Ok(()) => who,
        Err(wait) => {
            metrics::counter!("bedside_gateway_rate_limited_total").increment(1);
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            let sentence = format!("Too many requests; go on in {seconds} s.");
            Err(ApiError::new(Kind::TOO_MANY_REQUESTS, sentence)
                .header(header::RETRY_AFTER, HeaderValue::from(seconds as u64)))
        }
    }
}

/// Where a request comes from: as the proxy says where there is one, else whoever has connected.
fn address(request: &Request, behind_proxy: bool) -> IpAddr {
    let forwarded = || {
        // Whatever stands before the last address is what the client says about itself.
        let last = request.headers().get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    behind_proxy.then(forwarded).flatten().or(connected).unwrap_or(IpAddr::from([0, 0, 0, 0]))
}

fn refuse(path: &str, error: ApiError) -> Response {
    if is_legacy(path) { error.into_text() } else { error.into_response() }
}

/// The id in the path of a record, an upload or a dead letter; not the record number that the documented routes call `id`.
fn record_id(route: &str, path: &str) -> Option<String> {
    let place = route.strip_prefix("/api/v1/")?.split('/').position(|part| part == "{id}")?;
    let id = path.strip_prefix("/api/v1/")?.split('/').nth(place)?;
    if route.starts_with("/api/v1/dead-letters/") {
        return id.parse::<u64>().ok().map(|id| id.to_string());
    }
    id.parse::<RecordId>().ok().map(|id| id.to_string())
}

fn authenticate(app: &App, headers: &HeaderMap) -> Result<Client, ApiError> {
    let Some(tokens) = &app.tokens else { return Ok(Client::local()) };
    let unauthenticated = |sentence: &str, challenge: &'static str| {
        ApiError::new(Kind::UNAUTHENTICATED, sentence)
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

/// Without tokens, whoever is on this machine may do everything; a web page that a browser on this machine has open must
/// not. Such a page can send requests here under a name of its own that leads to this machine (DNS rebinding), or across
/// origins; both show in the headers.
pub(crate) async fn only_this_machine(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.tokens.is_none() {
        let headers = request.headers();
        let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
        let host = host.or(request.uri().authority().map(|authority| authority.as_str()));
        let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
        let origin = origin.map(|origin| origin.split_once("://").map_or("?", |(_, host)| host));
        if ![host, origin].into_iter().flatten().all(is_loopback) {
            let sentence =
                "Without tokens this server answers only to programs on its own machine, under localhost.";
            return refuse(request.uri().path(), ApiError::new(Kind::FORBIDDEN, sentence));
        }
    }
    next.run(request).await
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
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds the security headers.
pub(crate) async fn secure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
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
    fn what_clients_say_about_their_address_counts_only_if_the_proxy_has_said_it() {
        let mut request = Request::new(axum::body::Body::empty());
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.9, 192.0.2.1"));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1))));
        assert_eq!(address(&request, false).to_string(), "10.0.0.1");
        assert_eq!(address(&request, true).to_string(), "192.0.2.1");
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("unknown"));
        assert_eq!(address(&request, true).to_string(), "10.0.0.1");
    }

    #[test]
    fn audit_lines_name_records_and_never_record_numbers() {
        let id = UploadId::generate().record("ecg", 0);
        let path = format!("/api/v1/ecgs/{id}/plot");
        assert_eq!(record_id("/api/v1/ecgs/{id}/plot", &path), Some(id.to_string()));
        let letter = record_id("/api/v1/dead-letters/{id}/retry", "/api/v1/dead-letters/12/retry");
        assert_eq!(letter.as_deref(), Some("12"));
        assert_eq!(record_id("/api/get_patient/{id}", "/api/get_patient/7"), None);
        assert_eq!(record_id("/api/v1/patients/{mrn}", "/api/v1/patients/7"), None);
    }
}
