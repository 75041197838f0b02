//! The software renderer repaints only what has changed. After two minutes of changes on each page, the window has to look as if
//! it had been repainted as a whole.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use monitor::alarm_sound::{Recorder, SoundOutput};
use monitor::window::{Api, Live, Page, SignalTone};
use monitor::{App, Args};
use proto_json::{Bpm, FileKind, Mrn, Timestamp};
use slint::{ComponentHandle, Model, Rgb8Pixel};
use tokio::runtime::Runtime;

#[path = "../../ui/tests/canvas/mod.rs"]
mod canvas;
mod fixture;

use canvas::Canvas;
use fixture::live_source::LiveSource;
use fixture::{System, test_data};

const SIZE: (u32, u32) = (1440, 900);
/// The time after which the test fails.
const LIMIT: Duration = Duration::from_secs(60);
/// The number of patients.
const PATIENTS: u64 = 8;
/// Two minutes of display.
const SECONDS: usize = 120;
/// The number of texts that causes at least one sweep of the cache of shaped text, which happens after 1024 texts.
const TEXTS: usize = 1100;

/// A monitor that is drawn into memory, and its system.
struct Monitor {
    app: App,
    canvas: Canvas,
    gateway: Gateway,
    runtime: Runtime,
    _system: System,
    _folder: tempfile::TempDir,
}

