//! Help, exit codes and shutdown of the programs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use testkit::{Mode, MongoServer, NatsServer, Process, Service, System, http_client, program};

const PROGRAMS: [&str; 6] = ["bedside", "gateway", "ingest", "query", "ecg-worker", "alarms"];

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).output().unwrap()
}

#[test]
fn programs_have_help_and_version() {
    for name in PROGRAMS {
        let help = run(name, &["--help"]);
        assert!(help.status.success(), "{name}");
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("Usage:") && text.contains("--log"), "{name}: {text}");
        assert!(run(name, &["--version"]).status.success(), "{name}");
    }
    for command in [
        "upload",
        "patients",
        "watch",
        "export",
        "sample",
        "token",
        "audit",
        "dead-letters",
        "backup",
        "import",
        "restore",
        "verify",
        "cert",
        "healthcheck",
    ] {
        assert!(run("bedside", &[command, "--help"]).status.success(), "{command}");
    }
}

#[test]
fn unusable_configuration_ends_with_64_and_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, secret) = (folder.path().join("tokens"), folder.path().join("secret"));
    std::fs::write(&tokens, "").unwrap();
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let (tokens, secret) = (tokens.to_str().unwrap(), secret.to_str().unwrap());
    let everywhere = "0.0.0.0:0";
    let cases: [(&str, &[&str]); 11] = [
        ("bedside", &["--listen", everywhere]),
        ("bedside", &["--listen", everywhere, "--insecure"]),
        ("bedside", &["--listen", everywhere, "--tokens", tokens]),
        ("gateway", &["--listen", everywhere, "--tokens", tokens]),
        ("gateway", &["--query-token-file", tokens]),
        ("query", &["--listen", everywhere, "--insecure"]),
        ("query", &["--listen", everywhere, "--token-file", secret]),
        ("bedside", &["--log", "=="]),
        ("gateway", &["--tokens", "/nowhere/tokens"]),
        ("ingest", &["--nats-user", "someone"]),
        ("query", &["--mongodb", "http://127.0.0.1"]),
    ];
    for (name, args) in cases {
        let output = run(name, args);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{name} {args:?}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{name} {args:?}: {message}");
        assert!(message.starts_with(&format!("{name}: ")), "{name} {args:?}: {message}");
        assert_eq!(output.stdout, b"", "{name} {args:?}: an address was bound");
    }
}

#[test]
fn data_directory_in_use_is_rejected() {
    let mut system = System::start(Mode::Standalone);
    let data = system.data_folder();
    let output = run("bedside", &["--listen", "127.0.0.1:0", "--data", &data.to_string_lossy()]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("another Bedside uses the data directory"), "{message}");
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
}

#[test]
fn services_end_with_0_after_sigterm() {
    let mut system = System::start(Mode::Processes);
    for service in Service::ALL {
        assert_eq!(system.service(service).terminate(), Some(0), "{service:?}");
    }
}

#[test]
fn healthcheck_reports_the_health_of_a_running_service() {
    let mut system = System::start(Mode::Processes);
    let names = ["gateway", "ingest", "query", "ecg-worker", "alarms"];
    let ask = |name: &str, url: &str| {
        let address = url.strip_prefix("http://").unwrap();
        run(name, &["--admin-listen", address, "healthcheck"]).status.code()
    };
    let urls = Service::ALL.map(|service| system.admin_url(service));
    for (name, url) in names.iter().zip(&urls) {
        assert_eq!(ask(name, url), Some(0), "{name}");
    }
    system.nats().unwrap().kill();
    assert_eq!(ask("gateway", &urls[0]), Some(1));
    assert_eq!(ask("query", &urls[2]), Some(0), "query does not need the broker");
    system.service(Service::EcgWorker).kill();
    assert_eq!(ask("ecg-worker", &urls[3]), Some(1));
}

