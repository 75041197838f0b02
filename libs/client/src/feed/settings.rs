//! Settings of a feed.

use std::time::Duration;

use proto_json::Mrn;

#[cfg(feature = "nats")]
use super::nats::NatsSettings;
use crate::Gateway;

/// Settings of a feed.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// Source of snapshots and server-sent events.
    pub gateway: Gateway,
    /// One patient, or all patients if `None`.
    pub of: Option<Mrn>,
    /// Whether alarms are loaded and reported, too.
    pub alarms: bool,
    /// Connection to NATS, for clients that have access to it.
    #[cfg(feature = "nats")]
    pub nats: Option<NatsSettings>,
    /// Interval at which the snapshot is loaded while no updates are pushed.
    pub poll_every: Duration,
    /// Interval at which the snapshot is loaded while updates are pushed. Corrects the effect of lost updates.
    pub reload_every: Duration,
    /// Longest silence of a connection before it counts as broken. At least 2.4 keep-alive intervals of the gateway are used.
    pub silence: Duration,
}

impl FeedSettings {
    /// Settings for one patient, or all patients, of this gateway.
    #[must_use]
    pub fn new(gateway: Gateway, of: Option<Mrn>) -> Self {
        FeedSettings {
            gateway,
            of,
            alarms: false,
            #[cfg(feature = "nats")]
            nats: None,
            poll_every: Duration::from_secs(5),
            reload_every: Duration::from_secs(60),
            silence: Duration::from_secs(20),
        }
    }
}
