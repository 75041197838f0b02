//! What a subscription to updates yields.

use proto_json::{PatientUpdated, SystemEvent};

/// An event of a subscription.
#[derive(Debug)]
pub(super) enum SourceEvent {
    Updated(Box<PatientUpdated>),
    System(SystemEvent),
    /// The gateway has lost the broker. No updates arrive until [`SourceEvent::Lagged`].
    Disconnected,
    /// Updates may have been missed.
    Lagged,
}

/// The subscription has ended, for this reason.
#[derive(Debug)]
pub(super) struct SubscriptionEnded(pub(super) String);
