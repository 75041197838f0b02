//! The body of an upload as it arrives, with limits for its size, its rate and its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use runtime::problem::{ApiError, ProblemType};

use runtime::ByteSize;

use crate::config::Config;

/// Parts into which the time is divided over which the rate of a body is measured.
const SLICES: u64 = 8;
/// What is read and thrown away of a body that is refused, so that the client gets to read the answer.
const DISCARD_BYTES: u64 = 256_000_000;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// After so many bytes the task yields: a body that arrives as fast as it is read is always ready to be read on.
const BYTES_IN_A_ROW: u64 = 128 * 1024;

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The request body may have at most {0}.")]
    TooLarge(ByteSize),
    #[error("The request body did not arrive in time.")]
    TooSlow,
    #[error("The request body did not arrive within {} s.", .0.as_secs())]
    Deadline(Duration),
    #[error("The request body was cut off.")]
    Disconnected,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> ApiError {
        let kind = match error {
            BodyError::TooLarge(_) => ProblemType::TOO_LARGE,
            BodyError::TooSlow | BodyError::Deadline(_) => ProblemType::TOO_SLOW,
            BodyError::Disconnected => ProblemType::INVALID,
        };
        let refused = ApiError::new(kind, error.to_string());
        // The rest of the body never comes: the connection cannot be used again.
        match error {
            BodyError::TooSlow | BodyError::Deadline(_) => {
                refused.header(header::CONNECTION, header::HeaderValue::from_static("close"))
            }
            _ => refused,
        }
    }
}

/// How fast a body must arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Longest time without a byte, and the time over which the rate is measured.
    pub(crate) window: Duration,
    /// Least bytes per second in each window.
    pub(crate) min_rate: ByteSize,
    /// Longest time for the whole body.
    pub(crate) deadline: Duration,
}

impl From<&Config> for Pace {
    fn from(config: &Config) -> Self {
        Pace {
            window: config.body_idle,
            min_rate: config.limits.min_upload_rate,
            deadline: config.transfer_deadline,
        }
    }
}

/// Measures the rate of a body over a sliding window. Only the time in which the server waits for the client counts:
/// a client is not slow because the server is busy.
#[derive(Debug)]
struct RateMeter {
    slice: Duration,
    /// Bytes that have to arrive in a window.
    least: u64,
    waited: Duration,
    /// Number of a slice, and the bytes that arrived in it.
    slices: VecDeque<(u128, u64)>,
}

impl RateMeter {
    fn new(pace: &Pace) -> Self {
        let least = u128::from(pace.min_rate.0) * pace.window.as_millis() / 1_000;
        RateMeter {
            slice: (pace.window / SLICES as u32).max(Duration::from_millis(1)),
            least: u64::try_from(least).unwrap_or(u64::MAX),
            waited: Duration::ZERO,
            slices: VecDeque::new(),
        }
    }

    /// Counts bytes that were waited for; `false` when the last window brought too few.
    fn add(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        let now = self.waited.as_millis() / self.slice.as_millis();
        match self.slices.back_mut() {
            Some((slice, received)) if *slice == now => *received += bytes,
            _ => self.slices.push_back((now, bytes)),
        }
        if now < u128::from(SLICES) {
            return true;
        }
        while self.slices.front().is_some_and(|(slice, _)| slice + u128::from(SLICES) < now) {
            self.slices.pop_front();
        }
        self.slices.iter().map(|(_, bytes)| bytes).sum::<u64>() >= self.least
    }
}

/// Reads a body piece by piece.
pub(crate) struct BodyReader {
    stream: BodyDataStream,
    limit: ByteSize,
    pace: Pace,
    rate: RateMeter,
    started: Instant,
    received: u64,
    /// Read since the task yielded.
    in_a_row: u64,
    ended: bool,
    /// The client waits for a word before it sends: if that word is an error, there is nothing to discard.
    expects_continue: bool,
}

