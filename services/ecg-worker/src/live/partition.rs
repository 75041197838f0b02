//! The live patients of one partition.
//!
//! While this worker is the active consumer of the partition, it publishes the vitals of its patients. After a takeover, it
//! replays the last seconds without publishing and then continues with the first second that its predecessor has not
//! published.
//!
//! Vitals are published before the messages that they result from are acknowledged, and only while the lease of the broker
//! lasts ([`bus::WaveDelivery::is_active`]). So no second is lost, and a worker that was stopped and continues publishes
//! nothing for a partition that it has lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{PartitionEvent, WaveDelivery, WaveLog, WaveMessage};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::{Mrn, Timestamp};
use runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use super::patient::Patient;
use super::published::Published;

/// Interval of acknowledgements, and of the search for patients without data.
const TICK: Duration = Duration::from_millis(250);
/// Messages after which an acknowledgement is sent early.
const ACK_MESSAGES: usize = 64;
/// With more messages waiting, the worker skips what is expensive until it has caught up.
const BEHIND: u64 = 256;

/// State of one partition.
pub(super) struct Partition {
    waves: Arc<dyn WaveLog>,
    published: Arc<Published>,
    patients: HashMap<Mrn, Patient>,
    /// The last delivery, and how many were not acknowledged yet. `None` if another worker is the active one.
    last: Option<WaveDelivery>,
    unacknowledged: usize,
    /// Messages are being replayed.
    is_replaying: bool,
}

impl Partition {
    pub(super) fn new(waves: Arc<dyn WaveLog>, published: Arc<Published>) -> Self {
        Partition {
            waves,
            published,
            patients: HashMap::new(),
            last: None,
            unacknowledged: 0,
            is_replaying: false,
        }
    }

    /// Analyses the partition until shutdown, or until the adapter is closed.
    pub(super) async fn run(mut self, mut events: BoxStream<'static, PartitionEvent>, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                event = events.next() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                // Only when no message waits: missing data is then missing.
                _ = ticks.tick() => self.tick().await,
            }
        }
        self.acknowledge().await;
    }

    async fn take(&mut self, event: PartitionEvent) {
        match event {
            PartitionEvent::Acquired => {
                self.forget();
                self.is_replaying = true;
            }
            PartitionEvent::Released => self.forget(),
            PartitionEvent::Replayed(message) => self.analyse(&message),
            PartitionEvent::Delivery(delivery) => {
                if std::mem::take(&mut self.is_replaying) {
                    // Acknowledged messages were published.
                    self.patients.values_mut().for_each(Patient::skip_to_data);
                }
                let mrn = delivery.message.mrn;
                self.analyse(&delivery.message);
                self.last = Some(delivery);
                self.unacknowledged += 1;
                self.publish(mrn).await;
                if self.unacknowledged >= ACK_MESSAGES {
                    self.acknowledge().await;
                }
            }
        }
    }

    fn forget(&mut self) {
        self.patients.clear();
        self.last = None;
        self.unacknowledged = 0;
        self.is_replaying = false;
    }

    fn analyse(&mut self, message: &WaveMessage) {
        let patient = self
            .patients
            .entry(message.mrn)
            .or_insert_with(|| Patient::new(message.mrn, self.published.latest(message.mrn).as_deref()));
        if let Err(reason) = patient.take(message) {
            tracing::warn!(stream = %message.stream, kind = message.kind.name(), reason, "a message of a waveform stream is not valid");
        }
    }

    /// Publishes the seconds of a patient that are due.
    async fn publish(&mut self, mrn: Mrn) {
        let Some(last) = self.last.as_ref() else { return };
        let (is_up_to_date, saves_time) = (last.pending == 0, last.pending > BEHIND);
        let Some(patient) = self.patients.get_mut(&mrn) else { return };
        while let Some(vitals) = patient.next_vitals(is_up_to_date, saves_time) {
            // Another worker was faster, or the clock was set back.
            if self.published.has(&vitals) {
                continue;
            }
            if !last.is_active() {
                return;
            }
            match self.waves.publish_vitals(&vitals).await {
                Ok(()) => {
                    self.published.note(vitals.clone());
                    let age_ms = Timestamp::now().millis_since(vitals.time).max(0);
                    metrics::histogram!("bedside_vitals_age_seconds").record(age_ms as f64 / 1_000.0);
                }
                Err(error) => tracing::warn!(error = %error, "vitals could not be published"),
            }
        }
    }

    async fn tick(&mut self) {
        if self.last.is_none() {
            return;
        }
        let patients: Vec<Mrn> = self.patients.keys().copied().collect();
        for mrn in patients {
            self.publish(mrn).await;
        }
        self.patients.retain(|_, patient| patient.is_kept());
        self.acknowledge().await;
    }

    async fn acknowledge(&mut self) {
        if self.unacknowledged == 0 {
            return;
        }
        let Some(last) = &self.last else { return };
        self.unacknowledged = 0;
        if let Err(error) = last.ack_through().await {
            tracing::debug!(error = %error, "waveforms could not be acknowledged");
        }
    }
}
