//! The backend of the window: connection, requests and downloads.
//!
//! Everything here runs on background threads. Results arrive on the UI thread as [`BackendEvent`]s, in order.

mod account;
mod corrections;
mod wards;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alarm_sound::SoundStatus;
use client::{
    AlarmQuery, AlarmSelection, ClientError, Feed, FeedEvent, FeedSettings, Gateway, Live, LiveEvent,
    LiveSettings, LiveSubscriber, Upload, UploadFile,
};
use proto_json::alarms::{
    Alarm, AlarmActionRequest, AlarmLimits, AlarmPage, AudioPauseRequest, LimitScope, StoredLimits,
};
use proto_json::users::Session;
use proto_json::wards::Ward;
use proto_json::{FileKind, Mrn, PatientSummary, RecordId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ui::trace::Sparkline;
use ui::{BackgroundRuntime, Login, Settings, SettingsError, Task, TestError, TestOutcome, UiSender};

use crate::fetch;
use crate::live::strip::KeptStrip;
use crate::patient::{Request, RequestId, Response};
use crate::save::{self, SaveError, SaveItem};

pub(crate) use corrections::{Correctable, CorrectionRequest};
pub(crate) use wards::{CareChange, CareResult};

/// The time without data after which a connection counts as lost. A lost connection has to show within 2 s.
const SILENCE: Duration = Duration::from_millis(1800);
/// The number of sparklines that are loaded at the same time. The limit keeps other requests fast while an overview loads.
const MAX_SPARKLINE_REQUESTS: usize = 4;

/// The number of live events that wait for the UI thread. Further ones wait in the bounded buffer of the subscription.
const MAX_LIVE_EVENTS: usize = 2000;

/// A result of background work.
#[derive(Debug)]
pub(crate) enum BackendEvent {
    /// A client was created from the settings of connection number 0, or could not be.
    Connected(u64, Result<Gateway, SettingsError>),
    /// An event of the feed of connection number 0.
    Feed(u64, FeedEvent),
    /// The subscription to live waveforms of connection number 0 has started.
    LiveStarted(u64, LiveSubscriber),
    /// An event of the live waveforms of connection number 0. The permit bounds the number of waiting events.
    Live(u64, LiveEvent, OwnedSemaphorePermit),
    /// A strip of the live ECG was stored, or could not be: one sentence.
    Kept(Result<(), String>),
    /// An alarm was acknowledged, paused or reset, or could not be: one sentence.
    AlarmChanged(Result<Box<Alarm>, String>),
    /// Limits were loaded, or could not be: one sentence.
    Limits(LimitScope, Result<Box<StoredLimits>, String>),
    /// Limits were saved, or could not be.
    LimitsSaved(LimitScope, Result<Box<StoredLimits>, LimitsFailure>),
    /// Ended alarms were loaded, or could not be: one sentence.
    EndedAlarms(Result<AlarmPage, String>),
    /// The wards were loaded, or could not be: one sentence.
    Wards(Result<Vec<Ward>, String>),
    /// The server has answered a change of a patient's bed or details.
    CareChanged(Mrn, CareChange, CareResult),
    /// Who this client is, by the server of connection number 0.
    Session(u64, Box<Session>),
    /// A login has succeeded, or not: one sentence.
    LoggedIn(Result<Login, String>),
    /// A patient of another ward is accessible in an emergency, or not: one sentence.
    Accessed(Mrn, Result<Box<PatientSummary>, String>),
    /// What can be corrected was loaded, or could not be: one sentence.
    Correctable(Mrn, Result<Box<Correctable>, String>),
    /// A correction was made, or could not be: one sentence.
    Corrected(Mrn, CorrectionRequest, Result<(), String>),
    /// The sound device is ready, or missing.
    Sound(SoundStatus),
    /// A sparkline was loaded. An error means that it can be requested again.
    Sparkline(Mrn, RecordId, Result<Option<Sparkline>, ()>),
    /// A response to a request of the patient view.
    Response(RequestId, Response),
    /// A download was saved, or could not be.
    Saved(PathBuf, Result<(), SaveError>),
    /// A test of settings has ended.
    Tested(Result<TestOutcome, TestError>),
    /// Settings or alarms could not be saved: one sentence.
    SaveFailed(String),
    /// The user has selected a path in the file dialog.
    PathSelected(PathBuf),
}

/// What a user does with an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlarmAction {
    Acknowledge,
    Reset,
    /// Pauses the sound for some seconds.
    PauseSound(u32),
}

