//! Distributes the updates of the bus to all event streams.
//!
//! There is one bus subscription per process. Each update is encoded once and broadcast.
//!
//! Failure modes: a subscription that falls behind by more than the buffer receives `Lagged`. While the
//! broker is unreachable, all subscriptions receive `Disconnected`; afterwards they receive `Lagged`, because
//! updates may have been lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::sse;
use bus::{BusError, PubSub, SystemSignal, UpdateEvent};
use futures::{StreamExt, stream};
use proto_json::{Mrn, PatientUpdated, SystemEvent, WardId};
use runtime::{Backoff, Shutdown};
use serde::Serialize;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, oneshot, watch};

use crate::auth::wards::Wards;

/// Number of events by which a subscription may fall behind.
pub(super) const BUFFER: usize = 1024;
/// Number of groups in which subscriptions are woken.
pub(super) const GROUPS: usize = 64;

/// Delays between attempts to subscribe to the bus.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// An event for all subscriptions.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A patient has changed. The event is encoded already.
    Updated(Mrn, sse::Event),
    /// An alarm, limits, wards or a patient have changed. The event is encoded already. Without a patient, it is for all streams.
    Changed(Option<Mrn>, sse::Event),
    /// A patient has left a ward; `None` if the ward is not known.
    Left(Option<WardId>),
    /// The broker is unreachable.
    Disconnected,
    /// Events may have been lost.
    Lagged,
}

/// Distributes the updates of the bus to all event streams.
#[derive(Debug)]
pub(crate) struct Notifier {
    events: broadcast::Sender<Event>,
    /// Wakes the subscriptions of each group. If thousands of tasks were woken at the same time, all of them
    /// would run before the next request.
    wakers: [watch::Sender<()>; GROUPS],
    next_group: AtomicUsize,
    is_disconnected: AtomicBool,
}

impl Notifier {
    pub(crate) fn new() -> Self {
        Notifier {
            events: broadcast::Sender::new(BUFFER),
            wakers: std::array::from_fn(|_| watch::Sender::new(())),
            next_group: AtomicUsize::new(0),
            is_disconnected: AtomicBool::new(false),
        }
    }

    /// Whether the broker is unreachable.
    pub(super) fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::Acquire)
    }

    /// Forwards the updates of the bus until the shutdown begins. Subscribes again after an outage.
    /// `subscribed` is sent after the first subscription.
    pub(crate) async fn run(
        &self,
        pubsub: Arc<dyn PubSub>,
        wards: &Wards,
        subscribed: oneshot::Sender<()>,
        shutdown: Shutdown,
    ) {
        let mut subscribed = Some(subscribed);
        let mut backoff = Backoff::new(FIRST_RETRY, MAX_RETRY);
        while !shutdown.has_begun() {
            match shutdown.unless_begun(subscribe(&*pubsub)).await {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the subscription to updates failed; retrying");
                    wards.lost(true);
                    self.notify(Event::Disconnected).await;
                }
                Some(Ok(mut updates)) => {
                    backoff.reset();
                    if let Some(subscribed) = subscribed.take() {
                        let _ = subscribed.send(());
                    }
                    // Updates before this subscription may have been lost.
                    wards.lost(false);
                    self.notify(Event::Lagged).await;
                    while let Some(Some(event)) = shutdown.unless_begun(updates.next()).await {
                        // The place of the patient is known before the streams get the event.
                        let event = match event {
                            Received::Update(UpdateEvent::Disconnected)
                            | Received::System(SystemSignal::Disconnected) => {
                                wards.lost(true);
                                Event::Disconnected
                            }
                            Received::Update(UpdateEvent::Lagged)
                            | Received::System(SystemSignal::Lagged) => {
                                wards.lost(false);
                                Event::Lagged
                            }
                            Received::Update(UpdateEvent::Updated(update)) => {
                                if let Some(left) = wards.observe(&update) {
                                    self.notify(Event::Left(left)).await;
                                }
                                encode(&update)
                            }
                            Received::System(SystemSignal::Event(event)) => encode_event(&event),
                        };
                        self.notify(event).await;
                    }
                    tracing::debug!("the subscription to updates ended");
                    wards.lost(true);
                    self.notify(Event::Disconnected).await;
                }
            }
            let _ = shutdown.unless_begun(backoff.wait()).await;
        }
    }

    /// Sends an event and wakes the groups one after the other. Yields between two groups, so that other
    /// tasks run.
    pub(super) async fn notify(&self, event: Event) {
        // Set the state before sending: a new subscription then learns it from the state, the event, or both.
        match &event {
            Event::Disconnected => self.is_disconnected.store(true, Ordering::Release),
            Event::Lagged => self.is_disconnected.store(false, Ordering::Release),
            Event::Updated(..) | Event::Changed(..) | Event::Left(_) => {}
        }
        // An error only means that there is no subscription.
        let receivers = self.events.send(event).unwrap_or(0);
        metrics::counter!("bedside_gateway_events_sent_total").increment(receivers as u64);
        for waker in self.wakers.iter().filter(|waker| waker.receiver_count() > 0) {
            waker.send_replace(());
            tokio::task::yield_now().await;
        }
    }

    /// Subscribes to events from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        let events = self.events.subscribe();
        let group = self.next_group.fetch_add(1, Ordering::Relaxed) % GROUPS;
        Subscription { events, waker: self.wakers[group].subscribe() }
    }
}

/// What the bus delivers.
enum Received {
    Update(UpdateEvent),
    System(SystemSignal),
}

/// Subscribes to updates and system events.
async fn subscribe(pubsub: &dyn PubSub) -> Result<stream::BoxStream<'static, Received>, BusError> {
    let updates = pubsub.subscribe(None).await?.map(Received::Update);
    let events = pubsub.subscribe_events().await?.map(Received::System);
    Ok(stream::select(updates, events).boxed())
}

/// Encodes a system event.
fn encode_event(event: &SystemEvent) -> Event {
    fn json(name: &str, data: &impl Serialize) -> Option<sse::Event> {
        Some(sse::Event::default().event(name).data(serde_json::to_string(data).ok()?))
    }
    let (mrn, encoded) = match event {
        SystemEvent::Alarm(update) => {
            let id = format!("{}/{}", update.alarm.id, update.alarm.version);
            (Some(update.alarm.mrn), json("alarm", update).map(|event| event.id(id)))
        }
        SystemEvent::Limits { .. } => (None, json("limits", event)),
        SystemEvent::Wards => (None, json("wards", event)),
        SystemEvent::Patient { mrn } => (Some(*mrn), json("patient", event)),
    };
    encoded.map_or(Event::Lagged, |encoded| Event::Changed(mrn, encoded))
}

/// Encodes an update. JSON contains no line breaks, so it fits in one `data` line.
fn encode(update: &PatientUpdated) -> Event {
    let event = sse::Event::default().id(update.patient.version.to_string()).event("updated");
    match serde_json::to_string(update) {
        Ok(json) => Event::Updated(update.patient.mrn, event.data(json)),
        Err(_) => Event::Lagged,
    }
}

/// Receives the events of the notifier.
pub(super) struct Subscription {
    events: broadcast::Receiver<Event>,
    waker: watch::Receiver<()>,
}

impl Subscription {
    /// Returns the next event, or `None` if the notifier has been dropped.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Lagged(_)) => return Some(Event::Lagged),
                Err(TryRecvError::Closed) => return None,
                // The waker is triggered after the event is sent, so no wake-up can be missed.
                Err(TryRecvError::Empty) => self.waker.changed().await.ok()?,
            }
        }
    }
}