impl Monitor {
    fn start(theme: &str) -> Self {
        let (system, folder) = (System::standalone(), tempfile::tempdir().unwrap());
        let settings = folder.path().join("monitor.json");
        std::fs::write(&settings, format!(r#"{{"theme":"{theme}"}}"#)).unwrap();
        let mut args = Args {
            stale_after: Some(Duration::from_secs(300)),
            sound: SoundOutput::Recorder(Recorder::default()),
            ..Args::default()
        };
        args.connection.gateway = Some(system.url());
        args.connection.settings = Some(settings);
        args.window.language = Some(ui::Language::English);
        let canvas = Canvas::new(SIZE.0, SIZE.1);
        let app = App::new(args).unwrap();
        app.window().show().unwrap();
        canvas.open();
        let (gateway, runtime) = (system.client(), Runtime::new().unwrap());
        Monitor { app, canvas, gateway, runtime, _system: system, _folder: folder }
    }

    fn store(&self, mrn: u64, upload: Upload) {
        let answer = self.runtime.block_on(self.gateway.upload(Mrn::new(mrn).unwrap(), &upload, |_| {}));
        assert!(matches!(answer.unwrap(), UploadAnswer::Stored(_)));
    }

    fn rate(&self, mrn: u64, bpm: i64) {
        self.store(
            mrn,
            Upload {
                name: Some(format!("Patient {mrn}")),
                heart_rate: Some(Bpm::new(bpm).unwrap()),
                recorded_at: Some(Timestamp::now()),
                ..Upload::of(Vec::new())
            },
        );
    }

    fn strip(&self, mrn: u64, bpm: f64, seed: u64) {
        let csv = test_data::strip_csv(bpm, 10.0, seed);
        let file = UploadFile::from_bytes(FileKind::Ecg, "strip.csv".to_owned(), csv);
        let upload = Upload {
            name: Some(format!("Patient {mrn}")),
            recorded_at: Some(Timestamp::now()),
            ..Upload::of(vec![file])
        };
        self.store(mrn, upload);
    }

    /// Processes all events and draws.
    fn settle(&self) {
        while self.app.wait(Duration::ZERO) {}
        self.canvas.pass(Duration::ZERO);
    }

    fn until(&self, what: &str, condition: impl Fn(&Api) -> bool) {
        let begun = Instant::now();
        loop {
            self.settle();
            if condition(&self.app.window().global::<Api>()) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
            self.app.wait(Duration::from_millis(20));
        }
    }

    /// Advances the clock by a number of seconds and draws each change separately.
    fn seconds(&self, count: usize) {
        for _ in 0..count {
            self.app.advance_clock(Duration::from_secs(1));
            self.settle();
            self.canvas.pass(Duration::from_millis(250));
            self.canvas.pass(Duration::from_millis(250));
        }
    }

    /// Draws many texts in the status bar, each in a frame of its own, until the renderer sweeps its cache of shaped text. Nothing
    /// else is drawn meanwhile.
    fn sweep_text_cache(&self) {
        let api = self.app.window();
        let api = api.global::<Api>();
        for number in 0..TEXTS {
            api.set_message(format!("Message {number}").into());
            self.canvas.pass(Duration::ZERO);
        }
        api.set_message("".into());
        self.canvas.pass(Duration::ZERO);
    }

    fn alarms(&self) -> String {
        self.app.window().global::<Api>().get_alarm_count().to_string()
    }

    /// Raises and ends an alarm of a patient. Both change the number of alarms and their colour.
    fn alarm_and_end(&self, mrn: u64, page: &str) {
        for (bpm, state) in [(164.0, "raised"), (80.0, "over and acknowledged")] {
            self.sweep_text_cache();
            let before = self.alarms();
            self.strip(mrn, bpm, mrn + bpm as u64);
            if bpm < 100.0 {
                // A high alarm stays until it is acknowledged.
                self.app.window().global::<Api>().invoke_acknowledge(mrn.to_string().into());
            }
            self.until(&format!("the alarm {state}"), |api| api.get_alarm_count() != before);
            self.seconds(2);
            self.canvas.assert_up_to_date(&format!("{page}, the alarm {state}"));
        }
    }
}

#[test]
fn all_pixels_are_up_to_date_after_two_minutes() {
    let monitor = Monitor::start("light");
    for mrn in 1..=PATIENTS {
        monitor.strip(mrn, 60.0 + 4.0 * mrn as f64, mrn);
    }
    monitor.strip(PATIENTS, 134.0, 100);
    monitor.until("all patients with their strips", |api| {
        let tiles: Vec<_> = api.get_tiles().iter().collect();
        tiles.len() == PATIENTS as usize && tiles.iter().all(|tile| tile.has_sparkline && tile.rate != "–")
    });
    monitor.until("an alarm", |api| api.get_alarm_count() == "1 alarm");
    monitor.canvas.assert_up_to_date("the overview at first");

    monitor.seconds(SECONDS);
    monitor.canvas.assert_up_to_date("the overview after two minutes");
    // The comparison repaints the window, so each of the following steps starts with a sweep.
    monitor.sweep_text_cache();
    monitor.seconds(1);
    monitor.canvas.assert_up_to_date("the overview, clock and ages");
    monitor.alarm_and_end(3, "the overview");

    let api = monitor.app.window();
    let api = api.global::<Api>();
    api.invoke_open_patient("2".into());
    monitor.until("the patient's ECG", |api| api.get_latest().is_plot);
    monitor.seconds(SECONDS);
    monitor.canvas.assert_up_to_date("the patient view after two minutes");
    monitor.sweep_text_cache();
    monitor.rate(2, 111);
    monitor.until("the new heart rate", |api| api.get_vitals().rate == "111");
    monitor.seconds(1);
    monitor.canvas.assert_up_to_date("the patient view, another heart rate");
    monitor.alarm_and_end(2, "the patient view");

    api.invoke_show_alarms();
    monitor.settle();
    assert!(api.get_page() == Page::Alarms);
    monitor.seconds(SECONDS);
    monitor.canvas.assert_up_to_date("the list of alarms after two minutes");
    monitor.alarm_and_end(4, "the list of alarms");
}

/// The directory of pictures for a person to look at.
fn pictures() -> std::path::PathBuf {
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_monitor"));
    program.parent().and_then(std::path::Path::parent).unwrap().join("screenshots/monitor")
}

impl Monitor {
    /// Streams for a time while it draws at 60 Hz. At full rate for the open patient, otherwise as an overview. Calls `each` after
    /// each frame.
    fn stream(
        &self,
        sources: &mut [LiveSource],
        is_full: bool,
        time: Duration,
        mut each: impl FnMut(&Monitor),
    ) {
        let begun = Instant::now();
        let mut next_vitals = Instant::now();
        while begun.elapsed() < time {
            let now = self.app.now();
            let has_vitals = next_vitals <= Instant::now();
            for source in &mut *sources {
                while source.due_us() + 30_000 <= now.as_millis() * 1000 {
                    let event = if is_full { source.frame() } else { source.columns() };
                    self.app.live_event(event);
                }
                if has_vitals {
                    self.app.live_event(source.vitals(now));
                }
            }
            if has_vitals {
                next_vitals = Instant::now() + Duration::from_secs(1);
            }
            while self.app.wait(Duration::ZERO) {}
            self.canvas.pass(Duration::from_millis(16));
            each(self);
            std::thread::sleep(Duration::from_millis(8));
        }
    }

    /// Connects the sources. The gateway of this test has no devices.
    fn connect(&self, mrns: impl IntoIterator<Item = u64>) -> Vec<LiveSource> {
        let start = self.app.now().as_millis() * 1000 - 400_000;
        let sources = mrns.into_iter().map(|mrn| LiveSource::new(mrn, 60.0 + 5.0 * mrn as f64, start));
        let sources: Vec<LiveSource> = sources.collect();
        self.app.live_event(LiveSource::connected());
        for source in &sources {
            self.app.live_event(source.stream());
        }
        sources
    }

    fn live_tile(&self, index: usize) -> monitor::window::LiveTileData {
        self.app.window().global::<Live>().get_tiles().row_data(index).unwrap_or_default()
    }

    fn trace(&self, index: usize) -> monitor::window::TraceData {
        self.app.window().global::<Live>().get_traces().row_data(index).unwrap_or_default()
    }

    /// The number of pixels that have about this colour.
    fn count(&self, colour: u32) -> usize {
        let wanted = [(colour >> 16) as u8, (colour >> 8) as u8, colour as u8];
        let is = |pixel: &&Rgb8Pixel| {
            [pixel.r, pixel.g, pixel.b].iter().zip(wanted).all(|(is, wanted)| is.abs_diff(wanted) < 24)
        };
        self.canvas.pixels().iter().filter(is).count()
    }
}

const ECG: u32 = 0x3d_f0_7a;
const PLETH: u32 = 0x35_d6_f2;
const RESPIRATION: u32 = 0xf5_e0_4e;

#[test]
fn live_traces_of_the_overview_move_and_stop_visibly_on_dark() {
    check_overview("dark");
}

#[test]
fn live_traces_of_the_overview_move_and_stop_visibly_on_light() {
    check_overview("light");
}

fn check_overview(theme: &str) {
    let monitor = Monitor::start(theme);
    for mrn in 1..=PATIENTS {
        monitor.rate(mrn, 60 + mrn as i64);
    }
    monitor.until("all patients", |api| api.get_tiles().row_count() == PATIENTS as usize);
    let mut sources = monitor.connect(1..=5);
    sources[3].lead_off = true;
    let (mut passes, mut changes) = (0, 0);
    let mut before = monitor.live_tile(0).picture;
    monitor.stream(&mut sources, false, Duration::from_secs(6), |monitor| {
        let now = monitor.live_tile(0).picture;
        (passes, changes) = (passes + 1, changes + usize::from(now != before));
        before = now;
    });
    // A busy machine draws fewer frames, each with more columns.
    assert!(
        passes > 3 && changes * 3 > passes,
        "{changes} of {passes} frames differ: the trace does not move"
    );
    monitor.canvas.assert_up_to_date("the overview while it streams");
    let shown: Vec<bool> = (0..8).map(|index| monitor.live_tile(index).shown).collect();
    assert_eq!(shown, [true, true, true, true, true, false, false, false]);
    assert_eq!(monitor.live_tile(0).rate, sources_rate(&monitor, 0), "the live rate");
    assert_eq!(
        (monitor.live_tile(3).note.as_str(), monitor.live_tile(3).tone),
        ("lead off", SignalTone::LeadOff)
    );
    monitor.canvas.save(&pictures().join(format!("live-overview-{theme}.png")));

    // One device falls silent. Its trace stops, the others go on.
    monitor.stream(&mut sources[1..], false, Duration::from_millis(2600), |_| {});
    let silent = monitor.live_tile(0);
    assert!(
        silent.note.starts_with("no signal since ") && silent.tone == SignalTone::Stopped,
        "{}",
        silent.note
    );
    assert_eq!(monitor.live_tile(1).note, "");
    monitor.canvas.assert_up_to_date("the overview with a stopped trace");
    monitor.canvas.save(&pictures().join(format!("live-stopped-{theme}.png")));
    let now = monitor.app.now().as_millis() * 1000;
    sources[0].skip_to(now - 400_000);
    monitor.stream(&mut sources, false, Duration::from_millis(900), |_| {});
    assert_eq!(monitor.live_tile(0).note, "", "it goes on");
}

/// The rate on a tile as a text, which has to be a number.
fn sources_rate(monitor: &Monitor, index: usize) -> slint::SharedString {
    let rate = monitor.live_tile(index).rate;
    assert!(rate.parse::<u32>().is_ok_and(|rate| (40..120).contains(&rate)), "{rate}");
    rate
}

#[test]
fn live_traces_of_a_patient_move_freeze_and_stop_visibly_on_dark() {
    check_patient("dark");
}

#[test]
fn live_traces_of_a_patient_move_freeze_and_stop_visibly_on_light() {
    check_patient("light");
}

fn check_patient(theme: &str) {
    let monitor = Monitor::start(theme);
    monitor.rate(7, 70);
    monitor.until("the patient", |api| api.get_tiles().row_count() == 1);
    let window = monitor.app.window();
    let (api, live) = (window.global::<Api>(), window.global::<Live>());
    api.invoke_open_patient("7".into());
    monitor.settle();
    assert!(!live.get_available(), "no stream yet");
    let mut sources = monitor.connect([7]);
    monitor.stream(&mut sources, true, Duration::from_secs(8), |_| {});
    assert!(live.get_available());
    let labels: Vec<String> = (0..4).map(|index| monitor.trace(index).label.to_string()).collect();
    assert_eq!(labels, ["II", "V1", "Pleth", "Resp"]);
    assert!(monitor.trace(0).scale.ends_with("mm/mV"), "{}", monitor.trace(0).scale);
    for (colour, name) in [(ECG, "ECG"), (PLETH, "pleth"), (RESPIRATION, "respiration")] {
        assert!(monitor.count(colour) > 400, "{name}: {} pixels", monitor.count(colour));
    }
    let numerics: Vec<String> = live.get_numerics().iter().map(|row| row.label.to_string()).collect();
    assert_eq!(numerics, ["HR", "SpO₂", "Resp", "NIBP", "Temp"]);
    assert!(live.get_diagnostics().starts_with("Jitter buffer "), "{}", live.get_diagnostics());
    monitor.canvas.assert_up_to_date("the patient while it streams");
    monitor.canvas.save(&pictures().join(format!("live-patient-{theme}.png")));

    live.invoke_toggle_freeze();
    monitor.canvas.pass(Duration::from_millis(16));
    assert!(live.get_frozen().starts_with("Frozen "), "{}", live.get_frozen());
    live.invoke_measure(100.0, 60.0, 180.0, 20.0);
    assert!(live.get_reading().starts_with("800 ms · "), "{}", live.get_reading());
    let picture = |monitor: &Monitor| monitor.trace(0).strips.row_data(2).unwrap();
    let frozen = picture(&monitor);
    monitor.stream(&mut sources, true, Duration::from_secs(1), |_| {});
    assert!(picture(&monitor) == frozen, "a frozen trace does not move");
    monitor.canvas.save(&pictures().join(format!("live-frozen-{theme}.png")));
    live.invoke_toggle_freeze();
    sources[0].lead_off = true;
    monitor.stream(&mut sources, true, Duration::from_secs(2), |_| {});
    assert_eq!(monitor.trace(0).note, "lead off");
    assert_eq!(monitor.trace(2).note, "");
    monitor.canvas.save(&pictures().join(format!("live-lead-off-{theme}.png")));
    sources[0].lead_off = false;
    let now = monitor.app.now().as_millis() * 1000;
    sources[0].skip_to(now + 500_000);
    monitor.stream(&mut sources, true, Duration::from_secs(2), |_| {});
    monitor.canvas.assert_up_to_date("the patient with a gap and a disconnected electrode");
    monitor.canvas.save(&pictures().join(format!("live-gap-{theme}.png")));

    monitor.stream(&mut [], true, Duration::from_millis(2400), |_| {});
    assert!(monitor.trace(0).note.starts_with("no signal since "), "{}", monitor.trace(0).note);
    // The samples in the jitter buffer are drawn before the trace stops.
    monitor.stream(&mut [], true, Duration::from_millis(3000), |_| {});
    assert!(monitor.count(ECG) < 400, "nothing looks live: {} pixels", monitor.count(ECG));
    monitor.canvas.assert_up_to_date("the patient with stopped traces");
    monitor.canvas.save(&pictures().join(format!("live-patient-stopped-{theme}.png")));
}

#[test]
fn strip_of_the_live_ecg_is_stored() {
    let monitor = Monitor::start("dark");
    monitor.rate(7, 70);
    monitor.until("the patient", |api| api.get_tiles().row_count() == 1);
    let window = monitor.app.window();
    let (api, live) = (window.global::<Api>(), window.global::<Live>());
    api.invoke_open_patient("7".into());
    live.invoke_keep_strip(30);
    assert_eq!(api.get_message(), "There is no ECG to keep.");
    let mut sources = monitor.connect([7]);
    let start = monitor.app.now().as_millis() * 1000 - 32_000_000;
    sources[0] = LiveSource::new(7, 75.0, start);
    monitor.stream(&mut sources, true, Duration::from_millis(300), |_| {});
    live.invoke_keep_strip(30);
    assert!(live.get_keeping());
    monitor.until("the strip", |api| api.get_message() == "The strip is stored." && api.get_latest().is_plot);
    let ecgs = monitor.runtime.block_on(monitor.gateway.ecgs(Mrn::new(7).unwrap(), None, None)).unwrap();
    let age = monitor.app.now().millis_since(ecgs.items[0].at);
    assert!((29_000..45_000).contains(&age), "recorded at the start of the strip: {age} ms ago");
}
