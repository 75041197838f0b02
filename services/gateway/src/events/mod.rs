//! Event streams: push for whoever has no access to the broker.
//!
//! The gateway listens to the bus once and shares what it hears, written out already, with every watcher. Whoever is too
//! slow, and everybody after an outage of the broker, is told `missed` and loads summaries anew; while the outage lasts,
//! everybody knows by `cut-off` that nothing will be heard.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bus::{PubSub, UpdateEvent};
use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::{Mrn, PatientUpdated};
use runtime::{Backoff, Shutdown};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::App;
use crate::admission::Permit;
use crate::auth::tokens::{Client, Tokens};
use crate::http::params::PathMrn;

/// Events that a watcher may lag behind.
const BUFFERED: usize = 1024;
/// Groups in which watchers are told that there is something to hear.
const GROUPS: usize = 64;

const CUT_OFF: Bytes = Bytes::from_static(b"event: cut-off\ndata: {}\n\n");
const MISSED: Bytes = Bytes::from_static(b"event: missed\ndata: {}\n\n");

/// What all watchers share.
#[derive(Debug, Clone)]
enum Heard {
    Updated(Mrn, Bytes),
    Disconnected,
    Lagged,
}

/// Shares the announcements of the bus with the watchers.
#[derive(Debug)]
pub(crate) struct Hub {
    heard: broadcast::Sender<Heard>,
    /// What wakes the watchers, one for each group: thousands of them, woken in the same moment, would all be worked on
    /// before the next request.
    bells: [watch::Sender<()>; GROUPS],
    next_group: AtomicUsize,
    /// The broker cannot be heard now.
    is_cut_off: AtomicBool,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Hub {
            heard: broadcast::Sender::new(BUFFERED),
            bells: std::array::from_fn(|_| watch::Sender::new(())),
            next_group: AtomicUsize::new(0),
            is_cut_off: AtomicBool::new(false),
        }
    }

    /// Listens to the bus until the shutdown begins, over outages. `listening` is told when it does for the first time.
    pub(crate) async fn listen(
        &self,
        pubsub: Arc<dyn PubSub>,
        listening: tokio::sync::oneshot::Sender<()>,
        shutdown: Shutdown,
    ) {
        let mut listening = Some(listening);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !shutdown.has_begun() {
            match shutdown.unless_begun(pubsub.subscribe(None)).await {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot listen to announcements; trying again");
                    self.tell(Heard::Disconnected).await;
                }
                Some(Ok(mut updates)) => {
                    backoff.reset();
                    if let Some(listening) = listening.take() {
                        let _ = listening.send(());
                    }
                    // Whoever watched before this moment may have missed something.
                    self.tell(Heard::Lagged).await;
                    while let Some(Some(event)) = shutdown.unless_begun(updates.next()).await {
                        self.tell(match event {
                            UpdateEvent::Disconnected => Heard::Disconnected,
                            UpdateEvent::Lagged => Heard::Lagged,
                            UpdateEvent::Updated(update) => {
                                Heard::Updated(update.patient.mrn, written_out(&update))
                            }
                        })
                        .await;
                    }
                    tracing::debug!("the stream of announcements ended");
                    self.tell(Heard::Disconnected).await;
                }
            }
            let _ = shutdown.unless_begun(backoff.wait()).await;
        }
    }

    /// Shares what was heard, and wakes one group of watchers after the other; in between it is the turn of others.
    async fn tell(&self, heard: Heard) {
        // Before it is sent: whoever joins in between learns it one way or the other, or both.
        match &heard {
            Heard::Disconnected => self.is_cut_off.store(true, Ordering::Release),
            Heard::Lagged => self.is_cut_off.store(false, Ordering::Release),
            Heard::Updated(..) => {}
        }
        // An error only says that nobody watches.
        let told = self.heard.send(heard).unwrap_or(0);
        metrics::counter!("bedside_gateway_events_sent_total").increment(told as u64);
        for bell in self.bells.iter().filter(|bell| bell.receiver_count() > 0) {
            bell.send_replace(());
            tokio::task::yield_now().await;
        }
    }

    /// What will be heard from now on.
    fn ear(&self) -> Ear {
        let heard = self.heard.subscribe();
        let group = self.next_group.fetch_add(1, Ordering::Relaxed) % GROUPS;
        Ear { heard, bell: self.bells[group].subscribe() }
    }
}

