//! The task of a feed: selects the best available source of updates and follows it.
//!
//! Invariants: the reader receives a snapshot after each new subscription, so that it misses no update. While the gateway
//! cannot be reached, the reported mode is [`FeedMode::Offline`].

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use proto_json::{DamagedRecord, Page, PatientSummary, SystemEvent};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::event::{AlarmsEvent, ConnectionState, FeedEvent, FeedMode, Outdated};
use super::event_stream::EventStream;
use super::seen::{SeenAlarms, SeenVersions};
use super::settings::FeedSettings;
use super::source::Source;
use super::subscription::{SourceEvent, SubscriptionEnded};
use crate::ClientError;

/// Time limit to open an event stream.
const OPEN_LIMIT: Duration = Duration::from_millis(1500);
/// Interval and time limit of checks of the gateway while NATS pushes the updates.
const CHECK_INTERVAL: Duration = Duration::from_millis(750);
const CHECK_LIMIT: Duration = Duration::from_millis(1000);
/// Wait after a rejected token. Gateways limit the rate of rejected requests.
const REJECTED_WAIT: Duration = Duration::from_secs(5);
/// Interval at which alarms are requested while they cannot be loaded.
const ALARMS_RETRY: Duration = Duration::from_secs(1);
/// Time in which NATS is preferred to the gateway's event stream at the start.
#[cfg(feature = "nats")]
const HEAD_START: Duration = Duration::from_millis(500);

/// Resolves with the NATS subscription as a source; never without NATS. A macro, so that it borrows one field only.
#[cfg(feature = "nats")]
macro_rules! nats_connected {
    ($follower:ident) => {
        FutureExt::map($follower.nats.connected(), Source::Nats)
    };
}
#[cfg(not(feature = "nats"))]
macro_rules! nats_connected {
    ($follower:ident) => {
        std::future::pending::<Source>()
    };
}

/// The reader has dropped the feed.
struct ReaderDropped;

struct Follower {
    settings: FeedSettings,
    events: mpsc::Sender<FeedEvent>,
    state: Option<ConnectionState>,
    seen: SeenVersions,
    damaged: Vec<DamagedRecord>,
    alarms: SeenAlarms,
    /// Why the alarms cannot be loaded.
    alarms_failure: Option<String>,
    #[cfg(feature = "nats")]
    nats: super::nats::NatsConnector,
}

/// Runs until the reader drops the feed.
pub(super) async fn run(settings: FeedSettings, events: mpsc::Sender<FeedEvent>) {
    #[cfg(feature = "nats")]
    let nats = super::nats::NatsConnector::start(settings.nats.clone(), settings.of, settings.silence);
    let mut follower = Follower {
        settings,
        events,
        state: None,
        seen: SeenVersions::default(),
        damaged: Vec::new(),
        alarms: SeenAlarms::default(),
        alarms_failure: None,
        #[cfg(feature = "nats")]
        nats,
    };
    let Err(ReaderDropped) = follower.run().await;
}

impl Follower {
    async fn run(&mut self) -> Result<std::convert::Infallible, ReaderDropped> {
        let mut better = self.prefer_nats().await;
        loop {
            let source = match better.take() {
                Some(source) => source,
                None => self.find().await?,
            };
            better = self.follow(source).await?;
        }
    }

    /// Polls until a source pushes updates.
    async fn find(&mut self) -> Result<Source, ReaderDropped> {
        let mut backoff = Backoff::new();
        let mut poll_at = Instant::now();
        loop {
            let FeedSettings { gateway, of, silence, .. } = &self.settings;
            let failure = tokio::select! {
                opened = EventStream::open(gateway, *of, OPEN_LIMIT, *silence) => match opened {
                    Ok(events) => return Ok(Source::ServerSentEvents(events)),
                    Err(failure) => failure,
                },
                source = nats_connected!(self) => return Ok(source),
                () = self.events.closed() => return Err(ReaderDropped),
            };
            if let ClientError::Unreachable { .. } = &failure {
                self.report(FeedMode::Offline, Some(&failure)).await?;
                poll_at = Instant::now();
            } else if poll_at <= Instant::now() {
                match self.load().await {
                    Ok(snapshot) => {
                        self.report_snapshot(snapshot).await?;
                        self.load_alarms().await?;
                        self.send(FeedEvent::Outdated(Outdated::Everything)).await?;
                        self.report(FeedMode::Polling, Some(&failure)).await?;
                        poll_at = Instant::now() + self.settings.poll_every;
                    }
                    Err(error) => self.report(FeedMode::Offline, Some(&error)).await?,
                }
            }
            let is_rejected = matches!(failure, ClientError::Unauthorized(_) | ClientError::Forbidden(_));
            let wait = if is_rejected { REJECTED_WAIT } else { backoff.next() };
            tokio::select! {
                () = sleep(wait) => {}
                source = nats_connected!(self) => return Ok(source),
                () = self.events.closed() => return Err(ReaderDropped),
            }
        }
    }

