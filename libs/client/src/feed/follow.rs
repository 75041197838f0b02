//! The one task of a feed: finds the best way that works, follows it, and never leaves the reader with less than the
//! truth.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use proto_json::{DamagedRecord, Page, PatientSummary};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::known::Known;
use super::source::{Lost, Pushed, Source};
use super::stream::EventStream;
use super::{ConnectionState, FeedEvent, FeedMode, FeedSettings};
use crate::ClientError;

/// How long a stream of events may take to open.
const OPEN_LIMIT: Duration = Duration::from_millis(1500);
/// How often the gateway is asked whether it is there while updates come by another way, and how long it has.
const PROBE_EVERY: Duration = Duration::from_millis(750);
const PROBE_LIMIT: Duration = Duration::from_millis(1000);
/// Wait after a refused token: only a person can mend that, and guessing is what gateways guard against.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// How long the broker has at the start before the gateway's own stream is taken.
#[cfg(feature = "nats")]
const HEAD_START: Duration = Duration::from_millis(500);

/// The broker's subscription as a source; never without a broker. A macro, so that only one field is borrowed.
#[cfg(feature = "nats")]
macro_rules! broker_ready {
    ($follower:ident) => {
        FutureExt::map($follower.broker.ready(), Source::Nats)
    };
}
#[cfg(not(feature = "nats"))]
macro_rules! broker_ready {
    ($follower:ident) => {
        std::future::pending::<Source>()
    };
}

/// The reader is gone.
struct Gone;

struct Follower {
    settings: FeedSettings,
    tell: mpsc::Sender<FeedEvent>,
    state: Option<ConnectionState>,
    known: Known,
    damaged: Vec<DamagedRecord>,
    #[cfg(feature = "nats")]
    broker: super::nats::Broker,
}

/// Runs until the reader is gone.
pub(super) async fn run(settings: FeedSettings, tell: mpsc::Sender<FeedEvent>) {
    #[cfg(feature = "nats")]
    let broker = super::nats::Broker::start(settings.nats.clone(), settings.of, settings.silence);
    let mut follower = Follower {
        settings,
        tell,
        state: None,
        known: Known::default(),
        damaged: Vec::new(),
        #[cfg(feature = "nats")]
        broker,
    };
    let Err(Gone) = follower.run().await;
}

impl Follower {
    async fn run(&mut self) -> Result<std::convert::Infallible, Gone> {
        let mut better = self.head_start().await;
        loop {
            let source = match better.take() {
                Some(source) => source,
                None => self.find().await?,
            };
            better = self.follow(source).await?;
        }
    }

    /// Polls until something pushes.
    async fn find(&mut self) -> Result<Source, Gone> {
        let mut backoff = Backoff::new();
        let mut poll_at = Instant::now();
        loop {
            let FeedSettings { gateway, of, silence, .. } = &self.settings;
            let failure = tokio::select! {
                opened = EventStream::open(gateway, *of, OPEN_LIMIT, *silence) => match opened {
                    Ok(events) => return Ok(Source::ServerSentEvents(events)),
                    Err(failure) => failure,
                },
                source = broker_ready!(self) => return Ok(source),
                () = self.tell.closed() => return Err(Gone),
            };
            if let ClientError::Unreachable { .. } = &failure {
                self.report(FeedMode::Offline, Some(&failure)).await?;
                poll_at = Instant::now();
            } else if poll_at <= Instant::now() {
                match self.load().await {
                    Ok(snapshot) => {
                        self.pass_snapshot(snapshot).await?;
                        self.report(FeedMode::Polling, Some(&failure)).await?;
                        poll_at = Instant::now() + self.settings.poll_every;
                    }
                    Err(error) => self.report(FeedMode::Offline, Some(&error)).await?,
                }
            }
            let refused = matches!(failure, ClientError::Unauthorized(_) | ClientError::Forbidden(_));
            let wait = if refused { REFUSED_WAIT } else { backoff.next() };
            tokio::select! {
                () = sleep(wait) => {}
                source = broker_ready!(self) => return Ok(source),
                () = self.tell.closed() => return Err(Gone),
            }
        }
    }

