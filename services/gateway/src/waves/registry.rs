//! The streams of this gateway: which device sends which channel of which patient, and where closed streams continue.
//!
//! Invariants: a channel of a patient has one sender. A connection that replaces another one of the same device starts
//! after the other one has ended, so the messages of a stream have one writer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto_json::Mrn;
use proto_json::waveform::{Device, StreamClock, StreamDescription, StreamId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time that a connection has to end after it is replaced.
const REPLACE: Duration = Duration::from_secs(5);
/// How long the state of a closed stream is kept: as long as the log of the broker.
const REMEMBERED: Duration = bus::WAVE_RETENTION;
/// Largest number of closed streams whose state is kept.
const MAX_REMEMBERED: usize = 16_384;

/// Part of the signal that is kept for new screens, in microseconds.
pub(super) const RECENT_US: i64 = 8_000_000;
/// Bytes of this part.
const MAX_RECENT_BYTES: usize = 256 << 10;

/// Where a stream continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// The first sequence number that is not durable.
    pub(super) durable: u64,
    /// The first sequence number that was not given to the broker.
    pub(super) submitted: u64,
    /// Of each channel: the index after the last durable sample.
    pub(super) ends: Vec<u64>,
    pub(super) clock: Option<StreamClock>,
}

impl Progress {
    pub(super) fn at(sequence: u64, channels: usize) -> Self {
        Progress { durable: sequence, submitted: sequence, ends: vec![0; channels], clock: None }
    }
}

/// Why a device cannot send a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotClaimed {
    /// Another device sends it.
    Conflict { label: String, device: Device },
    /// An earlier connection of the same device has not ended in time.
    Busy,
}

/// A frame that was received.
#[derive(Debug, Clone)]
pub(super) struct RecentFrame {
    pub(super) sequence: u64,
    /// Server time of the first sample.
    pub(super) time_us: i64,
    pub(super) bytes: Bytes,
}

/// A stream that a device of this gateway sends.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) description: Arc<StreamDescription>,
    /// The last [`RECENT_US`], at most [`MAX_RECENT_BYTES`].
    recent: Mutex<(VecDeque<RecentFrame>, usize)>,
}

impl OpenStream {
    fn add(&self, frame: RecentFrame) {
        let (frames, bytes) = &mut *self.recent.lock();
        let oldest = frame.time_us - RECENT_US;
        *bytes += frame.bytes.len();
        frames.push_back(frame);
        while *bytes > MAX_RECENT_BYTES || frames.front().is_some_and(|frame| frame.time_us < oldest) {
            let Some(removed) = frames.pop_front() else { break };
            *bytes -= removed.bytes.len();
        }
    }

    pub(super) fn recent(&self) -> Vec<RecentFrame> {
        self.recent.lock().0.iter().cloned().collect()
    }
}

#[derive(Debug)]
struct Sender {
    device: Device,
    /// Cancelled when another connection of the device replaces this one.
    replaced: CancellationToken,
    /// Cancelled when the connection has ended.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    senders: HashMap<(Mrn, String), Arc<Sender>>,
    open: HashMap<Mrn, Vec<Arc<OpenStream>>>,
    closed: HashMap<StreamId, (Progress, Instant)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<State>);

impl Registry {
    /// Makes a connection the sender of these channels. An earlier connection of the same device is replaced.
    pub(super) async fn claim(
        self: &Arc<Self>,
        mrn: Mrn,
        device: &Device,
        labels: &[String],
    ) -> Result<Claim, NotClaimed> {
        let keys: Vec<_> = labels.iter().map(|label| (mrn, label.clone())).collect();
        let sender = Arc::new(Sender {
            device: device.clone(),
            replaced: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let deadline = Instant::now() + REPLACE;
        loop {
            let Some(earlier) = self.try_claim(&keys, &sender)? else {
                return Ok(Claim { registry: self.clone(), keys, sender, opened: None });
            };
            earlier.replaced.cancel();
            if tokio::time::timeout_at(deadline, earlier.ended.cancelled()).await.is_err() {
                return Err(NotClaimed::Busy);
            }
        }
    }

    /// Claims all channels, or returns an earlier connection of the same device.
    fn try_claim(
        &self,
        keys: &[(Mrn, String)],
        sender: &Arc<Sender>,
    ) -> Result<Option<Arc<Sender>>, NotClaimed> {
        let mut state = self.0.lock();
        let mut earlier = None;
        for key in keys {
            let Some(other) = state.senders.get(key) else { continue };
            if other.device != sender.device {
                return Err(NotClaimed::Conflict { label: key.1.clone(), device: other.device.clone() });
            }
            earlier = Some(other.clone());
        }
        if earlier.is_none() {
            state.senders.extend(keys.iter().map(|key| (key.clone(), sender.clone())));
        }
        Ok(earlier)
    }

    /// Returns the open streams of a patient.
    pub(super) fn open_streams(&self, mrn: Mrn) -> Vec<Arc<OpenStream>> {
        self.0.lock().open.get(&mrn).cloned().unwrap_or_default()
    }

    /// Returns where a stream that was closed here continues.
    pub(super) fn progress(&self, stream: StreamId) -> Option<Progress> {
        self.0.lock().closed.get(&stream).map(|(progress, _)| progress.clone())
    }

    /// Keeps where a stream continues; `None` if it has ended.
    pub(super) fn keep(&self, stream: StreamId, progress: Option<Progress>) {
        let now = Instant::now();
        let closed = &mut self.0.lock().closed;
        match progress {
            Some(progress) => closed.insert(stream, (progress, now)),
            None => closed.remove(&stream),
        };
        if closed.len() > MAX_REMEMBERED {
            closed.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED);
        }
        if closed.len() > MAX_REMEMBERED {
            closed.clear();
        }
    }
}

/// The channels that a connection sends. Dropping it frees them.
#[derive(Debug)]
pub(super) struct Claim {
    registry: Arc<Registry>,
    keys: Vec<(Mrn, String)>,
    sender: Arc<Sender>,
    opened: Option<Arc<OpenStream>>,
}

impl Claim {
    /// Resolves when another connection of the device replaces this one.
    pub(super) async fn replaced(&self) {
        self.sender.replaced.cancelled().await;
    }

