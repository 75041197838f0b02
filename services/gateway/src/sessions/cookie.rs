//! Cookies, and the checks of requests that carry one.
//!
//! A browser sends cookies with requests that other pages cause. Three defences apply: the cookie has `SameSite=Strict`;
//! `Sec-Fetch-Site` and `Origin`, which pages cannot set, must name this server; and a request that changes something needs a
//! header with a value that only our page knows.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_server::problem::{ApiError, ProblemType};
use subtle::ConstantTimeEq;

/// Name of the cookie of a session.
pub(crate) const SESSION: &str = "bedside_session";
/// Header with the value of [`csrf`](super::csrf).
pub(crate) const CSRF: HeaderName = HeaderName::from_static("x-bedside-csrf");

/// Returns the value of a cookie. A cookie that is given twice has none, because one of them may be from another page.
pub(crate) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter_map(|(known, value)| (known == name).then_some(value));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// How a cookie is set.
pub(crate) struct Attributes<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: &'a str,
    /// `None` for the lifetime of the browser.
    pub(crate) max_age: Option<Duration>,
    /// `Strict` or `Lax`.
    pub(crate) same_site: &'a str,
    pub(crate) secure: bool,
}

/// Returns the value of a `Set-Cookie` header. `value` is in hexadecimal digits and dashes.
pub(crate) fn set(value: &str, attributes: &Attributes<'_>) -> Result<HeaderValue, ApiError> {
    let Attributes { name, path, max_age, same_site, secure } = attributes;
    let age = max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
    let secure = if *secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; HttpOnly; SameSite={same_site}; Path={path}{age}{secure}");
    HeaderValue::try_from(text).map_err(ApiError::internal)
}

/// Rejects a request of another page.
///
/// # Errors
/// 403.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().unwrap_or("?"));
        // A repeated header has no meaning.
        if values.next().is_some() { Some("?") } else { first }
    };
    let forbidden = || {
        let detail = "This request was caused by a page of another server.";
        Err(ApiError::new(ProblemType::FORBIDDEN, detail))
    };
    let site = one(&HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return forbidden();
    }
    let Some(origin) = one(&header::ORIGIN) else { return Ok(()) };
    let host = one(&header::HOST).unwrap_or_default();
    match origin.split_once("://") {
        Some(("http" | "https", of_page)) if of_page.eq_ignore_ascii_case(host) => Ok(()),
        _ => forbidden(),
    }
}

/// Checks a request that carries the cookie of a session with this secret.
///
/// # Errors
/// 403 for a request of another page, and for one that changes something without the header.
pub(crate) fn check_request(method: &Method, headers: &HeaderMap, secret: &str) -> Result<(), ApiError> {
    check_origin(headers)?;
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let given = headers.get(CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
    if bool::from(given.ct_eq(super::csrf(secret).as_bytes())) {
        return Ok(());
    }
    let detail = "A request with a session cookie that changes something needs the header X-Bedside-CSRF with the value of \
                  GET /api/v1/session.";
    Err(ApiError::new(ProblemType::FORBIDDEN, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn cookie_is_found_by_its_whole_name_and_only_once() {
        let found =
            |cookies: &[(&'static str, &'static str)]| value(&headers(cookies), "s").map(str::to_owned);
        assert_eq!(found(&[("cookie", "a=1; s=x; ss=2")]).as_deref(), Some("x"));
        assert_eq!(found(&[("cookie", "a=1"), ("cookie", "s=x=y")]).as_deref(), Some("x=y"));
        assert_eq!(found(&[("cookie", "ss=1; s")]), None);
        assert_eq!(found(&[("cookie", "s=1; s=2")]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn only_requests_of_the_own_page_pass() {
        let host = ("host", "ward.example:5011");
        for allowed in [
            vec![host],
            vec![host, ("origin", "https://ward.example:5011")],
            vec![host, ("origin", "http://WARD.example:5011"), ("sec-fetch-site", "same-origin")],
            vec![host, ("sec-fetch-site", "none")],
        ] {
            check_origin(&headers(&allowed)).unwrap();
        }
        for rejected in [
            vec![host, ("origin", "null")],
            vec![host, ("origin", "https://evil.example")],
            vec![host, ("origin", "https://ward.example")],
            vec![host, ("origin", "https://ward.example:5011.evil.example")],
            vec![host, ("origin", "https://evil.example://ward.example:5011")],
            vec![host, ("origin", "file://ward.example:5011")],
            vec![host, ("origin", "https://ward.example:5011"), ("origin", "https://evil.example")],
            vec![host, ("sec-fetch-site", "same-site")],
            vec![host, ("sec-fetch-site", "cross-site")],
            vec![("origin", "https://ward.example:5011")],
        ] {
            assert!(check_origin(&headers(&rejected)).is_err(), "{rejected:?}");
        }
    }

    #[test]
    fn change_needs_the_header_and_a_read_does_not() {
        let (plain, right) = (HeaderMap::new(), super::super::csrf("secret"));
        check_request(&Method::GET, &plain, "secret").unwrap();
        assert!(check_request(&Method::POST, &plain, "secret").is_err());
        let mut with = HeaderMap::new();
        with.insert(CSRF, HeaderValue::try_from(&right).unwrap());
        for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
            check_request(&method, &with, "secret").unwrap();
            assert!(check_request(&method, &with, "other").is_err());
        }
    }
}
