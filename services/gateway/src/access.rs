//! Who may do what, and the line that every access to patient data leaves behind.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto_json::{RecordId, UploadId};
use runtime::problem::{ApiError, Kind};

use crate::App;
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
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let who = authenticate(&app, request.headers());
    let response = match &who {
        Ok(client) if client.role.may(need) => {
            request.extensions_mut().insert(client.clone());
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
        Err(error) => refuse(&path, error.clone()),
    };
    // Names and record numbers never go into logs: the route's template and the ids of uploads and records do.
    let upload_id = response.extensions().get::<AboutUpload>().map(|about| about.0.to_string());
    let id = record_id(&route, &path).map(|id| id.to_string());
    tracing::info!(
        target: "audit",
        who = who.as_ref().map_or("-", |client| &client.name),
        role = who.as_ref().map_or("-", |client| client.role.name()),
        method = method.as_str(),
        route,
        upload_id,
        id,
        status = response.status().as_u16(),
        "access"
    );
    response
}

fn refuse(path: &str, error: ApiError) -> Response {
    if is_legacy(path) { error.into_text() } else { error.into_response() }
}

/// The id in the path of a record or an upload; not the record number that the documented routes call `id`.
fn record_id(route: &str, path: &str) -> Option<RecordId> {
    let place = route.strip_prefix("/api/v1/")?.split('/').position(|part| part == "{id}")?;
    path.strip_prefix("/api/v1/")?.split('/').nth(place)?.parse().ok()
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

/// Adds the security headers, counts and times the request.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        // Methods are the client's to invent; labels are not.
        _ => "other",
    };
    let mut response = next.run(request).await;
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    let labels = [("service", "gateway".to_owned()), ("route", route), ("method", method.to_owned())];
    metrics::histogram!("bedside_http_request_duration_seconds", &labels)
        .record(started.elapsed().as_secs_f64());
    let [service, route, method] = labels;
    let labels = [service, route, method, ("status", response.status().as_u16().to_string())];
    metrics::counter!("bedside_http_requests_total", &labels).increment(1);
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
    fn audit_lines_name_records_and_never_record_numbers() {
        let id = UploadId::generate().record("ecg", 0);
        assert_eq!(record_id("/api/v1/ecgs/{id}/plot", &format!("/api/v1/ecgs/{id}/plot")), Some(id));
        assert_eq!(record_id("/api/get_patient/{id}", "/api/get_patient/7"), None);
        assert_eq!(record_id("/api/v1/patients/{mrn}", "/api/v1/patients/7"), None);
    }
}
