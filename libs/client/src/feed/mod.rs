//! Updates of patients and alarms: subscribes, loads a snapshot, and reports newer updates. Repeats this after each reconnect.
//!
//! Updates arrive over NATS if it is configured and reachable, otherwise as server-sent events of the gateway. While neither
//! works, the snapshot is polled. The feed changes the source on its own and reports which one it uses.

mod backoff;
mod event;
mod event_stream;
mod follow;
#[cfg(feature = "nats")]
mod nats;
mod seen;
mod settings;
mod source;
mod subscription;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) use backoff::Backoff;
pub use event::{AlarmsEvent, ConnectionState, FeedEvent, FeedMode, Outdated};
#[cfg(feature = "nats")]
pub use nats::{DEFAULT_NATS_INBOX, NatsCredentials, NatsSettings};
pub use settings::FeedSettings;

/// Events that are buffered for a slow reader.
const MAX_BUFFERED: usize = 256;

/// A running feed. It ends when it is dropped.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts a feed on the current tokio runtime.
    #[must_use]
    pub fn start(settings: FeedSettings) -> Self {
        let (sender, events) = mpsc::channel(MAX_BUFFERED);
        Feed { events, task: tokio::spawn(follow::run(settings, sender)) }
    }

    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        self.events.recv().await
    }
}

impl Stream for Feed {
    type Item = FeedEvent;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FeedEvent>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
