//! Distributes live waveforms and vitals of patients to screens.
//!
//! A patient with at least one screen has one feed: one subscription at the broker, whatever the number of screens. A new
//! screen first receives the description of each stream, and the frames of the last [`RECENT_US`] that this gateway has: those of
//! devices that are connected to it, and those that were displayed on another screen.
//!
//! Failure modes: a screen that falls behind by more than [`BUFFER`] items loses the oldest ones and is notified. While the
//! broker is unreachable nothing arrives; afterwards all screens are notified of the loss.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bus::{VitalsEvent, WaveEvent, WaveKind, WaveLog, WaveMessage};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use proto_json::Mrn;
use proto_json::waveform::{ColumnBlock, Frame, FrameLimits, StreamDescription, StreamId, Vitals};
use runtime::Backoff;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::waves::columns::columns;
use crate::waves::now_us;
use crate::waves::registry::{RECENT_US, Registry};

/// Number of items by which a screen may fall behind, for each patient: more than the frames of [`RECENT_US`].
pub(super) const BUFFER: usize = 96;
/// Largest number of frames that a feed keeps for new screens.
const MAX_RECENT: usize = 256;

/// Delays between attempts to subscribe.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Something to display.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A stream is new, or its description has changed.
    Stream(Arc<StreamDescription>),
    Frame(Arc<FrameItem>),
    Vitals(Arc<Vitals>),
    /// Frames after the last one did not arrive from the broker.
    Lost,
    /// The last stream of the patient has ended.
    Closed,
}

/// A frame of a stream.
#[derive(Debug)]
pub(super) struct FrameItem {
    pub(super) description: Arc<StreamDescription>,
    /// Server time of the first sample.
    pub(super) time_us: i64,
    /// Server time of the end of the last sample.
    pub(super) end_us: i64,
    pub(super) bytes: Bytes,
    limits: Arc<FrameLimits>,
    columns: OnceLock<Vec<ColumnBlock>>,
}

impl FrameItem {
    /// Returns the overview of the frame. It is computed once for all screens.
    pub(super) fn columns(&self) -> &[ColumnBlock] {
        self.columns.get_or_init(|| {
            let frame = Frame::decode(&self.bytes, &self.limits);
            frame.map(|frame| columns(&frame, self.time_us, &self.description.channels)).unwrap_or_default()
        })
    }
}

/// The feeds of all patients that are displayed.
#[derive(Debug)]
pub(super) struct Hub {
    log: Arc<dyn WaveLog>,
    registry: Arc<Registry>,
    feeds: Mutex<HashMap<Mrn, Weak<Feed>>>,
}

/// The feed of a patient. Dropping it ends its subscription.
#[derive(Debug)]
pub(super) struct Feed {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Stream {
    description: Arc<StreamDescription>,
    limits: Arc<FrameLimits>,
}

#[derive(Debug)]
struct State {
    items: broadcast::Sender<Item>,
    streams: HashMap<StreamId, Stream>,
    recent: VecDeque<Arc<FrameItem>>,
    /// Frames that were received before they arrived from the broker.
    known: HashSet<(StreamId, u64)>,
    vitals: Option<Arc<Vitals>>,
}

impl Hub {
    pub(super) fn new(log: Arc<dyn WaveLog>, registry: Arc<Registry>) -> Self {
        Hub { log, registry, feeds: Mutex::default() }
    }

    /// Makes a stream known that was opened at this gateway, before its description arrives from the broker.
    pub(super) fn announce(&self, description: Arc<StreamDescription>) {
        let feed = self.feeds.lock().get(&description.mrn).and_then(Weak::upgrade);
        if let Some(feed) = feed {
            feed.state.lock().describe(description);
        }
    }

