//! Tests of tokens, roles, the audit log, and access without tokens.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::Method;
use gateway::{Config, Limits};
use http_body_util::BodyExt;
use proto_json::BlobHash;
use runtime::StartError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::{Api, Form, Start, TIMEOUT, png};

pub(crate) fn tokens_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |name: &str, role: &str| {
        format!("{name} {role} {}\n", BlobHash::of(format!("{name}-secret").as_bytes()))
    };
    let text = [
        line("bed", "uploader"),
        line("bed-2", "uploader"),
        line("station", "viewer"),
        line("monitor", "device"),
        line("chief", "admin"),
    ];
    let text = text.concat();
    std::fs::write(file.path(), text).unwrap();
    file
}

pub(crate) async fn with_tokens() -> (Api, tempfile::NamedTempFile) {
    let file = tokens_file();
    let tokens = Some(file.path().to_owned());
    let config = Config { tokens, receipt_wait: TIMEOUT, admin_for_clients: true, ..Config::default() };
    (Start { config, ..Start::default() }.start().await, file)
}

#[tokio::test]
async fn each_role_has_only_its_permissions() {
    let (api, _file) = with_tokens().await;
    let upload = [("content-type", Form::CONTENT_TYPE)];
    let form = || Form::default().finish();
    for (token, may_upload, may_read) in [
        ("bed-secret", true, false),
        ("station-secret", false, true),
        ("chief-secret", true, true),
        ("monitor-secret", false, false),
    ] {
        let bearer = format!("Bearer {token}");
        let token = ("authorization", bearer.as_str());
        let uploads = [
            api.send(Method::POST, "/api/v1/patients/7/uploads", &[upload[0], token], form()).await,
            api.send(Method::POST, "/api/new_patient", &[token], "{\"medical_record_number\":7}").await,
        ];
        for reply in uploads {
            assert_eq!(reply.status != 403, may_upload, "{}", reply.text());
            assert!(reply.status.is_success() == may_upload);
        }
        for path in ["/api/v1/patients", "/api/v1/patients/7", "/api/get_patient", "/api/get_patient/7"] {
            let reply = api.send(Method::GET, path, &[token], "").await;
            assert_eq!(reply.status, if may_read { 200 } else { 403 }, "{path}");
        }
        let reply = api.send(Method::GET, "/api/v1/dead-letters", &[token], "").await;
        assert_eq!(reply.status, if may_upload && may_read { 200 } else { 403 });
        if !may_read {
            let role = if may_upload { "role uploader" } else { "role device" };
            for path in ["/api/v1/events", "/api/v1/live"] {
                api.send(Method::GET, path, &[token], "").await.assert_problem(403, role);
            }
        }
        let id = "0198c0de-0000-7000-8000-000000000001";
        let status = api.send(Method::GET, &format!("/api/v1/uploads/{id}"), &[token], "").await.status;
        assert_eq!(status, if may_upload || may_read { 404 } else { 403 });
    }
}

#[tokio::test]
async fn request_without_valid_token_is_rejected() {
    let (api, _file) = with_tokens().await;
    for value in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YmVkLXNlY3JldA==", "bed-secret"] {
        for path in ["/api/v1/patients", "/api/v1/events", "/api/v1/patients/7/events", "/api/get_patient/7"]
        {
            let reply = api.send(Method::GET, path, &[("authorization", value)], "").await;
            assert_eq!(reply.status, 401, "{value:?} {path}");
            assert!(reply.header("www-authenticate").starts_with("Bearer"));
        }
    }
    assert_eq!(api.new_patient("{\"medical_record_number\":7}").await.status, 401);
    assert_eq!(api.get("/metrics").await.status, 401);
    let viewer = ("authorization", "Bearer station-secret");
    assert_eq!(api.send(Method::GET, "/metrics", &[viewer], "").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 200);
    assert_eq!(api.get("/").await.status, 200);
    api.nothing_is_stored().await;
}

/// Waits until requests with this token get this status. The gateway polls the token file.
async fn until_status(api: &Api, token: &str, status: u16) {
    let bearer = format!("Bearer {token}");
    let polling = async {
        while api.send(Method::GET, "/api/v1/patients", &[("authorization", &bearer)], "").await.status
            != status
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, polling).await.unwrap_or_else(|_| panic!("{token} never got {status}"));
}