/// One who listens to the hub.
struct Ear {
    heard: broadcast::Receiver<Heard>,
    bell: watch::Receiver<()>,
}

impl Ear {
    /// The next that was heard; `None` when nothing can be heard any more.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.heard.try_recv() {
                Ok(heard) => return Some(heard),
                Err(TryRecvError::Lagged(_)) => return Some(Heard::Lagged),
                Err(TryRecvError::Closed) => return None,
                // The bell rings after it was said: whoever has heard nothing has not missed the bell.
                Err(TryRecvError::Empty) => self.bell.changed().await.ok()?,
            }
        }
    }
}

/// Counts an open stream.
struct Watching(#[expect(dead_code, reason = "held, not read")] Option<Permit>);

impl Watching {
    fn new(permit: Option<Permit>) -> Self {
        metrics::gauge!("bedside_gateway_watchers").increment(1);
        Watching(permit)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        metrics::gauge!("bedside_gateway_watchers").decrement(1);
    }
}

/// The event as it goes over the wire. JSON has no line ends of its own, so one `data` line is enough.
fn written_out(update: &PatientUpdated) -> Bytes {
    match serde_json::to_string(update) {
        Ok(json) => Bytes::from(format!("id: {}\nevent: updated\ndata: {json}\n\n", update.patient.version)),
        Err(_) => MISSED,
    }
}

/// `GET /api/v1/events`
pub(crate) async fn of_all(State(app): State<Arc<App>>, Extension(client): Extension<Client>) -> Response {
    open(&app, client, None)
}

/// `GET /api/v1/patients/{mrn}/events`; a patient who is not known yet can be waited for.
pub(crate) async fn of_patient(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    PathMrn(mrn): PathMrn,
) -> Response {
    open(&app, client, Some(mrn))
}

fn open(app: &Arc<App>, client: Client, of: Option<Mrn>) -> Response {
    let permit = match app.admission.event_stream(&client) {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let watcher = Watcher {
        ear: app.hub.ear(),
        of,
        keep_alive: keep_alive(app.config.events_keep_alive),
        state: {
            let app = app.clone();
            Box::new(move || app.clock.event("keep-alive", app.config.events_keep_alive))
        },
        shutdown: app.shutdown.clone(),
        access: app.tokens.clone().map(|tokens| (tokens, client)),
        _watching: Watching::new(Some(permit)),
    };
    // `ready` says: what is announced from now on arrives, and how long silence can last.
    let ready = app.clock.event("ready", app.config.events_keep_alive);
    let cut_off = app.hub.is_cut_off.load(Ordering::Acquire).then_some(CUT_OFF);
    let events = stream::iter([ready].into_iter().chain(cut_off))
        .chain(stream::unfold(watcher, |mut watcher| async move { Some((watcher.next().await?, watcher)) }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies of the nginx kind must not hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(events.map(Ok::<_, Infallible>))).into_response()
}

fn keep_alive(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(10));
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// One open stream.
struct Watcher {
    ear: Ear,
    of: Option<Mrn>,
    keep_alive: Interval,
    /// Makes the event that breaks the silence.
    state: Box<dyn Fn() -> Bytes + Send + Sync>,
    shutdown: Shutdown,
    /// The tokens in force and whoever watches, where there are tokens.
    access: Option<(watch::Receiver<Arc<Tokens>>, Client)>,
    _watching: Watching,
}

impl Watcher {
    /// What to send next; `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return None,
                () = revoked(&mut self.access) => return None,
                heard = self.ear.next() => match heard? {
                    Heard::Updated(mrn, event) if self.of.is_none_or(|of| of == mrn) => {
                        self.keep_alive.reset();
                        return Some(event);
                    }
                    Heard::Updated(..) => {}
                    Heard::Disconnected => return Some(CUT_OFF),
                    Heard::Lagged => return Some(MISSED),
                },
                _ = self.keep_alive.tick() => return Some((self.state)()),
            }
        }
    }
}

