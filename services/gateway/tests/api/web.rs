//! The browser page: who gets it, and with which headers.

use std::io::Read;

use axum::http::Method;
use flate2::read::GzDecoder;

use crate::access::with_tokens;
use crate::fixture::{Api, Reply};

/// What Chromium and Firefox send when a user opens an address.
const BROWSER: [(&str, &str); 2] = [
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("sec-fetch-site", "none"),
];

async fn page(api: &Api) -> String {
    let reply = api.send(Method::GET, "/", &BROWSER, "").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/html; charset=utf-8"));
    reply.text().to_owned()
}

/// The addresses of scripts, styles, icons and the manifest in the page.
fn links(page: &str) -> Vec<String> {
    let parts = page.split(['"', '\'']).filter(|part| part.starts_with('/') && part.len() > 1);
    parts.map(str::to_owned).collect()
}

/// The files that the service worker keeps.
async fn shell(api: &Api) -> Vec<String> {
    let worker = api.get("/sw.js").await;
    let list = worker.text().split_once("const FILES = ").unwrap().1.split_once(';').unwrap().0;
    serde_json::from_str(list).unwrap()
}

#[tokio::test]
async fn browsers_get_the_page_and_all_other_clients_the_text() {
    let api = Api::open().await;
    assert!(page(&api).await.starts_with("<!doctype html>"));
    for accept in ["*/*", "application/json, text/plain, */*", "text/html;q=0", ""] {
        let reply = api.send(Method::GET, "/", &[("accept", accept)], "").await;
        reply.assert_text(200, "Server is on");
        assert_eq!(reply.header("vary"), "accept, accept-encoding", "{accept:?}");
    }
    api.get("/").await.assert_text(200, "Server is on");
    assert_eq!(api.send(Method::POST, "/", &BROWSER, "").await.status, 405);
    assert_eq!(
        api.send(Method::GET, "/index.html", &BROWSER, "").await.status,
        404,
        "the page has one address"
    );
}

#[tokio::test]
async fn files_of_the_page_are_compressed_and_those_with_a_hash_are_immutable() {
    let api = Api::open().await;
    let mut files = links(&page(&api).await);
    files.extend(shell(&api).await);
    assert!(
        files.iter().any(|file| file.ends_with(".js")) && files.iter().any(|file| file.ends_with(".css"))
    );
    for file in files {
        let plain = api.get(&file).await;
        let gzip = api.send(Method::GET, &file, &[("accept-encoding", "br, gzip")], "").await;
        assert_eq!((plain.status.as_u16(), gzip.status.as_u16()), (200, 200), "{file}");
        assert_eq!(plain.header("content-encoding"), "");
        if gzip.header("content-encoding") == "gzip" {
            let mut unpacked = Vec::new();
            GzDecoder::new(&*gzip.body).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, plain.body, "{file}");
        } else {
            assert!(!file.ends_with(".js") && !file.ends_with(".css"), "{file} is not compressed");
        }
        let is_hashed = file.starts_with("/assets/");
        let caching = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        assert_eq!(
            (plain.header("cache-control"), plain.header("vary")),
            (caching, "accept-encoding"),
            "{file}"
        );
        assert_eq!(plain.header("x-content-type-options"), "nosniff");
        assert!(!plain.header("content-type").starts_with("application/octet-stream"), "{file}");
        let known = api.send(Method::GET, &file, &[("if-none-match", plain.header("etag"))], "").await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0), "{file}");
    }
}

#[tokio::test]
async fn policy_of_the_page_allows_only_files_of_this_server() {
    let api = Api::open().await;
    let reply = api.send(Method::GET, "/", &BROWSER, "").await;
    let policy = reply.header("content-security-policy");
    for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|part| part == rule), "{rule}: {policy}");
    }
    for unsafe_source in ["unsafe", "*", "http:", "https:", "'nonce-", "sandbox"] {
        assert!(!policy.contains(unsafe_source), "{unsafe_source}: {policy}");
    }
    let page = reply.text();
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onload="), "{page}");
    assert!(page.split("<script").skip(1).all(|script| script.contains("src=\"/assets/")), "{page}");
    let of_data = api.get("/api/v1/patients").await;
    assert!(of_data.header("content-security-policy").contains("sandbox"), "data keeps the stricter policy");
    assert_eq!(of_data.header("cache-control"), "no-store");
}

#[tokio::test]
async fn service_worker_keeps_files_of_the_page_alone() {
    let api = Api::open().await;
    let files = shell(&api).await;
    assert!(files.iter().all(|file| file.starts_with("/assets/")), "{files:?}");
    for link in links(&page(&api).await).iter().filter(|link| link.starts_with("/assets/")) {
        assert!(files.contains(link), "{link} is missing in {files:?}");
    }
    let worker: Reply = api.get("/sw.js").await;
    assert_eq!(worker.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(worker.header("cache-control"), "no-cache", "a new version of the page is found");
}

#[tokio::test]
async fn manifest_names_icons_that_exist() {
    let api = Api::open().await;
    let manifest = api.get("/manifest.webmanifest").await;
    assert_eq!(manifest.header("content-type"), "application/manifest+json");
    let manifest = manifest.json();
    let icons = manifest["icons"].as_array().unwrap();
    assert!(!icons.is_empty());
    for icon in icons {
        let reply = api.get(icon["src"].as_str().unwrap()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (200, icon["type"].as_str().unwrap())
        );
    }
}

#[tokio::test]
async fn page_needs_no_token_and_data_does() {
    let (api, _file) = with_tokens().await;
    let page = page(&api).await;
    for file in links(&page) {
        assert_eq!(api.get(&file).await.status, 200, "{file}");
    }
    api.get("/api/v1/patients").await.assert_problem(401, "token");
}
