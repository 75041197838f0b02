//! The source of pushed updates: NATS or the gateway.

use super::event::FeedMode;
use super::event_stream::EventStream;
use super::subscription::{SourceEvent, SubscriptionEnded};

/// An active subscription.
#[derive(Debug)]
pub(super) enum Source {
    ServerSentEvents(EventStream),
    #[cfg(feature = "nats")]
    Nats(super::nats::Subscription),
}

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
