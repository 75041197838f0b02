//! Uploads: streamed from disk, with progress and retries. The gateway stores an upload once, however often it is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use proto_json::{Bpm, FileKind, MediaType, Mrn, ReceivedUpload, SignalOptions, Timestamp, UploadReceipt};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::multipart::{self, FileError, UploadForm};
use crate::{ClientError, Gateway};

/// One upload. Sent again with the same idempotency key, it is stored once.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Name of the patient, if it is known.
    pub name: Option<String>,
    /// Whether the name may replace another name of the patient. Otherwise the gateway rejects an upload with another name
    /// for a known patient.
    pub rename: bool,
    /// A heart rate that another device has measured.
    pub heart_rate: Option<Bpm>,
    /// When ECGs and heart rate were recorded, if it is known.
    pub recorded_at: Option<Timestamp>,
    /// Whether `recorded_at` was read from the clock of this computer. Before the first attempt to send the upload, an outbox
    /// corrects it if that clock and the server's differ by more than the tolerance.
    pub recorded_by_this_computer: bool,
    /// Sampling rate and lead of the raw ECGs.
    pub signal_options: SignalOptions,
    /// The files, in order.
    pub files: Vec<UploadFile>,
    /// Identifies the upload across retries.
    pub idempotency_key: IdempotencyKey,
    /// Whether the gateway may answer when the upload is durably queued, before it is stored.
    pub respond_async: bool,
}

impl Upload {
    /// An upload of these files with a new idempotency key.
    #[must_use]
    pub fn of(files: Vec<UploadFile>) -> Self {
        Upload {
            name: None,
            rename: false,
            heart_rate: None,
            recorded_at: None,
            recorded_by_this_computer: false,
            signal_options: SignalOptions::default(),
            files,
            idempotency_key: IdempotencyKey::generate(),
            respond_async: false,
        }
    }
}

/// One file of an upload.
#[derive(Debug, Clone)]
pub struct UploadFile {
    /// Kind of the file.
    pub kind: FileKind,
    /// Its content.
    pub content: FileContent,
    /// Its name, for display.
    pub file_name: String,
    /// Its format, if it is known. The gateway checks the content in any case.
    pub media_type: Option<MediaType>,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// A file on disk. It is read while it is sent.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

impl UploadFile {
    /// A file on disk with its own name.
    #[must_use]
    pub fn from_path(kind: FileKind, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let media_type = media_type_of(kind, &path);
        UploadFile { kind, content: FileContent::Path(path), file_name, media_type }
    }

    /// Bytes in memory with this name.
    #[must_use]
    pub fn from_bytes(kind: FileKind, file_name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let file_name = file_name.into();
        let media_type = media_type_of(kind, Path::new(&file_name));
        UploadFile { kind, content: FileContent::Bytes(bytes.into()), file_name, media_type }
    }
}

/// The name of the form field for files of this kind.
pub(crate) fn field(kind: FileKind) -> &'static str {
    match kind {
        FileKind::MedicalImage => "medical_image",
        FileKind::EcgImage => "ecg_image",
        FileKind::Ecg => "ecg",
    }
}

fn media_type_of(kind: FileKind, path: &Path) -> Option<MediaType> {
    let extension = path.extension().and_then(|extension| extension.to_str())?.to_ascii_lowercase();
    match (kind, extension.as_str()) {
        (FileKind::Ecg, "edf" | "bdf") => Some(MediaType::Edf),
        (FileKind::Ecg, "csv" | "tsv" | "txt") => Some(MediaType::Csv),
        (FileKind::MedicalImage | FileKind::EcgImage, "png") => Some(MediaType::Png),
        (FileKind::MedicalImage | FileKind::EcgImage, "jpg" | "jpeg") => Some(MediaType::Jpeg),
        _ => None,
    }
}

/// Identifies an upload across retries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// The text is not a valid idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 128 printable ASCII characters without spaces")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// A new, unique key.
    #[must_use]
    pub fn generate() -> Self {
        IdempotencyKey(uuid::Uuid::now_v7().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;
    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = IdempotencyKeyError;
    fn try_from(text: String) -> Result<Self, IdempotencyKeyError> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(IdempotencyKey(text))
        } else {
            Err(IdempotencyKeyError)
        }
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> String {
        key.0
    }
}

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
