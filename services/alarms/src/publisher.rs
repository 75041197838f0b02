//! Publishes alarms, and repeats what the broker did not take.

use std::collections::HashMap;
use std::sync::Arc;

use bus::PubSub;
use parking_lot::Mutex;
use proto_json::alarms::{Alarm, AlarmUpdated, LimitScope};
use proto_json::{RecordId, SystemEvent, Timestamp};

/// Alarms that wait at most; the oldest states of further ones are dropped, and clients load them after the outage.
const MAX_WAITING: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Publisher {
    pubsub: Arc<dyn PubSub>,
    /// The latest state of alarms that could not be published.
    waiting: Mutex<HashMap<RecordId, Alarm>>,
}

impl Publisher {
    pub(crate) fn new(pubsub: Arc<dyn PubSub>) -> Self {
        Publisher { pubsub, waiting: Mutex::default() }
    }

    /// Publishes an alarm. After a failure it waits for [`Publisher::retry`].
    pub(crate) async fn alarm(&self, alarm: &Alarm) {
        let update = AlarmUpdated { alarm: alarm.clone(), sent_at: Timestamp::now() };
        if let Err(error) = self.pubsub.publish_event(&SystemEvent::Alarm(Box::new(update))).await {
            tracing::warn!(%error, "an alarm was not published; this is repeated");
            let mut waiting = self.waiting.lock();
            let is_newer = waiting.get(&alarm.id).is_none_or(|known| known.version < alarm.version);
            if is_newer && (waiting.len() < MAX_WAITING || waiting.contains_key(&alarm.id)) {
                waiting.insert(alarm.id, alarm.clone());
            }
        }
    }

    /// Publishes that limits have changed.
    pub(crate) async fn limits(&self, scope: LimitScope) {
        if let Err(error) = self.pubsub.publish_event(&SystemEvent::Limits { scope }).await {
            tracing::warn!(%error, "a change of limits was not published");
        }
    }

    /// Publishes what waits.
    pub(crate) async fn retry(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for alarm in waiting.into_values() {
            self.alarm(&alarm).await;
        }
    }
}
