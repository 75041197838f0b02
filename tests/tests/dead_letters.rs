//! Dead letters can be listed with their reason, retried and dropped with `bedside`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use serde_json::Value;
use testkit::{Mode, Service, System, program, within};

fn bedside(system: &System, args: &[&str]) -> Output {
    let mut command = Command::new(program("bedside"));
    command.arg("dead-letters").args(args).env("BEDSIDE_GATEWAY", system.url()).output().unwrap()
}

fn list(system: &System) -> Vec<Value> {
    let output = bedside(system, &["list", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn unreadable_message_is_dead_lettered_and_can_be_retried_and_dropped() {
    let mut system = System::start(Mode::Processes);
    let broker = async_nats::connect(system.nats().unwrap().url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(broker);
    let sent = jetstream.publish("upload.received.7", "{\"name\": 5}".into());
    sent.await.unwrap().await.unwrap();
    let letter = within("the message is dead-lettered", || async { list(&system).pop() }).await;
    assert_eq!((&letter["queue"], &letter["mrn"]), (&"UPLOADS".into(), &7.into()));
    assert!(letter["reason"].as_str().unwrap().contains("not of the form it should have"), "{letter}");

    let id = letter["id"].to_string();
    let shown: Value = serde_json::from_slice(&bedside(&system, &["show", &id]).stdout).unwrap();
    assert_eq!(shown["message"]["name"], 5);
    assert!(bedside(&system, &["retry", &id]).status.success());
    // The message is still unreadable.
    let again = within("the message is dead-lettered again", || async {
        list(&system).pop().filter(|again| again["id"] != letter["id"])
    })
    .await;
    assert_eq!(list(&system).len(), 1);
    let metrics = format!("{}/metrics", system.admin_url(Service::Ingest));
    let count = "bedside_work_total{queue=\"UPLOADS\",outcome=\"dead_letter\"} 2";
    let text = testkit::http_client().get(metrics).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(count), "{text}");

    assert!(bedside(&system, &["drop", &again["id"].to_string()]).status.success());
    assert_eq!(list(&system), [Value::Null; 0]);
    assert_eq!(bedside(&system, &["drop", &id]).status.code(), Some(1));
}
