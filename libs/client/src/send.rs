//! Sends uploads: streamed from disk, with progress and retries. The gateway stores an upload once, however often it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use proto_json::{Mrn, ReceivedUpload, UploadReceipt};
use tokio::time::Instant;

use crate::multipart::{self, FileError, UploadForm};
use crate::upload::Upload;
use crate::{ClientError, Gateway};

/// Progress of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the files that were handed to the connection.
    pub sent: u64,
    /// Size of all files in bytes.
    pub total: u64,
}

/// Answer of the gateway to an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadAnswer {
    /// The upload is stored.
    Stored(UploadReceipt),
    /// The upload is durably queued and will be stored.
    Accepted(ReceivedUpload),
}

/// When an upload is sent again after a transient error.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Number of attempts, including the first.
    pub attempts: u32,
    /// Wait after the first attempt. It doubles after each further one.
    pub first_wait: Duration,
    /// Longest wait, even if the gateway asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 5,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(10),
        }
    }
}

impl Gateway {
    /// Sends an upload once. Dropping the future cancels the upload: the gateway stores nothing of it, unless it has received
    /// every byte. `progress` is called while the files are sent, from 0 to the total.
    ///
    /// # Errors
    /// [`ClientError`]. After a transient error the upload may be stored or not: send it again with the same key.
    pub async fn upload(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<UploadAnswer, ClientError> {
        self.send_upload(mrn, upload, Arc::new(progress)).await
    }

    /// Sends an upload until the gateway accepts or rejects it, or all attempts have failed.
    ///
    /// # Errors
    /// The [`ClientError`] of the last attempt.
    pub async fn upload_with_retries(
        &self,
        mrn: Mrn,
        upload: &Upload,
        policy: RetryPolicy,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<UploadAnswer, ClientError> {
        let progress = Arc::new(progress);
        let backoff = ExponentialBuilder::new()
            .with_min_delay(policy.first_wait)
            .with_max_delay(policy.longest_wait)
            .with_max_times(policy.attempts.saturating_sub(1) as usize);
        (|| self.send_upload(mrn, upload, Arc::clone(&progress)))
            .retry(backoff)
            .when(ClientError::is_transient)
            .adjust(|error, wait| Some(error.retry_after().unwrap_or(wait?).min(policy.longest_wait)))
            .notify(|error, _| tracing::debug!(%error, "upload failed, sending it again"))
            .await
    }

    async fn send_upload(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: Arc<impl Fn(Progress) + Send + Sync + 'static>,
    ) -> Result<UploadAnswer, ClientError> {
        let meter = Meter::default();
        let counter = meter.clone();
        let report = Arc::clone(&progress);
        let UploadForm { form, total, failed } =
            multipart::form(upload, move |bytes| report(counter.add(bytes))).await?;
        meter.start(total);
        progress(Progress { sent: 0, total });
        let mut request = self
            .post(self.api(&["patients", &mrn.to_string(), "uploads"]))
            .multipart(form)
            .header("idempotency-key", upload.idempotency_key.as_str());
        if upload.respond_async {
            request = request.header("prefer", "respond-async");
        }
        let sent = tokio::select! {
            sent = request.send() => sent,
            limit = meter.stalled(self.timeouts().stall, self.timeouts().receipt) => {
                return Err(ClientError::TimedOut { gateway: self.address().to_owned(), limit });
            }
        };
        // A file that cannot be read breaks the connection, too. The file is the cause.
        if let Some(FileError { path, reason }) = failed.borrow().clone() {
            return Err(ClientError::File { path, reason });
        }
        let response = self.accepted(sent, self.timeouts().receipt).await?;
        if response.status() == reqwest::StatusCode::ACCEPTED {
            self.parsed(response).await.map(UploadAnswer::Accepted)
        } else {
            self.parsed(response).await.map(UploadAnswer::Stored)
        }
    }
}

/// Counts the bytes that are sent, and detects when no more are.
#[derive(Debug, Clone)]
struct Meter {
    started: Instant,
    total: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// When the last bytes were sent, in milliseconds after the start.
    last_ms: Arc<AtomicU64>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            started: Instant::now(),
            total: Arc::default(),
            sent: Arc::default(),
            last_ms: Arc::default(),
        }
    }
}

impl Meter {
    /// Sets the number of bytes to send.
    fn start(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) -> Progress {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        Progress { sent, total: self.total.load(Ordering::Relaxed) }
    }

    /// Resolves with the limit that was exceeded: `stall` while bytes are left, `receipt` after the last one.
    async fn stalled(&self, stall: Duration, receipt: Duration) -> Duration {
        loop {
            let all_sent = self.sent.load(Ordering::Relaxed) >= self.total.load(Ordering::Relaxed);
            let limit = if all_sent { receipt } else { stall };
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.started + last + limit;
            if due <= Instant::now() {
                return limit;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}