    /// Follows a subscription that is in force, until it is lost (`None`) or a better one is.
    ///
    /// Nothing is read from it while a snapshot is loaded: what is announced meanwhile waits, bounded, where it comes
    /// from, and passes afterwards if it is newer.
    async fn follow(&mut self, mut source: Source) -> Result<Option<Source>, Gone> {
        let mut backoff = Backoff::new();
        let mut loaded = false;
        // The gateway answers, but hears nothing from the broker: until it does, its word is asked for.
        let mut is_cut_off = false;
        let mut load_at = Instant::now();
        let by_gateway = source.mode() == FeedMode::ServerSentEvents;
        let mut probe = self.gateway_gone(by_gateway);
        loop {
            tokio::select! {
                () = self.tell.closed() => return Err(Gone),
                () = sleep_until(load_at) => match self.load().await {
                    Ok(snapshot) => {
                        self.pass_snapshot(snapshot).await?;
                        let pause = if is_cut_off {
                            self.report_cut_off().await?;
                            self.settings.poll_every
                        } else {
                            self.report(source.mode(), None).await?;
                            self.settings.reload_every
                        };
                        loaded = true;
                        backoff.reset();
                        load_at = Instant::now() + pause;
                        probe = self.gateway_gone(by_gateway);
                    }
                    Err(error) => {
                        // A stream that the gateway pushes goes on as long as it goes on.
                        if !loaded || (!by_gateway && error.is_unreachable()) {
                            self.report(FeedMode::Offline, Some(&error)).await?;
                        }
                        load_at = Instant::now() + backoff.next();
                    }
                },
                pushed = source.next(), if loaded => match pushed {
                    Ok(Pushed::Updated(update)) => {
                        if let Some(time) = update.sent_at {
                            self.settings.gateway.server_time().heard(time);
                        }
                        let ours = self.settings.of.is_none_or(|mrn| mrn == update.patient.mrn);
                        if ours && self.known.advance(&update.patient) {
                            self.tell(FeedEvent::Updated(update)).await?;
                        }
                    }
                    Ok(Pushed::Disconnected) => {
                        is_cut_off = true;
                        self.report_cut_off().await?;
                        load_at = Instant::now() + self.settings.poll_every;
                    }
                    Ok(Pushed::Lagged) => {
                        is_cut_off = false;
                        loaded = false;
                        load_at = Instant::now();
                    }
                    Err(Lost(reason)) => {
                        tracing::debug!(reason, mode = ?source.mode(), "lost the push of updates");
                        if !by_gateway {
                            self.seek_broker();
                        }
                        return Ok(None);
                    }
                },
                // The broker may push on while nothing can be uploaded or fetched: that is not "connected".
                error = &mut probe => {
                    self.report(FeedMode::Offline, Some(&error)).await?;
                    load_at = Instant::now() + backoff.next();
                    probe = std::future::pending().boxed();
                }
                better = broker_ready!(self), if by_gateway => return Ok(Some(better)),
            }
        }
    }

    /// Resolves when the gateway does not answer. Whoever is pushed by the gateway itself learns of it that way.
    fn gateway_gone(&self, by_gateway: bool) -> BoxFuture<'static, ClientError> {
        if by_gateway {
            return std::future::pending().boxed();
        }
        let gateway = self.settings.gateway.clone();
        async move {
            loop {
                sleep(PROBE_EVERY).await;
                if let Err(error) = gateway.check(PROBE_LIMIT).await {
                    return error;
                }
            }
        }
        .boxed()
    }

    async fn load(&self) -> Result<Page<PatientSummary>, ClientError> {
        match self.settings.of {
            Some(mrn) => {
                let items = self.settings.gateway.patient(mrn).await?.into_iter().collect();
                Ok(Page { items, next: None, damaged: Vec::new() })
            }
            None => self.settings.gateway.all_patients(None).await,
        }
    }

    async fn pass_snapshot(&mut self, snapshot: Page<PatientSummary>) -> Result<(), Gone> {
        let Page { items, damaged, .. } = snapshot;
        if self.known.replace(&items) {
            self.tell(FeedEvent::Snapshot(items)).await?;
        }
        if self.damaged != damaged {
            self.damaged.clone_from(&damaged);
            self.tell(FeedEvent::Damaged(damaged)).await?;
        }
        Ok(())
    }

    async fn report_cut_off(&mut self) -> Result<(), Gone> {
        let reason = "the gateway has lost the broker: nothing is pushed, and uploads may fail";
        self.report_state(FeedMode::Polling, Some(reason.to_owned()), false).await
    }

    async fn report(&mut self, mode: FeedMode, reason: Option<&ClientError>) -> Result<(), Gone> {
        let token_rejected = matches!(reason, Some(ClientError::Unauthorized(_)));
        self.report_state(mode, reason.map(ToString::to_string), token_rejected).await
    }

    async fn report_state(
        &mut self,
        mode: FeedMode,
        reason: Option<String>,
        token_rejected: bool,
    ) -> Result<(), Gone> {
        let since = match &self.state {
            Some(state) if state.mode == mode && state.reason == reason => return Ok(()),
            Some(state) if state.mode == mode => state.since,
            _ => self.settings.gateway.now(),
        };
        let state = ConnectionState { mode, since, reason, token_rejected };
        self.state = Some(state.clone());
        self.tell(FeedEvent::Connection(state)).await
    }

    async fn tell(&self, event: FeedEvent) -> Result<(), Gone> {
        self.tell.send(event).await.map_err(|_| Gone)
    }

    #[cfg(feature = "nats")]
    async fn head_start(&mut self) -> Option<Source> {
        self.broker.is_sought().then_some(())?;
        tokio::time::timeout(HEAD_START, self.broker.ready()).await.ok().map(Source::Nats)
    }

    #[cfg(not(feature = "nats"))]
    async fn head_start(&mut self) -> Option<Source> {
        None
    }

    fn seek_broker(&mut self) {
        #[cfg(feature = "nats")]
        self.broker.seek();
    }
}