/// Why limits could not be saved. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitsFailure {
    /// Somebody else has changed them.
    Conflict,
    /// Anything else: one sentence.
    Other(String),
}

/// The number of ended alarms that are loaded at once.
const ENDED_PAGE: u32 = 100;

/// The background work of the app.
#[derive(Debug)]
pub(crate) struct Backend {
    runtime: BackgroundRuntime,
    events: UiSender<BackendEvent>,
    feed: Task,
    gateway: Option<Gateway>,
    /// Requests of the open patient. Opening another patient aborts them.
    requests: Vec<Task>,
    sparkline_permits: Arc<Semaphore>,
}

impl Backend {
    /// Starts the background threads.
    ///
    /// # Errors
    /// The operating system does not provide threads.
    pub(crate) fn start(events: UiSender<BackendEvent>) -> std::io::Result<Self> {
        Ok(Backend {
            runtime: BackgroundRuntime::start()?,
            events,
            feed: Task::default(),
            gateway: None,
            requests: Vec::new(),
            sparkline_permits: Arc::new(Semaphore::new(MAX_SPARKLINE_REQUESTS)),
        })
    }

    /// A sender to the UI thread.
    #[must_use]
    pub(crate) fn events(&self) -> UiSender<BackendEvent> {
        self.events.clone()
    }

