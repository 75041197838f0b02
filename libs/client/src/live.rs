//! Live waveforms and vitals of patients, for screens.
//!
//! A [`Live`] keeps one WebSocket to `/api/v1/live` open and yields typed events. Patients are subscribed and unsubscribed at
//! any time with its [`LiveSubscriber`]; after each reconnect all of them are subscribed again.
//!
//! Invariants: the buffer for a slow reader is bounded. When it is full, the oldest waveforms are dropped and reported as
//! [`LiveEvent::Lost`]; descriptions of streams and the state of the connection are never dropped. Waveforms that arrive while
//! the connection is down are reported as lost, too, as soon as the stream continues.
//!
//! Failure modes: without a connection, [`LiveEvent::Connection`] says so and why, and the connection is retried with a
//! growing wait. A frame that cannot be read is dropped and reported as lost.

mod buffer;
mod connection;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use proto_json::{ColumnBlock, Frame, LiveMode, Mrn, StreamDescription, Timestamp, Vitals};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Gateway;
use buffer::Buffer;

/// Settings of a [`Live`].
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// The gateway.
    pub gateway: Gateway,
    /// Memory for events that the reader has not taken, in bytes.
    pub max_buffered_bytes: usize,
}

impl LiveSettings {
    /// Settings with a buffer of 16 MB: more than ten seconds of 64 patients with four channels each.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        LiveSettings { gateway, max_buffered_bytes: 16 << 20 }
    }
}

/// An event of a [`Live`].
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// The state of the connection has changed. The first event.
    Connection(LiveConnection),
    /// A stream of a subscribed patient is new, or its description has changed. Precedes the waveforms of the stream.
    Stream(Arc<StreamDescription>),
    /// Waveforms at full rate.
    Frame(ReceivedFrame),
    /// Waveforms as an overview.
    Columns(ReceivedColumns),
    /// Vitals of a subscribed patient.
    Vitals(Box<Vitals>),
    /// Waveforms of the patient between these times were not received.
    Lost {
        /// The patient.
        mrn: Mrn,
        /// Start, in server time.
        from: Timestamp,
        /// End, in server time.
        to: Timestamp,
    },
    /// The subscription of the patient has ended, or all its streams have.
    Closed {
        /// The patient.
        mrn: Mrn,
    },
    /// The gateway has rejected a subscription. The connection continues.
    Rejected {
        /// Why, one sentence.
        message: String,
    },
}

/// State of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveConnection {
    /// Whether live data can arrive.
    pub is_connected: bool,
    /// Start of this state, in server time.
    pub since: Timestamp,
    /// Why it is not connected, one sentence.
    pub reason: Option<String>,
    /// Whether the gateway rejects the access token.
    pub token_rejected: bool,
}

/// A frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedFrame {
    /// The stream. [`Frame::timed_segments`] needs its channels.
    pub stream: Arc<StreamDescription>,
    /// Server time of the first sample, in microseconds since 1970.
    pub time_us: i64,
    /// The frame as the device sent it.
    pub frame: Frame,
}

/// Columns of an overview of a stream, [`proto_json::waveform::OVERVIEW_COLUMNS_PER_SECOND`] per second.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedColumns {
    /// The stream.
    pub stream: Arc<StreamDescription>,
    /// Server time of the first sample of the newest frame in the columns, in microseconds since 1970.
    pub time_us: i64,
    /// Columns of each channel. They may repeat the last column of the message before with more samples.
    pub blocks: Vec<ColumnBlock>,
}

/// A running subscription to live data. It ends when it is dropped.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Selects the patients of a [`Live`]. Clones share the selection.
#[derive(Debug, Clone)]
pub struct LiveSubscriber(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// Wakes the reader.
    reader: AtomicWaker,
    /// Patients that are to be subscribed.
    wanted: Mutex<BTreeMap<Mrn, LiveMode>>,
    wanted_changed: Notify,
}

impl Live {
    /// Connects in the background, on the current tokio runtime. No patient is subscribed yet.
    #[must_use]
    pub fn start(settings: LiveSettings) -> Self {
        let shared = Arc::new(Shared {
            buffer: Mutex::new(Buffer::new(settings.max_buffered_bytes)),
            reader: AtomicWaker::new(),
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
        });
        let task = tokio::spawn(connection::run(settings.gateway, Arc::clone(&shared)));
        Live { shared, task }
    }

    /// Selects patients; usable from any thread.
    #[must_use]
    pub fn subscriber(&self) -> LiveSubscriber {
        LiveSubscriber(Arc::clone(&self.shared))
    }

    /// The next event. Cancel safe. Never `None` for a `Live` that runs.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<LiveEvent> {
        self.shared.buffer.lock().pop()
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        if let Some(event) = self.try_next() {
            return Poll::Ready(Some(event));
        }
        self.shared.reader.register(context.waker());
        // An event may have arrived before the waker was registered.
        match self.try_next() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.task.is_finished() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl LiveSubscriber {
    /// Subscribes a patient, or changes the mode of its subscription. Does not wait.
    pub fn subscribe(&self, mrn: Mrn, mode: LiveMode) {
        if self.0.wanted.lock().insert(mrn, mode) != Some(mode) {
            self.0.wanted_changed.notify_one();
        }
    }

    /// Ends the subscription of a patient. Events that are buffered may still follow. Does not wait.
    pub fn unsubscribe(&self, mrn: Mrn) {
        if self.0.wanted.lock().remove(&mrn).is_some() {
            self.0.wanted_changed.notify_one();
        }
    }

    /// The subscribed patients.
    #[must_use]
    pub fn subscribed(&self) -> BTreeMap<Mrn, LiveMode> {
        self.0.wanted.lock().clone()
    }
}

impl Shared {
    fn push(&self, event: LiveEvent) {
        self.buffer.lock().push(event);
        self.reader.wake();
    }
}

impl Stream for Live {
    type Item = LiveEvent;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        self.poll_event(context)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The interval that contains these times in microseconds since 1970, in milliseconds.
fn interval(from_us: i64, to_us: i64) -> Option<(Timestamp, Timestamp)> {
    let from = Timestamp::from_millis(from_us.div_euclid(1000)).ok()?;
    let to = Timestamp::from_millis(to_us.saturating_add(999).div_euclid(1000)).ok()?;
    Some((from, to))
}