    /// Makes the stream visible to screens of this gateway.
    pub(super) fn open(&mut self, description: Arc<StreamDescription>) {
        let stream = Arc::new(OpenStream { description, recent: Mutex::default() });
        let mut state = self.registry.0.lock();
        state.open.entry(stream.description.mrn).or_default().push(stream.clone());
        self.opened = Some(stream);
    }

    /// Keeps a frame for screens that subscribe later.
    pub(super) fn keep(&self, frame: RecentFrame) {
        if let Some(opened) = &self.opened {
            opened.add(frame);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.registry.0.lock();
        self.keys.iter().for_each(|key| {
            state.senders.remove(key);
        });
        if let Some(opened) = &self.opened
            && let Some(streams) = state.open.get_mut(&opened.description.mrn)
        {
            streams.retain(|stream| !Arc::ptr_eq(stream, opened));
            if streams.is_empty() {
                state.open.remove(&opened.description.mrn);
            }
        }
        drop(state);
        self.sender.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(serial: &str) -> Device {
        Device { name: "Sim".to_owned(), serial: serial.to_owned() }
    }

    async fn claim(
        registry: &Arc<Registry>,
        mrn: u64,
        serial: &str,
        labels: &[&str],
    ) -> Result<Claim, NotClaimed> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        registry.claim(Mrn::new(mrn).unwrap(), &device(serial), &labels).await
    }

    #[tokio::test]
    async fn channel_of_a_patient_has_one_device() {
        let registry = Arc::new(Registry::default());
        let first = claim(&registry, 7, "1", &["II", "V1"]).await.unwrap();
        let conflict = NotClaimed::Conflict { label: "V1".to_owned(), device: device("1") };
        assert_eq!(claim(&registry, 7, "2", &["Pleth", "V1"]).await.unwrap_err(), conflict);
        let _pleth = claim(&registry, 7, "2", &["Pleth"]).await.unwrap();
        let _other_patient = claim(&registry, 8, "2", &["II"]).await.unwrap();
        drop(first);
        claim(&registry, 7, "2", &["V1"]).await.unwrap();
    }

    #[tokio::test]
    async fn later_connection_of_a_device_starts_after_the_earlier_one_has_ended() {
        let registry = Arc::new(Registry::default());
        let first = claim(&registry, 7, "1", &["II"]).await.unwrap();
        let second = tokio::spawn({
            let registry = registry.clone();
            async move { claim(&registry, 7, "1", &["II"]).await.map(drop) }
        });
        first.replaced().await;
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_does_not_end_is_reported() {
        let registry = Arc::new(Registry::default());
        let _first = claim(&registry, 7, "1", &["II"]).await.unwrap();
        assert_eq!(claim(&registry, 7, "1", &["II"]).await.unwrap_err(), NotClaimed::Busy);
    }

    #[tokio::test]
    async fn last_seconds_of_an_open_stream_are_kept_in_bounded_memory() {
        let registry = Arc::new(Registry::default());
        let mut claim = claim(&registry, 7, "1", &["II"]).await.unwrap();
        let mrn = Mrn::new(7).unwrap();
        let description = StreamDescription {
            stream: StreamId::generate(),
            mrn,
            device: device("1"),
            channels: Vec::new(),
            opened_at: proto_json::Timestamp::now(),
            clock: None,
        };
        claim.open(Arc::new(description));
        let send = |frames: std::ops::Range<u64>, bytes: usize| {
            for sequence in frames {
                let bytes = Bytes::from(vec![0; bytes]);
                claim.keep(RecentFrame { sequence, time_us: sequence as i64 * 200_000, bytes });
            }
            let recent = registry.open_streams(mrn)[0].recent();
            (recent[0].sequence, recent.len())
        };
        assert_eq!(send(0..100, 100), (59, 41));
        assert_eq!(send(100..200, MAX_RECENT_BYTES / 4), (196, 4));
        drop(claim);
        assert!(registry.open_streams(mrn).is_empty());
    }

    #[test]
    fn memory_for_closed_streams_is_bounded() {
        let registry = Registry::default();
        for _ in 0..=2 * MAX_REMEMBERED {
            registry.keep(StreamId::generate(), Some(Progress::at(1, 1)));
        }
        assert!(registry.0.lock().closed.len() <= MAX_REMEMBERED);
    }
}