async fn get(address: &str, path: &str) -> (u16, String) {
    let answer = http_client().get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn health_is_served_while_a_program_waits_for_its_dependencies() {
    let folder = tempfile::tempdir().unwrap();
    let (nats, mongo) = (["--nats", "nats://127.0.0.1:1"], ["--mongodb", "mongodb://127.0.0.1:1"]);
    let listen = ["--listen", "127.0.0.1:0"];
    let cases: [(&str, Vec<&str>, usize, u16, &str); 5] = [
        ("gateway", [listen, nats].concat(), 1, 503, "gateway is starting\nbus: unavailable\n"),
        (
            "ingest",
            [nats, mongo].concat(),
            0,
            503,
            "ingest is starting\nbus: unavailable\nstore: unavailable\n",
        ),
        (
            "alarms",
            [listen, nats, mongo].concat(),
            0,
            503,
            "alarms is starting\nbus: unavailable\nstore: unavailable\n",
        ),
        ("ecg-worker", nats.to_vec(), 0, 503, "ecg-worker is starting\nbus: unavailable\n"),
        // Query serves at once and connects with the first read.
        ("query", [listen, mongo].concat(), 1, 200, "query is not ready\nstore: unavailable\nclock: ok\n"),
    ];
    for (name, args, admin, alive, unready) in cases {
        let args = args.into_iter().chain(["--admin-listen", "127.0.0.1:0"]).map(str::to_owned).collect();
        let mut process = Process::start(name, args, folder.path().join(name), admin + 1);
        let address = process.address(admin).to_owned();
        assert_eq!(get(&address, "/readyz").await, (503, unready.to_owned()));
        assert_eq!(get(&address, "/livez").await.0, alive, "{name}");
        let checked = run(name, &["--admin-listen", &address, "healthcheck"]);
        let message = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(1), "{message}");
        assert!(message.contains("not ready: ") && message.contains(": unavailable"), "{message}");
        assert_eq!(process.terminate(), Some(0), "{name}");
    }
}

#[tokio::test]
async fn readiness_of_each_program_names_the_failed_dependency() {
    let mut system = System::start(Mode::Processes);
    let [gateway, ingest, query, worker, alarms] =
        Service::ALL.map(|service| system.admin_url(service).replace("http://", ""));
    let ready = async |address: &str| get(address, "/readyz").await;
    let expected = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(ready(&gateway).await, expected(200, "gateway is ready\nbus: ok\ndisk: ok\n"));
    assert_eq!(ready(&ingest).await, expected(200, "ingest is ready\nbus: ok\nstore: ok\nclock: ok\n"));
    assert_eq!(ready(&query).await, expected(200, "query is ready\nstore: ok\nclock: ok\n"));
    assert_eq!(ready(&worker).await, expected(200, "ecg-worker is ready\nbus: ok\n"));
    assert_eq!(ready(&alarms).await, expected(200, "alarms is ready\nbus: ok\nstore: ok\n"));
    system.mongo().unwrap().kill();
    assert_eq!(ready(&gateway).await.0, 200, "uploads work without the database");
    let failed = "ingest is not ready\nbus: ok\nstore: unavailable\nclock: ok\n";
    assert_eq!(ready(&ingest).await, expected(503, failed));
    assert_eq!(ready(&query).await, expected(503, "query is not ready\nstore: unavailable\nclock: ok\n"));
    assert_eq!(ready(&worker).await.0, 200);
    system.nats().unwrap().kill();
    assert_eq!(ready(&gateway).await, expected(503, "gateway is not ready\nbus: unavailable\ndisk: ok\n"));
    assert_eq!(ready(&worker).await, expected(503, "ecg-worker is not ready\nbus: unavailable\n"));
    for address in [&gateway, &ingest, &query, &worker, &alarms] {
        assert_eq!(get(address, "/livez").await.0, 200, "the programs work on");
    }
    for (service, address) in Service::ALL.into_iter().zip([gateway, ingest, query, worker, alarms]) {
        assert_eq!(system.service(service).terminate(), Some(0), "{service:?}");
        assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed");
    }
}

/// In one process the clients' port serves the health, too.
#[tokio::test]
async fn standalone_is_not_ready_during_the_drain_wait() {
    let mut system = System::start_with(Mode::Standalone, &["--drain-wait", "60s"]);
    let address = system.url().replace("http://", "");
    let checks = "bus: ok\ndisk: ok\nclock: ok\nstore: ok\ningest: ok\necg-worker: ok\nlive-analysis: ok\nalarms: ok\n";
    assert_eq!(get(&address, "/readyz").await, (200, format!("gateway is ready\n{checks}")));
    let healthcheck = || run("bedside", &["healthcheck", "--gateway", &format!("http://{address}")]);
    assert_eq!(healthcheck().status.code(), Some(0));
    let pid = system.service(Service::Gateway).pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    testkit::within("readiness fails", || async {
        (get(&address, "/readyz").await == (503, format!("gateway is shutting down\n{checks}"))).then_some(())
    })
    .await;
    let output = healthcheck();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("gateway is shutting down; bus: ok"), "{message}");
    assert_eq!(get(&address, "/api/v1/patients").await.0, 200, "requests are served");
}

#[test]
fn provisioning_can_be_repeated() {
    let nats = NatsServer::start();
    let mongo = MongoServer::start();
    let (url, uri, database) = (nats.url(), mongo.uri(), mongo.fresh_database());
    let args = ["--nats", &url, "--mongodb", &uri, "--database", &database, "provision"];
    for _ in 0..2 {
        let output = run("ingest", &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("are there"));
    }
}

#[test]
fn sample_has_the_requested_length() {
    let output = run("bedside", &["sample", "--seconds", "10", "--bpm", "80"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3600);
}
