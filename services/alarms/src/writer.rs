//! Applies what the rules report to the stored alarms.
//!
//! A change is a function of the stored alarm, written by compare-and-set. If a user or another process was faster, the change is
//! applied to what is stored then. Changes of one patient are applied in order; patients are independent of each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use proto_json::alarms::{Alarm, AlarmEndReason, AlarmRule};
use proto_json::{Mrn, Timestamp};
use runtime::{Backoff, Shutdown};
use store::StoreError;
use store::alarms::AlarmWrite;
use tokio::sync::mpsc;

use crate::rules::Change;
use crate::{Shared, machine};

/// Patients whose changes are written at the same time.
const CONCURRENCY: usize = 16;
/// Attempts to apply a change that meets other writers.
const ATTEMPTS: usize = 10;
/// Delays between attempts while the store cannot be written.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A change to apply.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) mrn: Mrn,
    pub(crate) change: Change,
}

/// The open alarms, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct OpenAlarms(Mutex<HashMap<(Mrn, AlarmRule), Alarm>>);

impl OpenAlarms {
    pub(crate) fn get(&self, mrn: Mrn, rule: AlarmRule) -> Option<Alarm> {
        self.0.lock().get(&(mrn, rule)).cloned()
    }

    /// Takes over a state of an alarm if it is newer than the known one. Returns whether it is.
    pub(crate) fn note(&self, alarm: &Alarm) -> bool {
        let mut open = self.0.lock();
        let key = (alarm.mrn, alarm.rule);
        match open.get(&key) {
            Some(known) if known.id == alarm.id && known.version >= alarm.version => return false,
            // An end of an earlier alarm says nothing about the open one.
            Some(known) if known.id != alarm.id && !alarm.is_open() => return false,
            Some(known) if known.id != alarm.id && known.raised_at > alarm.raised_at => return false,
            None if !alarm.is_open() => return true,
            _ => {}
        }
        if alarm.is_open() {
            open.insert(key, alarm.clone());
        } else {
            open.remove(&key);
        }
        true
    }

    /// Replaces everything.
    pub(crate) fn load(&self, alarms: &[Alarm]) {
        let all = alarms.iter().map(|alarm| ((alarm.mrn, alarm.rule), alarm.clone()));
        *self.0.lock() = all.collect();
    }

    pub(crate) fn all(&self) -> Vec<Alarm> {
        self.0.lock().values().cloned().collect()
    }
}

/// Applies changes until the channel is closed or the shutdown begins. `dismissed` receives the rules whose alarm a user has
/// ended before.
pub(crate) async fn run(
    shared: Arc<Shared>,
    open: Arc<OpenAlarms>,
    mut tasks: mpsc::UnboundedReceiver<Task>,
    dismissed: mpsc::UnboundedSender<(Mrn, AlarmRule)>,
    shutdown: Shutdown,
) {
    while let Some(first) = tasks.recv().await {
        let mut groups: HashMap<Mrn, Vec<Change>> = HashMap::new();
        groups.entry(first.mrn).or_default().push(first.change);
        while let Ok(next) = tasks.try_recv() {
            groups.entry(next.mrn).or_default().push(next.change);
        }
        let writing = stream::iter(groups).for_each_concurrent(CONCURRENCY, |(mrn, changes)| {
            let (shared, open, dismissed, shutdown) = (&shared, &open, &dismissed, &shutdown);
            async move {
                for change in changes {
                    metrics::gauge!("bedside_alarms_waiting_changes").increment(1.0);
                    let is_new = persistently(shared, open, mrn, &change, shutdown).await;
                    metrics::gauge!("bedside_alarms_waiting_changes").decrement(1.0);
                    if !is_new {
                        let _ = dismissed.send((mrn, change.rule()));
                    }
                }
            }
        });
        writing.await;
    }
}

/// Applies a change, and repeats that while the store cannot be written. False if the alarm to raise has ended before.
async fn persistently(
    shared: &Shared,
    open: &OpenAlarms,
    mrn: Mrn,
    change: &Change,
    shutdown: &Shutdown,
) -> bool {
    let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
    loop {
        match apply(shared, open, mrn, change).await {
            Ok(is_new) => return is_new,
            Err(error) => tracing::warn!(%error, "an alarm cannot be stored; retrying"),
        }
        if shutdown.unless_begun(backoff.wait()).await.is_none() {
            // The successor finds the condition in the stored state of the rules, or in its input.
            return true;
        }
    }
}

async fn apply(shared: &Shared, open: &OpenAlarms, mrn: Mrn, change: &Change) -> Result<bool, StoreError> {
    let rule = change.rule();
    for _ in 0..ATTEMPTS {
        let known = open.get(mrn, rule);
        let next = match (change, &known) {
            (Change::Raised(_, onset), None) => Some(machine::raise(mrn, rule, onset)),
            (Change::Raised(_, onset), Some(known)) => machine::recur(known, onset),
            (Change::Worse(_, onset), Some(known)) => machine::worsen(known, onset),
            (Change::Over(_, at), Some(known)) => machine::clear(known, *at),
            (Change::Withdrawn(_, at, reason), Some(known)) => machine::withdraw(known, *at, *reason),
            (Change::Worse(..) | Change::Over(..) | Change::Withdrawn(..), None) => None,
        };
        let Some(next) = next else { return Ok(true) };
        let written = shared.ports.store.put_alarm(&next).await;
        if let (Err(StoreError::Refused(_)), Some(known)) = (&written, &known)
            && shared.ports.store.alarm(known.id).await?.is_none()
        {
            // An erasure has deleted the alarm.
            if let Some(over) = machine::withdraw(known, Timestamp::now(), AlarmEndReason::Erased) {
                open.note(&over);
                shared.publisher.alarm(&over).await;
            }
            return Ok(true);
        }
        match written? {
            AlarmWrite::Stored => {
                open.note(&next);
                shared.publisher.alarm(&next).await;
                if matches!(change, Change::Raised(..)) {
                    metrics::counter!("bedside_alarms_raised_total", "rule" => rule.name()).increment(1);
                    let delay_ms = Timestamp::now().millis_since(next.raised_at).max(0);
                    metrics::histogram!("bedside_alarm_delay_seconds").record(delay_ms as f64 / 1_000.0);
                }
                return Ok(true);
            }
            AlarmWrite::Erased => return Ok(true),
            AlarmWrite::Conflict(stored) => {
                let is_same = stored.id == next.id;
                if known.is_some_and(|known| known.id == stored.id && known.version >= stored.version) {
                    return Err(StoreError::refused("an alarm was changed at the same time"));
                }
                open.note(&stored);
                if !stored.is_open() {
                    // Of the open alarm that was known before, if any.
                    if is_same && matches!(change, Change::Raised(..)) && next.version == 1 {
                        return Ok(false);
                    }
                    if open.get(mrn, rule).is_some_and(|known| known.id != stored.id) {
                        continue;
                    }
                }
            }
        }
    }
    Err(StoreError::refused("an alarm is changed by others again and again"))
}