    /// Follows an active subscription until it ends (`None`) or a better one is active.
    ///
    /// Updates are not read while a snapshot is loaded. They wait in the buffer of the source and are reported afterwards if
    /// they are newer.
    async fn follow(&mut self, mut source: Source) -> Result<Option<Source>, ReaderDropped> {
        let mut backoff = Backoff::new();
        let mut loaded = false;
        // The gateway answers, but has lost the broker. The snapshot is polled meanwhile.
        let mut is_disconnected = false;
        let mut load_at = Instant::now();
        // While the alarms cannot be loaded, they are requested more often than the patients.
        let mut alarms_at = None;
        let by_gateway = source.mode() == FeedMode::ServerSentEvents;
        let mut check = self.gateway_failure(by_gateway);
        loop {
            tokio::select! {
                () = self.events.closed() => return Err(ReaderDropped),
                () = sleep_until(load_at) => match self.load().await {
                    Ok(snapshot) => {
                        self.report_snapshot(snapshot).await?;
                        alarms_at = (!self.load_alarms().await?).then(|| Instant::now() + ALARMS_RETRY);
                        if !loaded || is_disconnected {
                            self.send(FeedEvent::Outdated(Outdated::Everything)).await?;
                        }
                        let pause = if is_disconnected {
                            self.report_disconnected().await?;
                            self.settings.poll_every
                        } else {
                            self.report(source.mode(), None).await?;
                            self.settings.reload_every
                        };
                        loaded = true;
                        backoff.reset();
                        load_at = Instant::now() + pause;
                        check = self.gateway_failure(by_gateway);
                    }
                    Err(error) => {
                        // While the event stream is open, the gateway is reachable.
                        if !loaded || (!by_gateway && error.is_unreachable()) {
                            self.report(FeedMode::Offline, Some(&error)).await?;
                        }
                        load_at = Instant::now() + backoff.next();
                    }
                },
                () = sleep_until(alarms_at.unwrap_or(load_at)), if alarms_at.is_some() => {
                    alarms_at = (!self.load_alarms().await?).then(|| Instant::now() + ALARMS_RETRY);
                }
                event = source.next(), if loaded => match event {
                    Ok(SourceEvent::Updated(update)) => {
                        if let Some(time) = update.sent_at {
                            self.settings.gateway.server_time().received(time);
                        }
                        let is_followed = self.settings.of.is_none_or(|mrn| mrn == update.patient.mrn);
                        if is_followed && self.seen.advance(&update.patient) {
                            self.send(FeedEvent::Updated(update)).await?;
                        }
                    }
                    Ok(SourceEvent::System(event)) => {
                        if matches!(event, SystemEvent::Patient { .. }) {
                            load_at = Instant::now();
                        }
                        self.report_system_event(event).await?;
                    }
                    Ok(SourceEvent::Disconnected) => {
                        is_disconnected = true;
                        self.report_disconnected().await?;
                        load_at = Instant::now() + self.settings.poll_every;
                    }
                    Ok(SourceEvent::Lagged) => {
                        is_disconnected = false;
                        loaded = false;
                        load_at = Instant::now();
                    }
                    Err(SubscriptionEnded(reason)) => {
                        tracing::debug!(reason, mode = ?source.mode(), "the subscription to updates has ended");
                        if !by_gateway {
                            self.reconnect_nats();
                        }
                        return Ok(None);
                    }
                },
                // NATS may still push updates. Without the gateway nothing can be uploaded or loaded.
                error = &mut check => {
                    self.report(FeedMode::Offline, Some(&error)).await?;
                    load_at = Instant::now() + backoff.next();
                    check = std::future::pending().boxed();
                }
                better = nats_connected!(self), if by_gateway => return Ok(Some(better)),
            }
        }
    }

