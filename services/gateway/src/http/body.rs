//! Reads the body of an upload with limits on its size, rate and duration.
//!
//! Tower's timeout and body limit layers are not used: they cannot measure a rate, and they would count the
//! time in which the server does not read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use http_server::problem::{ApiError, ProblemType};

use runtime::ByteSize;

use crate::config::Config;

/// Number of slices of the sliding window.
const SLICES: u64 = 8;
/// Maximum number of bytes, and time, that are read and discarded of a rejected body. The client can then
/// read the response.
const DISCARD_BYTES: u64 = 256_000_000;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Number of bytes after which the task yields. A body that arrives as fast as it is read would otherwise
/// never yield.
const YIELD_AFTER_BYTES: u64 = 128 * 1024;

/// Why a body could not be read.
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
        let error_response = ApiError::new(kind, error.to_string());
        // The rest of the body never arrives, so the connection cannot be reused.
        match error {
            BodyError::TooSlow | BodyError::Deadline(_) => {
                error_response.header(header::CONNECTION, header::HeaderValue::from_static("close"))
            }
            _ => error_response,
        }
    }
}

/// Minimum speed of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Maximum time without a byte, and the window over which the rate is measured.
    pub(crate) window: Duration,
    /// Minimum bytes per second in each window.
    pub(crate) min_rate: ByteSize,
    /// Maximum time for the whole body.
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

/// Measures the rate of a body over a sliding window. Counts only the time in which the server waits for the
/// client, so a busy server does not make a client appear slow.
#[derive(Debug)]
struct RateMeter {
    slice: Duration,
    /// Minimum number of bytes per window.
    min_bytes: u64,
    waited: Duration,
    /// Number of a slice and the bytes received in it.
    slices: VecDeque<(u128, u64)>,
}

impl RateMeter {
    fn new(pace: &Pace) -> Self {
        let min_bytes = u128::from(pace.min_rate.0) * pace.window.as_millis() / 1_000;
        RateMeter {
            slice: (pace.window / SLICES as u32).max(Duration::from_millis(1)),
            min_bytes: u64::try_from(min_bytes).unwrap_or(u64::MAX),
            waited: Duration::ZERO,
            slices: VecDeque::new(),
        }
    }

    /// Counts bytes that were received after waiting. Returns `false` if the last window is below the
    /// minimum.
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
        self.slices.iter().map(|(_, bytes)| bytes).sum::<u64>() >= self.min_bytes
    }
}

/// Reads a body in chunks.
pub(crate) struct BodyReader {
    stream: BodyDataStream,
    limit: ByteSize,
    pace: Pace,
    rate: RateMeter,
    started: Instant,
    received: u64,
    /// Bytes read since the task last yielded.
    since_yield: u64,
    ended: bool,
    /// The client waits for `100 Continue` before it sends. If the response is an error, there is nothing to
    /// discard.
    expects_continue: bool,
}

impl BodyReader {
    /// Creates a reader. Does not read yet.
    pub(crate) fn new(body: Body, headers: &HeaderMap, limit: ByteSize, pace: Pace) -> Self {
        BodyReader {
            stream: body.into_data_stream(),
            limit,
            pace,
            rate: RateMeter::new(&pace),
            started: Instant::now(),
            received: 0,
            since_yield: 0,
            ended: false,
            expects_continue: headers.contains_key(header::EXPECT),
        }
    }

    /// Returns the next chunk, or `None` at the end.
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
        self.since_yield += chunk.len() as u64;
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
        if self.since_yield >= YIELD_AFTER_BYTES {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Rejects a body whose `Content-Length` exceeds the limit.
    pub(crate) fn check_length(&self, headers: &HeaderMap) -> Result<Option<u64>, BodyError> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length: Option<u64> = length.and_then(|text| text.parse().ok());
        match length {
            Some(length) if length > self.limit.0 => Err(BodyError::TooLarge(self.limit)),
            length => Ok(length),
        }
    }

    /// Reads and discards the rest of a rejected body. If the connection were closed while the client sends,
    /// the client would see a connection error and not the response.
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
                        self.since_yield += chunk.len() as u64;
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
    fn rate_below_minimum_is_detected_after_any_amount_of_fast_data() {
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
    fn minimum_rate_and_pauses_within_the_window_pass() {
        let mut meter = RateMeter::new(&pace(Duration::from_secs(30), 4_000, Duration::MAX));
        assert!((0..1_000).all(|_| meter.add(Duration::from_secs(1), 4_000)));
        let mut meter = RateMeter::new(&pace(Duration::from_secs(30), 4_000, Duration::MAX));
        assert!((0..100).all(|_| meter.add(Duration::from_secs(25), 200_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_server_does_not_read_is_not_counted() {
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
    async fn endless_body_exceeds_its_deadline() {
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
