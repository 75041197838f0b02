//! Watchers: the updates that a monitor would have received.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Feed, FeedEvent, FeedSettings};
use proto_json::Mrn;
use tokio::task::JoinHandle;

/// The state that a watcher shows.
#[derive(Debug, Default)]
struct Shown {
    versions: BTreeMap<Mrn, u64>,
    violations: Vec<String>,
    updates: usize,
}

/// Follows a feed until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    screen: Arc<Mutex<Shown>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts to follow a feed.
    #[must_use]
    pub(super) fn start(settings: FeedSettings) -> Self {
        let screen = Arc::<Mutex<Shown>>::default();
        let shown = Arc::clone(&screen);
        let task = tokio::spawn(async move {
            let mut feed = Feed::start(settings);
            while let Some(event) = feed.next().await {
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    FeedEvent::Connection(_)
                    | FeedEvent::Damaged(_)
                    | FeedEvent::Alarms(_)
                    | FeedEvent::Outdated(_) => {}
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

    /// The latest version of each patient.
    #[must_use]
    pub(super) fn versions(&self) -> BTreeMap<Mrn, u64> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).versions.clone()
    }

    /// Versions that decreased, and the number of updates.
    #[must_use]
    pub(super) fn violations(&self) -> (Vec<String>, usize) {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        (screen.violations.clone(), screen.updates)
    }
}

impl Shown {
    fn show(&mut self, mrn: Mrn, version: u64, must_be_newer: bool) {
        let shown = self.versions.entry(mrn).or_default();
        if version < *shown || (must_be_newer && version == *shown) {
            self.violations.push(format!("patient {mrn} went from version {shown} to {version}"));
        }
        *shown = version;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
