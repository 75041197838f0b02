//! The command `bedside-ecg`. `evaluate` runs on generated records: two sample formats, rates from 128 to 1000 Hz.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ecg::synth::{self, Settings};
use serde_json::Value;

fn bedside_ecg(arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bedside-ecg")).args(arguments).output().expect("the program starts")
}

fn evaluate(folder: &Path, options: &[&str]) -> Output {
    let arguments = [OsStr::new("evaluate"), folder.as_os_str()];
    bedside_ecg(arguments.into_iter().chain(options.iter().map(OsStr::new)))
}

/// Packs two samples of twelve bits into three bytes.
fn format_212(samples: &[i16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for pair in samples.chunks(2) {
        let (first, second) =
            (pair[0] as u16 & 0xfff, pair.get(1).map_or(0, |second| *second as u16 & 0xfff));
        bytes.extend([first as u8, (first >> 8) as u8 | ((second >> 8) << 4) as u8, second as u8]);
    }
    bytes
}

/// Writes normal beats (code 1) in the MIT format: ten bits of interval, six bits of code.
fn annotations(beats: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = 0;
    for beat in beats {
        let since = beat - last;
        last = *beat;
        if since > 1023 {
            // SKIP with the interval in four bytes, high half first.
            bytes.extend((59_u16 << 10).to_le_bytes());
            bytes.extend(((since >> 16) as u16).to_le_bytes());
            bytes.extend((since as u16).to_le_bytes());
            bytes.extend((1_u16 << 10).to_le_bytes());
        } else {
            bytes.extend((1_u16 << 10 | since as u16).to_le_bytes());
        }
    }
    bytes.extend([0, 0]);
    bytes
}

/// Writes a record of two minutes with its beats. Returns the number of beats.
fn record(folder: &Path, name: &str, rate: f64, format: u32, seed: u64) -> usize {
    let settings = Settings { sample_rate_hz: rate, duration_s: 120.0, seed, ..Settings::default() };
    let made = synth::generate(&settings);
    let samples: Vec<i16> =
        made.strip.segments[0].samples.iter().map(|millivolt| (millivolt * 200.0).round() as i16).collect();
    let bytes = match format {
        212 => format_212(&samples),
        _ => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
    };
    let header =
        format!("{name} 1 {rate} {}\n{name}.dat {format} 200 12 0 {} 0 0 MLII\n", samples.len(), samples[0]);
    fs::write(folder.join(format!("{name}.hea")), header).unwrap();
    fs::write(folder.join(format!("{name}.dat")), bytes).unwrap();
    let beats: Vec<u64> = made.beat_times_s.iter().map(|time| (time * rate).round() as u64).collect();
    fs::write(folder.join(format!("{name}.atr")), annotations(&beats)).unwrap();
    beats.len()
}

#[test]
fn folder_is_scored_with_a_gross_result() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    let mut beats = 0;
    for (seed, (rate, format)) in
        [(128.0, 16), (250.0, 212), (360.0, 212), (500.0, 16), (1000.0, 16)].into_iter().enumerate()
    {
        beats += record(&folder, &format!("r{seed}"), rate, format, seed as u64 + 1);
    }
    let table = folder.join("table.csv");
    let output = evaluate(&folder, &["--csv", table.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap();
    let mut words = last.split(' ');
    assert_eq!(words.next(), Some("gross"), "{last}");
    let figures: Vec<(&str, f64)> = words
        .map(|word| word.split_once('=').unwrap())
        .map(|(name, figure)| (name, figure.parse().unwrap()))
        .collect();
    let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    let expected = ["se", "pp", "f1", "missed", "false", "beats", "rate_mae_bpm", "samples_per_s"];
    assert_eq!(names, expected, "{last}");
    let of = |name: &str| figures.iter().find(|(other, _)| *other == name).unwrap().1;
    assert_eq!(of("beats") as usize, beats, "{last}");
    assert!(of("f1") >= 99.5 && of("rate_mae_bpm") < 0.5, "{last}");
    assert_eq!(fs::read_to_string(table).unwrap().lines().filter(|line| line.starts_with('r')).count(), 6);
}

#[test]
fn streamed_records_are_scored_with_their_delays() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    let beats = record(&folder, "one", 250.0, 16, 5) + record(&folder, "two", 360.0, 212, 6);
    let output = evaluate(&folder, &["--streaming"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("streaming "), "{last}");
    let of = |name: &str| {
        let word = last.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap();
        word.rsplit('/').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(of("beats") as usize, beats, "{last}");
    assert_eq!(of("different"), 0.0, "{last}");
    assert!(of("provisional_f1") >= 97.0 && of("final_f1") >= 99.5, "{last}");
    assert!(of("provisional_delay_s") <= 0.5 && of("final_delay_s") <= 5.0, "{last}");
}

#[test]
fn strips_of_records_are_scored() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    record(&folder, "one", 250.0, 16, 3);
    record(&folder, "two", 360.0, 212, 4);
    let exported = folder.join("exported");
    let output = evaluate(&folder, &["--strips-of", "5,10,28", "--export", exported.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("one") && lines[1].starts_with("two"), "{said}");
    // Two minutes contain 24, 12 and 4 strips of these lengths.
    assert_eq!(
        lines[2],
        "strips right=100.0 wrong_good=0.0 wrong_poor=0.0 refused=0.0 refused_though_right=0.0 strips=80"
    );
    // Each strip is exported with its true rate, in the order of the records.
    let table = fs::read_to_string(exported.join("strips.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 80);
    assert_eq!((rows[0][1], rows[0][2], rows[0][3]), ("one", "250", "1250"));
    assert!(rows.iter().all(|row| (40.0..120.0).contains(&row[4].parse::<f64>().unwrap())), "{table}");
    let samples: u64 = rows.iter().map(|row| row[3].parse::<u64>().unwrap()).sum();
    assert_eq!(fs::metadata(exported.join("strips.f32")).unwrap().len(), 4 * samples);
}

/// Writes 20 s of a synthetic ECG as CSV. Returns its beats in seconds.
fn csv_file(path: &Path) -> Vec<f64> {
    let made = synth::generate(&Settings { duration_s: 20.0, seed: 7, ..Settings::default() });
    fs::write(path, synth::csv(&made.strip)).unwrap();
    made.beat_times_s
}

#[test]
fn file_is_analysed_to_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("strip.csv");
    let truth = csv_file(&file);
    let output = bedside_ecg([OsStr::new("analyse"), file.as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lead = &report["leads"][report["best_lead"].as_u64().unwrap() as usize];
    let (first, last) = (truth[0], truth[truth.len() - 1]);
    let rate = 60.0 * (truth.len() - 1) as f64 / (last - first);
    assert!((lead["heart_rate"]["mean_bpm"].as_f64().unwrap() - rate).abs() < 2.0, "{lead:#}");
    assert_eq!((lead["quality"].as_str(), lead["samples"].as_u64()), (Some("good"), Some(7200)));
    let beats = lead["beats"].as_array().unwrap();
    assert!(beats.len().abs_diff(truth.len()) <= 1, "{beats:#?}");
    let middle = &beats[beats.len() / 2];
    let time_s = middle["time_s"].as_f64().unwrap();
    assert!(truth.iter().any(|beat| (beat - time_s).abs() < 0.05), "{middle}");
    assert_eq!(middle["type"], "N");
    let qrs = &middle["qrs"];
    assert!(qrs["on_s"].as_f64().unwrap() < time_s && qrs["end_s"].as_f64().unwrap() > time_s, "{middle}");
    assert!((60.0..140.0).contains(&lead["intervals_ms"]["qrs"]["median"].as_f64().unwrap()), "{lead:#}");
    assert_eq!(lead["findings"][0]["code"], "sinus_rhythm", "{lead:#}");
    let compact = bedside_ecg([OsStr::new("analyse"), file.as_os_str(), OsStr::new("--compact")]);
    assert_eq!(compact.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(serde_json::from_slice::<Value>(&compact.stdout).unwrap(), report);
}

#[test]
fn wfdb_record_is_analysed_by_its_header() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path(), "one", 360.0, 212, 3);
    let header = directory.path().join("one.hea");
    let output =
        bedside_ecg([OsStr::new("analyse"), header.as_os_str(), OsStr::new("--lead"), OsStr::new("mlii")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["leads"][0]["lead"], "MLII");
    assert_eq!(report["leads"][0]["samples"], 43200);
}

#[test]
fn file_is_drawn_as_png_and_svg() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("strip.csv");
    csv_file(&file);
    for (name, start) in [("strip.png", &b"\x89PNG"[..]), ("strip.svg", b"<svg")] {
        let picture = directory.path().join(name);
        let output =
            bedside_ecg([OsStr::new("draw"), file.as_os_str(), OsStr::new("-o"), picture.as_os_str()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = fs::read(&picture).unwrap();
        assert!(bytes.starts_with(start) && bytes.len() > 10_000, "{} bytes of {name}", bytes.len());
    }
}

#[test]
fn every_command_has_help() {
    for command in [&["--help"][..], &["analyse", "--help"], &["draw", "--help"], &["evaluate", "--help"]] {
        let output = bedside_ecg(command);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Usage: bedside-ecg"), "{command:?}");
    }
}

#[test]
fn wrong_input_is_explained_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("letter.csv"), "Dear Sir,\nthis is not an ECG.\n").unwrap();
    fs::write(at("empty.csv"), "").unwrap();
    fs::write(at("lost.hea"), "lost 1 360 1000\nlost.dat 212 200 12 0 0 0 0 MLII\n").unwrap();
    csv_file(Path::new(&at("strip.csv")));
    let (letter, empty, strip, lost) = (at("letter.csv"), at("empty.csv"), at("strip.csv"), at("lost.hea"));
    let (absent, here, picture) = (at("absent.csv"), at(""), at("no/such/folder.png"));
    let cases: [(&[&str], i32, &str); 12] = [
        (&["analyse", &absent], 64, "cannot be read"),
        (&["analyse", &here], 64, "this is a directory"),
        (&["analyse", &letter], 64, "letter.csv: "),
        (&["analyse", &empty], 64, "empty.csv: "),
        (&["analyse", &lost], 64, "lost.dat cannot be read"),
        (&["analyse", &strip, "--lead", "V9"], 64, "V9"),
        (&["analyse", &strip, "--sample-rate", "fast"], 2, "samples per second"),
        (&["draw", &strip, "-o", "picture.jpg"], 2, "ends in .png or .svg"),
        (&["draw", &strip, "-o", &picture], 64, "cannot be written"),
        (&["evaluate", &here], 64, "reference beats"),
        (&["evaluate", &here, "--strips-of", "5,x"], 2, "lengths in seconds"),
        (&["evaluate", &here, "--channel", "first"], 2, "the word best"),
    ];
    for (arguments, code, message) in cases {
        let output = bedside_ecg(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(code != 64 || said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
    }
}
