//! The browser page of `apps/web`. Its files are part of the program.
//!
//! `/` returns the page to browsers, and the text of the legacy API to all other clients. Files in `/assets` have
//! the hash of their content in their name and are cached for ever; all others are revalidated. The content security
//! policy allows only files of this server: no script or style within the page, and no other address.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_server::problem::text;

use crate::app::App;

/// A file of the page.
#[derive(Debug)]
struct File {
    /// Path of its URL.
    path: &'static str,
    etag: &'static str,
    content: &'static [u8],
    /// The content, compressed by gzip.
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const PAGE: &str = "/index.html";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Cached, but revalidated before each use.
const REVALIDATED: &str = "no-cache";

const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
         font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The routes of the page, among them `/`. They need no token: the page itself contains no data.
pub(crate) fn router() -> Router<Arc<App>> {
    let mut router = Router::new().route("/", get(root));
    for file in FILES.iter().filter(|file| file.path != PAGE) {
        router = router.route(file.path, get(async move |headers: HeaderMap| response(file, &headers)));
    }
    router
}

/// Whether a client shows HTML: a browser that opens an address.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    accepts(headers, &header::ACCEPT, "text/html")
}

async fn root(headers: HeaderMap) -> Response {
    let page = FILES.iter().find(|file| file.path == PAGE && is_browser(&headers));
    let mut response =
        page.map_or_else(|| text(StatusCode::OK, "Server is on"), |page| response(page, &headers));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    response
}

fn response(file: &'static File, request: &HeaderMap) -> Response {
    let is_immutable = file.path.starts_with("/assets/");
    let mut headers = HeaderMap::new();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let caching = if is_immutable { IMMUTABLE } else { REVALIDATED };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::ETAG, HeaderValue::from_static(file.etag));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let is_known = request.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == file.etag || tag == "*")
    });
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(file.path)));
    if accepts(request, &header::ACCEPT_ENCODING, "gzip") && file.gzip.len() < file.content.len() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (headers, file.gzip).into_response();
    }
    (headers, file.content).into_response()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

/// Whether a header such as `Accept` names a value, with a weight that is not zero. `*` is not enough: programs that
/// are no browsers send it.
fn accepts(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|text| text.to_str().ok());
    values.flat_map(|text| text.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(value));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        is_named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_media_type() {
        for file in FILES {
            assert_ne!(media_type(file.path), "application/octet-stream", "{}", file.path);
        }
    }

    #[test]
    fn page_and_its_files_have_at_most_200_kb() {
        let bytes: usize = FILES.iter().map(|file| file.gzip.len().min(file.content.len())).sum();
        assert!(bytes <= 200_000, "{bytes} bytes");
    }

    #[test]
    fn value_is_accepted_if_it_is_named_with_a_weight() {
        let accepts = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
            accepts(&headers, &header::ACCEPT, "text/html")
        };
        assert!(accepts("text/html"));
        assert!(accepts("application/json, TEXT/HTML;q=0.9,*/*;q=0.8"));
        assert!(accepts("text/html;charset=utf-8;q=1"));
        for other in ["*/*", "text/*", "text/html;q=0", "text/html;q=x", "text/htmlx", "application/json", ""]
        {
            assert!(!accepts(other), "{other:?}");
        }
    }
}
