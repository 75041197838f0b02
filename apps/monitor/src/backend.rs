//! The backend of the window: connection, requests and downloads.
//!
//! Everything here runs on background threads. Results arrive on the UI thread as [`BackendEvent`]s, in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{
    Feed, FeedEvent, FeedSettings, Gateway, Live, LiveEvent, LiveSettings, LiveSubscriber, Upload, UploadFile,
};
use proto_json::{FileKind, Mrn, RecordId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ui::trace::Sparkline;
use ui::{BackgroundRuntime, Settings, SettingsError, Task, TestError, TestOutcome, UiSender};

use crate::fetch;
use crate::live::strip::KeptStrip;
use crate::patient::{Request, RequestId, Response};
use crate::save::{self, SaveError, SaveItem};

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
            let settings = FeedSettings { nats, silence: SILENCE, ..FeedSettings::new(gateway, None) };
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

    /// Tests settings without applying them.
    pub(crate) fn test(&self, settings: Settings) {
        let events = self.events.clone();
        self.runtime.spawn_detached(async move {
            events.send(BackendEvent::Tested(ui::test_connection(settings).await));
        });
    }
}
