//! Detects that the clock of this server is behind a time that it has shown before.
//!
//! It is unknown which of the two times was wrong. So the store keeps the highest time. While the clock is behind it, ingest
//! logs that, exports it as a metric, and marks every latest value whose time is in the future of the clock. The order of
//! uploads does not depend on clocks (see `store`), so newer uploads are shown in any case. An operator ends the alarm with
//! `accept-clock` once the clock is right.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use proto_json::{PatientUpdated, Timestamp};
use store::{PatientWriter, StoreError};
use tokio::time::MissedTickBehavior;

use crate::{Ports, publish};

/// Time between two updates of the highest time. An update includes the times of everything stored since the last one,
/// unless the process ends before.
const EVERY: Duration = Duration::from_secs(10);

/// Updates the highest time at every period, until dropped.
pub(crate) async fn watch(ports: &Ports, at_least_every: Duration) {
    let mut period = tokio::time::interval(EVERY.min(at_least_every));
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_behind = false;
    loop {
        period.tick().await;
        match check(ports, Timestamp::now()).await {
            Ok(highest) => {
                let now = Timestamp::now();
                let is_behind = highest.is_in_future_of(now);
                if is_behind && !was_behind {
                    tracing::error!(
                        highest = %highest,
                        behind_s = highest.millis_since(now) / 1_000,
                        "the clock is behind the highest time it has shown; set it right, then run accept-clock"
                    );
                } else if was_behind && !is_behind {
                    tracing::info!("the clock is no longer behind the highest time it has shown");
                }
                was_behind = is_behind;
            }
            Err(error) => tracing::warn!(%error, "the highest time could not be stored"),
        }
    }
}

/// The highest time, in milliseconds, at which this process has stored something since the last update. The clock may be
/// ahead for less than a period.
static STORED: AtomicI64 = AtomicI64::new(i64::MIN);

/// The current time, for a record that is stored now.
pub(crate) fn stored_now() -> Timestamp {
    let now = Timestamp::now();
    STORED.fetch_max(now.as_millis(), Ordering::Relaxed);
    now
}

/// Updates the highest time, and marks values from the future if the clock is behind. Returns the highest time.
pub(crate) async fn check(ports: &Ports, now: Timestamp) -> Result<Timestamp, StoreError> {
    // Stored once: after an operator has accepted the time, it must not come back.
    let stored = STORED.swap(i64::MIN, Ordering::Relaxed);
    let shown = Timestamp::from_millis(stored).map_or(now, |stored| stored.max(now));
    let highest = match ports.store.observe_time(shown).await {
        Ok(highest) => highest,
        Err(error) => {
            STORED.fetch_max(stored, Ordering::Relaxed);
            return Err(error);
        }
    };
    let behind = if highest.is_in_future_of(now) { highest.millis_since(now) } else { 0 };
    metrics::gauge!("bedside_clock_behind_seconds").set(behind as f64 / 1_000.0);
    if behind > 0 {
        for patient in ports.store.mark_clock_wrong(now).await? {
            metrics::counter!("bedside_values_from_future_total").increment(1);
            let update = PatientUpdated { upload_id: None, changes: Vec::new(), patient, sent_at: None };
            publish(&*ports.bus.pubsub, update, None).await;
        }
    }
    Ok(highest)
}

/// Accepts the current time and forgets higher ones. Returns a message for the operator.
///
/// # Errors
/// When the store cannot be reached.
pub async fn accept(store: &dyn PatientWriter) -> Result<String, StoreError> {
    let now = Timestamp::now();
    let highest = store.highest_time().await?;
    store.accept_time(now).await?;
    Ok(match highest.filter(|highest| highest.is_in_future_of(now)) {
        Some(highest) => {
            format!("{now} is taken for right; {highest}, which the clock had shown before, is forgotten")
        }
        None => format!("{now} is taken for right; the clock had shown no later time before"),
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proto_json::{BlobHash, Bpm, HeartRateSource, Mrn, UploadId};
    use store::{NewHeartRate, NewUpload};

    use super::*;

    #[tokio::test]
    async fn values_of_a_clock_that_was_ahead_are_marked_and_published_once() {
        let (_folder, ports) = crate::local_ports();
        let right = Timestamp::now();
        let ahead = right.plus_millis(3_600_000);
        let id = UploadId::generate();
        let upload = NewUpload {
            id,
            fingerprint: BlobHash::of(b"x"),
            mrn: Mrn::new(7).unwrap(),
            received_at: ahead,
            stored_at: ahead,
            uploaded_by: None,
            name: None,
            rename: proto_json::Rename::No,
            heart_rate: Some(NewHeartRate {
                id: id.record("heart_rate", 0),
                bpm: Bpm::new(180).unwrap(),
                recorded_at: None,
                source: HeartRateSource::Reported,
                ecg_id: None,
            }),
            images: Vec::new(),
            ecgs: Vec::new(),
            files: Vec::new(),
        };
        assert_eq!(check(&ports, ahead).await.unwrap(), ahead);
        ports.store.store_upload(&upload, Vec::new()).await.unwrap();
        let mut updates = ports.bus.pubsub.subscribe(None).await.unwrap();
        assert_eq!(check(&ports, right).await.unwrap(), ahead, "the highest time stays");
        let update = loop {
            if let bus::UpdateEvent::Updated(update) = updates.next().await.unwrap() {
                break update;
            }
        };
        assert!(update.patient.latest_heart_rate.as_ref().unwrap().clock_wrong);
        assert_eq!((update.patient.version, update.upload_id), (2, None));
        check(&ports, right).await.unwrap();
        assert_eq!(ports.store.patient(upload.mrn).await.unwrap().unwrap(), update.patient, "once");

        let message = accept(&*ports.store).await.unwrap();
        assert!(
            message.contains(&format!("{ahead}, which the clock had shown before, is forgotten")),
            "{message}"
        );
        let later = right.plus_millis(60_000);
        assert_eq!(check(&ports, later).await.unwrap(), later);
    }
}
