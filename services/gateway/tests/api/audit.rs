//! Tests of the stored audit: its entries, its routes, and reads while it cannot be written.

use std::time::Duration;

use axum::http::Method;
use bus::BusPorts;
use gateway::Config;
use proto_json::audit::{AuditPage, AuditVerdict};
use tokio::net::TcpListener;

use crate::access::with_tokens;
use crate::fixture::{Api, Form, Start, TIMEOUT, png};

async fn get(api: &Api, path: &str, token: &str) -> (u16, String) {
    let authorization = format!("Bearer {token}");
    let reply = api.send(Method::GET, path, &[("authorization", &authorization)], Vec::new()).await;
    (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
}

async fn page(api: &Api, query: &str) -> AuditPage {
    let (status, body) = get(api, &format!("/api/v1/audit{query}"), "chief-secret").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn every_access_and_change_is_an_entry() {
    let (api, _tokens) = with_tokens().await;
    let bed = [("authorization", "Bearer bed-secret"), ("content-type", Form::CONTENT_TYPE)];
    let form = Form::default().file("medical_image", "a.png", &png(5, 5, 1)).finish();
    let stored = api.send(Method::POST, "/api/v1/patients/7/uploads", &bed, form).await.json();
    let image = format!("/api/v1/images/{}", stored["files"][0]["id"].as_str().unwrap());
    get(&api, &image, "station-secret").await;
    get(&api, &image, "bed-secret").await;
    get(&api, "/api/v1/patients/8", "station-secret").await;
    get(&api, "/api/v1/patients/8", "unknown").await;

    let entries = page(&api, "").await.items;
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| {
            let event = &entry.event;
            let patient = event.mrn.map(|mrn| mrn.get());
            (&*event.client, &*event.role, &*event.route, patient, event.status, &*event.outcome)
        })
        .collect();
    let expected = [
        ("station", "viewer", "/api/v1/patients/{mrn}", Some(8), 404, "rejected"),
        ("bed", "uploader", "/api/v1/images/{id}", None, 403, "denied"),
        ("station", "viewer", "/api/v1/images/{id}", Some(7), 200, "ok"),
        ("bed", "uploader", "/api/v1/patients/{mrn}/uploads", Some(7), 201, "ok"),
    ];
    assert_eq!(seen, expected);
    assert!(entries.iter().all(|entry| entry.event.request_id.is_some()));

    let of_patient = page(&api, "?mrn=7&client=station").await.items;
    assert_eq!(of_patient.len(), 1);
    let newest = page(&api, "?limit=1").await;
    // Reading the audit is an access, too.
    assert_eq!(newest.items[0].event.route, "/api/v1/audit");
    let next = newest.next.unwrap();
    assert_eq!(page(&api, &format!("?limit=1&before={next}")).await.items[0].number, next - 1);
    assert_eq!(page(&api, "?to=2020-01-01T00:00:00Z").await.items.len(), 0);
    assert!(page(&api, "?mrn=7&from=2020-01-01T00:00:00.000Z").await.items.len() >= 2);
    let (status, verdict) = get(&api, "/api/v1/audit/verification", "chief-secret").await;
    let verdict: AuditVerdict = serde_json::from_str(&verdict).unwrap();
    assert_eq!((status, verdict.defect, verdict.verified), (200, None, 10));
}

#[tokio::test]
async fn audit_is_only_for_auditors_and_bad_queries_are_rejected() {
    let (api, _tokens) = with_tokens().await;
    for token in ["bed-secret", "station-secret", "monitor-secret"] {
        for path in ["/api/v1/audit", "/api/v1/audit/verification"] {
            let (status, body) = get(&api, path, token).await;
            assert_eq!(status, 403);
            assert!(body.contains("auditor or admin"), "{body}");
        }
    }
    for query in ["?mrn=x", "?limit=0", "?limit=1001", "?before=-1", "?mrn=1&mrn=2", "?from=x", "?to=1"] {
        let (status, body) = get(&api, &format!("/api/v1/audit{query}"), "chief-secret").await;
        assert_eq!(status, 400, "{query}: {body}");
    }
    for anchor in ["7", "7:abc", "x:0000000000000000000000000000000000000000000000000000000000000000"] {
        let path = format!("/api/v1/audit/verification?anchor={anchor}");
        assert_eq!(get(&api, &path, "chief-secret").await.0, 400, "{anchor}");
    }
}

/// Without ingest, nothing can be written to the audit.
#[tokio::test]
async fn reads_are_refused_while_the_audit_cannot_be_written_and_uploads_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = Config { receipt_wait: TIMEOUT, ..Config::default() };
    let api = Start { records_at: Some(address), config, ..Start::default() }.start().await;
    let (status, body) = get(&api, "/api/v1/patients", "").await;
    assert_eq!(status, 503);
    assert!(body.contains("audit cannot be written"), "{body}");
    let started = std::time::Instant::now();
    assert_eq!(get(&api, "/api/v1/patients/7", "").await.0, 503);
    assert!(started.elapsed() < Duration::from_secs(1), "refused at once while it fails");
    let form = Form::default().file("medical_image", "a.png", &png(5, 5, 1)).finish();
    let headers = [("content-type", Form::CONTENT_TYPE)];
    let stored = api.send(Method::POST, "/api/v1/patients/7/uploads", &headers, form).await;
    assert!(stored.status.is_success(), "{}", stored.text());

    let listener = TcpListener::bind(address).await.unwrap();
    let ports = ingest::Ports::of(BusPorts::of(&api.bus), api.store.clone());
    let shutdown = runtime::Shutdown::new();
    tokio::spawn(ingest::serve(listener, None, ports, shutdown.clone()));
    let due = std::time::Instant::now() + TIMEOUT;
    while get(&api, "/api/v1/patients/7", "").await.0 != 200 {
        assert!(std::time::Instant::now() < due, "reads work again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let entries = page(&api, "").await.items;
    let uploads = entries.iter().filter(|entry| entry.event.method == "POST").count();
    assert_eq!(uploads, 1, "the entry of the upload was kept");
    shutdown.begin();
}
