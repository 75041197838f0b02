//! The test harness: a monitor without a display, connected to a real system. Each test has its own on its own thread.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use i_slint_backend_testing::{ElementHandle, ElementQuery, mock_elapsed_time};
use monitor::alarm_sound::{Recorder, SoundOutput};
use monitor::window::{Api, Main};
use monitor::{App, Args};
use proto_json::{FileKind, Mrn, RecordId, Timestamp, UploadReceipt};
use slint::platform::{Key, WindowEvent};
use slint::{ComponentHandle, SharedString};
use tempfile::TempDir;
use testkit::Clock;
use tokio::runtime::Runtime;

use crate::fixture::{System, test_data};

/// The time after which a test fails.
const LIMIT: Duration = Duration::from_secs(30);
/// The maximum time until a lost or restored connection shows.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A second monitor.
pub(crate) struct Station {
    pub(crate) app: App,
    pub(crate) recorder: Recorder,
    _folder: TempDir,
}

/// A monitor and its system.
pub(crate) struct Screen {
    // Dropped before the system, so that it does not lose its connection.
    pub(crate) app: App,
    pub(crate) system: System,
    /// What sounds.
    pub(crate) recorder: Recorder,
    runtime: Runtime,
    folder: TempDir,
}

impl Screen {
    /// Starts a monitor with a standalone server.
    pub(crate) fn start() -> Self {
        Screen::with_system(System::standalone(), |_| {})
    }

