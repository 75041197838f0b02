//! Tests of login, sessions and users.

use std::time::Duration;

use axum::http::Method;
use gateway::Config;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::access::{tokens_file, with_tokens};
use crate::fixture::{Api, Reply, Start, TIMEOUT};
use crate::waveforms::Connection;

/// Longest time until the end of a session takes effect.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
pub(crate) const PASSWORD: &str = "correct horse battery";
const JSON: (&str, &str) = ("content-type", "application/json");
const CHIEF: (&str, &str) = ("authorization", "Bearer chief-secret");

/// A logged-in browser.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

impl Browser {
    /// The secret of the session.
    pub(crate) fn secret(&self) -> &str {
        self.cookie.strip_prefix("bedside_session=").unwrap()
    }

    pub(crate) async fn get(&self, api: &Api, path: &str) -> Reply {
        api.send(Method::GET, path, &[("cookie", &self.cookie)], "").await
    }

    pub(crate) async fn send(&self, api: &Api, method: Method, path: &str, body: Value) -> Reply {
        let headers = [("cookie", self.cookie.as_str()), ("x-bedside-csrf", &self.csrf), JSON];
        api.send(method, path, &headers, body.to_string()).await
    }
}

pub(crate) async fn log_in(api: &Api, body: Value) -> Reply {
    api.send(Method::POST, "/api/v1/session", &[JSON], body.to_string()).await
}

/// The browser after a successful login.
#[track_caller]
pub(crate) fn logged_in(reply: &Reply) -> Browser {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let cookie = reply.header("set-cookie").split(';').next().unwrap().to_owned();
    Browser { cookie, csrf: reply.json()["csrf"].as_str().unwrap().to_owned() }
}

pub(crate) async fn add_user(api: &Api, name: &str, role: &str, wards: Value) {
    let body = json!({ "name": name, "role": role, "wards": wards, "password": PASSWORD });
    let added = api.send(Method::POST, "/api/v1/users", &[CHIEF, JSON], body.to_string()).await;
    assert_eq!(added.status, 201, "{}", added.text());
}

pub(crate) async fn user(api: &Api, name: &str) -> Browser {
    logged_in(&log_in(api, json!({ "user": name, "password": PASSWORD })).await)
}