    /// Resolves when the gateway does not answer. Never resolves if the gateway pushes the updates: its event stream ends then.
    fn gateway_failure(&self, by_gateway: bool) -> BoxFuture<'static, ClientError> {
        if by_gateway {
            return std::future::pending().boxed();
        }
        let gateway = self.settings.gateway.clone();
        async move {
            loop {
                sleep(CHECK_INTERVAL).await;
                if let Err(error) = gateway.check(CHECK_LIMIT).await {
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

    async fn report_snapshot(&mut self, snapshot: Page<PatientSummary>) -> Result<(), ReaderDropped> {
        let Page { items, damaged, .. } = snapshot;
        if self.seen.replace(&items) {
            self.send(FeedEvent::Snapshot(items)).await?;
        }
        if self.damaged != damaged {
            self.damaged.clone_from(&damaged);
            self.send(FeedEvent::Damaged(damaged)).await?;
        }
        Ok(())
    }

    /// Loads the open alarms, if they are followed. Returns `false` if they have to be requested again soon.
    async fn load_alarms(&mut self) -> Result<bool, ReaderDropped> {
        if !self.settings.alarms {
            return Ok(true);
        }
        match self.settings.gateway.open_alarms(self.settings.of).await {
            Ok(alarms) => {
                if self.alarms.replace(&alarms) || self.alarms_failure.take().is_some() {
                    self.alarms_failure = None;
                    self.send(FeedEvent::Alarms(AlarmsEvent::Snapshot(alarms))).await?;
                }
                Ok(true)
            }
            Err(error) => {
                let reason = error.to_string();
                if self.alarms_failure.as_ref() != Some(&reason) {
                    self.alarms_failure = Some(reason.clone());
                    self.send(FeedEvent::Alarms(AlarmsEvent::Unavailable(reason))).await?;
                }
                Ok(false)
            }
        }
    }

    async fn report_system_event(&mut self, event: SystemEvent) -> Result<(), ReaderDropped> {
        let of = self.settings.of;
        let event = match event {
            SystemEvent::Alarm(update) => {
                self.settings.gateway.server_time().received(update.sent_at);
                let is_followed = self.settings.alarms && of.is_none_or(|mrn| mrn == update.alarm.mrn);
                if !is_followed || !self.alarms.advance(&update.alarm) {
                    return Ok(());
                }
                FeedEvent::Alarms(AlarmsEvent::Updated(Box::new(update.alarm)))
            }
            SystemEvent::Limits { scope } => FeedEvent::Outdated(Outdated::Limits(scope)),
            SystemEvent::Wards => FeedEvent::Outdated(Outdated::Wards),
            SystemEvent::Patient { mrn } if of.is_none_or(|of| of == mrn) => {
                FeedEvent::Outdated(Outdated::Patient(mrn))
            }
            SystemEvent::Patient { .. } => return Ok(()),
        };
        self.send(event).await
    }

    async fn report_disconnected(&mut self) -> Result<(), ReaderDropped> {
        let reason = "the gateway has lost the broker: no updates are pushed, and uploads may fail";
        self.report_state(FeedMode::Polling, Some(reason.to_owned()), false).await
    }

    async fn report(&mut self, mode: FeedMode, reason: Option<&ClientError>) -> Result<(), ReaderDropped> {
        let token_rejected = matches!(reason, Some(ClientError::Unauthorized(_)));
        self.report_state(mode, reason.map(ToString::to_string), token_rejected).await
    }

    async fn report_state(
        &mut self,
        mode: FeedMode,
        reason: Option<String>,
        token_rejected: bool,
    ) -> Result<(), ReaderDropped> {
        let since = match &self.state {
            Some(state) if state.mode == mode && state.reason == reason => return Ok(()),
            Some(state) if state.mode == mode => state.since,
            _ => self.settings.gateway.now(),
        };
        let state = ConnectionState { mode, since, reason, token_rejected };
        self.state = Some(state.clone());
        self.send(FeedEvent::Connection(state)).await
    }

    async fn send(&self, event: FeedEvent) -> Result<(), ReaderDropped> {
        self.events.send(event).await.map_err(|_| ReaderDropped)
    }

    #[cfg(feature = "nats")]
    async fn prefer_nats(&mut self) -> Option<Source> {
        self.nats.is_connecting().then_some(())?;
        tokio::time::timeout(HEAD_START, self.nats.connected()).await.ok().map(Source::Nats)
    }

    #[cfg(not(feature = "nats"))]
    async fn prefer_nats(&mut self) -> Option<Source> {
        None
    }

    fn reconnect_nats(&mut self) {
        #[cfg(feature = "nats")]
        self.nats.connect();
    }
}
