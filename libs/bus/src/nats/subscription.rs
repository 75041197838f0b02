//! Subscriptions, which report when messages may have been lost.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Connection, History};
use crate::BusError;

/// Shortest time between two [`Signal::Lagged`] of a slow subscriber.
const LAGGED_INTERVAL: Duration = Duration::from_millis(200);

/// What a subscription yields.
pub(super) enum Signal<T> {
    /// A message.
    Message(T),
    /// The connection is lost. [`Signal::Lagged`] follows once it is restored.
    Disconnected,
    /// Messages may have been lost.
    Lagged,
}

/// Subscribes to a subject. Messages that `parse` refuses are logged and reported as lost.
pub(super) async fn subscribe<T: Send + 'static>(
    connection: &Connection,
    subject: String,
    parse: impl Fn(&Message) -> Result<T, String> + Send + 'static,
) -> Result<BoxStream<'static, Signal<T>>, BusError> {
    // Taken before the subscription is made, so that a connection loss in between is noticed.
    let history = connection.history();
    let seen = *history.borrow();
    let messages = connection.subscribe(subject).await?;
    let subscription = Subscription {
        connection: connection.clone(),
        messages,
        parse,
        history,
        seen,
        lagged_due: None,
        lagged_at: None,
    };
    let events = futures::stream::unfold(subscription, |mut subscription| async move {
        subscription.next().await.map(|signal| (signal, subscription))
    });
    Ok(events.boxed())
}

struct Subscription<P> {
    connection: Connection,
    messages: Subscriber,
    parse: P,
    history: watch::Receiver<History>,
    /// The history at the last check.
    seen: History,
    /// When to report that messages may have been lost.
    lagged_due: Option<Instant>,
    /// When that was last reported.
    lagged_at: Option<Instant>,
}

impl<P> Subscription<P> {
    async fn next<T>(&mut self) -> Option<Signal<T>>
    where
        P: Fn(&Message) -> Result<T, String>,
    {
        loop {
            let due = self.lagged_due;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.lagged_due = None;
                    self.lagged_at = Some(Instant::now());
                    return Some(Signal::Lagged);
                }
                changed = self.history.changed() => {
                    changed.ok()?;
                    if self.check_history().await {
                        return Some(Signal::Disconnected);
                    }
                }
                message = self.messages.next() => match (self.parse)(&message?) {
                    Ok(message) => return Some(Signal::Message(message)),
                    Err(error) => {
                        tracing::error!(error, "a message could not be parsed");
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