/// Waits until a request of a browser gets this status. Returns how long that took.
async fn until(api: &Api, browser: &Browser, status: u16) -> Duration {
    let begun = std::time::Instant::now();
    let polling = async {
        while browser.get(api, "/api/v1/patients").await.status != status {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, polling).await.expect("the status in time");
    begun.elapsed()
}

#[tokio::test]
async fn user_logs_in_with_a_cookie_and_changes_need_its_csrf_value() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    let reply = log_in(&api, json!({ "user": " Anna ", "password": PASSWORD })).await;
    let browser = logged_in(&reply);
    let attributes = reply.header("set-cookie");
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    assert!(!attributes.contains("Secure"), "there is no TLS");
    let session = browser.get(&api, "/api/v1/session").await.json();
    assert_eq!(session, reply.json());
    assert_eq!(
        (&session["name"], &session["role"], &session["via"]),
        (&json!("anna"), &json!("nurse"), &json!("local"))
    );
    assert_eq!(session["wards"], Value::Null);
    assert_eq!(session["login"], json!({ "oidc": false, "local": true, "token": true }));

    assert_eq!(browser.get(&api, "/api/v1/patients").await.status, 200);
    let check = "/api/v1/patients/7/name-check";
    let body = json!({ "name": "Ann" }).to_string();
    let cookie = ("cookie", browser.cookie.as_str());
    for headers in [
        vec![cookie, JSON],
        vec![cookie, JSON, ("x-bedside-csrf", "0")],
        vec![cookie, JSON, ("x-bedside-csrf", browser.csrf.as_str()), ("origin", "http://evil.example")],
        vec![cookie, JSON, ("x-bedside-csrf", browser.csrf.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let reply = api.send(Method::POST, check, &headers, body.clone()).await;
        assert_eq!(reply.status, 403, "{headers:?} {}", reply.text());
    }
    let reply = browser.send(&api, Method::POST, check, json!({ "name": "Ann" })).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Another page cannot read with the cookie, either.
    let cross = [cookie, ("origin", "http://evil.example")];
    api.send(Method::GET, "/api/v1/patients", &cross, "").await.assert_problem(403, "another server");
    // A program sends the secret as a token, without the value.
    let bearer = format!("Bearer {}", browser.secret());
    let bearer = [("authorization", bearer.as_str()), JSON];
    assert_eq!(api.send(Method::POST, check, &bearer, body).await.status, 200);
    browser.get(&api, "/api/v1/users").await.assert_problem(403, "role nurse");
}

#[tokio::test]
async fn request_of_another_page_cannot_log_in() {
    let (api, _file) = with_tokens().await;
    let body = json!({ "token": "chief-secret" }).to_string();
    for (headers, status) in [
        (vec![JSON, ("origin", "http://evil.example")], 403),
        (vec![JSON, ("sec-fetch-site", "same-site")], 403),
        (vec![("content-type", "text/plain")], 415),
        (vec![("content-type", "application/x-www-form-urlencoded")], 415),
        (vec![], 415),
    ] {
        let reply = api.send(Method::POST, "/api/v1/session", &headers, body.clone()).await;
        assert_eq!(reply.status, status, "{headers:?}");
        assert_eq!(reply.header("set-cookie"), "");
    }
    for body in [json!({}), json!({ "user": "anna" }), json!([]), json!("x"), json!({ "token": 7 })] {
        log_in(&api, body).await.assert_problem(400, "The body must be");
    }
    let long = json!({ "token": "x".repeat(5_000) });
    log_in(&api, long).await.assert_problem(413, "at most");
}

#[tokio::test]
async fn token_logs_in_and_its_session_ends_with_the_token() {
    let (api, file) = with_tokens().await;
    let reply = log_in(&api, json!({ "token": "station-secret" })).await;
    let browser = logged_in(&reply);
    assert_eq!((&reply.json()["name"], &reply.json()["via"]), (&json!("station"), &json!("token")));
    assert_eq!(browser.get(&api, "/api/v1/patients").await.status, 200);
    log_in(&api, json!({ "token": "wrong" })).await.assert_problem(401, "not known");
    let text = std::fs::read_to_string(file.path()).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("station")).map(|line| format!("{line}\n")).collect();
    std::fs::write(file.path(), without).unwrap();
    until(&api, &browser, 401).await;
}

#[tokio::test]
async fn session_is_absent_without_login_and_its_problem_names_the_ways_to_log_in() {
    let (api, _file) = with_tokens().await;
    let reply = api.get("/api/v1/session").await;
    reply.assert_problem(401, "log in");
    assert_eq!(reply.json()["login"], json!({ "oidc": false, "local": true, "token": true }));
    for cookie in ["bedside_session=", "bedside_session=x", "bedside_session=bedside-session-0"] {
        let reply = api.send(Method::GET, "/api/v1/patients", &[("cookie", cookie)], "").await;
        assert_eq!(reply.status, 401, "{cookie}");
    }
    let token = api.send(Method::GET, "/api/v1/session", &[CHIEF], "").await.json();
    assert_eq!(
        (&token["name"], &token["role"], &token["csrf"]),
        (&json!("chief"), &json!("admin"), &Value::Null)
    );
    let local = Api::open().await;
    let session = local.get("/api/v1/session").await.json();
    assert_eq!(
        (&session["name"], &session["role"], &session["via"]),
        (&json!("local"), &json!("admin"), &json!("none"))
    );
    assert_eq!(session["login"], json!({ "oidc": false, "local": false, "token": false }));
    assert_eq!(local.get("/api/v1/session/oidc").await.status, 404);
}

/// Two gateways of one system: what one of them ends, ends at the other.
#[tokio::test]
async fn ended_session_is_rejected_everywhere_and_its_streams_end() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    let other = api.second_gateway().await;
    let (here, kept) = (user(&api, "anna").await, user(&api, "anna").await);
    assert_eq!(here.get(&other, "/api/v1/patients").await.status, 200);
    let bearer = format!("Bearer {}", here.secret());
    let mut events = other.stream_as("/api/v1/events", &bearer).await;
    let mut live = Connection::open(other.address, "/api/v1/live", here.secret()).await.unwrap();

    let begun = std::time::Instant::now();
    let out = here.send(&api, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(out.status, 204, "{}", out.text());
    assert!(
        out.header("set-cookie").starts_with("bedside_session=; ")
            && out.header("set-cookie").contains("Max-Age=0")
    );
    assert_eq!(here.get(&api, "/api/v1/patients").await.status, 401, "at once at this gateway");
    let ended = async {
        while events.frame().await.is_some_and(|frame| frame.is_ok()) {}
        assert_eq!(live.closed().await.0, 4401);
    };
    tokio::time::timeout(TIMEOUT, ended).await.expect("the streams end");
    until(&other, &here, 401).await;
    // The limit of the test is that of the product and time for a loaded machine.
    assert!(begun.elapsed() < REVOKED_WITHIN * 5, "{:?}", begun.elapsed());
    assert_eq!(kept.get(&other, "/api/v1/patients").await.status, 200, "another session of the user goes on");
    // To log out twice is harmless.
    let again = here.send(&api, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(again.status, 204);
}

#[tokio::test]
async fn changed_role_disabled_and_removed_user_end_their_sessions() {
    let (api, _file) = with_tokens().await;
    for name in ["anna", "ben", "carl"] {
        add_user(&api, name, "nurse", Value::Null).await;
    }
    let [anna, ben, carl] = [user(&api, "anna").await, user(&api, "ben").await, user(&api, "carl").await];
    let change = async |name: &str, body: Value| {
        let path = format!("/api/v1/users/{name}");
        api.send(Method::PATCH, &path, &[CHIEF, JSON], body.to_string()).await
    };
    let renamed = change("anna", json!({ "display_name": "Anna B.", "version": 1 })).await.json();
    assert_eq!((&renamed["display_name"], &renamed["version"]), (&json!("Anna B."), &json!(2)));
    assert_eq!(change("anna", json!({ "role": "viewer", "version": 1 })).await.status, 409);
    assert_eq!(change("anna", json!({ "role": "viewer" })).await.status, 200);
    assert_eq!(change("ben", json!({ "disabled": true })).await.status, 200);
    assert_eq!(api.send(Method::DELETE, "/api/v1/users/carl", &[CHIEF], "").await.status, 204);
    for browser in [&anna, &ben, &carl] {
        until(&api, browser, 401).await;
    }
    assert_eq!(user(&api, "anna").await.get(&api, "/api/v1/session").await.json()["role"], "viewer");
    for name in ["ben", "carl", "nobody"] {
        let reply = log_in(&api, json!({ "user": name, "password": PASSWORD })).await;
        reply.assert_problem(401, "The name or the password is wrong.");
    }
    let list = api.send(Method::GET, "/api/v1/users", &[CHIEF], "").await;
    let names: Vec<_> =
        list.json()["items"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["anna", "ben"]);
    assert!(!list.text().contains("argon2"), "hashes stay in the store");
}

#[tokio::test]
async fn idle_and_expired_sessions_end() {
    let file = tokens_file();
    let mut config =
        Config { tokens: Some(file.path().to_owned()), receipt_wait: TIMEOUT, ..Config::default() };
    config.sessions.session_idle = Duration::from_secs(2);
    config.sessions.session_lifetime = Duration::from_secs(8);
    let api = Start { config, ..Start::default() }.start().await;
    let login = async || logged_in(&log_in(&api, json!({ "token": "station-secret" })).await);
    let idle = login().await;
    let used = login().await;
    let begun = std::time::Instant::now();
    // An open stream is a use.
    let _stream = api.stream_as("/api/v1/events", &format!("Bearer {}", used.secret())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(idle.get(&api, "/api/v1/patients").await.status, 401);
    if begun.elapsed() < Duration::from_secs(7) {
        assert_eq!(used.get(&api, "/api/v1/patients").await.status, 200);
    }
    until(&api, &used, 401).await;
    assert!(begun.elapsed() > Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn failed_logins_are_limited_by_name_and_network_and_do_not_reveal_names() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    add_user(&api, "ben", "nurse", Value::Null).await;
    let attempt =
        async |name: &str, password: &str| log_in(&api, json!({ "user": name, "password": password })).await;
    let wrong = attempt("anna", "wrong password").await;
    let unknown = attempt("nobody", "wrong password").await;
    assert_eq!((wrong.status, unknown.status), (401.try_into().unwrap(), 401.try_into().unwrap()));
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(attempt("anna", PASSWORD).await.status, 200, "a success forgives failures");
    for _ in 0..5 {
        attempt("anna", "wrong password").await.assert_problem(401, "wrong");
    }
    let limited = attempt("anna", PASSWORD).await;
    limited.assert_problem(429, "Too many logins have failed");
    let seconds: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&seconds), "{seconds}");
    for _ in 0..4 {
        attempt("nobody", "wrong password").await.assert_problem(401, "wrong");
    }
    attempt("nobody", "wrong password").await.assert_problem(429, "Too many logins have failed");
    assert_eq!(attempt("ben", PASSWORD).await.status, 200, "others are not limited");
}

/// The time of a login does not tell whether there is an account. Both verify a hash of the same cost.
#[tokio::test]
async fn login_of_an_unknown_user_takes_as_long_as_that_of_a_known_one() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        for (times, name) in times.iter_mut().zip(["anna", "nobody"]) {
            let begun = std::time::Instant::now();
            let reply = log_in(&api, json!({ "user": name, "password": "wrong password" })).await;
            assert_eq!(reply.status, 401);
            times.push(begun.elapsed());
        }
    }
    let [known, unknown] = times.map(|times| times.into_iter().min().unwrap());
    assert!(unknown * 3 > known && known * 3 > unknown, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn user_changes_only_the_own_password() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    add_user(&api, "ben", "nurse", Value::Null).await;
    let anna = user(&api, "anna").await;
    let change = async |browser: &Browser, name: &str, current: &str, new: &str| {
        let path = format!("/api/v1/users/{name}/password");
        browser.send(&api, Method::POST, &path, json!({ "current": current, "new": new })).await
    };
    change(&anna, "ben", PASSWORD, "another password").await.assert_problem(403, "their own password");
    let token = api.send(Method::POST, "/api/v1/users/chief/password", &[CHIEF, JSON], "{}").await;
    token.assert_problem(403, "their own password");
    change(&anna, "anna", "wrong password", "another password").await.assert_problem(422, "`current`");
    change(&anna, "anna", PASSWORD, "short").await.assert_problem(422, "`new`");
    assert_eq!(change(&anna, "anna", PASSWORD, "another password").await.status, 204);
    until(&api, &anna, 401).await;
    assert_eq!(log_in(&api, json!({ "user": "anna", "password": PASSWORD })).await.status, 401);
    logged_in(&log_in(&api, json!({ "user": "anna", "password": "another password" })).await);
}

#[tokio::test]
async fn invalid_users_are_rejected_and_change_nothing() {
    let (api, _file) = with_tokens().await;
    let add =
        async |body: Value| api.send(Method::POST, "/api/v1/users", &[CHIEF, JSON], body.to_string()).await;
    let valid = json!({ "name": "anna", "role": "nurse", "wards": null, "password": PASSWORD });
    for (field, value, about) in [
        ("name", json!("Anna Berg"), "the name of a user"),
        ("role", json!("device"), "unknown variant `device`"),
        ("role", json!("root"), "unknown variant"),
        ("password", json!("elevenchars"), "`password` has 12 to 128"),
        ("password", json!("I am anna, really"), "`password` must not contain"),
        ("display_name", json!("a\nb"), "`display_name`"),
        ("wards", json!(["3"]), "UUID"),
        ("rights", json!("all"), "unknown field"),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        add(body).await.assert_problem(422, about);
    }
    assert_eq!(add(valid.clone()).await.status, 201);
    add(valid).await.assert_problem(409, "already a user anna");
    let patch = async |name: &str, body: &str| {
        api.send(Method::PATCH, &format!("/api/v1/users/{name}"), &[CHIEF, JSON], body.to_owned()).await
    };
    for (body, status) in [
        ("{\"role\":\"boss\"}", 422),
        ("{\"version\":9}", 409),
        ("{\"password\":\"short\"}", 422),
        ("x", 422),
    ] {
        assert_eq!(patch("anna", body).await.status, status, "{body}");
    }
    patch("nobody", "{}").await.assert_problem(404, "no user");
    patch("%00", "{}").await.assert_problem(404, "no user");
    let list = api.send(Method::GET, "/api/v1/users", &[CHIEF], "").await.json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["version"]), (1, &json!(1)));
    assert_eq!(list["items"][0]["changed_by"], "chief");
}

