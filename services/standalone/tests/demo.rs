//! Tests of the demo against the running program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use client::{Gateway, Live, LiveEvent, LiveSettings, Settings};
use proto_json::{LiveMode, Mrn};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{BEDSIDE, Program};

/// Two patients. The first has a ventricular tachycardia for some time.
const SCENARIO: &str = r#"
title = "Test of a tachycardia"
interval = "10s"

[[patients]]
name = "Demo Bed 3"
mrn = 900003
rate = 60

[[patients]]
name = "Demo Bed 4"
mrn = 900004
rhythm = "bradycardia"

[[events]]
patient = "Demo Bed 3"
at = "+40s"
for = "100s"
rhythm = "ventricular-tachycardia"
rate = 180
"#;

/// A running demo with its own data directory. Dropping it stops the program.
struct Demo {
    program: Program,
    _folder: TempDir,
}

impl Demo {
    fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(BEDSIDE);
        command.args(["--demo", "--data"]).arg(folder.path().join("data")).args(flags);
        Demo { program: Program::start(&mut command), _folder: folder }
    }

    /// Calls `is_done` with each update of a patient until it returns true.
    fn watch(&self, mrn: &str, mut is_done: impl FnMut(&Value) -> bool) {
        let mut watch = Command::new(BEDSIDE)
            .args(["watch", mrn, "--json"])
            .env("BEDSIDE_GATEWAY", &self.program.address)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let found = lines
            .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
            .any(|line| is_done(&line["patient"]));
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert!(found, "the stream ended");
    }
}

fn file(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.toml");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn bedside(args: &[&str]) -> Output {
    Command::new(BEDSIDE).args(args).env_remove("BEDSIDE_DEMO").output().unwrap()
}

/// The scenario takes 14 seconds at this pace.
#[test]
fn event_of_a_scenario_changes_the_computed_heart_rate_and_ends() {
    let (_folder, path) = file(SCENARIO);
    let demo = Demo::start(&["--demo-scenario", path.to_str().unwrap(), "--demo-pace", "10"]);
    assert!(
        demo.program.banner.starts_with("Demo with 2 simulated patients: Test of a tachycardia\n"),
        "{}",
        demo.program.banner
    );
    let event = demo.program.banner.lines().nth(1).unwrap();
    assert!(event.ends_with("  Demo Bed 3: ventricular-tachycardia 180 bpm"), "{event}");

    let mut phases = [52..=68, 170..=190, 52..=68].into_iter().peekable();
    let mut rates = Vec::new();
    demo.watch("900003", |patient| {
        assert_eq!(patient["name"], "Demo Bed 3");
        if let Some(rate) = patient["latest_heart_rate"]["bpm"].as_u64() {
            rates.push(rate);
            if phases.peek().unwrap().contains(&rate) {
                phases.next();
            }
        }
        assert!(rates.len() < 100, "the phases do not follow each other: {rates:?}");
        phases.peek().is_none()
    });
    demo.watch("900004", |patient| {
        let rate = patient["latest_heart_rate"]["bpm"].as_u64();
        assert!(
            rate.is_none_or(|rate| (34..=42).contains(&rate)),
            "the event is of another patient: {rate:?}"
        );
        rate.is_some()
    });
}

