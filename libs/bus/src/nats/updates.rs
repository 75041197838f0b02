//! Listening to announcements, and noticing when some may have been lost.

use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::link::{History, Link};
use crate::{BusError, UpdateEvent};

/// A listener that is too slow is told so no more often than this.
const TOLD_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn listen(
    link: &Link,
    subject: String,
) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
    // The history is noted first: what happens while the subscription is made counts.
    let history = link.history();
    let known = *history.borrow();
    let heard = link.listen(subject).await?;
    let listener = Listener { link: link.clone(), heard, history, known, due: None, told: None };
    let events = futures::stream::unfold(listener, |mut listener| async move {
        listener.next().await.map(|event| (event, listener))
    });
    Ok(events.boxed())
}

struct Listener {
    link: Link,
    heard: Subscriber,
    history: watch::Receiver<History>,
    /// What has happened up to the last time this was looked at.
    known: History,
    /// When to tell that something was missed.
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Listener {
    async fn next(&mut self) -> Option<UpdateEvent> {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    self.told = Some(Instant::now());
                    return Some(UpdateEvent::Lagged);
                }
                changed = self.history.changed() => {
                    changed.ok()?;
                    if self.look().await {
                        return Some(UpdateEvent::Disconnected);
                    }
                }
                message = self.heard.next() => match serde_json::from_slice(&message?.payload) {
                    Ok(update) => return Some(UpdateEvent::Updated(Box::new(update))),
                    Err(error) => {
                        tracing::error!(error = %error, "an announcement could not be read");
                        self.due = Some(Instant::now());
                    }
                },
            }
        }
    }

    /// Looks at what has happened to the connection. Gives whether it is lost now.
    async fn look(&mut self) -> bool {
        let now = *self.history.borrow_and_update();
        let is_lost = self.known.is_connected && !now.is_connected;
        if now.connects > self.known.connects {
            // Whoever loads everything anew must not do so before the subscription is in force again. If this fails, the
            // connection is lost once more, and there is another time to tell.
            let _ = self.link.round_trip().await;
            self.due = Some(Instant::now());
        } else if now.overflows > self.known.overflows && self.due.is_none() {
            let earliest = self.told.map_or_else(Instant::now, |told| told + TOLD_EVERY);
            self.due = Some(earliest);
        }
        self.known = now;
        is_lost
    }
}
