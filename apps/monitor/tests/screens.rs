//! The app on a real X server: a picture of every state in both themes.
//!
//! The pictures are written to `screenshots/monitor` in the target folder.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use ecg::synth::{Rhythm, Settings};
use proto_json::alarms::AlarmPriority;
use proto_json::{Bpm, FileKind, Mrn, Timestamp};

mod fixture;

use fixture::{System, test_data};
use testkit::{Screen, Shot};

const SIZE: (u32, u32) = (1440, 900);
const SMALLEST: (u32, u32) = (900, 600);
/// Colours by which the tests recognize the state.
const HIGH: [[u8; 3]; 2] = [[0xd6, 0x1f, 0x26], [0xff, 0x80, 0x60]];
const TECHNICAL: [u8; 3] = [0x00, 0xb7, 0xd6];
const GROUNDS: [[u8; 3]; 2] = [[0x06, 0x0d, 0x0a], [0xff, 0xf9, 0xf6]];
/// The time after which a test fails.
const LIMIT: Duration = Duration::from_secs(40);

struct Monitor(Child);

impl Monitor {
    fn start(screen: &Screen, system: &System, settings: &Path, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args(["--gateway", &system.url(), "--settings"])
            .arg(settings)
            .args(more)
            .env("DISPLAY", screen.display())
            .env("BEDSIDE_LANGUAGE", "en")
            // Without a sound device, as in continuous integration.
            .env("ALSA_CONFIG_PATH", "/dev/null")
            .env("SLINT_BACKEND", "winit-software")
            .env_remove("WAYLAND_DISPLAY")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the app starts");
        let monitor = Monitor(child);
        screen.fill("Bedside Monitor");
        monitor
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Invented names.
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

/// Stores patients with strips. The second patient has a history and images.
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
            test_data::picture(240, seed, image::ImageFormat::Png),
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

/// Whether a high alarm is visible. Before the first connection, only the button at the top has its colour.
fn shows_high_alarm(shot: &Shot) -> bool {
    HIGH.iter().any(|high| shot.share(*high) > 0.0008)
}

/// Whether a number of ECGs is visible, by the background between their grid lines.
fn shows_ecgs(shot: &Shot, count: usize) -> bool {
    GROUNDS.iter().any(|ground| shot.share(*ground) > 0.055 * count as f64)
}

/// Waits until the condition holds, the screen differs from `before`, and it no longer changes except for flashing, which is at
/// most the given share of the screen.
fn settled(screen: &Screen, before: &Shot, flashing: f64, condition: impl Fn(&Shot) -> bool) -> Shot {
    let begun = Instant::now();
    let (mut last, mut since) = (screen.shot(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = screen.shot();
        if now.difference(&last) > flashing {
            (last, since) = (now.clone(), Instant::now());
        }
        if since.elapsed() > Duration::from_millis(900) && now.difference(before) > 0.01 && condition(&now) {
            return now;
        }
        assert!(begun.elapsed() < LIMIT, "the screen does not change");
    }
}

/// Whether this vertical strip of the screen is empty.
fn is_clear(shot: &Shot, from: u32, to: u32) -> bool {
    let row =
        |y: u32| &shot.rgb[((y * shot.width + from) * 3) as usize..((y * shot.width + to) * 3) as usize];
    (0..shot.height).all(|y| row(y).chunks_exact(3).all(|pixel| pixel == &row(y)[..3]))
}

fn folder() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_monitor"));
    let folder = program.parent().and_then(Path::parent).unwrap().join("screenshots/monitor");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The pictures of one theme in one size.
struct Album<'a> {
    screen: &'a Screen,
    theme: &'static str,
    flashing: f64,
    taken: Vec<(String, Shot)>,
}

impl Album<'_> {
    fn keep(&mut self, name: &str, shot: Shot) {
        let path = folder().join(format!("{name}-{}.png", self.theme));
        image::save_buffer(path, &shot.rgb, shot.width, shot.height, image::ColorType::Rgb8).unwrap();
        assert!(shot.colors() > 40, "{name} is blank: {} colours", shot.colors());
        for (other, known) in &self.taken {
            assert!(shot.difference(known) > 0.005, "{name} looks like {other}");
        }
        self.taken.push((name.to_owned(), shot));
    }

    /// Takes a picture once the screen has changed and the condition holds.
    fn take(&mut self, name: &str, before: &Shot, condition: impl Fn(&Shot) -> bool) -> Shot {
        let shot = settled(self.screen, before, self.flashing, condition);
        self.keep(name, shot.clone());
        shot
    }
}

/// Writes a settings file.
fn settings(folder: &Path, theme: &str, paper: bool, range: u32) -> PathBuf {
    let path = folder.join(format!("{theme}-{paper}-{range}.json"));
    fs::write(
        &path,
        format!(
            r#"{{"theme":"{theme}","paper":{paper},"range":{range},"order":"severity","live_tab":false}}"#
        ),
    )
    .unwrap();
    path
}

#[test]
fn every_state_has_a_picture_in_both_themes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for theme in ["dark", "light"] {
        let mut system = System::standalone();
        let screen = Screen::start(SIZE.0, SIZE.1);
        let empty = screen.shot();
        let files = tempfile::tempdir().unwrap();
        let settings = |paper: bool, range: u32| settings(files.path(), theme, paper, range);
        // Two tiles flash, and the ages of all change each second.
        let mut album = Album { screen: &screen, theme, flashing: 0.02, taken: Vec::new() };
        {
            let _monitor = Monitor::start(&screen, &system, &settings(false, 1), &[]);
            let no_patients = album.take("empty", &empty, |_| true);
            runtime.block_on(fill(&system.client()));
            let overview = album.take("overview", &no_patients, shows_high_alarm);
            screen.hand(&["key", "ctrl+l"]);
            // Each row of the list flashes, on a larger part of the screen than a tile.
            let list = settled(&screen, &overview, 0.03, |_| true);
            album.keep("alarms", list);
        }
        {
            let paper = settings(theme == "light", 3);
            let more = ["--patient", "101", "--stale-after", "600"];
            let _monitor = Monitor::start(&screen, &system, &paper, &more);
            let alone = settled(&screen, &empty, album.flashing, |shot| shows_ecgs(shot, 1));
            // Selects the second ECG of the list.
            screen.hand(&["mousemove", "1150", "86", "click", "1"]);
            let list = settled(&screen, &alone, album.flashing, |_| true);
            screen.hand(&["key", "Down", "Down", "Return"]);
            album.take("patient", &list, |shot| shows_ecgs(shot, 2));
            // The pointer over the trend changes the text above it.
            let reading = || screen.part(312, 506, 260, 24);
            let before = reading();
            screen.hand(&["mousemove", "620", "700"]);
            let begun = Instant::now();
            while reading() == before {
                assert!(begun.elapsed() < LIMIT, "the trend is not read");
                std::thread::sleep(Duration::from_millis(50));
            }
            let trend = screen.shot();
            let path = folder().join(format!("trend-{theme}.png"));
            image::save_buffer(path, &trend.rgb, trend.width, trend.height, image::ColorType::Rgb8).unwrap();
        }
        {
            let more = ["--patient", "100", "--stale-after", "600"];
            let _monitor = Monitor::start(&screen, &system, &settings(false, 1), &more);
            album.take("alarm", &empty, shows_high_alarm);
        }
        {
            let more = ["--patient", "100", "--stale-after", "600", "--language", "de"];
            let _monitor = Monitor::start(&screen, &system, &settings(false, 1), &more);
            let german = settled(&screen, &empty, album.flashing, shows_high_alarm);
            let path = folder().join(format!("german-{theme}.png"));
            image::save_buffer(path, &german.rgb, german.width, german.height, image::ColorType::Rgb8)
                .unwrap();
        }
        small(&system, theme, files.path());
        {
            let _monitor = Monitor::start(&screen, &system, &settings(false, 1), &["--stale-after", "1"]);
            let stale = album.take("stale", &empty, shows_high_alarm);
            system.gateway.kill();
            album.take("offline", &stale, |shot| shot.share(TECHNICAL) > 0.02);
        }
    }
}

