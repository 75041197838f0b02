//! Watchers: what a monitor would have seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Feed, FeedEvent, FeedSettings};
use proto_json::Mrn;
use tokio::task::JoinHandle;

/// What one watcher has on its screen, and what was wrong on the way.
#[derive(Debug, Default)]
struct Screen {
    versions: BTreeMap<Mrn, u64>,
    complaints: Vec<String>,
    updates: usize,
}

/// A feed that is followed through all faults. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watcher {
    screen: Arc<Mutex<Screen>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Follows a feed from now on.
    #[must_use]
    pub(super) fn start(settings: FeedSettings) -> Self {
        let screen = Arc::<Mutex<Screen>>::default();
        let shown = Arc::clone(&screen);
        let task = tokio::spawn(async move {
            let mut feed = Feed::start(settings);
            while let Some(event) = feed.next().await {
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    FeedEvent::Connection(_) | FeedEvent::Damaged(_) => {}
                    FeedEvent::Snapshot(patients) => {
                        for patient in patients {
                            screen.show(patient.mrn, patient.version, false);
                        }
                    }
                    FeedEvent::Updated(update) => {
                        screen.updates += 1;
                        screen.show(update.patient.mrn, update.patient.version, true);
                    }
                }
            }
        });
        Watcher { screen, task }
    }

    /// The version it shows of each patient.
    #[must_use]
    pub(super) fn versions(&self) -> BTreeMap<Mrn, u64> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).versions.clone()
    }

    /// Everything that went backwards, and how many updates were seen.
    #[must_use]
    pub(super) fn complaints(&self) -> (Vec<String>, usize) {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        (screen.complaints.clone(), screen.updates)
    }
}

impl Screen {
    fn show(&mut self, mrn: Mrn, version: u64, must_be_newer: bool) {
        let shown = self.versions.entry(mrn).or_default();
        if version < *shown || (must_be_newer && version == *shown) {
            self.complaints.push(format!("patient {mrn} went from version {shown} to {version}"));
        }
        *shown = version;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
