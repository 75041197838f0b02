//! One of the ways by which updates are pushed.

use proto_json::PatientUpdated;

use super::FeedMode;
use super::stream::EventStream;

/// A subscription in force.
#[derive(Debug)]
pub(super) enum Source {
    ServerSentEvents(EventStream),
    #[cfg(feature = "nats")]
    Nats(super::nats::Subscription),
}

/// What a subscription gives.
#[derive(Debug)]
pub(super) enum Pushed {
    Updated(Box<PatientUpdated>),
    /// Nothing will be heard until [`Pushed::Lagged`].
    Disconnected,
    /// Something may have been lost.
    Lagged,
}

/// The subscription is no longer in force, and why.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

impl Source {
    pub(super) fn mode(&self) -> FeedMode {
        match self {
            Source::ServerSentEvents(_) => FeedMode::ServerSentEvents,
            #[cfg(feature = "nats")]
            Source::Nats(_) => FeedMode::Nats,
        }
    }

    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Pushed, Lost> {
        match self {
            Source::ServerSentEvents(events) => events.next().await,
            #[cfg(feature = "nats")]
            Source::Nats(subscription) => subscription.next().await,
        }
    }
}