    /// Replaces the connection. The events of the new connection have this number.
    pub(crate) fn connect(&mut self, number: u64, settings: Settings) {
        self.gateway = None;
        self.requests.clear();
        let events = self.events.clone();
        self.feed = self.runtime.spawn(async move {
            // Reads files.
            let clients = tokio::task::spawn_blocking(move || settings.clients());
            let (gateway, nats) = match clients.await {
                Ok(Ok(clients)) => clients,
                Ok(Err(error)) => return events.send(BackendEvent::Connected(number, Err(error))),
                Err(_) => return,
            };
            events.send(BackendEvent::Connected(number, Ok(gateway.clone())));
            let mut live = Live::start(LiveSettings::new(gateway.clone()));
            events.send(BackendEvent::LiveStarted(number, live.subscriber()));
            let settings =
                FeedSettings { nats, silence: SILENCE, alarms: true, ..FeedSettings::new(gateway, None) };
            let mut feed = Feed::start(settings);
            let follow_feed = async {
                while let Some(event) = feed.next().await {
                    events.send(BackendEvent::Feed(number, event));
                }
            };
            let permits = Arc::new(Semaphore::new(MAX_LIVE_EVENTS));
            let follow_live = async {
                while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                    let Some(event) = live.next().await else { break };
                    events.send(BackendEvent::Live(number, event, permit));
                }
            };
            tokio::join!(follow_feed, follow_live);
        });
    }

    /// Sets the gateway for all further requests.
    pub(crate) fn set_gateway(&mut self, gateway: Gateway) {
        self.gateway = Some(gateway);
    }

    /// Aborts all requests of the open patient.
    pub(crate) fn abort_requests(&mut self) {
        self.requests.clear();
    }

    /// Sends requests of the open patient.
    pub(crate) fn send(&mut self, mrn: Mrn, requests: Vec<(RequestId, Request)>) {
        let Some(gateway) = self.gateway.clone() else { return };
        self.requests.retain(|task| !task.is_finished());
        for (id, request) in requests {
            let (gateway, events) = (gateway.clone(), self.events.clone());
            self.requests.push(self.runtime.spawn(async move {
                let response = fetch::respond(&gateway, mrn, request).await;
                events.send(BackendEvent::Response(id, response));
            }));
        }
    }

    /// Loads a sparkline. Returns whether there will be a [`BackendEvent::Sparkline`].
    pub(crate) fn load_sparkline(&self, mrn: Mrn, id: RecordId) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let (events, permits) = (self.events.clone(), self.sparkline_permits.clone());
        self.runtime.spawn_detached(async move {
            let _permit = permits.acquire().await;
            let sparkline = fetch::sparkline(&gateway, id).await.map_err(|_| ());
            events.send(BackendEvent::Sparkline(mrn, id, sparkline));
        });
        true
    }

    /// Downloads and saves a file. Returns `false` if there is no connection.
    pub(crate) fn save(&self, item: SaveItem, path: PathBuf, overwrite: bool) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let saved = save::save(&gateway, item, &path, overwrite).await;
            events.send(BackendEvent::Saved(path, saved));
        });
        true
    }

    /// Stores a strip of the live ECG. Returns `false` if there is no connection.
    pub(crate) fn keep(&self, mrn: Mrn, strip: KeptStrip) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let file = UploadFile::from_bytes(FileKind::Ecg, "live.csv", strip.csv.into_bytes());
            let upload = Upload { recorded_at: Some(strip.recorded_at), ..Upload::of(vec![file]) };
            let stored = gateway.upload(mrn, &upload, |_| {}).await;
            events.send(BackendEvent::Kept(stored.map(|_| ()).map_err(|error| error.to_string())));
        });
        true
    }

    /// Acknowledges, resets or pauses an alarm. Returns `false` if there is no connection.
    ///
    /// The request has no version: a new worst value must not reject the acknowledgement of an alarm that the user has seen.
    pub(crate) fn change_alarm(&self, id: RecordId, action: AlarmAction) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let request = AlarmActionRequest::default();
            let changed = match action {
                AlarmAction::Acknowledge => gateway.acknowledge_alarm(id, request).await,
                AlarmAction::Reset => gateway.reset_alarm(id, request).await,
                AlarmAction::PauseSound(seconds) => {
                    let request = AudioPauseRequest { version: None, seconds: Some(seconds) };
                    gateway.pause_alarm_audio(id, request).await
                }
            };
            events.send(BackendEvent::AlarmChanged(changed.map(Box::new).map_err(|error| error.to_string())));
        });
        true
    }

    /// Loads limits. Returns `false` if there is no connection.
    pub(crate) fn load_limits(&self, scope: LimitScope) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let limits = gateway.alarm_limits(scope).await;
            let limits = limits.map(Box::new).map_err(|error| error.to_string());
            events.send(BackendEvent::Limits(scope, limits));
        });
        true
    }

    /// Saves limits that are based on a version. Returns `false` if there is no connection.
    pub(crate) fn save_limits(&self, scope: LimitScope, limits: AlarmLimits, version: u64) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let saved = gateway.set_alarm_limits(scope, &limits, version).await;
            let saved = saved.map(Box::new).map_err(|error| match error {
                ClientError::Refused(problem) if problem.status == 409 => LimitsFailure::Conflict,
                error => LimitsFailure::Other(error.to_string()),
            });
            events.send(BackendEvent::LimitsSaved(scope, saved));
        });
        true
    }

    /// Loads a page of ended alarms. Returns `false` if there is no connection.
    pub(crate) fn load_ended_alarms(&self, cursor: Option<String>) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            let query = AlarmQuery {
                selection: AlarmSelection::Ended,
                limit: Some(ENDED_PAGE),
                cursor,
                ..AlarmQuery::default()
            };
            let page = gateway.alarms(&query).await.map_err(|error| error.to_string());
            events.send(BackendEvent::EndedAlarms(page));
        });
        true
    }

    /// Tests settings without applying them.
    pub(crate) fn test(&self, settings: Settings) {
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            events.send(BackendEvent::Tested(ui::test_connection(settings).await));
        });
    }
}