impl BodyReader {
    /// # Errors
    /// [`BodyError::TooLarge`] when the head already says that the body is.
    pub(crate) fn new(body: Body, headers: &HeaderMap, limit: ByteSize, pace: Pace) -> Self {
        BodyReader {
            stream: body.into_data_stream(),
            limit,
            pace,
            rate: RateMeter::new(&pace),
            started: Instant::now(),
            received: 0,
            in_a_row: 0,
            ended: false,
            expects_continue: headers.contains_key(header::EXPECT),
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.ended {
            return Ok(None);
        }
        self.yield_to_others().await;
        let waits = Instant::now();
        let left = self.pace.deadline.saturating_sub(self.started.elapsed());
        let chunk = tokio::time::timeout(self.pace.window.min(left), self.stream.next()).await;
        let waited = waits.elapsed();
        let chunk = match chunk {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Ok(Some(Err(_))) => {
                self.ended = true;
                return Err(BodyError::Disconnected);
            }
            Err(_) => return Err(self.too_slow()),
        };
        self.received += chunk.len() as u64;
        self.in_a_row += chunk.len() as u64;
        if self.received > self.limit.0 {
            return Err(BodyError::TooLarge(self.limit));
        }
        if !self.rate.add(waited, chunk.len() as u64) {
            return Err(self.too_slow());
        }
        Ok(Some(chunk))
    }

    fn too_slow(&mut self) -> BodyError {
        self.ended = true;
        metrics::counter!("bedside_gateway_slow_uploads_total").increment(1);
        if self.started.elapsed() >= self.pace.deadline {
            BodyError::Deadline(self.pace.deadline)
        } else {
            BodyError::TooSlow
        }
    }

    async fn yield_to_others(&mut self) {
        if self.in_a_row >= BYTES_IN_A_ROW {
            self.in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Refuses at once what the head says to be too large.
    pub(crate) fn check_length(&self, headers: &HeaderMap) -> Result<Option<u64>, BodyError> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length: Option<u64> = length.and_then(|text| text.parse().ok());
        match length {
            Some(length) if length > self.limit.0 => Err(BodyError::TooLarge(self.limit)),
            length => Ok(length),
        }
    }

    /// Reads on after a refusal and throws away what comes: a client that is cut off while it sends would see a broken
    /// connection instead of the answer.
    pub(crate) async fn discard(mut self) {
        if self.expects_continue && self.received == 0 {
            return;
        }
        let _ = tokio::time::timeout(DISCARD_TIME, async {
            let mut discarded = 0;
            while !self.ended && discarded < DISCARD_BYTES {
                self.yield_to_others().await;
                match self.stream.next().await {
                    Some(Ok(chunk)) => {
                        discarded += chunk.len() as u64;
                        self.in_a_row += chunk.len() as u64;
                    }
                    _ => self.ended = true,
                }
            }
        })
        .await;
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        metrics::counter!("bedside_gateway_received_bytes_total").increment(self.received);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(window: Duration, min_rate: u64, deadline: Duration) -> Pace {
        Pace { window, min_rate: ByteSize(min_rate), deadline }
    }

    #[test]
    fn a_body_that_slows_down_is_noticed_however_much_came_before() {
        let mut meter = RateMeter::new(&pace(Duration::from_secs(30), 4_000, Duration::MAX));
        assert!(meter.add(Duration::from_secs(1), 50_000_000));
        let mut seconds = 0;
        while meter.add(Duration::from_secs(1), 3_000) {
            seconds += 1;
            assert!(seconds < 60);
        }
        assert!(seconds >= 25, "{seconds}");
    }

    #[test]
    fn a_body_at_the_least_rate_passes_and_so_does_one_that_pauses() {
        let mut meter = RateMeter::new(&pace(Duration::from_secs(30), 4_000, Duration::MAX));
        assert!((0..1_000).all(|_| meter.add(Duration::from_secs(1), 4_000)));
        let mut meter = RateMeter::new(&pace(Duration::from_secs(30), 4_000, Duration::MAX));
        assert!((0..100).all(|_| meter.add(Duration::from_secs(25), 200_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_server_does_not_read_is_not_the_clients() {
        let bytes = (0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"1")));
        let body = Body::from_stream(futures::stream::iter(bytes));
        let pace = pace(Duration::from_millis(10), 1_000_000, Duration::from_secs(3600));
        let mut reader = BodyReader::new(body, &HeaderMap::new(), ByteSize(1_000), pace);
        while reader.chunk().await.unwrap().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(reader.received, 100);
    }

    #[tokio::test]
    async fn a_body_that_goes_on_and_on_meets_its_deadline() {
        let drip = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"1")), ()))
        });
        let pace = pace(Duration::from_secs(30), 0, Duration::from_millis(100));
        let mut reader =
            BodyReader::new(Body::from_stream(drip), &HeaderMap::new(), ByteSize(1_000_000), pace);
        let error = loop {
            if let Err(error) = reader.chunk().await {
                break error;
            }
        };
        assert!(matches!(error, BodyError::Deadline(_)), "{error}");
        assert_eq!(ApiError::from(error).kind, ProblemType::TOO_SLOW);
    }
}