/// Resolves when the token of whoever watches is no longer one.
async fn revoked(access: &mut Option<(watch::Receiver<Arc<Tokens>>, Client)>) {
    if let Some((tokens, client)) = access
        && tokens.wait_for(|tokens| !tokens.still_know(client)).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(hub: &Arc<Hub>, of: Option<u64>) -> Watcher {
        Watcher {
            ear: hub.ear(),
            of: of.map(|mrn| Mrn::new(mrn).unwrap()),
            keep_alive: keep_alive(Duration::from_secs(3600)),
            state: Box::new(Bytes::new),
            shutdown: Shutdown::new(),
            access: None,
            _watching: Watching::new(None),
        }
    }

    #[tokio::test]
    async fn a_watcher_that_lags_is_told_that_it_missed_something_and_then_goes_on() {
        let hub = Arc::new(Hub::new());
        let (mut slow, mut of_another) = (watcher(&hub, None), watcher(&hub, Some(8)));
        let mrn = Mrn::new(7).unwrap();
        for index in 0..=BUFFERED {
            hub.tell(Heard::Updated(mrn, Bytes::from(index.to_string()))).await;
        }
        assert_eq!(slow.next().await, Some(MISSED));
        assert_eq!(slow.next().await, Some(Bytes::from_static(b"1")));
        assert_eq!(of_another.next().await, Some(MISSED));
        hub.tell(Heard::Lagged).await;
        assert_eq!(of_another.next().await, Some(MISSED));
        of_another.shutdown.begin();
        assert_eq!(of_another.next().await, None);
    }

    #[tokio::test]
    async fn a_hub_that_hears_nothing_itself_says_so_until_it_does_again() {
        let hub = Arc::new(Hub::new());
        let mut watcher = watcher(&hub, None);
        hub.tell(Heard::Disconnected).await;
        assert!(hub.is_cut_off.load(Ordering::Acquire), "who joins now is told at once");
        assert_eq!(watcher.next().await, Some(CUT_OFF));
        hub.tell(Heard::Lagged).await;
        assert!(!hub.is_cut_off.load(Ordering::Acquire));
        assert_eq!(watcher.next().await, Some(MISSED));
    }

    #[tokio::test]
    async fn few_watchers_are_woken_at_a_time_and_others_have_their_turn_in_between() {
        const IN_A_GROUP: usize = 10;
        const ALL: usize = IN_A_GROUP * GROUPS;
        let hub = Arc::new(Hub::new());
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        for _ in 0..ALL {
            let (mut watcher, counts) = (watcher(&hub, None), counts.clone());
            tokio::spawn(async move {
                counts.0.fetch_add(1, Ordering::Relaxed);
                assert_eq!(watcher.next().await, Some(MISSED));
                counts.1.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (waiting, told) = (|| counts.0.load(Ordering::Relaxed), || counts.1.load(Ordering::Relaxed));
        while waiting() < ALL {
            tokio::task::yield_now().await;
        }
        let telling = tokio::spawn(async move { hub.tell(Heard::Lagged).await });
        let mut most = 0;
        while told() < ALL {
            let before = told();
            tokio::task::yield_now().await;
            most = most.max(told() - before);
        }
        telling.await.unwrap();
        assert!(most <= 2 * IN_A_GROUP, "{most} were told in a row");
    }
}
