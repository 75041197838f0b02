//! Tests of login with OpenID Connect, with a real provider: the npm package oidc-provider.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use axum::http::Method;
use gateway::Config;
use serde_json::json;

use crate::access::tokens_file;
use crate::fixture::{Api, Reply, Start, TIMEOUT};
use crate::sessions::{Browser, add_user};

/// The gateway's address in the browser. The test sends the requests for it to the real one.
const REDIRECT: &str = "http://ward.localhost/api/v1/session/oidc/callback";
const WARD: &str = "00000000-0000-0000-0000-000000000001";

struct Provider {
    process: Child,
    issuer: String,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program or package that `scripts/test --tools` installs and prints.
fn tool(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).unwrap_or_else(|| panic!("set {variable}: scripts/test --tools"));
    path.into()
}

impl Provider {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oidc/provider.mjs");
        let node = tool("BEDSIDE_TEST_MONGOSH").with_file_name("node");
        let mut process = Command::new(node)
            .args([script, tool("BEDSIDE_TEST_OIDC_PROVIDER")])
            .arg(REDIRECT)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let issuer = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.starts_with("http://"))
            .expect("the provider starts");
        // It ends if nobody reads its notices.
        std::thread::spawn(move || lines.for_each(drop));
        Provider { process, issuer }
    }

    async fn system(&self) -> (Api, tempfile::NamedTempFile, tempfile::NamedTempFile) {
        let (tokens, secret) = (tokens_file(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(secret.path(), "secret-of-the-test\n").unwrap();
        let mut config =
            Config { tokens: Some(tokens.path().to_owned()), receipt_wait: TIMEOUT, ..Config::default() };
        config.oidc.oidc_issuer = Some(self.issuer.clone());
        config.oidc.oidc_redirect = Some(REDIRECT.to_owned());
        config.oidc.oidc_client_secret_file = Some(secret.path().to_owned());
        config.oidc.oidc_roles = [format!("icu-nurses=nurse@{WARD}"), "admins=admin".to_owned()]
            .map(|role| role.parse().unwrap())
            .to_vec();
        (Start { config, ..Start::default() }.start().await, tokens, secret)
    }

    /// Begins a login at the gateway and follows the provider until it sends the browser back. Returns the cookie of the
    /// login, and path and query of the way back.
    async fn log_in(&self, api: &Api, account: &str) -> (String, String) {
        let begun = api.get("/api/v1/session/oidc").await;
        assert_eq!(begun.status, 303, "{}", begun.text());
        let set = begun.header("set-cookie");
        assert!(set.contains("; HttpOnly; SameSite=Lax; Path=/api/v1/session/oidc; Max-Age=600"), "{set}");
        let login = set.split(';').next().unwrap().to_owned();
        let mut location = begun.header("location").to_owned();
        for parameter in ["code_challenge_method=S256", "state=", "nonce=", "response_type=code"] {
            assert!(location.contains(parameter), "{location}");
        }
        // The gateway has installed the provider of cryptography.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        http.get(format!("{}/as/{account}", self.issuer)).send().await.unwrap();
        let mut cookies: HashMap<String, String> = HashMap::new();
        loop {
            if let Some(back) = location.strip_prefix("http://ward.localhost") {
                return (login, back.to_owned());
            }
            let url = if location.starts_with('/') { format!("{}{location}", self.issuer) } else { location };
            let jar: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let response = http.get(url).header("cookie", jar.join("; ")).send().await.unwrap();
            for set in response.headers().get_all("set-cookie") {
                let (name, value) = set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
                cookies.insert(name.to_owned(), value.to_owned());
            }
            let status = response.status();
            assert!(status.is_redirection(), "{status} {}", response.text().await.unwrap());
            location = response.headers()["location"].to_str().unwrap().to_owned();
        }
    }
}

async fn finish(api: &Api, cookie: &str, back: &str) -> Reply {
    api.send(Method::GET, back, &[("cookie", cookie)], "").await
}

#[tokio::test]
async fn person_logs_in_with_the_provider_and_gets_role_and_wards_of_the_groups() {
    let provider = Provider::start();
    let (api, _tokens, _secret) = provider.system().await;
    assert_eq!(api.get("/api/v1/session").await.json()["login"]["oidc"], true);
    let (cookie, back) = provider.log_in(&api, "anna").await;
    let reply = finish(&api, &cookie, &back).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/"), "{}", reply.text());
    let cookies: Vec<&str> =
        reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(cookies[0].contains("; HttpOnly; SameSite=Strict; Path=/"), "{cookies:?}");
    assert!(cookies[1].starts_with("bedside_login=;") && cookies[1].contains("Max-Age=0"), "{cookies:?}");
    let browser = Browser { cookie: cookies[0].split(';').next().unwrap().to_owned(), csrf: String::new() };
    let session = browser.get(&api, "/api/v1/session").await.json();
    assert_eq!(
        (&session["name"], &session["display_name"], &session["role"], &session["via"]),
        (&json!("anna.berg"), &json!("Anna Berg"), &json!("nurse"), &json!("oidc"))
    );
    assert_eq!(session["wards"], json!([WARD]));
    // The code is used.
    let again = finish(&api, &cookie, &back).await;
    again.assert_problem(400, "log in again");
    assert_eq!(again.header("set-cookie"), "");
}

#[tokio::test]
async fn login_is_finished_only_in_its_browser_and_only_by_known_persons() {
    let provider = Provider::start();
    let (api, _tokens, _secret) = provider.system().await;
    let (cookie, back) = provider.log_in(&api, "anna").await;
    let (other, _) = provider.log_in(&api, "anna").await;
    finish(&api, "", &back).await.assert_problem(400, "another browser");
    finish(&api, &other, &back).await.assert_problem(400, "another browser");
    finish(&api, &cookie, &back.replace("state=", "state=x")).await.assert_problem(400, "another browser");
    let state = back.split('&').find_map(|part| part.strip_prefix("state=")).unwrap();
    let path = "/api/v1/session/oidc/callback";
    let guessed = format!("{path}?code=guessed&state={state}");
    finish(&api, &cookie, &guessed).await.assert_problem(400, "did not accept");
    finish(&api, &cookie, &format!("{path}?state={state}")).await.assert_problem(400, "no code");
    let refused = format!("{path}?error=access_denied&state={state}");
    finish(&api, &cookie, &refused).await.assert_problem(403, "refused");
    assert_eq!(finish(&api, &cookie, &back).await.status, 303, "the other attempts changed nothing");

    for (account, about) in [
        ("ben", "no role"),
        ("nameless", "preferred_username"),
        // The token `chief` has this name.
        ("chief", "A local account or token has the name"),
    ] {
        let (cookie, back) = provider.log_in(&api, account).await;
        finish(&api, &cookie, &back).await.assert_problem(403, about);
    }
    // A browser is sent to the page.
    for (query, page) in [("error=access_denied&", "/#/login/denied"), ("", "/#/login/failed")] {
        let back = format!("{path}?{query}state={state}");
        let browser = [("cookie", cookie.as_str()), ("accept", "text/html,*/*;q=0.8")];
        let reply = api.send(Method::GET, &back, &browser, "").await;
        assert_eq!((reply.status.as_u16(), reply.header("location")), (303, page));
        assert_eq!(reply.header("set-cookie"), "");
    }
    add_user(&api, "anna.berg", "viewer", json!(null)).await;
    let (cookie, back) = provider.log_in(&api, "anna").await;
    finish(&api, &cookie, &back).await.assert_problem(403, "A local account or token has the name");
}

#[tokio::test]
async fn provider_that_cannot_be_reached_blocks_only_its_own_logins() {
    let provider = Provider::start();
    let (api, _tokens, _secret) = provider.system().await;
    drop(provider);
    api.get("/api/v1/session/oidc").await.assert_problem(503, "cannot be reached");
    add_user(&api, "anna", "viewer", json!(null)).await;
    crate::sessions::user(&api, "anna").await;
}