    /// Subscribes to a patient. Returns the feed, which must be kept, what is known already, and what follows.
    pub(super) fn subscribe(&self, mrn: Mrn) -> (Arc<Feed>, Vec<Item>, broadcast::Receiver<Item>) {
        let mut feeds = self.feeds.lock();
        let feed = feeds.get(&mrn).and_then(Weak::upgrade).unwrap_or_else(|| {
            feeds.retain(|_, feed| feed.strong_count() > 0);
            let feed = Arc::new(Feed::start(self.log.clone(), self.registry.clone(), mrn));
            feeds.insert(mrn, Arc::downgrade(&feed));
            feed
        });
        drop(feeds);
        let mut state = feed.state.lock();
        // Streams that were opened at this gateway are known before their description is repeated.
        for stream in self.registry.open_streams(mrn) {
            state.describe(stream.description.clone());
        }
        let streams = state.streams.values().map(|stream| Item::Stream(stream.description.clone()));
        let frames = state.recent.iter().cloned().map(Item::Frame);
        let known = streams.chain(frames).chain(state.vitals.clone().map(Item::Vitals)).collect();
        let items = state.items.subscribe();
        drop(state);
        (feed, known, items)
    }
}

impl Feed {
    fn start(log: Arc<dyn WaveLog>, registry: Arc<Registry>, mrn: Mrn) -> Self {
        let state = State {
            items: broadcast::Sender::new(BUFFER),
            streams: HashMap::new(),
            recent: VecDeque::new(),
            known: HashSet::new(),
            vitals: None,
        };
        let state = Arc::new(Mutex::new(state));
        let task = tokio::spawn(follow(log, registry, state.clone(), mrn)).abort_handle();
        Feed { state, task }
    }
}

/// Forwards waveforms and vitals of a patient. Subscribes again after an outage.
async fn follow(log: Arc<dyn WaveLog>, registry: Arc<Registry>, state: Arc<Mutex<State>>, mrn: Mrn) {
    let mut backoff = Backoff::new(FIRST_RETRY, MAX_RETRY);
    let mut is_first = true;
    loop {
        let subscribed = tokio::try_join!(log.subscribe_waves(Some(mrn)), log.subscribe_vitals(Some(mrn)));
        match subscribed {
            Err(error) => tracing::warn!(%error, "the subscription to waveforms failed; retrying"),
            Ok((mut waves, mut vitals)) => {
                backoff.reset();
                if std::mem::take(&mut is_first) {
                    // After the subscription, so that no frame is between the two.
                    state.lock().receive_recent(&registry, mrn);
                } else {
                    state.lock().send(Item::Lost);
                }
                loop {
                    tokio::select! {
                        event = waves.next() => match event {
                            Some(WaveEvent::Message(message)) => state.lock().receive(message),
                            Some(WaveEvent::Lagged) => state.lock().send(Item::Lost),
                            None => break,
                        },
                        event = vitals.next() => match event {
                            Some(VitalsEvent::Vitals(vitals)) => state.lock().receive_vitals(*vitals),
                            // The next second replaces what was lost.
                            Some(VitalsEvent::Lagged) => {}
                            None => break,
                        },
                    }
                }
            }
        }
        backoff.wait().await;
    }
}

impl State {
    fn send(&self, item: Item) {
        // An error only means that there is no screen at the moment.
        let _ = self.items.send(item);
    }

    fn describe(&mut self, description: Arc<StreamDescription>) {
        let known = self.streams.get(&description.stream);
        let is_new = known.is_none_or(|known| known.description.channels != description.channels);
        if is_new {
            let limits = Arc::new(FrameLimits::of(&description.channels));
            self.streams.insert(description.stream, Stream { description: description.clone(), limits });
            self.send(Item::Stream(description));
        }
    }

    fn receive(&mut self, message: WaveMessage) {
        let WaveMessage { stream, kind, sequence, time_us, payload, .. } = message;
        match kind {
            WaveKind::Open => match serde_json::from_slice(&payload) {
                Ok(description) => self.describe(Arc::new(description)),
                Err(error) => tracing::warn!(%error, "a description of a stream cannot be read"),
            },
            WaveKind::Frame if self.known.remove(&(stream, sequence)) => {}
            WaveKind::Frame => self.receive_frame(stream, time_us, payload),
            WaveKind::Numerics => {}
            WaveKind::End => {
                self.streams.remove(&stream);
                self.recent.retain(|frame| frame.description.stream != stream);
                if self.streams.is_empty() {
                    self.send(Item::Closed);
                }
            }
        }
    }

    /// Adds the last seconds of the devices at this gateway.
    fn receive_recent(&mut self, registry: &Registry, mrn: Mrn) {
        for open in registry.open_streams(mrn) {
            let stream = open.description.stream;
            self.describe(open.description.clone());
            for frame in open.recent() {
                self.known.insert((stream, frame.sequence));
                self.receive_frame(stream, frame.time_us, frame.bytes);
            }
        }
    }

    fn receive_frame(&mut self, stream: StreamId, time_us: i64, bytes: Bytes) {
        // The description is repeated; frames before it cannot be displayed.
        let Some(Stream { description, limits }) = self.streams.get(&stream) else { return };
        let frame = match Frame::decode(&bytes, limits) {
            Ok(frame) => frame,
            Err(error) => return tracing::warn!(%error, "a frame of the broker cannot be read"),
        };
        let ends = frame.timed_segments(time_us, &description.channels).filter_map(|(start_us, segment)| {
            let rate = description.channels.get(usize::from(segment.channel))?.rate;
            Some(start_us.saturating_add(rate.micros(segment.samples.len() as u64)))
        });
        let end_us = ends.max().unwrap_or(time_us);
        let (description, limits) = (description.clone(), limits.clone());
        let columns = OnceLock::new();
        let frame = Arc::new(FrameItem { description, time_us, end_us, bytes, limits, columns });
        self.recent.push_back(frame.clone());
        let oldest = now_us() - RECENT_US;
        let is_old = |frame: &Arc<FrameItem>| frame.time_us < oldest;
        while self.recent.len() > MAX_RECENT || self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
        self.send(Item::Frame(frame));
    }

    fn receive_vitals(&mut self, vitals: Vitals) {
        let vitals = Arc::new(vitals);
        self.vitals = Some(vitals.clone());
        self.send(Item::Vitals(vitals));
    }
}
