//! Tests of the dead-letter routes.

use axum::http::Method;
use bus::WorkQueue;
use futures::StreamExt;
use proto_json::Queue;

use crate::fixture::{Api, Form, Start};

/// Starts a gateway with this number of dead-lettered uploads.
async fn with_dead_letters(count: usize) -> Api {
    let api = Start { ingest: false, ..Start::default() }.start().await;
    let mut deliveries = api.bus.consume(Queue::Uploads, 1).await.unwrap();
    for number in 0..count {
        let form = Form::default().field("name", format!("Ann {number}"));
        let reply = api.upload("7", form, &[("prefer", "respond-async")]).await;
        assert_eq!(reply.status, 202);
        let mut delivery = deliveries.next().await.unwrap();
        delivery.begin().await.unwrap();
        delivery.dead_letter("the disk is full").await.unwrap();
    }
    api
}

#[tokio::test]
async fn dead_letters_are_paginated_and_shown_with_their_message() {
    let api = with_dead_letters(3).await;
    let page = api.get("/api/v1/dead-letters?limit=2").await.json();
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["queue"], &items[0]["mrn"]), (&"UPLOADS".into(), &7.into()));
    assert_eq!((&items[0]["reason"], &items[0]["attempts"]), (&"the disk is full".into(), &1.into()));
    assert!(items[0].get("message").is_none(), "the list does not contain messages");
    let rest = api.get(&format!("/api/v1/dead-letters?limit=2&after={}", page["next"])).await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest.get("next").is_none());

    let letter = api.get(&format!("/api/v1/dead-letters/{}", items[1]["id"])).await.json();
    assert_eq!(letter["message"]["name"], "Ann 1");
    assert_eq!(letter["upload_id"], letter["message"]["upload_id"]);
    for (path, status) in [
        ("/api/v1/dead-letters/99", 404),
        ("/api/v1/dead-letters/0", 404),
        ("/api/v1/dead-letters/x", 400),
        ("/api/v1/dead-letters/-1", 400),
        ("/api/v1/dead-letters?limit=0", 400),
        ("/api/v1/dead-letters?after=x", 400),
        ("/api/v1/dead-letters?after=9223372036854775807", 200),
        ("/api/v1/dead-letters?after=9223372036854775808", 400),
        ("/api/v1/dead-letters/9223372036854775807", 404),
        ("/api/v1/dead-letters/9223372036854775808", 400),
    ] {
        assert_eq!(api.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn dead_letter_is_retried_or_deleted_once() {
    let api = with_dead_letters(2).await;
    let items = api.get("/api/v1/dead-letters").await.json();
    let [first, second] = [0, 1].map(|index| items["items"][index]["id"].as_u64().unwrap());
    assert_eq!(api.bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);
    let retry = format!("/api/v1/dead-letters/{first}/retry");
    assert_eq!(api.send(Method::POST, &retry, &[], "").await.status, 204);
    assert_eq!(api.bus.queue_status(Queue::Uploads).await.unwrap().messages, 1);
    api.send(Method::POST, &retry, &[], "").await.assert_problem(404, "no dead letter");
    let drop = format!("/api/v1/dead-letters/{second}");
    assert_eq!(api.send(Method::DELETE, &drop, &[], "").await.status, 204);
    api.send(Method::DELETE, &drop, &[], "").await.assert_problem(404, "no dead letter");
    assert_eq!(api.get("/api/v1/dead-letters").await.json()["items"], serde_json::json!([]));
}
