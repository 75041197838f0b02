//! Tokens, roles, and what keeps strangers out where there are none.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::Method;
use gateway::Config;
use proto_json::BlobHash;
use runtime::StartError;

use crate::fixture::{Door, Form, PATIENCE, Start};

async fn with_tokens() -> (Door, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |name: &str, role: &str| {
        format!("{name} {role} {}\n", BlobHash::of(format!("{name}-secret").as_bytes()))
    };
    let text = [line("bed", "uploader"), line("station", "viewer"), line("chief", "admin")].concat();
    std::fs::write(file.path(), text).unwrap();
    let config = Config { tokens: Some(file.path().to_owned()), receipt_wait: PATIENCE, ..Config::default() };
    (Start { config, ..Start::default() }.start().await, file)
}

#[tokio::test]
async fn each_role_may_do_its_part_only() {
    let (door, _file) = with_tokens().await;
    let upload = [("content-type", Form::CONTENT_TYPE)];
    let form = || Form::default().finish();
    for (token, may_upload, may_read) in
        [("bed-secret", true, false), ("station-secret", false, true), ("chief-secret", true, true)]
    {
        let bearer = format!("Bearer {token}");
        let token = ("authorization", bearer.as_str());
        let uploads = [
            door.send(Method::POST, "/api/v1/patients/7/uploads", &[upload[0], token], form()).await,
            door.send(Method::POST, "/api/new_patient", &[token], "{\"medical_record_number\":7}").await,
        ];
        for reply in uploads {
            assert_eq!(reply.status != 403, may_upload, "{}", reply.text());
            assert!(reply.status.is_success() == may_upload);
        }
        for path in ["/api/v1/patients", "/api/v1/patients/7", "/api/get_patient", "/api/get_patient/7"] {
            let reply = door.send(Method::GET, path, &[token], "").await;
            assert_eq!(reply.status, if may_read { 200 } else { 403 }, "{path}");
        }
        if !may_read {
            door.send(Method::GET, "/api/v1/events", &[token], "").await.assert_problem(403, "role uploader");
        }
    }
}

#[tokio::test]
async fn without_a_token_that_is_known_nobody_comes_in() {
    let (door, _file) = with_tokens().await;
    for value in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YmVkLXNlY3JldA==", "bed-secret"] {
        for path in ["/api/v1/patients", "/api/v1/events", "/api/v1/patients/7/events", "/api/get_patient/7"]
        {
            let reply = door.send(Method::GET, path, &[("authorization", value)], "").await;
            assert_eq!(reply.status, 401, "{value:?} {path}");
            assert!(reply.header("www-authenticate").starts_with("Bearer"));
        }
    }
    assert_eq!(door.new_patient("{\"medical_record_number\":7}").await.status, 401);
    assert_eq!(door.get("/").await.status, 200);
    door.nothing_is_stored().await;
}

#[tokio::test]
async fn without_tokens_only_programs_of_this_machine_are_answered() {
    let door = Door::open().await;
    for headers in [
        [("host", "evil.example"), ("accept", "*/*")],
        [("host", "localhost"), ("origin", "http://evil.example")],
        [("host", "localhost"), ("origin", "null")],
    ] {
        let body = "{\"medical_record_number\":7}";
        let reply = door.send(Method::POST, "/api/new_patient", &headers, body).await;
        assert_eq!(reply.status, 403, "{headers:?}");
        door.send(Method::GET, "/api/v1/patients", &headers, "").await.assert_problem(403, "localhost");
    }
    door.nothing_is_stored().await;
    let local = [("host", "localhost:5011"), ("origin", "http://localhost:8000")];
    assert_eq!(door.send(Method::GET, "/api/v1/patients", &local, "").await.status, 200);
}

#[test]
fn an_address_for_others_needs_tokens() {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5011));
    let refused = Config { listen, ..Config::default() }.check().unwrap_err();
    assert!(matches!(refused, StartError::Config(_)));
    assert_eq!(refused.exit_code(), 64);
    assert!(refused.to_string().contains("--tokens"), "{refused}");
    let unreadable = Config { tokens: Some("/nonexistent/tokens".into()), ..Config::default() };
    assert_eq!(unreadable.check().unwrap_err().exit_code(), 64);
}

#[tokio::test]
async fn replies_carry_security_headers_and_health_is_told() {
    let config = Config { admin_for_clients: true, ..Config::default() };
    let door = Start { config, ..Start::default() }.start().await;
    let reply = door.get("/api/v1/patients").await;
    assert_eq!(
        (reply.header("x-content-type-options"), reply.header("cache-control")),
        ("nosniff", "no-store")
    );
    assert!(reply.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(door.get("/livez").await.status, 200);
    assert_eq!(door.get("/readyz").await.status, 200);
    let metrics = door.get("/metrics").await;
    assert!(metrics.text().contains("bedside_http_requests_total{"), "{}", metrics.text());
    assert!(metrics.text().contains("route=\"/api/v1/patients\""), "{}", metrics.text());
}
