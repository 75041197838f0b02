//! Event streams: server-sent events for clients without access to the broker.
//!
//! A stream starts with `ready`, which contains the keep-alive interval. `updated` contains the new summary
//! of a patient. `alarm` contains an alarm that has changed; `limits`, `wards` and `patient` state what to load again. `missed` means that events may have been lost, so the client must load the summaries again.
//! `cut-off` means that the broker is unreachable and no events arrive until the next `missed`.
//!
//! A stream ends when the shutdown begins or the client's token is revoked.

pub(crate) mod notifier;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use proto_json::Mrn;
use runtime::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::admission::Permit;
use crate::app::App;
use crate::auth::tokens::{Client, Tokens};
use crate::http::params::PathMrn;
use notifier::{Event, Subscription};

fn disconnected() -> sse::Event {
    sse::Event::default().event("cut-off").data("{}")
}

fn lagged() -> sse::Event {
    sse::Event::default().event("missed").data("{}")
}

/// Counts an open stream and holds its permit.
pub(crate) struct OpenStream(#[expect(dead_code, reason = "held, not read")] Option<Permit>);

impl OpenStream {
    pub(crate) fn new(permit: Option<Permit>) -> Self {
        metrics::gauge!("bedside_gateway_watchers").increment(1);
        OpenStream(permit)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("bedside_gateway_watchers").decrement(1);
    }
}

/// `GET /api/v1/events`: the events of all patients.
pub(crate) async fn of_all(State(app): State<Arc<App>>, Extension(client): Extension<Client>) -> Response {
    open(&app, client, None)
}

/// `GET /api/v1/patients/{mrn}/events`: the events of one patient, who may be unknown yet.
pub(crate) async fn of_patient(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    PathMrn(mrn): PathMrn,
) -> Response {
    open(&app, client, Some(mrn))
}

fn open(app: &Arc<App>, client: Client, patient: Option<Mrn>) -> Response {
    let permit = match app.admission.event_stream(&client) {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let events = EventStream {
        subscription: app.notifier.subscribe(),
        patient,
        keep_alive: keep_alive(app.config.events_keep_alive),
        keep_alive_event: {
            let app = app.clone();
            Box::new(move || app.clock.event("keep-alive", app.config.events_keep_alive))
        },
        shutdown: app.shutdown.clone(),
        access: app.tokens.clone().map(|tokens| (tokens, client)),
        _open: OpenStream::new(Some(permit)),
    };
    // The stream has subscribed already: every update after `ready` arrives.
    let ready = app.clock.event("ready", app.config.events_keep_alive);
    let disconnected = app.notifier.is_disconnected().then(disconnected);
    let events = stream::iter([ready].into_iter().chain(disconnected))
        .chain(stream::unfold(events, |mut events| async move { Some((events.next().await?, events)) }));
    let mut response = Sse::new(events.map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Prevents nginx and similar proxies from buffering the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn keep_alive(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(10));
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// State of an open stream.
struct EventStream {
    subscription: Subscription,
    /// The patient whose events are sent; `None` for all patients.
    patient: Option<Mrn>,
    /// axum's keep-alive is not used, because its event is fixed; this one contains the server time.
    keep_alive: Interval,
    keep_alive_event: Box<dyn Fn() -> sse::Event + Send + Sync>,
    shutdown: Shutdown,
    access: Access,
    _open: OpenStream,
}

impl EventStream {
    /// Returns the next event to send, or `None` if the stream ends.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return None,
                () = revoked(&mut self.access) => return None,
                event = self.subscription.next() => match event? {
                    Event::Updated(mrn, event) if self.patient.is_none_or(|patient| patient == mrn) => {
                        self.keep_alive.reset();
                        return Some(event);
                    }
                    Event::Updated(..) => {}
                    Event::Changed(mrn, event)
                        if mrn.is_none() || self.patient.is_none() || self.patient == mrn =>
                    {
                        self.keep_alive.reset();
                        return Some(event);
                    }
                    Event::Changed(..) => {}
                    Event::Disconnected => return Some(disconnected()),
                    Event::Lagged => return Some(lagged()),
                },
                _ = self.keep_alive.tick() => return Some((self.keep_alive_event)()),
            }
        }
    }
}

/// The valid tokens and a client, if tokens are configured.
pub(crate) type Access = Option<(watch::Receiver<Arc<Tokens>>, Client)>;

/// Resolves when the client's token is revoked.
pub(crate) async fn revoked(access: &mut Access) {
    if let Some((tokens, client)) = access
        && tokens.wait_for(|tokens| !tokens.is_valid(client)).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::notifier::{BUFFER, GROUPS, Notifier};
    use super::*;

    const DISCONNECTED: &str = "event: cut-off\ndata: {}\n\n";
    const LAGGED: &str = "event: missed\ndata: {}\n\n";

    fn event_stream(notifier: &Notifier, patient: Option<u64>) -> EventStream {
        EventStream {
            subscription: notifier.subscribe(),
            patient: patient.map(|mrn| Mrn::new(mrn).unwrap()),
            keep_alive: keep_alive(Duration::from_secs(3600)),
            keep_alive_event: Box::new(sse::Event::default),
            shutdown: Shutdown::new(),
            access: None,
            _open: OpenStream::new(None),
        }
    }

    /// The bytes of the next event.
    async fn next(events: &mut EventStream) -> Option<String> {
        let event = events.next().await?;
        let response = Sse::new(stream::iter([Ok::<_, Infallible>(event)])).into_response();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn lagging_stream_reports_missed_and_continues() {
        let notifier = Notifier::new();
        let (mut slow, mut of_another) = (event_stream(&notifier, None), event_stream(&notifier, Some(8)));
        let mrn = Mrn::new(7).unwrap();
        for index in 0..=BUFFER {
            let event = sse::Event::default().data(index.to_string());
            notifier.notify(Event::Updated(mrn, event)).await;
        }
        assert_eq!(next(&mut slow).await.as_deref(), Some(LAGGED));
        assert_eq!(next(&mut slow).await.as_deref(), Some("data: 1\n\n"));
        assert_eq!(next(&mut of_another).await.as_deref(), Some(LAGGED));
        notifier.notify(Event::Lagged).await;
        assert_eq!(next(&mut of_another).await.as_deref(), Some(LAGGED));
        of_another.shutdown.begin();
        assert_eq!(next(&mut of_another).await, None);
    }

    #[tokio::test]
    async fn disconnected_state_lasts_until_updates_arrive_again() {
        let notifier = Notifier::new();
        let mut events = event_stream(&notifier, None);
        notifier.notify(Event::Disconnected).await;
        assert!(notifier.is_disconnected(), "new streams are informed at once");
        assert_eq!(next(&mut events).await.as_deref(), Some(DISCONNECTED));
        notifier.notify(Event::Lagged).await;
        assert!(!notifier.is_disconnected());
        assert_eq!(next(&mut events).await.as_deref(), Some(LAGGED));
    }

    #[tokio::test]
    async fn streams_are_woken_in_groups_with_other_tasks_in_between() {
        const PER_GROUP: usize = 10;
        const ALL: usize = PER_GROUP * GROUPS;
        let notifier = Arc::new(Notifier::new());
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        for _ in 0..ALL {
            let (mut events, counts) = (event_stream(&notifier, None), counts.clone());
            tokio::spawn(async move {
                counts.0.fetch_add(1, Ordering::Relaxed);
                assert_eq!(next(&mut events).await.as_deref(), Some(LAGGED));
                counts.1.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (waiting, notified) = (|| counts.0.load(Ordering::Relaxed), || counts.1.load(Ordering::Relaxed));
        while waiting() < ALL {
            tokio::task::yield_now().await;
        }
        let notifying = tokio::spawn(async move { notifier.notify(Event::Lagged).await });
        let mut max = 0;
        while notified() < ALL {
            let before = notified();
            tokio::task::yield_now().await;
            max = max.max(notified() - before);
        }
        notifying.await.unwrap();
        assert!(max <= 2 * PER_GROUP, "{max} streams were notified in a row");
    }
}
