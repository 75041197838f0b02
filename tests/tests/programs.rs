//! Help, exit codes and shutdown of the programs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use testkit::{Mode, MongoServer, NatsServer, Service, System, program};

const PROGRAMS: [&str; 5] = ["bedside", "gateway", "ingest", "query", "ecg-worker"];

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
    let names = ["gateway", "ingest", "query", "ecg-worker"];
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