#[tokio::test]
async fn administrator_cannot_lock_out_the_own_account() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "head", "admin", Value::Null).await;
    let head = user(&api, "head").await;
    for body in [json!({ "disabled": true }), json!({ "role": "nurse" })] {
        head.send(&api, Method::PATCH, "/api/v1/users/head", body)
            .await
            .assert_problem(409, "Another administrator");
    }
    head.send(&api, Method::DELETE, "/api/v1/users/head", Value::Null)
        .await
        .assert_problem(409, "Another administrator");
    assert_eq!(head.get(&api, "/api/v1/users").await.status, 200);
}

#[tokio::test]
async fn audit_log_has_logins_and_never_a_secret() {
    let (api, _file) = with_tokens().await;
    add_user(&api, "anna", "nurse", Value::Null).await;
    let anna = user(&api, "anna").await;
    log_in(&api, json!({ "user": "typed-password-by-mistake", "password": "wrong password" })).await;
    anna.send(&api, Method::DELETE, "/api/v1/session", Value::Null).await;
    let log = std::fs::read_to_string(&api.audit_log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logins: Vec<_> = lines
        .iter()
        .filter(|line| ["login", "logout"].contains(&line["message"].as_str().unwrap()))
        .map(|line| (line["message"].clone(), line["client"].clone(), line["outcome"].clone()))
        .collect();
    assert_eq!(
        logins,
        [
            (json!("login"), json!("anna"), json!("ok")),
            (json!("login"), Value::Null, json!("denied")),
            (json!("logout"), json!("anna"), json!("ok")),
        ]
    );
    for secret in [PASSWORD, anna.secret(), &anna.csrf, "typed-password", "wrong password"] {
        assert!(!log.contains(secret), "{secret}");
    }
}