#[tokio::test]
async fn removed_token_is_rejected_and_its_event_streams_end() {
    let (api, file) = with_tokens().await;
    let mut stream = api.stream_as("/api/v1/events", "Bearer station-secret").await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("station")).map(|line| format!("{line}\n")).collect();
    std::fs::write(file.path(), without).unwrap();
    let ended = async { while stream.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    tokio::time::timeout(TIMEOUT, ended).await.expect("the stream ends");
    until_status(&api, "station-secret", 401).await;
    until_status(&api, "bed-secret", 403).await;
}

/// Revocation fails closed: after any change of the file, only tokens in it are valid.
#[tokio::test]
async fn emptied_removed_or_damaged_token_file_revokes_its_tokens() {
    let (api, file) = with_tokens().await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    let damaged = text.replace("station viewer", "station viewer?");
    for (what, change) in [
        ("emptied", Some("")),
        ("removed", None),
        ("only a comment", Some("# name role sha256\n")),
        ("not a token file", Some("what is this")),
    ] {
        until_status(&api, "station-secret", 200).await;
        match change {
            Some(content) => std::fs::write(file.path(), content).unwrap(),
            None => std::fs::remove_file(file.path()).unwrap(),
        }
        for token in ["bed-secret", "station-secret", "chief-secret"] {
            until_status(&api, token, 401).await;
        }
        let without = api.get("/api/v1/patients").await.status;
        assert!(without == 401 || without == 429, "{what}: a request without a token is answered");
        std::fs::write(file.path(), &text).unwrap();
    }
    until_status(&api, "station-secret", 200).await;
    std::fs::write(file.path(), damaged).unwrap();
    until_status(&api, "station-secret", 401).await;
    until_status(&api, "chief-secret", 200).await;
}

#[tokio::test]
async fn gateway_with_an_empty_token_file_starts_and_rejects_all_tokens() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = Config { tokens: Some(file.path().to_owned()), ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    assert_eq!(api.get("/api/v1/patients").await.status, 401);
    std::fs::write(file.path(), std::fs::read(tokens_file().path()).unwrap()).unwrap();
    until_status(&api, "chief-secret", 200).await;
}

#[tokio::test]
async fn rate_limited_client_gets_retry_after() {
    let (file, limits) = (tokens_file(), Limits { max_requests_per_second: 1, ..Limits::default() });
    let config = Config { tokens: Some(file.path().to_owned()), limits, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let ask = async |path: &str, token: &str| {
        api.send(Method::GET, path, &[("authorization", &format!("Bearer {token}"))], "").await
    };
    let mut rejected = None;
    for _ in 0..20 {
        let reply = ask("/api/v1/patients", "station-secret").await;
        if reply.status != 200 {
            rejected = Some(reply);
            break;
        }
    }
    let rejected = rejected.expect("twenty requests exceed the rate");
    rejected.assert_problem(429, "Too many requests");
    assert_eq!(rejected.header("retry-after"), "1");
    let legacy = ask("/api/get_patient", "station-secret").await;
    assert!(legacy.status == 429 && legacy.header("content-type").starts_with("text/html"));
    assert_eq!(ask("/api/v1/patients", "chief-secret").await.status, 200, "other clients are not limited");
    // Guessing of tokens is limited without affecting clients with a token.
    let mut guesses = 0;
    let slowed = loop {
        let reply = ask("/api/v1/patients", "guess").await;
        if reply.status != 401 {
            break reply;
        }
        guesses += 1;
        assert!(guesses < 1_000);
    };
    assert_eq!(slowed.status, 429);
    assert_eq!(ask("/api/v1/patients", "chief-secret").await.status, 200);
}

#[tokio::test]
async fn one_token_cannot_use_all_permits() {
    let file = tokens_file();
    let limits =
        Limits { max_uploads_in_flight: 4, max_watchers: 4, max_reads_in_flight: 4, ..Limits::default() };
    let config = Config { tokens: Some(file.path().to_owned()), limits, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let upload = async |token: &str| {
        let headers = [("content-type", Form::CONTENT_TYPE), ("authorization", token)];
        api.send(Method::POST, "/api/v1/patients/7/uploads", &headers, Form::default().finish()).await
    };
    let (bed, chief) = ("Bearer bed-secret", "Bearer chief-secret");
    assert!(upload(bed).await.status.is_success());
    // The share is a quarter of four permits, and this upload never ends.
    let mut unfinished = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST /api/v1/patients/7/uploads HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bed}\r\nContent-Length: 5000\r\n\
         Content-Type: {}\r\n\r\n--XyZ",
        Form::CONTENT_TYPE
    );
    unfinished.write_all(head.as_bytes()).await.unwrap();
    let rejected = tokio::time::timeout(TIMEOUT, async {
        loop {
            let reply = upload(bed).await;
            if !reply.status.is_success() {
                break reply;
            }
        }
    });
    let rejected = rejected.await.expect("the permit is in use");
    rejected.assert_problem(429, "uploads of this token");
    assert_eq!(rejected.header("retry-after"), "1");
    assert!(upload(chief).await.status.is_success(), "other clients get permits");
    drop(unfinished);
    let free = async { while !upload(bed).await.status.is_success() {} };
    tokio::time::timeout(TIMEOUT, free).await.expect("the permit is returned");

    let _stream = api.stream_as("/api/v1/events", "Bearer station-secret").await;
    let station = [("authorization", "Bearer station-secret")];
    let rejected = api.send(Method::GET, "/api/v1/events", &station, "").await;
    rejected.assert_problem(429, "event streams of this token");
    let _other = api.stream_as("/api/v1/events", chief).await;
}

