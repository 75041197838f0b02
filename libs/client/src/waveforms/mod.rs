//! Sends waveforms and numerics of one device for one patient: the device side of `/api/v1/patients/{mrn}/waveforms`.
//!
//! [`WaveformSender::send_frame`] and [`WaveformSender::send_numerics`] put a message into a queue and return at once; a task
//! sends it. After a broken connection the task connects again with a growing wait, resumes the stream and repeats what the
//! server has not acknowledged.
//!
//! Invariants: a message leaves the queue only when the server has acknowledged it, which it does when the message is durable.
//! Messages are sent in order. Memory is bounded by [`SenderSettings::max_memory_bytes`]: what exceeds it is written to a
//! temporary file, and beyond the limit of this file the oldest messages are dropped and counted. Dropped samples are a gap
//! that the server recognises by the sample indices.
//!
//! Failure modes: the queue does not survive the end of the process; the operating system then removes the temporary file.
//! If the server does not know the stream any more, the unacknowledged messages go into a new stream. If the disk is full, the
//! queue is limited to memory.

mod connection;
mod queue;
mod spill;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto_json::{
    Channel, ChannelError, Device, DeviceNumeric, Frame, FrameError, FrameLimits, Mrn, Segment, StreamId,
    check_channels,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::Gateway;
use queue::{Message, Queue};
use spill::SpillFile;

/// Settings of a sender.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// The gateway. Its access token needs the role `device`.
    pub gateway: Gateway,
    /// The patient.
    pub mrn: Mrn,
    /// The device.
    pub device: Device,
    /// The channels of the stream.
    pub channels: Vec<Channel>,
    /// Memory for messages that are not acknowledged, in bytes.
    pub max_memory_bytes: usize,
    /// Directory of the temporary file; `None`: the queue is limited to memory.
    pub spill_dir: Option<PathBuf>,
    /// Largest size of the temporary file, in bytes.
    pub max_spill_bytes: u64,
}

impl SenderSettings {
    /// Settings with 1 MB of memory, about 7 minutes of three ECG leads and a pleth, and up to 1 GB in the directory for
    /// temporary files, about 5 days.
    #[must_use]
    pub fn new(gateway: Gateway, mrn: Mrn, device: Device, channels: Vec<Channel>) -> Self {
        SenderSettings {
            gateway,
            mrn,
            device,
            channels,
            max_memory_bytes: 1 << 20,
            spill_dir: Some(std::env::temp_dir()),
            max_spill_bytes: 1 << 30,
        }
    }
}

/// Why a sender rejects its settings or a message. Nothing is sent then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SenderError {
    /// Device, channels or numerics are invalid.
    #[error(transparent)]
    Invalid(#[from] ChannelError),
    /// The frame does not fit the channels, or its indices do not follow those of the frame before.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Some messages were not acknowledged before the sender had to end.
    #[error("{waiting} messages are not acknowledged{}", problem(.reason.as_deref()))]
    Unfinished {
        /// Number of messages.
        waiting: u64,
        /// Why, one sentence.
        reason: Option<String>,
    },
}

fn problem(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// State of a sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderState {
    /// Whether the stream is open.
    pub is_connected: bool,
    /// The stream; `None` before the server has opened one.
    pub stream: Option<StreamId>,
    /// Why the stream is not open, one sentence.
    pub problem: Option<String>,
    /// Whether the stream cannot be opened until a person acts: the token or the request is rejected.
    pub is_blocked: bool,
    /// The last notice of the server, one sentence.
    pub notice: Option<String>,
    /// Number of messages that are durable on the server.
    pub acknowledged: u64,
    /// Number of messages that are not acknowledged.
    pub waiting: u64,
    /// Number of messages that were dropped because the queue was full or the server rejected them.
    pub dropped: u64,
    /// Bytes in the temporary file.
    pub spilled_bytes: u64,
}

/// A running sender. [`WaveformSender::finish`] ends the stream. A sender that is dropped closes its connection and forgets its
/// queue, as a device that loses power does.
#[derive(Debug)]
pub struct WaveformSender {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    settings: SenderSettings,
    limits: FrameLimits,
    queue: Mutex<Queue>,
    spill: Option<Arc<SpillFile>>,
    state: watch::Sender<SenderState>,
    /// Wakes the task: a message is in the queue, or the sender finishes.
    changed: Notify,
    finishing: watch::Sender<bool>,
}

