//! The source of pushed updates: NATS or the gateway.

use proto_json::PatientUpdated;

use super::FeedMode;
use super::event_stream::EventStream;

/// An active subscription.
#[derive(Debug)]
pub(super) enum Source {
    ServerSentEvents(EventStream),
    #[cfg(feature = "nats")]
    Nats(super::nats::Subscription),
}

/// An event of a subscription.
#[derive(Debug)]
pub(super) enum SourceEvent {
    Updated(Box<PatientUpdated>),
    /// The gateway has lost the broker. No updates arrive until [`SourceEvent::Lagged`].
    Disconnected,
    /// Updates may have been missed.
    Lagged,
}

/// The subscription has ended, for this reason.
#[derive(Debug)]
pub(super) struct SubscriptionEnded(pub(super) String);

impl Source {
    pub(super) fn mode(&self) -> FeedMode {
        match self {
            Source::ServerSentEvents(_) => FeedMode::ServerSentEvents,
            #[cfg(feature = "nats")]
            Source::Nats(_) => FeedMode::Nats,
        }
    }

    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<SourceEvent, SubscriptionEnded> {
        match self {
            Source::ServerSentEvents(events) => events.next().await,
            #[cfg(feature = "nats")]
            Source::Nats(subscription) => subscription.next().await,
        }
    }
}
