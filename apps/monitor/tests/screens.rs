//! The real app on a real X server: every state has its picture, in both themes. They end up in `screenshots/monitor` of the
//! build folder, for people to look at.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use ecg::synth::{Rhythm, Settings};
use proto_json::{Bpm, FileKind, Mrn, Timestamp};

mod beside;

use beside::System;
use beside::display::Display;
use beside::material;

const SIZE: (u16, u16) = (1440, 900);
/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(40);

struct Monitor(Child);

impl Monitor {
    fn start(display: &Display, system: &System, settings: &Path, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args(["--gateway", &system.url(), "--settings"])
            .arg(settings)
            .args(more)
            .env("DISPLAY", display.name())
            .env("SLINT_BACKEND", "winit-software")
            .env_remove("WAYLAND_DISPLAY")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the app starts");
        Monitor(child)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Names that nobody has.
const NAMES: [&str; 24] = [
    "Sample Abel",
    "Sample Bruna",
    "Sample Cato",
    "Sample Dora",
    "Sample Edgar",
    "Sample Flora",
    "Sample Gero",
    "Sample Helga",
    "Sample Ivo",
    "Sample Juna",
    "Sample Kilian",
    "Sample Lotte",
    "Sample Milo",
    "Sample Nora",
    "Sample Otto",
    "Sample Paula",
    "Sample Quint",
    "Sample Runa",
    "Sample Silas",
    "Sample Thea",
    "Sample Ugo",
    "Sample Vera",
    "Sample Wanda",
    "Sample Xenia",
];

async fn store(gateway: &Gateway, mrn: u64, upload: &Upload) {
    let answer = gateway.upload(Mrn::new(mrn).unwrap(), upload, |_| {}).await.unwrap();
    assert!(matches!(answer, UploadAnswer::Stored(_)));
}

fn strip(index: usize) -> Vec<u8> {
    let base = Settings {
        sample_rate_hz: 250.0,
        duration_s: 12.0,
        mean_bpm: 58.0 + (index * 13 % 50) as f64,
        noise_mv: 0.015,
        seed: index as u64 + 1,
        ..Settings::default()
    };
    let settings = match index {
        0 => Settings { mean_bpm: 164.0, rr_sd_ms: 6.0, ..base },
        5 => Settings { mean_bpm: 44.0, ..base },
        9 => Settings { mean_bpm: 128.0, ..base },
        13 => Settings { rhythm: Rhythm::Irregular, rr_sd_ms: 140.0, mean_bpm: 92.0, ..base },
        17 => Settings { amplitude_mv: 0.0, noise_mv: 0.4, ..base },
        _ => base,
    };
    ecg::synth::csv(&ecg::synth::generate(&settings).strip)
}

/// Patients with fresh strips; the second one with a history and images.
async fn fill(gateway: &Gateway) {
    let now = Timestamp::now().as_millis();
    let second = 101;
    for step in 0..160_i64 {
        let minutes = 12 + step * 8;
        let wave = (step as f64 / 14.0).sin() * 16.0 + (step * 7919 % 11) as f64;
        let upload = Upload {
            heart_rate: Some(Bpm::rounded(74.0 + wave).unwrap()),
            recorded_at: Some(Timestamp::from_millis(now - minutes * 60_000).unwrap()),
            ..Upload::of(Vec::new())
        };
        store(gateway, second, &upload).await;
    }
    for (name, seed) in [("thorax-front.png", 3), ("thorax-side.png", 5)] {
        let file = UploadFile::from_bytes(
            FileKind::MedicalImage,
            name.to_owned(),
            material::picture(240, seed, image::ImageFormat::Png),
        );
        store(gateway, second, &Upload::of(vec![file])).await;
    }
    for (index, name) in NAMES.iter().enumerate() {
        for round in 0..if index == 1 { 3 } else { 1 } {
            let file =
                UploadFile::from_bytes(FileKind::Ecg, "strip.csv".to_owned(), strip(index + 100 * round));
            let upload = Upload {
                name: Some((*name).to_owned()),
                recorded_at: Some(Timestamp::now()),
                ..Upload::of(vec![file])
            };
            store(gateway, 100 + index as u64, &upload).await;
        }
    }
}

/// The share of pixels that differ.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    let differ = one.chunks_exact(3).zip(other.chunks_exact(3)).filter(|(one, other)| one != other).count();
    differ as f64 / (one.len() / 3) as f64
}

/// Waits until the screen is neither as it was nor in motion, but for what flashes.
fn settled(display: &Display, before: &[u8]) -> Vec<u8> {
    let begun = Instant::now();
    let (mut last, mut since) = (display.all(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = display.all();
        if difference(&now, &last) > 0.012 {
            (last, since) = (now.clone(), Instant::now());
        }
        if since.elapsed() > Duration::from_millis(900) && difference(&now, before) > 0.01 {
            return now;
        }
        assert!(begun.elapsed() < LIMIT, "the screen does not change");
    }
}

fn folder() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_monitor"));
    let folder = program.parent().and_then(Path::parent).unwrap().join("screenshots/monitor");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn every_state_has_its_picture_in_both_themes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = folder();
    for theme in ["dark", "light"] {
        let mut system = System::standalone();
        let display = Display::start(SIZE.0, SIZE.1);
        let empty = display.all();
        let files = tempfile::tempdir().unwrap();
        let settings = |name: &str, paper: bool, range: u32| {
            let path = files.path().join(format!("{name}.json"));
            fs::write(&path, format!(r#"{{"theme":"{theme}","paper":{paper},"range":{range}}}"#)).unwrap();
            path
        };
        let mut pictures: Vec<(String, Vec<u8>)> = Vec::new();
        let mut keep = |name: &str, picture: Vec<u8>| {
            display.save(&folder.join(format!("{name}-{theme}.png")));
            let mut colours: Vec<&[u8]> = picture.chunks_exact(3).collect();
            colours.sort_unstable();
            colours.dedup();
            assert!(colours.len() > 40, "{name} is blank: {} colours", colours.len());
            for (other, known) in &pictures {
                assert!(difference(&picture, known) > 0.005, "{name} looks like {other}");
            }
            pictures.push((name.to_owned(), picture));
        };
        {
            let _monitor = Monitor::start(&display, &system, &settings("nobody", false, 1), &[]);
            let nobody = settled(&display, &empty);
            keep("empty", nobody.clone());
            runtime.block_on(fill(&system.client()));
            keep("wall", settled(&display, &nobody));
        }
        {
            let paper = settings("patient", theme == "light", 3);
            let _monitor =
                Monitor::start(&display, &system, &paper, &["--patient", "101", "--stale-after", "600"]);
            keep("patient", settled(&display, &empty));
            // The pointer over the trend reads it, in the words above it.
            let words = || display.grab(312, 500, 200, 28);
            let before = words();
            display.point(620, 700);
            let begun = Instant::now();
            while words() == before {
                assert!(begun.elapsed() < LIMIT, "the trend is not read");
                std::thread::sleep(Duration::from_millis(50));
            }
            display.save(&folder.join(format!("trend-{theme}.png")));
        }
        {
            let file = settings("alarm", false, 1);
            let _monitor =
                Monitor::start(&display, &system, &file, &["--patient", "100", "--stale-after", "600"]);
            keep("alarm", settled(&display, &empty));
        }
        {
            let _monitor =
                Monitor::start(&display, &system, &settings("stale", false, 1), &["--stale-after", "1"]);
            let stale = settled(&display, &empty);
            keep("stale", stale.clone());
            system.gateway.kill();
            keep("offline", settled(&display, &stale));
        }
    }
}
