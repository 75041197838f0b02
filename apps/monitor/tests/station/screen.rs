//! A monitor without a display, beside the system it watches. Each test has its own, on its own thread.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Gateway, Upload, UploadAnswer, UploadFile};
use i_slint_backend_testing::{ElementHandle, ElementQuery, mock_elapsed_time};
use monitor::window::{Api, Main};
use monitor::{App, Args};
use proto_json::{FileKind, Mrn, RecordId, Timestamp, UploadReceipt};
use slint::platform::{Key, WindowEvent};
use slint::{ComponentHandle, SharedString};
use tempfile::TempDir;
use testkit::Clock;
use tokio::runtime::Runtime;

use crate::beside::{System, material};

/// Nothing here takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(30);
/// What is promised after a connection is cut, and after it is back.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A monitor beside a system.
pub(crate) struct Screen {
    // Dropped first: a monitor whose system goes away would only complain.
    pub(crate) app: App,
    pub(crate) system: System,
    runtime: Runtime,
    folder: TempDir,
}

impl Screen {
    /// A monitor of a system in one process.
    pub(crate) fn start() -> Self {
        Screen::beside(System::standalone(), |_| {})
    }

    /// A monitor of this system, its command line changed.
    pub(crate) fn beside(system: System, change: impl FnOnce(&mut Args)) -> Self {
        i_slint_backend_testing::init_no_event_loop();
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, &system);
        if let Some(nats) = &system.nats {
            args.connection.nats = Some(nats.url());
        }
        change(&mut args);
        let app = App::new(args).unwrap();
        app.window().show().unwrap();
        let runtime = Runtime::new().unwrap();
        Screen { app, system, runtime, folder }
    }

    /// Ends the monitor and starts it again with the same files.
    pub(crate) fn restart(&mut self) {
        self.window().global::<Api>().invoke_quit();
        let app = App::new(args(&self.folder, &self.system)).unwrap();
        app.window().show().unwrap();
        self.app = app;
    }

    pub(crate) fn window(&self) -> Main {
        self.app.window()
    }

    /// A folder that goes away with the test.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn gateway(&self) -> Gateway {
        self.system.client()
    }

    /// Runs what speaks to the system, from outside of the monitor.
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

    /// Stores a reported heart rate of now.
    pub(crate) fn rate(&self, patient: u64, name: &str, bpm: i64) -> UploadReceipt {
        self.store(patient, &reported(name, bpm, Timestamp::now()))
    }

    /// Stores a strip of about this rate; the id of the ECG.
    pub(crate) fn strip(&self, patient: u64, name: &str, bpm: f64, seed: u64) -> RecordId {
        self.store(patient, &strip(name, bpm, seed)).files[0].id
    }

    /// Takes messages until the screen is as it should be; how long that took, on a machine that goes on.
    pub(crate) fn until(&self, what: &str, mut there: impl FnMut(&Screen) -> bool) -> Duration {
        let (begun, clock) = (Instant::now(), Clock::start());
        loop {
            self.settle();
            if there(self) {
                return clock.elapsed();
            }
            assert!(begun.elapsed() < LIMIT, "never: {what}; on the screen:\n{}", self.all().join("\n"));
            self.app.wait(Duration::from_millis(20));
        }
    }

    /// Lets bindings, lists and conditions catch up. No time passes.
    pub(crate) fn settle(&self) {
        while self.app.wait(Duration::ZERO) {}
        mock_elapsed_time(Duration::ZERO);
    }

    /// Lets timers of the window run.
    pub(crate) fn pass(&self, time: Duration) {
        mock_elapsed_time(time);
        self.settle();
    }

    /// Everything with a label, and its value: for people who read a failed test.
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

    /// The first thing whose label begins like this.
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

    /// The same, which must be there.
    pub(crate) fn the(&self, label: &str) -> ElementHandle {
        self.find(label)
            .unwrap_or_else(|| panic!("there is no {label:?}; on the screen:\n{}", self.all().join("\n")))
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        self.find(label).is_some()
    }

    /// How many labels begin like this.
    pub(crate) fn count(&self, label: &str) -> usize {
        self.all().iter().filter(|one| one.starts_with(label)).count()
    }

    pub(crate) fn value(&self, label: &str) -> String {
        self.the(label).accessible_value().unwrap_or_default().to_string()
    }

    pub(crate) fn description(&self, label: &str) -> String {
        self.the(label).accessible_description().unwrap_or_default().to_string()
    }

    /// Presses something.
    pub(crate) fn press(&self, label: &str) {
        self.the(label).invoke_accessible_default_action();
        self.settle();
    }

    /// Types over what a field holds.
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

    /// Opens a patient from the wall once they are on it.
    pub(crate) fn open(&self, name: &str) {
        self.until(&format!("{name} on the wall"), |screen| screen.has(&format!("{name}, MRN")));
        self.press(&format!("{name}, MRN"));
        self.until(&format!("{name} in full"), |screen| screen.value("Name") == name);
    }

    /// Labels of the tiles in their order.
    pub(crate) fn tiles(&self) -> Vec<String> {
        self.all().into_iter().filter(|label| label.contains(", MRN ")).collect()
    }

    /// What a tile says.
    pub(crate) fn tile(&self, name: &str) -> String {
        self.tiles().into_iter().find(|tile| tile.starts_with(name)).unwrap_or_default()
    }
}

fn args(folder: &TempDir, system: &System) -> Args {
    let mut args = Args::default();
    args.connection.gateway = Some(system.url());
    args.connection.settings = Some(folder.path().join("monitor.json"));
    args
}

pub(crate) fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

/// A name, and a heart rate of some time.
pub(crate) fn reported(name: &str, bpm: i64, at: Timestamp) -> Upload {
    Upload {
        name: Some(name.to_owned()),
        heart_rate: Some(proto_json::Bpm::new(bpm).unwrap()),
        recorded_at: Some(at),
        ..Upload::of(Vec::new())
    }
}

/// A name, and ten seconds of ECG recorded now.
pub(crate) fn strip(name: &str, bpm: f64, seed: u64) -> Upload {
    let csv = material::strip_csv(bpm, 10.0, seed);
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
