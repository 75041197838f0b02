//! Every program says what it can do, ends with one sentence on a configuration that cannot work, and drains when told to.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use tests::{Mode, Service, System, program};

const PROGRAMS: [&str; 5] = ["bedside", "gateway", "ingest", "query", "ecg-worker"];

fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name)).args(args).output().unwrap()
}

#[test]
fn every_program_has_help_and_a_version() {
    for name in PROGRAMS {
        let help = run(name, &["--help"]);
        assert!(help.status.success(), "{name}");
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("Usage:") && text.contains("--log"), "{name}: {text}");
        assert!(run(name, &["--version"]).status.success(), "{name}");
    }
    for command in ["upload", "patients", "watch", "export", "sample"] {
        assert!(run("bedside", &[command, "--help"]).status.success(), "{command}");
    }
}

#[test]
fn a_configuration_that_cannot_work_ends_with_64_and_one_sentence() {
    let cases: [(&str, &[&str]); 5] = [
        ("bedside", &["--listen", "0.0.0.0:0"]),
        ("bedside", &["--log", "=="]),
        ("gateway", &["--tokens", "/nowhere/tokens"]),
        ("ingest", &["--nats-user", "someone"]),
        ("query", &["--mongodb", "http://127.0.0.1"]),
    ];
    for (name, args) in cases {
        let output = run(name, args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{name} {args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{name} {args:?}: {said}");
        assert!(said.starts_with(&format!("{name}: ")), "{name} {args:?}: {said}");
        assert_eq!(output.stdout, b"", "{name} {args:?}: nothing was bound");
    }
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let mut system = System::start(Mode::Standalone);
    let data = system.data_folder();
    let output = run("bedside", &["--listen", "127.0.0.1:0", "--data", &data.to_string_lossy()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("another Bedside uses the data folder"), "{said}");
    assert_eq!(system.service(Service::Gateway).terminate(), Some(0));
}

#[test]
fn each_service_ends_with_0_when_it_is_told_to_end() {
    let mut system = System::start(Mode::Processes);
    for service in Service::ALL {
        assert_eq!(system.service(service).terminate(), Some(0), "{service:?}");
    }
}

#[test]
fn a_sample_is_a_strip_of_the_asked_length() {
    let output = run("bedside", &["sample", "--seconds", "10", "--bpm", "80"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3600);
}
