//! Middleware that authenticates requests, checks their permission and limits, and writes the audit line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use http_server::problem::{ApiError, ProblemType};
use http_server::{Connection, Network, NoSlot, SchedulingGroup};

use crate::admission::{Rate, RateKey, too_many};
use crate::app::App;
use crate::auth::audit_chain::NotStored;
use crate::auth::audit_line::{AuditLine, AuditNotes, ClientAddress, RequestId, named_in_path};
use crate::auth::proxies::TrustedProxy;
use crate::auth::tokens::{Client, Permission};
use crate::auth::wards;
use crate::http::format::{error_response, public_error_response};
use crate::sessions::{self, cookie};

/// Route of emergency access.
pub(crate) const BREAK_GLASS: &str = "/api/v1/patients/{mrn}/break-glass";

/// Middleware: lets a request pass if its client has the permission, and writes the audit line.
pub(crate) async fn guard(
    State((app, permission)): State<(Arc<App>, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let credentials = credentials(&app, request.method(), request.headers());
    let client = authenticate(&app, credentials).await;
    if let (Ok(client), Some(_), Some(group)) =
        (&client, &app.tokens, request.extensions().get::<SchedulingGroup>())
    {
        group.join(app.admission.threads.client(&client.name));
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
        chain: app.audit_chain.clone(),
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
    request.extensions_mut().insert(ClientAddress(line.address));
    let admitted = match within_limits(&app, client, &request, line.address) {
        Ok(client)
            if client.role.may(permission)
                && request.method().is_safe()
                && line.is_stored()
                && app.audit_chain.is_failing() =>
        {
            Err(not_audited())
        }
        Ok(client) if client.role.may(permission) => {
            // Emergency access is for patients who are not accessible.
            let patient = named.patient.filter(|_| line.route != BREAK_GLASS);
            let checked = match patient {
                Some(mrn) if client.is_limited() => wards::check_for(&app, &client, permission, mrn).await,
                _ => Ok(()),
            };
            checked.map(|()| request.extensions_mut().insert(client))
        }
        Ok(client) => {
            let detail = format!(
                "The role {} is not allowed to do this; it takes {}.",
                client.role.name(),
                permission.roles()
            );
            Err(ApiError::new(ProblemType::FORBIDDEN, detail))
        }
        Err(error) => Err(error),
    };
    let response = match admitted {
        Ok(_) => next.run(request).await,
        Err(error) => error_response(&path, error),
    };
    match line.complete(response.status().as_u16()).await {
        Ok(()) => response,
        Err(NotStored) => error_response(&path, not_audited()),
    }
}

fn not_audited() -> ApiError {
    ApiError::unavailable("The audit cannot be written for now, so nothing can be read.", 5)
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Checks the rate limit of the client, or of the network if the client is unknown, and the connection limit
/// of the client.
fn within_limits(
    app: &App,
    authenticated: Result<Client, ApiError>,
    request: &Request,
    address: IpAddr,
) -> Result<Client, ApiError> {
    let connection = request.extensions().get::<Connection>();
    // Close the connection after a request without a valid token, and if no slot is free.
    let closing = |error: ApiError| match connection {
        Some(connection) if connection.is_of_one_client() => error.header(header::CONNECTION, CLOSE),
        _ => error,
    };
    let client = match authenticated {
        Ok(client) => client,
        // Not a guess: a session that cannot be looked up, or a request of another page.
        Err(error) if error.kind != ProblemType::UNAUTHENTICATED => return Err(closing(error)),
        Err(error) => {
            let key = RateKey::Network(Network::from(address));
            let limited = app.admission.check_rate(Rate::Failed, &key);
            return Err(closing(limited.err().unwrap_or(error)));
        }
    };
    match connection.map_or(Ok(()), |connection| connection.authenticate(&client.name)) {
        Ok(()) => {}
        Err(NoSlot::Client) => return Err(closing(too_many("connections"))),
        Err(NoSlot::Server) => {
            let detail = "As many connections are open as this server takes; try again in a moment.";
            return Err(closing(ApiError::unavailable(detail, 1)));
        }
    }
    if app.tokens.is_some() {
        app.admission.check_rate(Rate::Authenticated, &RateKey::Client(client.name.clone()))?;
    }
    Ok(client)
}

/// Middleware: limits the rate of requests that need no token, per network.
pub(crate) async fn limit_public(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.tokens.is_some() {
        let key = RateKey::Network(Network::from(address(&request, &app.config.trusted_proxies)));
        if let Err(error) = app.admission.check_rate(Rate::Public, &key) {
            return public_error_response(request.uri().path(), error);
        }
    }
    next.run(request).await
}

/// Returns the address of the client: as reported by a trusted proxy, otherwise that of the connection.
pub(crate) fn address(request: &Request, trusted: &[TrustedProxy]) -> IpAddr {
    let forwarded = || {
        // Only the last address was added by the trusted proxy; the client can forge the others.
        let last = request.headers().get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let connected = connected.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let from_proxy = trusted.iter().any(|proxy| proxy.includes(connected));
    from_proxy.then(forwarded).flatten().unwrap_or(connected).to_canonical()
}

/// What a request proves about its client.
pub(crate) enum Credentials {
    /// The client of a valid token, or the only client if no tokens are configured.
    Client(Box<Client>),
    /// The secret of a session.
    Session(String),
    /// Nothing.
    Rejected(ApiError),
}

fn unauthenticated(detail: &str, challenge: &'static str) -> ApiError {
    ApiError::new(ProblemType::UNAUTHENTICATED, detail)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// Returns the credentials of a request: a bearer token, or else the cookie of a session.
pub(crate) fn credentials(app: &App, method: &Method, headers: &HeaderMap) -> Credentials {
    let Some(tokens) = &app.tokens else { return Credentials::Client(Box::new(Client::local())) };
    let missing = || unauthenticated("Send a token as `Authorization: Bearer …`, or log in.", "Bearer");
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let Some(secret) = cookie::value(headers, cookie::SESSION) else {
            return Credentials::Rejected(missing());
        };
        return match cookie::check_request(method, headers, secret) {
            Ok(()) => Credentials::Session(secret.to_owned()),
            Err(error) => Credentials::Rejected(error),
        };
    };
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    let Some((_, token)) = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Credentials::Rejected(missing());
    };
    let token = token.trim();
    if sessions::is_secret(token) {
        return Credentials::Session(token.to_owned());
    }
    let tokens = tokens.borrow().clone();
    match tokens.client(token) {
        Some(client) => Credentials::Client(Box::new(client.clone())),
        None => Credentials::Rejected(unauthenticated(
            "This token is not known.",
            "Bearer error=\"invalid_token\"",
        )),
    }
}

/// Returns the client of a request.
///
/// # Errors
/// 401 without valid credentials, 403 for a request of another page, 503 if the session cannot be looked up.
pub(crate) async fn authenticate(app: &App, credentials: Credentials) -> Result<Client, ApiError> {
    let secret = match credentials {
        Credentials::Client(client) => return Ok(*client),
        Credentials::Rejected(error) => return Err(error),
        Credentials::Session(secret) => secret,
    };
    let ended = || unauthenticated("This session has ended; log in again.", "Bearer error=\"invalid_token\"");
    let client = app.sessions.client(&app.records, &secret).await?.ok_or_else(ended)?;
    // The session of a token ends with the token.
    let is_valid = app.tokens.as_ref().is_some_and(|tokens| tokens.borrow().is_valid(&client));
    if is_valid { Ok(client) } else { Err(ended()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_address_is_used_only_from_a_trusted_proxy() {
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
}