#[tokio::test]
async fn without_tokens_requests_of_web_pages_are_rejected() {
    let api = Api::open().await;
    for headers in [
        [("host", "evil.example"), ("accept", "*/*")],
        [("host", "localhost"), ("origin", "http://evil.example")],
        [("host", "localhost"), ("origin", "null")],
        // A page of another server on this machine.
        [("host", "localhost:5011"), ("origin", "http://localhost:8000")],
        [("host", "localhost:5011"), ("origin", "http://127.0.0.1:5011")],
        [("host", "localhost"), ("sec-fetch-site", "cross-site")],
        [("host", "localhost"), ("sec-fetch-site", "same-site")],
    ] {
        let body = "{\"medical_record_number\":7}";
        let reply = api.send(Method::POST, "/api/new_patient", &headers, body).await;
        assert_eq!(reply.status, 403, "{headers:?}");
        api.send(Method::GET, "/api/v1/patients", &headers, "").await.assert_problem(403, "localhost");
    }
    for twice in
        [[("origin", "http://localhost"), ("origin", "http://evil.example")], [("sec-fetch-site", "none"); 2]]
    {
        let headers = [[("host", "localhost")].as_slice(), &twice].concat();
        api.send(Method::GET, "/api/v1/patients", &headers, "").await.assert_problem(400, "more than once");
    }
    api.nothing_is_stored().await;
    for headers in [
        [("host", "localhost:5011"), ("origin", "http://localhost:5011")],
        [("host", "LOCALHOST:5011"), ("sec-fetch-site", "same-origin")],
        [("host", "127.0.0.1"), ("sec-fetch-site", "none")],
    ] {
        assert_eq!(api.send(Method::GET, "/api/v1/patients", &headers, "").await.status, 200, "{headers:?}");
    }
}

/// The legacy routes escape text of the request in their responses.
#[tokio::test]
async fn input_is_escaped_in_html_responses() {
    let api = Api::open().await;
    let path = "/api/get_patient/%3Cimg%20src=x%20onerror=alert(1)%3E%26";
    let shown = "&lt;img src=x onerror=alert(1)>&amp;";
    let reply = api.get(path).await;
    reply.assert_text(400, &format!("{shown} cannot be converted into integer"));
    let policy = reply.header("content-security-policy");
    for directive in ["default-src 'none'", "sandbox", "form-action 'none'", "base-uri 'none'"] {
        assert!(policy.contains(directive), "{policy}");
    }
    let body = "{\"medical_record_number\":\"<img src=x onerror=alert(1)>&\"}";
    let reply = api.new_patient(body).await;
    reply.assert_text(400, &format!("The input {shown} cannot be converted into integer"));
}

