//! The connection status: it shows how updates arrive while gateway and broker stop and start.

use std::io::{Read, Write};
use std::net::TcpStream;

use patient::Args;
use patient::window::ConnectionLevel;
use testkit::{Mode, Service, System, test_data};

use crate::fixture::{Fixture, run_isolated};

/// Uploads an ECG and waits for the comparison with the server's analysis.
async fn upload_and_compare(app: &Fixture, patient: &str) {
    app.type_into("Medical record number", patient);
    app.select_file("ECG", &app.file("strip.csv", &test_data::strip_csv(72.0, 10.0, 1))).await;
    app.upload().await;
    app.until_message(&format!("New patient {patient} registered.")).await;
    app.until("the analysis arrives", |app| {
        app.has("The server finds 72 bpm in strip.csv, as the preview did.")
    })
    .await;
}

async fn until_status(app: &Fixture, level: ConnectionLevel, text: &str) {
    app.until(text, |app| {
        app.value("Connection") == text && app.api(|api| api.get_connection_level()) == level
    })
    .await;
    assert!(app.description("Connection").starts_with("Since "), "{}", app.description("Connection"));
}

#[test]
fn without_push_the_status_is_polling_and_the_analysis_is_polled() {
    run_isolated("connection::without_push_the_status_is_polling_and_the_analysis_is_polled", || async {
        let mut system = System::start_with(Mode::Standalone, &["--max-watchers", "1"]);
        // Another client uses the only event stream.
        let url = system.url();
        let address = url.trim_start_matches("http://");
        let mut watcher = TcpStream::connect(address).unwrap();
        write!(watcher, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        watcher.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");

        let app = Fixture::new(&system.url());
        until_status(&app, ConnectionLevel::Fair, "connected · polling").await;
        upload_and_compare(&app, "7").await;
        until_status(&app, ConnectionLevel::Fair, "connected · polling").await;
        drop(watcher);
        until_status(&app, ConnectionLevel::Good, "connected · push").await;
        system.service(Service::Gateway).kill();
        until_status(&app, ConnectionLevel::Bad, "offline").await;
        system.service(Service::Gateway).restart();
        until_status(&app, ConnectionLevel::Good, "connected · push").await;
    });
}

#[test]
fn status_follows_the_broker_and_the_gateway() {
    run_isolated("connection::status_follows_the_broker_and_the_gateway", || async {
        let mut system = System::start(Mode::Processes);
        let mut args = Args::default();
        args.connection.nats = system.nats().map(|nats| nats.url());
        let app = Fixture::with_args(&system.url(), args);
        until_status(&app, ConnectionLevel::Good, "connected · push (NATS)").await;
        upload_and_compare(&app, "7").await;
        // A gateway without its broker cannot push updates.
        system.nats().unwrap().kill();
        until_status(&app, ConnectionLevel::Fair, "connected · polling").await;
        system.nats().unwrap().restart();
        until_status(&app, ConnectionLevel::Good, "connected · push (NATS)").await;
        // Without the gateway nothing can be uploaded, although the broker still pushes updates.
        system.service(Service::Gateway).kill();
        until_status(&app, ConnectionLevel::Bad, "offline").await;
        system.service(Service::Gateway).restart();
        until_status(&app, ConnectionLevel::Good, "connected · push (NATS)").await;
    });
}