/// Nothing overflows in the smallest window.
fn small(system: &System, theme: &'static str, files: &Path) {
    let screen = Screen::start(SMALLEST.0, SMALLEST.1);
    let empty = screen.shot();
    let mut album = Album { screen: &screen, theme, flashing: 0.05, taken: Vec::new() };
    let file = settings(files, theme, false, 1);
    let _monitor = Monitor::start(&screen, system, &file, &["--patient", "100", "--stale-after", "600"]);
    let patient = album.take("small-patient", &empty, shows_high_alarm);
    screen.hand(&["key", "Escape"]);
    let overview = album.take("small-overview", &patient, shows_high_alarm);
    screen.hand(&["key", "ctrl+l"]);
    let alarms = album.take("small-alarms", &overview, |_| true);
    for (name, shot) in [("patient", &patient), ("overview", &overview), ("alarms", &alarms)] {
        assert!(is_clear(shot, SMALLEST.0 - 6, SMALLEST.0), "something overflows at the right of {name}");
    }
    // Between the two columns of panes.
    let bar = 52;
    let below = Shot {
        height: patient.height - bar,
        rgb: patient.rgb[(bar * patient.width * 3) as usize..].to_vec(),
        ..patient
    };
    assert!(is_clear(&below, 564, 569), "something overflows a pane");
}

/// A part of the screen that has to change.
struct Region {
    name: &'static str,
    /// Left, top, width, height.
    place: (u32, u32, u32, u32),
    /// The maximum time without a change. It is generous for busy machines.
    limit: Duration,
}

