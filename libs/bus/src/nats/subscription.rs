//! Subscriptions to updates, which report when updates may have been lost.

use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Connection, History};
use crate::{BusError, UpdateEvent};

/// Shortest time between two [`UpdateEvent::Lagged`] events of a slow subscriber.
const LAGGED_INTERVAL: Duration = Duration::from_millis(200);

pub(super) async fn subscribe(
    connection: &Connection,
    subject: String,
) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
    // Taken before the subscription is made, so that a connection loss in between is noticed.
    let history = connection.history();
    let seen = *history.borrow();
    let messages = connection.subscribe(subject).await?;
    let subscription = Subscription {
        connection: connection.clone(),
        messages,
        history,
        seen,
        lagged_due: None,
        lagged_at: None,
    };
    let events = futures::stream::unfold(subscription, |mut subscription| async move {
        subscription.next().await.map(|event| (event, subscription))
    });
    Ok(events.boxed())
}

struct Subscription {
    connection: Connection,
    messages: Subscriber,
    history: watch::Receiver<History>,
    /// The history at the last check.
    seen: History,
    /// When to report that updates may have been lost.
    lagged_due: Option<Instant>,
    /// When that was last reported.
    lagged_at: Option<Instant>,
}

impl Subscription {
    async fn next(&mut self) -> Option<UpdateEvent> {
        loop {
            let due = self.lagged_due;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.lagged_due = None;
                    self.lagged_at = Some(Instant::now());
                    return Some(UpdateEvent::Lagged);
                }
                changed = self.history.changed() => {
                    changed.ok()?;
                    if self.check_history().await {
                        return Some(UpdateEvent::Disconnected);
                    }
                }
                message = self.messages.next() => match serde_json::from_slice(&message?.payload) {
                    Ok(update) => return Some(UpdateEvent::Updated(Box::new(update))),
                    Err(error) => {
                        tracing::error!(error = %error, "an update could not be parsed");
                        self.lagged_due = Some(Instant::now());
                    }
                },
            }
        }
    }

    /// Compares the connection history with the last check. Returns whether the connection was lost since
    /// then.
    async fn check_history(&mut self) -> bool {
        let now = *self.history.borrow_and_update();
        let is_lost = self.seen.is_connected && !now.is_connected;
        if now.connects > self.seen.connects {
            // The subscriber reloads everything on `Lagged`, so the subscription must be active again before.
            // If this fails, the connection is lost once more and another event follows.
            let _ = self.connection.round_trip().await;
            self.lagged_due = Some(Instant::now());
        } else if now.overflows > self.seen.overflows && self.lagged_due.is_none() {
            let earliest = self.lagged_at.map_or_else(Instant::now, |at| at + LAGGED_INTERVAL);
            self.lagged_due = Some(earliest);
        }
        self.seen = now;
        is_lost
    }
}
