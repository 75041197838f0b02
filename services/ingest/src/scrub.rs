//! The background scrub: reads everything that is stored, slowly, round after round, and reports damage.
//!
//! A step verifies some records and is followed by a pause of nine times its duration, so that the scrub uses at most a tenth
//! of one connection. Its position is stored every half minute, so that it continues after a restart. The process that holds
//! the lease scrubs.

use std::time::Duration;

use proto_json::Timestamp;
use store::{ScrubState, StoreError};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{Config, Ports};

/// Records of a step.
const RECORDS: usize = 100;

/// The pause between two steps: this many times the duration of the step, but not less than [`PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_FACTOR: u32 = 9;

/// Time between two updates of the stored position, which also renew the lease, and the duration of the lease.
const SAVE_EVERY: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(120);

/// Time between two attempts to get the lease and to begin a round.
const RETRY_EVERY: Duration = Duration::from_secs(60);

/// Scrubs until dropped.
pub(crate) async fn run(config: &Config, ports: &Ports) {
    let holder = Uuid::now_v7();
    loop {
        let retry_after = config.scrub_every.min(RETRY_EVERY);
        match ports.maintenance.lease_scrub(holder, LEASE).await {
            Ok(Some(state)) => {
                show(&state);
                if is_due(&state, config.scrub_every)
                    && let Err(error) = round(ports, holder, state).await
                {
                    tracing::warn!(%error, "the scrub was interrupted; it continues later");
                }
            }
            // Another process scrubs.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the state of the scrub cannot be read"),
        }
        sleep(retry_after).await;
    }
}

fn is_due(state: &ScrubState, every: Duration) -> bool {
    let Some(finished) = state.finished_at.filter(|_| state.position.is_none()) else { return true };
    let passed = Timestamp::now().millis_since(finished);
    // A clock that was set back must not delay the scrub for long.
    passed < 0 || u128::try_from(passed).is_ok_and(|passed| passed >= every.as_millis())
}

/// Runs a round from its stored position to its end.
async fn round(ports: &Ports, holder: Uuid, mut state: ScrubState) -> Result<(), StoreError> {
    if state.position.is_none() {
        (state.checked, state.damaged) = (0, 0);
    }
    let mut saved = Instant::now();
    loop {
        let begun = Instant::now();
        let step = ports.maintenance.scrub(state.position.take(), RECORDS).await?;
        state.checked += step.checked;
        state.damaged += step.damaged.len() as u64;
        metrics::counter!("bedside_scrub_records_total").increment(step.checked);
        if !step.damaged.is_empty() {
            // Not the messages: they contain record numbers of patients.
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
        if done || saved.elapsed() >= SAVE_EVERY {
            ports.maintenance.save_scrub(holder, &state).await?;
            saved = Instant::now();
            if !done && ports.maintenance.lease_scrub(holder, LEASE).await?.is_none() {
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
    async fn damage_is_counted_and_the_next_round_is_due_after_the_period() {
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
        let state = ports.maintenance.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        assert!(is_due(&state, Duration::from_secs(3600)));
        round(&ports, holder, state).await.unwrap();
        let state = ports.maintenance.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        // The patient and the upload.
        assert_eq!((state.checked, state.damaged, &state.position), (2, 0, &None));
        assert!(!is_due(&state, Duration::from_secs(3600)));
        assert!(is_due(&state, Duration::ZERO));

        let db = rusqlite::Connection::open(folder.path().join("patients.db")).unwrap();
        assert_eq!(db.execute("UPDATE patients SET name = 'Bnn'", []).unwrap(), 1);
        round(&ports, holder, state).await.unwrap();
        let state = ports.maintenance.lease_scrub(holder, LEASE).await.unwrap().unwrap();
        assert_eq!((state.damaged, state.last_damaged), (1, 1));
    }
}