    /// Starts a monitor with this system and a changed command line.
    pub(crate) fn with_system(system: System, change: impl FnOnce(&mut Args)) -> Self {
        i_slint_backend_testing::init_no_event_loop();
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, &system);
        if let Some(nats) = &system.nats {
            args.connection.nats = Some(nats.url());
        }
        let recorder = Recorder::default();
        args.sound = SoundOutput::Recorder(recorder.clone());
        change(&mut args);
        let app = App::new(args).unwrap();
        app.window().show().unwrap();
        let runtime = Runtime::new().unwrap();
        Screen { app, system, recorder, runtime, folder }
    }

    /// Starts another station with the same server.
    pub(crate) fn second_station(&self) -> Station {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::default();
        let args = Args { sound: SoundOutput::Recorder(recorder.clone()), ..args(&folder, &self.system) };
        let app = App::new(args).unwrap();
        app.window().show().unwrap();
        Station { app, recorder, _folder: folder }
    }

    /// Restarts the monitor with the same files.
    pub(crate) fn restart(&mut self) {
        self.window().global::<Api>().invoke_quit();
        let sound = SoundOutput::Recorder(self.recorder.clone());
        let app = App::new(Args { sound, ..args(&self.folder, &self.system) }).unwrap();
        app.window().show().unwrap();
        self.app = app;
    }

    pub(crate) fn window(&self) -> Main {
        self.app.window()
    }

    /// A temporary folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn gateway(&self) -> Gateway {
        self.system.client()
    }

    /// Runs a future, for requests from outside the monitor.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Stores an upload.
    pub(crate) fn store(&self, patient: u64, upload: &Upload) -> UploadReceipt {
        let gateway = self.gateway();
        match self.run(gateway.upload(mrn(patient), upload, |_| {})).unwrap() {
            UploadAnswer::Stored(receipt) => receipt,
            UploadAnswer::Accepted(accepted) => panic!("only accepted: {accepted:?}"),
        }
    }

    /// Stores a reported heart rate with the current time.
    pub(crate) fn rate(&self, patient: u64, name: &str, bpm: i64) -> UploadReceipt {
        self.store(patient, &reported(name, bpm, Timestamp::now()))
    }

    /// Stores a strip with about this rate. Returns the id of the ECG.
    pub(crate) fn strip(&self, patient: u64, name: &str, bpm: f64, seed: u64) -> RecordId {
        self.store(patient, &strip(name, bpm, seed)).files[0].id
    }

    /// Processes events until the condition holds. Returns how long that took.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut(&Screen) -> bool) -> Duration {
        let (begun, clock) = (Instant::now(), Clock::start());
        loop {
            self.settle();
            if condition(self) {
                return clock.elapsed();
            }
            assert!(
                begun.elapsed() < LIMIT,
                "not within {LIMIT:?}: {what}; on the screen:\n{}",
                self.all().join("\n")
            );
            self.app.wait(Duration::from_millis(20));
        }
    }

    /// Processes all events and updates the window. No time passes.
    pub(crate) fn settle(&self) {
        while self.app.wait(Duration::ZERO) {}
        mock_elapsed_time(Duration::ZERO);
    }

    /// Lets time pass for the timers of the window.
    pub(crate) fn pass(&self, time: Duration) {
        mock_elapsed_time(time);
        self.settle();
    }

    /// The labels and values of all elements.
    pub(crate) fn all(&self) -> Vec<String> {
        self.settle();
        let labelled = ElementQuery::from_root(&self.window())
            .match_predicate(|element| element.accessible_label().is_some())
            .find_all();
        labelled
            .iter()
            .map(|element| {
                let value = element.accessible_value().unwrap_or_default();
                format!("{} [{value}]", element.accessible_label().unwrap_or_default())
            })
            .collect()
    }

    /// The first element with this label, or whose label starts with it.
    pub(crate) fn find(&self, label: &str) -> Option<ElementHandle> {
        self.settle();
        let wanted = label.to_owned();
        let window = self.window();
        let query = |exact: bool| {
            let wanted = wanted.clone();
            ElementQuery::from_root(&window)
                .match_predicate(move |element| {
                    element.accessible_label().is_some_and(|label| {
                        if exact { label == wanted.as_str() } else { label.starts_with(wanted.as_str()) }
                    })
                })
                .find_first()
        };
        query(true).or_else(|| query(false))
    }

    /// The same element. Panics if there is none.
    pub(crate) fn the(&self, label: &str) -> ElementHandle {
        self.find(label)
            .unwrap_or_else(|| panic!("there is no {label:?}; on the screen:\n{}", self.all().join("\n")))
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        self.find(label).is_some()
    }

    /// The number of labels that start with this text.
    pub(crate) fn count(&self, label: &str) -> usize {
        self.all().iter().filter(|one| one.starts_with(label)).count()
    }

    pub(crate) fn value(&self, label: &str) -> String {
        self.the(label).accessible_value().unwrap_or_default().to_string()
    }

    pub(crate) fn description(&self, label: &str) -> String {
        self.the(label).accessible_description().unwrap_or_default().to_string()
    }

    /// Presses an element.
    pub(crate) fn press(&self, label: &str) {
        self.the(label).invoke_accessible_default_action();
        self.settle();
    }

    /// Presses the last element with exactly this label: an open dialog comes after the page.
    pub(crate) fn press_in_dialog(&self, label: &str) {
        let wanted = label.to_owned();
        let found = ElementQuery::from_root(&self.window())
            .match_predicate(move |element| {
                element.accessible_label().is_some_and(|label| label == wanted.as_str())
            })
            .find_all();
        found.last().unwrap_or_else(|| panic!("there is no {label:?}")).invoke_accessible_default_action();
        self.settle();
    }

    /// Replaces the text of a field.
    pub(crate) fn fill(&self, label: &str, text: &str) {
        self.the(label).set_accessible_value(text);
        self.settle();
    }

    /// Presses a key.
    pub(crate) fn key(&self, key: impl Into<SharedString>) {
        let text: SharedString = key.into();
        let window = self.window();
        window.window().dispatch_event(WindowEvent::KeyPressed { text: text.clone() });
        window.window().dispatch_event(WindowEvent::KeyReleased { text });
        self.settle();
    }

    /// Presses a letter with the control key.
    pub(crate) fn control(&self, letter: &str) {
        let window = self.window();
        window.window().dispatch_event(WindowEvent::KeyPressed { text: Key::Control.into() });
        self.key(letter);
        window.window().dispatch_event(WindowEvent::KeyReleased { text: Key::Control.into() });
        self.settle();
    }

    /// Opens a patient from the overview.
    pub(crate) fn open(&self, name: &str) {
        self.until(&format!("{name} on the overview"), |screen| screen.has(&format!("{name}, MRN")));
        self.press(&format!("{name}, MRN"));
        self.until(&format!("the page of {name}"), |screen| screen.value("Name") == name);
    }

    /// Opens a patient by number.
    pub(crate) fn open_by_number(&self, patient: u64) {
        self.window().global::<Api>().invoke_open_patient(patient.to_string().into());
        self.settle();
    }

    /// The labels of the tiles in their order.
    pub(crate) fn tiles(&self) -> Vec<String> {
        self.all().into_iter().filter(|label| label.contains(", MRN ")).collect()
    }

    /// The label of a tile.
    pub(crate) fn tile(&self, name: &str) -> String {
        self.tiles().into_iter().find(|tile| tile.starts_with(name)).unwrap_or_default()
    }
}

fn args(folder: &TempDir, system: &System) -> Args {
    let mut args = Args::default();
    args.connection.gateway = Some(system.url());
    args.connection.settings = Some(folder.path().join("monitor.json"));
    args.window.language = Some(ui::Language::English);
    args
}

pub(crate) fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

/// A reported heart rate.
pub(crate) fn reported(name: &str, bpm: i64, at: Timestamp) -> Upload {
    Upload {
        name: Some(name.to_owned()),
        heart_rate: Some(proto_json::Bpm::new(bpm).unwrap()),
        recorded_at: Some(at),
        ..Upload::of(Vec::new())
    }
}

/// A strip of ten seconds, recorded now.
pub(crate) fn strip(name: &str, bpm: f64, seed: u64) -> Upload {
    let csv = test_data::strip_csv(bpm, 10.0, seed);
    Upload {
        name: Some(name.to_owned()),
        recorded_at: Some(Timestamp::now()),
        ..Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, format!("strip-{seed}.csv"), csv)])
    }
}

/// An image.
pub(crate) fn image(name: &str, bytes: Vec<u8>) -> Upload {
    Upload::of(vec![UploadFile::from_bytes(FileKind::MedicalImage, name.to_owned(), bytes)])
}