/// The tachycardia of the scenario starts after 4 seconds at this pace and lasts 10 seconds.
#[tokio::test]
async fn patients_stream_several_channels_and_change_their_rhythm() {
    let (_folder, path) = file(SCENARIO);
    let demo = Demo::start(&["--demo-scenario", path.to_str().unwrap(), "--demo-pace", "10"]);
    let gateway = Gateway::new(&Settings::new(&demo.program.address)).unwrap();
    let mut live = Live::start(LiveSettings::new(gateway));
    let (bed_3, bed_4) = (Mrn::new(900_003).unwrap(), Mrn::new(900_004).unwrap());
    for mrn in [bed_3, bed_4] {
        live.subscriber().subscribe(mrn, LiveMode::Full);
    }
    let mut labels = BTreeMap::new();
    // Samples of lead II of bed 3, 250 per second.
    let mut ecg: Vec<f32> = Vec::new();
    // Of the last six seconds, once per second.
    let mut rates = Vec::new();
    while !rates.iter().any(|rate| (170.0..190.0).contains(rate)) {
        let event = tokio::time::timeout(Duration::from_secs(60), live.next()).await.unwrap().unwrap();
        let LiveEvent::Frame(received) = event else { continue };
        let channels = &received.stream.channels;
        labels.entry(received.stream.mrn).or_insert_with(|| {
            channels.iter().map(|channel| channel.label.clone()).collect::<Vec<_>>().join(" ")
        });
        if received.stream.mrn == bed_3 {
            let samples = received.frame.segments.iter().filter(|segment| segment.channel == 0);
            ecg.extend(
                samples.flat_map(|segment| &segment.samples).map(|sample| f32::from(*sample) / 1000.0),
            );
            if ecg.len() >= 1500 && ecg.len().is_multiple_of(250) {
                let strip = ecg::Strip::from_samples(250.0, ecg[ecg.len() - 1500..].to_vec());
                rates.extend(ecg::analyze(&strip).heart_rate.map(|rate| rate.mean_bpm));
                assert!(rates.len() < 30, "the tachycardia is missing: {rates:?}");
            }
        }
    }
    let expected = "II I V1 Pleth Resp".to_owned();
    assert_eq!(labels, [bed_3, bed_4].map(|mrn| (mrn, expected.clone())).into());
}

#[test]
fn number_of_patients_can_be_set() {
    let demo = Demo::start(&["--demo-patients", "12", "--demo-pace", "10"]);
    assert!(
        demo.program.banner.starts_with("Demo with 12 simulated patients: Ward"),
        "{}",
        demo.program.banner
    );
    demo.watch("900012", |patient| {
        patient["name"] == "Demo Dan 2" && patient["admission"]["bed_name"] == "Bed 12"
    });
    let mut list = Command::new(BEDSIDE);
    list.args(["ward", "list", "--json"]).env("BEDSIDE_GATEWAY", &demo.program.address);
    let ward: Value = serde_json::from_slice(&list.output().unwrap().stdout).unwrap();
    assert_eq!((&ward["name"], ward["beds"].as_array().unwrap().len()), (&"Ward 1".into(), 14));
    assert_eq!(ward["beds"][11]["occupant"], 900_012);
    drop(demo);
    let demo = Demo::start(&["--demo-patients", "1"]);
    assert!(
        demo.program.banner.starts_with("Demo with 1 simulated patient: Ward"),
        "{}",
        demo.program.banner
    );
}

#[test]
fn wrong_scenario_is_rejected_before_the_data_is_cleared() {
    let (folder, path) = file("[[patients]]\nname = \"Demo A\"\nmrn = 900001\nrhythm = \"vt\"\n");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in ["DEMO", "patients.db"] {
        fs::write(data.join(name), "").unwrap();
    }
    let (scenario, data) = (path.to_str().unwrap(), data.to_str().unwrap());
    let rejected = bedside(&["--demo", "--demo-scenario", scenario, "--data", data]);
    assert_eq!(rejected.status.code(), Some(64));
    let said = String::from_utf8(rejected.stderr).unwrap();
    assert!(said.contains("scenario.toml, line 4: unknown variant `vt`, expected one of `sinus`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(folder.path().join("data/patients.db").exists());
}

#[test]
fn flags_of_the_demo_are_in_the_help_and_have_limits() {
    let help = String::from_utf8(bedside(&["--help"]).stdout).unwrap();
    for flag in ["--demo-scenario <FILE>", "--demo-patients <NUMBER>", "--demo-pace <FACTOR>"] {
        assert!(help.contains(flag), "{flag}");
    }
    for (flag, value, allowed) in [
        ("--demo-patients", "0", "1..=200"),
        ("--demo-patients", "201", "1..=200"),
        ("--demo-pace", "0.01", "a number from 0.1 to 10"),
        ("--demo-pace", "fast", "a number from 0.1 to 10"),
    ] {
        let rejected = bedside(&["--demo", flag, value]);
        let said = String::from_utf8(rejected.stderr).unwrap();
        assert!(rejected.status.code() == Some(2) && said.contains(allowed), "{said}");
    }
    let alone = bedside(&["--demo-patients", "3"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8(alone.stderr).unwrap().contains("--demo"));
}
