//! The software renderer repaints only what has changed. After two minutes of changes on each page, the window has to look as if
//! it had been repainted as a whole.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use monitor::window::{Api, Page};
use monitor::{App, Args};
use proto_json::{Bpm, FileKind, Mrn, Timestamp};
use slint::ComponentHandle;
use tokio::runtime::Runtime;

#[path = "../../ui/tests/canvas/mod.rs"]
mod canvas;
mod fixture;

use canvas::Canvas;
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
        let mut args = Args { stale_after: Some(Duration::from_secs(300)), ..Args::default() };
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
        for (bpm, state) in [(160, "raised"), (80, "over and acknowledged")] {
            self.sweep_text_cache();
            let before = self.alarms();
            self.rate(mrn, bpm);
            if bpm == 80 {
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
    monitor.rate(PATIENTS, 130);
    monitor.until("all patients with their strips", |api| {
        use slint::Model;
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