impl WaveformSender {
    /// Starts a sender on the current tokio runtime.
    ///
    /// # Errors
    /// [`SenderError::Invalid`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(settings: SenderSettings) -> Result<Self, SenderError> {
        settings.device.check()?;
        check_channels(&settings.channels)?;
        let shared = Arc::new(Shared {
            limits: FrameLimits::of(&settings.channels),
            queue: Mutex::new(Queue::new(settings.max_memory_bytes, settings.channels.len())),
            spill: settings
                .spill_dir
                .clone()
                .map(|folder| Arc::new(SpillFile::new(folder, settings.max_spill_bytes))),
            state: watch::Sender::default(),
            changed: Notify::new(),
            finishing: watch::Sender::new(false),
            settings,
        });
        let task = tokio::spawn(connection::run(Arc::clone(&shared)));
        Ok(WaveformSender { shared, task, runtime: Handle::current() })
    }

    /// Queues samples. `device_time_us` is the clock of this computer at the first of them, in microseconds since 1970. Does not
    /// wait.
    ///
    /// # Errors
    /// [`SenderError::Frame`], if the segments do not fit the channels or their indices do not follow those of the frame before.
    pub fn send_frame(&self, device_time_us: i64, segments: Vec<Segment>) -> Result<(), SenderError> {
        let frame = Frame { sequence: 0, device_time_us, segments };
        let bytes = frame.encode();
        Frame::decode(&bytes, &self.shared.limits)?;
        let mut queue = self.shared.queue.lock();
        queue.advance_indices(&frame)?;
        queue.push(Message::Frame(bytes));
        self.queued(queue);
        Ok(())
    }

    /// Queues measured values. Does not wait.
    ///
    /// # Errors
    /// [`SenderError::Invalid`].
    pub fn send_numerics(&self, values: Vec<DeviceNumeric>) -> Result<(), SenderError> {
        DeviceNumeric::check(&values)?;
        let mut queue = self.shared.queue.lock();
        queue.push(Message::Numerics(values));
        self.queued(queue);
        Ok(())
    }

    /// The state and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SenderState> {
        self.shared.state.subscribe()
    }

    /// Waits until the server has acknowledged all messages that were queued before this call and not dropped. Cancel safe.
    pub async fn acknowledged(&self) {
        let until = self.shared.queue.lock().pushed();
        let mut state = self.shared.state.subscribe();
        // Fails only if the state has no sender; this sender owns it.
        let _ = state.wait_for(|state| state.acknowledged + state.dropped >= until).await;
    }

    /// Sends what is queued and ends the stream, within `limit`.
    ///
    /// # Errors
    /// [`SenderError::Unfinished`].
    pub async fn finish(mut self, limit: Duration) -> Result<(), SenderError> {
        self.shared.finishing.send_replace(true);
        self.shared.changed.notify_one();
        let _ = tokio::time::timeout(limit, &mut self.task).await;
        let state = self.shared.state.borrow();
        if state.waiting == 0 {
            return Ok(());
        }
        Err(SenderError::Unfinished { waiting: state.waiting, reason: state.problem.clone() })
    }

    /// Wakes the task and writes the queue to the temporary file if it needs memory.
    fn queued(&self, mut queue: parking_lot::MutexGuard<'_, Queue>) {
        if let Some(spill) = &self.shared.spill
            && let Some(messages) = queue.take_to_spill()
        {
            let (shared, spill) = (Arc::clone(&self.shared), Arc::clone(spill));
            self.runtime.spawn_blocking(move || {
                let written = spill.write(&messages);
                if let Err(error) = &written {
                    tracing::warn!(%error, "waveforms cannot be written to the temporary file");
                }
                shared.queue.lock().spilled(messages, written.ok());
                shared.update_state(|_| {});
                shared.changed.notify_one();
            });
        }
        drop(queue);
        self.shared.update_state(|_| {});
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Changes the state and updates its numbers.
    fn update_state(&self, change: impl FnOnce(&mut SenderState)) {
        let (acknowledged, waiting, dropped, spilled_bytes) = self.queue.lock().counts();
        self.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            // Two threads can take the numbers in one order and report them in the other.
            state.acknowledged = state.acknowledged.max(acknowledged);
            state.dropped = state.dropped.max(dropped);
            (state.waiting, state.spilled_bytes) = (waiting, spilled_bytes);
            *state != before
        });
    }
}

impl Drop for WaveformSender {
    fn drop(&mut self) {
        self.task.abort();
    }
}
