//! The background scrub: reads everything that is stored, slowly, round after round, and reports what is damaged.
//!
//! A step checks some records and is followed by a pause of nine times its duration, so that the scrub takes a tenth of one
//! connection at most. How far it has come is kept in the store every half minute: after a restart it goes on from there. Of
//! several ingests, the one that holds the lease scrubs.

use std::time::Duration;

use proto_json::Timestamp;
use store::{ScrubState, StoreError};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{Config, Ports};

/// Records of a step.
const RECORDS: usize = 100;

/// The shortest pause between two steps, and how many times the duration of a step it is otherwise.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_FACTOR: u32 = 9;

/// How often the position is kept, and the lease renewed.
const KEEP_EVERY: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(120);

/// How often it is looked whether a round is due, or the lease is free.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Scrubs until dropped.
pub(crate) async fn run(config: &Config, ports: &Ports) {
    let holder = Uuid::now_v7();
    loop {
        let look_again = config.scrub_every.min(LOOK_EVERY);
        match ports.store.lease_scrub(holder, LEASE).await {
            Ok(Some(state)) => {
                show(&state);
                if is_due(&state, config.scrub_every)
                    && let Err(error) = round(ports, holder, state).await
                {
                    tracing::warn!(%error, "the scrub was interrupted; it goes on later");
                }
            }
            // Another ingest scrubs.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the state of the scrub cannot be read"),
        }
        sleep(look_again).await;
    }
}

fn is_due(state: &ScrubState, every: Duration) -> bool {
    let Some(finished) = state.finished_at.filter(|_| state.position.is_none()) else { return true };
    let passed = Timestamp::now().millis_since(finished);
    // A clock that was set back must not hold up the scrub for long.
    passed < 0 || u128::try_from(passed).is_ok_and(|passed| passed >= every.as_millis())
}

/// Goes on with a round, to its end.
async fn round(ports: &Ports, holder: Uuid, mut state: ScrubState) -> Result<(), StoreError> {
    if state.position.is_none() {
        (state.checked, state.damaged) = (0, 0);
    }
    let mut kept = Instant::now();
    loop {
        let begun = Instant::now();
        let step = ports.store.scrub(state.position.take(), RECORDS).await?;
        state.checked += step.checked;
        state.damaged += step.damaged.len() as u64;
        metrics::counter!("bedside_scrub_records_total").increment(step.checked);
        if !step.damaged.is_empty() {
            // The sentences name patients.
            let found = step.damaged.len();
            tracing::error!(found, "the scrub has found damaged records; `bedside verify` names them");
        }
        let done = step.next.is_none();
        state.position = step.next;
        if done {
            state.finished_at = Some(Timestamp::now());
            state.last_damaged = state.damaged;
        }
        show(&state);
        if done || kept.elapsed() >= KEEP_EVERY {
            ports.store.save_scrub(holder, &state).await?;
            kept = Instant::now();
            if !done && ports.store.lease_scrub(holder, LEASE).await?.is_none() {
                return Ok(());
            }
        }
        if done {
            tracing::info!(
                checked = state.checked,
                damaged = state.damaged,
                "the scrub has checked everything"
            );
            return Ok(());
        }
        sleep((begun.elapsed() * PAUSE_FACTOR).max(PAUSE)).await;
    }
}

fn show(state: &ScrubState) {
    metrics::gauge!("bedside_scrub_damaged").set(state.damaged.max(state.last_damaged) as f64);
    let finished = state.finished_at.map_or(0, Timestamp::as_millis);
    metrics::gauge!("bedside_scrub_finished_timestamp_seconds").set(finished as f64 / 1_000.0);
}

#[cfg(test)]
mod tests {
    use proto_json::{BlobHash, Mrn, UploadId};
    use store::NewUpload;

    use super::*;

    #[tokio::test]
    async fn damage_is_counted_and_a_round_that_ended_is_due_again_only_later() {
        let (folder, ports) = crate::local_ports();
        let now = Timestamp::now();
        let upload = NewUpload {
            id: UploadId::generate(),
            fingerprint: BlobHash::of(b""),
            mrn: Mrn::new(7).unwrap(),
            received_at: now,
            stored_at: now,
            uploaded_by: None,
            name: Some("Ann".to_owned()),
            rename: proto_json::Rename::No,
            heart_rate: None,
            images: Vec::new(),
            ecgs: Vec::new(),
            files: Vec::new(),
        };
        ports.store.store_upload(&upload, Vec::new()).await.unwrap();
        let holder = Uuid::from_u128(1);
        let state = ports.store.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        assert!(is_due(&state, Duration::from_secs(3600)));
        round(&ports, holder, state).await.unwrap();
        let state = ports.store.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        // The patient and the upload.
        assert_eq!((state.checked, state.damaged, &state.position), (2, 0, &None));
        assert!(!is_due(&state, Duration::from_secs(3600)));
        assert!(is_due(&state, Duration::ZERO));

        let db = rusqlite::Connection::open(folder.path().join("patients.db")).unwrap();
        assert_eq!(db.execute("UPDATE patients SET name = 'Bnn'", []).unwrap(), 1);
        round(&ports, holder, state).await.unwrap();
        let state = ports.store.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        assert_eq!((state.damaged, state.last_damaged), (1, 1));
    }
}