#[test]
fn public_address_requires_tokens_and_encryption() {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5011));
    let rejected = Config { listen, ..Config::default() }.check().unwrap_err();
    assert!(matches!(rejected, StartError::Config(_)));
    assert_eq!(rejected.exit_code(), 64);
    assert!(rejected.to_string().contains("--tokens"), "{rejected}");
    let file = tokens_file();
    let with_tokens = Config { listen, tokens: Some(file.path().to_owned()), ..Config::default() };
    let plain = with_tokens.check().unwrap_err();
    assert_eq!(plain.exit_code(), 64);
    assert!(plain.to_string().contains("--insecure") && plain.to_string().contains("--tls-cert"), "{plain}");
    Config { insecure: true, ..with_tokens }.check().unwrap();
    let insecure = Config { listen, insecure: true, ..Config::default() }.check().unwrap_err();
    assert!(insecure.to_string().contains("--tokens"), "{insecure}");
    let unreadable = Config { tokens: Some("/nonexistent/tokens".into()), ..Config::default() };
    assert_eq!(unreadable.check().unwrap_err().exit_code(), 64);
}

#[tokio::test]
async fn responses_have_security_headers_and_health_is_public() {
    let config = Config { admin_for_clients: true, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let reply = api.get("/api/v1/patients").await;
    assert_eq!(
        (reply.header("x-content-type-options"), reply.header("cache-control")),
        ("nosniff", "no-store")
    );
    assert!(reply.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 200);
    let metrics = api.get("/metrics").await;
    assert!(metrics.text().contains("bedside_http_requests_total{"), "{}", metrics.text());
    assert!(metrics.text().contains("route=\"/api/v1/patients\""), "{}", metrics.text());
}

#[tokio::test]
async fn readiness_fails_during_the_drain_wait_while_requests_are_served() {
    let config = Config { admin_for_clients: true, drain_wait: TIMEOUT, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let checks = "bus: ok\ndisk: ok\nclock: ok\n";
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text()), (200, &*format!("gateway is ready\n{checks}")));
    assert_eq!(ready.header("cache-control"), "no-store");
    let head = api.send(Method::HEAD, "/readyz", &[], "").await;
    assert_eq!((head.status.as_u16(), head.text()), (200, ""));
    let post = api.send(Method::POST, "/readyz", &[], "").await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET,HEAD"));

    api.shut();
    let draining = api.get("/readyz").await;
    let text = format!("gateway is shutting down\n{checks}");
    assert_eq!((draining.status.as_u16(), draining.text()), (503, &*text));
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(api.get("/api/v1/patients").await.status, 200);
}

/// Receipts name patients. Knowing another client's name or idempotency key does not give access to them.
#[tokio::test]
async fn receipt_is_visible_only_to_its_uploader_and_to_readers() {
    for query_over_http in [false, true] {
        let file = tokens_file();
        let config =
            Config { tokens: Some(file.path().to_owned()), receipt_wait: TIMEOUT, ..Config::default() };
        let api = Start { config, query_over_http, ..Start::default() }.start().await;
        let send = async |token: &str, key: &str| {
            let authorization = format!("Bearer {token}");
            let headers = [
                ("content-type", Form::CONTENT_TYPE),
                ("idempotency-key", key),
                ("authorization", &authorization),
            ];
            let form = Form::default().field("name", "Ann").finish();
            api.send(Method::POST, "/api/v1/patients/7/uploads", &headers, form).await
        };
        let ask = async |token: &str, path: &str| {
            let authorization = format!("Bearer {token}");
            // A client cannot set the internal headers of the query service.
            let headers = [("authorization", authorization.as_str()), ("bedside-uploaded-by", "bed-2")];
            api.send(Method::GET, path, &headers, "").await
        };
        let first = send("bed-secret", "one").await;
        assert_eq!(first.status, 201, "{}", first.text());
        let path = first.header("location").to_owned();
        for (token, status) in
            [("bed-secret", 200), ("bed-2-secret", 404), ("station-secret", 200), ("chief-secret", 200)]
        {
            let reply = ask(token, &path).await;
            assert_eq!(reply.status, status, "{token}");
            for name in ["bedside-patient", "bedside-uploaded-by"] {
                assert!(!reply.headers.contains_key(name), "{name} is internal");
            }
        }
        let unknown = format!("/api/v1/uploads/{}", proto_json::UploadId::generate());
        let (others, none) = (ask("bed-2-secret", &path).await, ask("bed-2-secret", &unknown).await);
        others.assert_problem(404, "No upload of yours");
        assert_eq!(others.body, none.body, "the response does not reveal whether the upload exists");

        // The id cannot be derived from known values, and the same key of another client identifies another
        // upload.
        let id = first.json()["upload_id"].as_str().unwrap().to_owned();
        assert_ne!(id, proto_json::UploadId::from_idempotency_key("bed", "one").to_string());
        let second = send("bed-2-secret", "one").await;
        assert_eq!((second.status.as_u16(), second.header("idempotency-replayed")), (201, ""));
        assert_ne!(second.json()["upload_id"], id);
        let again = send("bed-secret", "one").await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.json(), first.json());
    }
}