/// The clock and the button of the alarms in the top bar.
const CLOCK: (u32, u32, u32, u32) = (685, 12, 90, 28);
const ALARMS: (u32, u32, u32, u32) = (1055, 8, 95, 38);
/// Two minutes of demo.
const DISPLAY_TIME: Duration = Duration::from_secs(120);
/// Clock and ages change every second.
const EVERY_SECOND: Duration = Duration::from_secs(15);
/// A demo patient sends a strip every few seconds.
const EVERY_STRIP: Duration = Duration::from_secs(45);

/// Watches the regions for two minutes. Fails if one does not change within its limit.
fn watch(screen: &Screen, page: &str, regions: &[Region], mut each_second: impl FnMut()) {
    let part = |region: &Region| {
        let (x, y, width, height) = region.place;
        screen.part(x, y, width, height)
    };
    let begun = Instant::now();
    let mut last: Vec<(Shot, Instant)> =
        regions.iter().map(|region| (part(region), Instant::now())).collect();
    while begun.elapsed() < DISPLAY_TIME {
        std::thread::sleep(Duration::from_millis(500));
        for (region, (shot, since)) in regions.iter().zip(&mut last) {
            let now = part(region);
            if now != *shot {
                (*shot, *since) = (now, Instant::now());
            }
            let still = since.elapsed();
            assert!(still < region.limit, "{page}: {} has not changed for {still:?}", region.name);
        }
        each_second();
    }
}

/// The number of open alarms and the highest priority, from the server.
fn active_alarms(runtime: &tokio::runtime::Runtime, gateway: &Gateway) -> Option<(usize, AlarmPriority)> {
    let open = runtime.block_on(gateway.open_alarms(None)).ok()?;
    Some((open.len(), open.iter().map(|alarm| alarm.priority).max()?))
}

#[test]
fn every_region_changes_within_two_minutes_of_demo() {
    let system = System::standalone_with(&["--demo"]);
    let files = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let screen = Screen::start(SIZE.0, SIZE.1);
            let empty = screen.shot();
            let file = settings(files.path(), "light", false, 1);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let gateway = system.client();
            let _monitor = Monitor::start(&screen, &system, &file, &["--stale-after", "600"]);
            let technical = |shot: &Shot| shot.share(TECHNICAL) > 0.003;
            settled(&screen, &empty, 0.05, technical);
            let mut regions = vec![Region { name: "the clock", place: CLOCK, limit: EVERY_SECOND }];
            let tiles = ["tile 1", "tile 2", "tile 3", "tile 4", "tile 5", "tile 6", "tile 7", "tile 8"];
            for (at, name) in tiles.into_iter().enumerate() {
                let (column, row) = (at as u32 % 4, at as u32 / 4);
                let place = (12 + column * 356, 64 + row * 394, 346, 384);
                regions.push(Region { name, place, limit: EVERY_SECOND });
            }
            // The button has to look different for another number or severity of alarms.
            let button = || screen.part(ALARMS.0, ALARMS.1, ALARMS.2, ALARMS.3);
            let mut looks: Vec<((usize, AlarmPriority), Shot)> = Vec::new();
            let mut state: (Option<(usize, AlarmPriority)>, Instant) = (None, Instant::now());
            watch(&screen, "the overview", &regions, || {
                let now = active_alarms(&runtime, &gateway);
                if now != state.0 {
                    state = (now, Instant::now());
                }
                // The screen can be ahead of the answer on a busy machine.
                let Some(now) = state.0.filter(|_| state.1.elapsed() > Duration::from_secs(5)) else {
                    return;
                };
                let look = button();
                let alike = looks.iter().find(|(known, shot)| *known != now && *shot == look);
                if let Some((known, _)) = alike {
                    let late = state.1.elapsed();
                    assert!(late < EVERY_SECOND, "{now:?} still looks like {known:?} after {late:?}");
                } else if looks.iter().all(|(known, _)| *known != now) {
                    looks.push((now, look));
                }
            });
        });
        scope.spawn(|| {
            let screen = Screen::start(SIZE.0, SIZE.1);
            let empty = screen.shot();
            let file = settings(files.path(), "dark", true, 1);
            let _monitor = Monitor::start(&screen, &system, &file, &["--patient", "900001"]);
            settled(&screen, &empty, 0.05, |shot| shows_ecgs(shot, 1));
            let regions = [
                Region { name: "the clock", place: CLOCK, limit: EVERY_SECOND },
                Region { name: "the age", place: (10, 230, 280, 110), limit: EVERY_SECOND },
                Region { name: "the latest ECG", place: (305, 105, 555, 320), limit: EVERY_STRIP },
                Region { name: "the trend", place: (305, 520, 555, 360), limit: EVERY_STRIP },
            ];
            watch(&screen, "the patient view", &regions, || {});
        });
    });
}
