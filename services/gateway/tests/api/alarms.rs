//! Tests of alarms and limits through the gateway: permissions, forwarded calls, events.

use axum::http::Method;
use http_body_util::BodyExt;
use proto_json::BlobHash;
use proto_json::alarms::{Alarm, AlarmPage, AlarmUpdated};

use crate::fixture::{Api, Form, Start, TIMEOUT};

/// An API whose tokens are the role and `-secret`.
async fn with_roles() -> (Api, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let roles = ["uploader", "viewer", "device", "nurse", "physician", "technician", "auditor", "admin"];
    let line = |role: &str| format!("{role} {role} {}\n", BlobHash::of(format!("{role}-secret").as_bytes()));
    std::fs::write(file.path(), roles.map(line).concat()).unwrap();
    let config = gateway::Config {
        tokens: Some(file.path().to_owned()),
        receipt_wait: TIMEOUT,
        ..gateway::Config::default()
    };
    (Start { config, ..Start::default() }.start().await, file)
}

#[tokio::test]
async fn each_role_may_read_act_or_set_limits_as_it_is_permitted() {
    let (api, _file) = with_roles().await;
    let unknown = "/api/v1/alarms/67e55044-10b1-426f-9247-bb680e5fe0c8/acknowledge";
    let limits = "{\"limits\":{\"heart_rate_high\":9},\"version\":0}";
    for (role, may_read, may_act, may_set_site) in [
        ("uploader", false, false, false),
        ("viewer", true, false, false),
        ("device", false, false, false),
        ("nurse", true, true, false),
        ("physician", true, true, true),
        ("technician", false, false, false),
        ("auditor", false, false, false),
        ("admin", true, true, true),
    ] {
        let bearer = format!("Bearer {role}-secret");
        let token = [("authorization", bearer.as_str())];
        let call = async |method: Method, path: &str, body: &'static str| {
            api.send(method, path, &token, body).await.status.as_u16()
        };
        let or_403 = |may: bool, status: u16| if may { status } else { 403 };
        for path in ["/api/v1/alarms", "/api/v1/limits", "/api/v1/patients/7/limits"] {
            assert_eq!(call(Method::GET, path, "").await, or_403(may_read, 200), "{role} {path}");
        }
        assert_eq!(call(Method::POST, unknown, "").await, or_403(may_act, 404), "{role}");
        // The limits cross, so nothing is changed.
        assert_eq!(
            call(Method::PUT, "/api/v1/patients/7/limits", limits).await,
            or_403(may_act, 422),
            "{role}"
        );
        assert_eq!(call(Method::PUT, "/api/v1/limits", limits).await, or_403(may_set_site, 422), "{role}");
        let operates = matches!(role, "technician" | "admin");
        assert_eq!(
            call(Method::GET, "/api/v1/alarms/undelivered", "").await,
            or_403(operates, 200),
            "{role}"
        );
    }
}

#[tokio::test]
async fn alarm_of_a_strip_is_an_event_and_names_who_acknowledged_it() {
    let (api, _file) = with_roles().await;
    let nurse = [("authorization", "Bearer nurse-secret")];
    let mut body = api.stream_as("/api/v1/events", "Bearer viewer-secret").await;
    let mut text = String::new();
    let mut next = async |state: &str| {
        let read = async {
            loop {
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    text = rest;
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    if event.lines().any(|line| line == "event: alarm") {
                        let update: AlarmUpdated = serde_json::from_str(data.unwrap()).unwrap();
                        if serde_json::to_value(update.alarm.state).unwrap() == state {
                            return update.alarm;
                        }
                    }
                }
                let frame = body.frame().await.unwrap().unwrap();
                text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        tokio::time::timeout(TIMEOUT, read).await.expect("an event in time")
    };
    let form = Form::default().field("heart_rate", "190");
    api.upload("7", form, &nurse).await;
    let raised = next("raised").await;
    assert_eq!((raised.mrn.get(), raised.text.as_str()), (7, "HR 190 > 150"));
    let path = format!("/api/v1/alarms/{}/acknowledge", raised.id);
    let reply = api.send(Method::POST, &path, &nurse, "").await;
    let seen: Alarm = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(seen.acknowledged.as_ref().map(|action| action.by.as_str()), Some("nurse"));
    assert_eq!(next("acknowledged").await, seen);
    let listed = api.send(Method::GET, "/api/v1/alarms?mrn=7&state=all", &nurse, "").await;
    let page: AlarmPage = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(page.items, [seen]);
    for query in ["state=closed", "limit=0", "limit=501", "priority=5", "cursor=x", "mrn=-1", "x=1"] {
        let reply = api.send(Method::GET, &format!("/api/v1/alarms?{query}"), &nurse, "").await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
    }
}