#[test]
fn tokens_require_a_key_file() {
    let file = tokens_file();
    let config = Config { tokens: Some(file.path().to_owned()), ..Config::default() };
    let rejected = config.key().unwrap_err();
    assert_eq!(rejected.exit_code(), 64);
    assert!(rejected.to_string().contains("--key-file"), "{rejected}");
    let unreadable = Config { key_file: Some("/nonexistent/key".into()), ..config };
    assert_eq!(unreadable.key().unwrap_err().exit_code(), 64);
    assert!(Config::default().key().unwrap().is_none());
}

/// Every access writes a line with client, address, patient and outcome, even if the path does not name the
/// patient.
#[tokio::test]
async fn audit_line_contains_client_address_patient_and_outcome() {
    let file = tokens_file();
    for query_over_http in [false, true] {
        let config = Config {
            tokens: Some(file.path().to_owned()),
            receipt_wait: TIMEOUT,
            audit_patient: gateway::AuditPatient::Number,
            trusted_proxies: vec!["loopback".parse().unwrap()],
            ..Config::default()
        };
        let api = Start { config, query_over_http, ..Start::default() }.start().await;
        let mut expected = Vec::new();
        let mut ask = async |method: Method, path: &str, token: &str, body: Vec<u8>, said: [&str; 4]| {
            let authorization = format!("Bearer {token}");
            let headers = [
                ("authorization", authorization.as_str()),
                ("content-type", Form::CONTENT_TYPE),
                ("x-forwarded-for", "1.2.3.4, 192.0.2.7"),
            ];
            let reply = api.send(method, path, &headers, body).await;
            let [client, route, patient, outcome] = said.map(str::to_owned);
            let id = reply.header("x-request-id").to_owned();
            expected.push((id, client, route, patient, reply.status.as_u16(), outcome));
            reply
        };
        let form = Form::default().file("medical_image", "a.png", &png(5, 5, 1)).finish().to_vec();
        let (uploads, legacy) = ("/api/v1/patients/{mrn}/uploads", "/api/new_patient");
        let upload = ask(
            Method::POST,
            "/api/v1/patients/%37/uploads",
            "bed-secret",
            form,
            ["bed", uploads, "7", "ok"],
        );
        let stored = upload.await.json();
        let image = stored["files"][0]["id"].as_str().unwrap().to_owned();
        let upload = format!("/api/v1/uploads/{}", stored["upload_id"].as_str().unwrap());
        let image = format!("/api/v1/images/{image}");
        let body = b"{\"medical_record_number\":\"8\"}".to_vec();
        ask(Method::POST, legacy, "bed-secret", body, ["bed", legacy, "8", "ok"]).await;
        for (path, token, said) in [
            (&*image, "station-secret", ["station", "/api/v1/images/{id}", "7", "ok"]),
            (&*image, "bed-secret", ["bed", "/api/v1/images/{id}", "", "denied"]),
            (&*upload, "bed-secret", ["bed", "/api/v1/uploads/{id}", "7", "ok"]),
            (&*upload, "bed-2-secret", ["bed-2", "/api/v1/uploads/{id}", "7", "rejected"]),
            ("/api/get_patient/8", "station-secret", ["station", "/api/get_patient/{id}", "8", "ok"]),
            ("/api/v1/patients/9", "station-secret", ["station", "/api/v1/patients/{mrn}", "9", "rejected"]),
            ("/api/v1/patients/7", "wrong", ["", "/api/v1/patients/{mrn}", "7", "denied"]),
            ("/api/v1/patients", "station-secret", ["station", "/api/v1/patients", "", "ok"]),
        ] {
            ask(Method::GET, path, token, Vec::new(), said).await;
        }
        let log = std::fs::read_to_string(&api.audit_log).unwrap();
        let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let written: Vec<_> = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .inspect(|line| assert_eq!(line["address"], "192.0.2.7", "{line}"))
            .map(|line| {
                let status = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
                let text = |key| text(&line, key);
                (text("request_id"), text("client"), text("route"), text("patient"), status, text("outcome"))
            })
            .collect();
        assert_eq!(written, expected);
        assert!(written.iter().all(|line| line.0.len() == 36));
    }
}
