//! Access without tokens: only programs on this machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, header};
use axum::middleware::Next;
use axum::response::Response;
use http_server::problem::{ApiError, ProblemType};

use crate::app::App;
use crate::http::format::error_response;

/// Headers that identify requests of web pages.
const HOST_HEADERS: [HeaderName; 3] =
    [header::HOST, header::ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// Middleware: without tokens, accepts only requests of programs on this machine and rejects those of web
/// pages in a browser.
///
/// A web page can send requests to this server under a host name of its own that resolves to this machine
/// (DNS rebinding), or from another origin. The `Host`, `Origin` and `Sec-Fetch-Site` headers reveal both.
pub(crate) async fn only_this_machine(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.tokens.is_none()
        && let Err(error) = from_this_machine(&request)
    {
        return error_response(request.uri().path(), error);
    }
    next.run(request).await
}

fn from_this_machine(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    if let Some(name) = HOST_HEADERS.iter().find(|name| headers.get_all(*name).iter().count() > 1) {
        return Err(ApiError::invalid(format!("The header `{name}` is given more than once.")));
    }
    // A value that is not text is not a loopback name.
    let value = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let [host, origin, site] = HOST_HEADERS.each_ref().map(value);
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let named_here = host.into_iter().chain(authority).all(is_loopback);
    let host = host.or(authority).unwrap_or_default();
    let own_page = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, of_page)| of_page.eq_ignore_ascii_case(host))
    });
    // The relation of the requesting page to this server, set by browsers. `none` is the address bar.
    let own_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    if named_here && own_page && own_site {
        return Ok(());
    }
    let detail = "Without tokens this server answers only to programs on its own machine, under localhost.";
    Err(ApiError::new(ProblemType::FORBIDDEN, detail))
}

/// Returns whether `host[:port]` is a loopback address or a `localhost` name. Does not query a name server.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_localhost_names_are_accepted() {
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
}
