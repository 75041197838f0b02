//! The body of an upload as it arrives: bounded in size, and in the patience it is given.

use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use runtime::problem::{ApiError, Kind};

use runtime::ByteSize;

/// Over the whole of a body, a client must bring this many bytes a second, or it would hold its place for hours with a
/// byte now and then.
const SLOWEST_BYTES_PER_S: u64 = 1_000;
/// What is read and thrown away of a body that is refused, so that the client gets to read the answer.
const DISCARD_BYTES: u64 = 256_000_000;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// After so many bytes it is the turn of others: a body that comes as fast as it is read is always ready to be read on.
const BYTES_IN_A_ROW: u64 = 128 * 1024;

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The request body may have at most {0}.")]
    TooLarge(ByteSize),
    #[error("The request body did not arrive in time.")]
    TooSlow,
    #[error("The request body was cut off.")]
    CutOff,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> ApiError {
        let kind = match error {
            BodyError::TooLarge(_) => Kind::TOO_LARGE,
            BodyError::TooSlow => Kind::TOO_SLOW,
            BodyError::CutOff => Kind::INVALID,
        };
        let refused = ApiError::new(kind, error.to_string());
        // The rest of the body never comes: the connection cannot be used again.
        match error {
            BodyError::TooSlow => {
                refused.header(header::CONNECTION, header::HeaderValue::from_static("close"))
            }
            _ => refused,
        }
    }
}

/// Reads a body piece by piece.
pub(crate) struct BodyReader {
    stream: BodyDataStream,
    limit: ByteSize,
    idle: Duration,
    started: Instant,
    received: u64,
    /// Read since others had their turn.
    in_a_row: u64,
    ended: bool,
    /// The client waits for a word before it sends: if that word is an error, there is nothing to discard.
    expects_continue: bool,
}

impl BodyReader {
    /// # Errors
    /// [`BodyError::TooLarge`] when the head already says that the body is.
    pub(crate) fn new(body: Body, headers: &HeaderMap, limit: ByteSize, idle: Duration) -> Self {
        BodyReader {
            stream: body.into_data_stream(),
            limit,
            idle,
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
        self.give_way().await;
        let chunk = tokio::time::timeout(self.idle, self.stream.next()).await;
        let chunk = match chunk {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Ok(Some(Err(_))) => {
                self.ended = true;
                return Err(BodyError::CutOff);
            }
            Err(_) => {
                self.ended = true;
                return Err(BodyError::TooSlow);
            }
        };
        self.received += chunk.len() as u64;
        self.in_a_row += chunk.len() as u64;
        if self.received > self.limit.0 {
            return Err(BodyError::TooLarge(self.limit));
        }
        let patience = self.idle + Duration::from_millis(self.received * 1_000 / SLOWEST_BYTES_PER_S);
        if self.started.elapsed() > patience {
            self.ended = true;
            return Err(BodyError::TooSlow);
        }
        Ok(Some(chunk))
    }

    async fn give_way(&mut self) {
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
                self.give_way().await;
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
