//! The `evaluate` example on generated records: two sample formats, rates from 128 to 1000 Hz.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ecg::synth::{self, Settings};

/// Cargo builds examples next to the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    folder.join(format!("evaluate{}", std::env::consts::EXE_SUFFIX))
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
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluate");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut beats = 0;
    for (seed, (rate, format)) in
        [(128.0, 16), (250.0, 212), (360.0, 212), (500.0, 16), (1000.0, 16)].into_iter().enumerate()
    {
        beats += record(&folder, &format!("r{seed}"), rate, format, seed as u64 + 1);
    }
    let table = folder.join("table.csv");
    let output = Command::new(program()).arg(&folder).arg("--csv").arg(&table).output().expect("evaluate");
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
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluate_streaming");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let beats = record(&folder, "one", 250.0, 16, 5) + record(&folder, "two", 360.0, 212, 6);
    let output = Command::new(program()).arg("--streaming").arg(&folder).output().expect("evaluate");
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
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluate_strips");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    record(&folder, "one", 250.0, 16, 3);
    record(&folder, "two", 360.0, 212, 4);
    let output =
        Command::new(program()).args(["--strips-of", "5,10,28"]).arg(&folder).output().expect("evaluate");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("one") && lines[1].starts_with("two"), "{said}");
    // Two minutes contain 24, 12 and 4 strips of these lengths.
    assert_eq!(
        lines[2],
        "strips right=100.0 wrong_good=0.0 wrong_poor=0.0 refused=0.0 refused_though_right=0.0 strips=80"
    );
}
