//! The latest vitals of each patient that any worker has published.
//!
//! A worker that takes over continues after them. They are received like any subscriber receives them, so they can be
//! missing after an outage; the subscribers then drop seconds that are published twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bus::{VitalsEvent, WAVE_RETENTION};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::Mrn;
use proto_json::waveform::Vitals;

/// Number of patients above which those without vitals in the last [`WAVE_RETENTION`] are forgotten.
const MAX_PATIENTS: usize = 4_096;

/// A step back by more than this is a correction of the clock.
const CLOCK_CORRECTION_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Published {
    latest: Mutex<HashMap<Mrn, Arc<Vitals>>>,
}

impl Published {
    /// Notes all vitals of a subscription.
    pub(super) async fn follow(&self, mut events: BoxStream<'static, VitalsEvent>) {
        while let Some(event) = events.next().await {
            if let VitalsEvent::Vitals(vitals) = event {
                self.note(*vitals);
            }
        }
    }

    /// Notes vitals. Older ones than the known ones of the patient replace those, too: the clock was set back.
    pub(super) fn note(&self, vitals: Vitals) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= MAX_PATIENTS && !latest.contains_key(&vitals.mrn) {
            let retention = WAVE_RETENTION.as_millis() as i64;
            latest.retain(|_, known| vitals.time.millis_since(known.time) < retention);
        }
        latest.insert(vitals.mrn, Arc::new(vitals));
    }

    /// The latest vitals of a patient.
    pub(super) fn latest(&self, mrn: Mrn) -> Option<Arc<Vitals>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).get(&mrn).cloned()
    }

    /// Whether this second or a later one was published. A much later one is from before the clock was set back.
    pub(super) fn has(&self, vitals: &Vitals) -> bool {
        self.latest(vitals.mrn)
            .is_some_and(|known| (0..=CLOCK_CORRECTION_MS).contains(&known.time.millis_since(vitals.time)))
    }
}
