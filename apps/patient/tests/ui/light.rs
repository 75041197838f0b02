//! The connection light: it says in words how updates come, whatever happens to the connection.

use std::io::{Read, Write};
use std::net::TcpStream;

use patient::Args;
use patient::window::ConnectionLevel;
use testkit::{Mode, Service, System, material};

use crate::stage::{Stage, play};

/// Uploads a strip, and goes on once it is said what the server makes of it.
async fn upload_and_compare(stage: &Stage, patient: &str) {
    stage.type_into("Medical record number", patient);
    stage.stage_file("ECG", &stage.file("strip.csv", &material::strip_csv(72.0, 10.0, 1))).await;
    stage.upload().await;
    stage.until_message(&format!("New patient {patient} registered.")).await;
    stage
        .until("the analysis arrives", |stage| {
            stage.has("The server finds 72 bpm in strip.csv, as the preview did.")
        })
        .await;
}

async fn until_light(stage: &Stage, level: ConnectionLevel, words: &str) {
    stage
        .until(words, |stage| stage.value("Connection") == words && stage.api(|api| api.get_light()) == level)
        .await;
    assert!(stage.description("Connection").starts_with("Since "), "{}", stage.description("Connection"));
}

#[test]
fn where_nothing_is_pushed_it_says_polling_and_the_analysis_is_looked_up() {
    play("light::where_nothing_is_pushed_it_says_polling_and_the_analysis_is_looked_up", || async {
        let mut system = System::start_with(Mode::Standalone, &["--max-watchers", "1"]);
        // Somebody else has the only place.
        let url = system.url();
        let address = url.trim_start_matches("http://");
        let mut watcher = TcpStream::connect(address).unwrap();
        write!(watcher, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        watcher.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");

        let stage = Stage::with(&system.url());
        until_light(&stage, ConnectionLevel::Fair, "connected · polling").await;
        upload_and_compare(&stage, "7").await;
        until_light(&stage, ConnectionLevel::Fair, "connected · polling").await;
        drop(watcher);
        until_light(&stage, ConnectionLevel::Good, "connected · push").await;
        system.service(Service::Gateway).kill();
        until_light(&stage, ConnectionLevel::Bad, "offline").await;
        system.service(Service::Gateway).restart();
        until_light(&stage, ConnectionLevel::Good, "connected · push").await;
    });
}

#[test]
fn with_a_broker_it_says_nats_and_what_is_left_when_that_is_gone() {
    play("light::with_a_broker_it_says_nats_and_what_is_left_when_that_is_gone", || async {
        let mut system = System::start(Mode::Processes);
        let mut args = Args::default();
        args.connection.nats = system.nats().map(|nats| nats.url());
        let stage = Stage::with_args(&system.url(), args);
        until_light(&stage, ConnectionLevel::Good, "connected · push (NATS)").await;
        upload_and_compare(&stage, "7").await;
        // A gateway without its broker has nothing to push.
        system.nats().unwrap().kill();
        until_light(&stage, ConnectionLevel::Fair, "connected · polling").await;
        system.nats().unwrap().restart();
        until_light(&stage, ConnectionLevel::Good, "connected · push (NATS)").await;
        // Without the gateway nothing can be uploaded, whatever the broker pushes.
        system.service(Service::Gateway).kill();
        until_light(&stage, ConnectionLevel::Bad, "offline").await;
        system.service(Service::Gateway).restart();
        until_light(&stage, ConnectionLevel::Good, "connected · push (NATS)").await;
    });
}
