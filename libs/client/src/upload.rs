//! What a patient app sends: streamed from disk, with progress, safe to send again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proto_json::{Bpm, FileKind, MediaType, Mrn, ReceivedUpload, SignalOptions, Timestamp, UploadReceipt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::multipart::{FileError, FilePart, Form};
use crate::{ClientError, Gateway};

/// Everything of one upload. The same upload sent again, under the same key, is stored once.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Name of the patient, if known.
    pub name: Option<String>,
    /// The name may replace another name of the patient. Otherwise the gateway rejects an upload that names a known patient
    /// differently.
    pub rename: bool,
    /// A heart rate that was read elsewhere.
    pub heart_rate: Option<Bpm>,
    /// When ECGs and heart rate were recorded, if known.
    pub recorded_at: Option<Timestamp>,
    /// `recorded_at` is by the clock of this computer: an outbox corrects it before it sends the upload for the first time,
    /// if that clock differs from the server's by more than clocks may.
    pub recorded_by_this_computer: bool,
    /// How to read the raw ECGs.
    pub signal_options: SignalOptions,
    /// The files, in order.
    pub files: Vec<UploadFile>,
    /// Tells a retry from another upload.
    pub idempotency_key: IdempotencyKey,
    /// Do not wait until it is stored: durably queued is enough.
    pub respond_async: bool,
}

impl Upload {
    /// An upload of these files under a new key.
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
    /// What it is.
    pub kind: FileKind,
    /// Where its bytes are.
    pub content: FileContent,
    /// Its name, to be shown later.
    pub file_name: String,
    /// Its format, where known; the gateway looks at the bytes in any case.
    pub media_type: Option<MediaType>,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// On disk; read while it is sent.
    Path(PathBuf),
    /// In memory.
    Bytes(Bytes),
}

impl UploadFile {
    /// A file on disk under its own name.
    #[must_use]
    pub fn from_path(kind: FileKind, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let media_type = media_type_of(kind, &path);
        UploadFile { kind, content: FileContent::Path(path), file_name, media_type }
    }

    /// Bytes in memory under this name.
    #[must_use]
    pub fn from_bytes(kind: FileKind, file_name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let file_name = file_name.into();
        let media_type = media_type_of(kind, Path::new(&file_name));
        UploadFile { kind, content: FileContent::Bytes(bytes.into()), file_name, media_type }
    }

    fn field(&self) -> &'static str {
        match self.kind {
            FileKind::MedicalImage => "medical_image",
            FileKind::EcgImage => "ecg_image",
            FileKind::Ecg => "ecg",
        }
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

/// Names one upload, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// The text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 128 letters, digits or signs of ASCII, without blanks")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// A new key.
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

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes handed to the connection.
    pub sent: u64,
    /// Bytes of the whole request.
    pub total: u64,
}

/// What the gateway says to an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadAnswer {
    /// Everything in it is stored.
    Stored(UploadReceipt),
    /// It is durably queued and will be stored.
    Accepted(ReceivedUpload),
}

/// How often to send again after a failure that may pass.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub attempts: u32,
    /// Wait after the first; doubled after each further one.
    pub first_wait: Duration,
    /// The longest wait, also if the gateway asks for a longer one.
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
    /// Sends an upload once. Dropping the future cancels it: then the gateway stores nothing of it, unless it had every
    /// byte already. `progress` is called as bytes leave, from 0 to the total.
    ///
    /// # Errors
    /// [`ClientError`]; after a transient one it may or may not be stored, so send it again under the same key.
    pub async fn upload(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<UploadAnswer, ClientError> {
        self.send_upload(mrn, upload, Arc::new(progress)).await
    }

    /// Sends an upload until the gateway takes or refuses it, or the attempts are used up.
    ///
    /// # Errors
    /// The last [`ClientError`].
    pub async fn upload_with_retries(
        &self,
        mrn: Mrn,
        upload: &Upload,
        policy: RetryPolicy,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<UploadAnswer, ClientError> {
        let progress = Arc::new(progress);
        let mut wait = policy.first_wait;
        for _ in 1..policy.attempts {
            match self.send_upload(mrn, upload, Arc::clone(&progress)).await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "upload failed, trying again");
                    tokio::time::sleep(error.retry_after().unwrap_or(wait).min(policy.longest_wait)).await;
                    wait = (wait * 2).min(policy.longest_wait);
                }
                answer => return answer,
            }
        }
        self.send_upload(mrn, upload, progress).await
    }

    async fn send_upload(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: Arc<impl Fn(Progress) + Send + Sync + 'static>,
    ) -> Result<UploadAnswer, ClientError> {
        let form = form(upload).await?;
        let content_type = form.content_type();
        let (total, chunks) = form.finish();
        let meter = Meter::new(total);
        let (broken, broke) = watch::channel(None);
        let body = {
            let meter = meter.clone();
            progress(Progress { sent: 0, total });
            chunks.inspect(move |chunk| match chunk {
                Ok(chunk) => progress(meter.add(chunk.len() as u64)),
                Err(error) => drop(broken.send(Some(error.clone()))),
            })
        };
        let mut request = self
            .post(self.api(&["patients", &mrn.to_string(), "uploads"]))
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, total)
            .header("idempotency-key", upload.idempotency_key.as_str());
        if upload.respond_async {
            request = request.header("prefer", "respond-async");
        }
        let sent = tokio::select! {
            sent = request.body(reqwest::Body::wrap_stream(body)).send() => sent,
            limit = meter.stalled(self.timeouts().stall, self.timeouts().receipt) => {
                return Err(ClientError::TimedOut { gateway: self.address().to_owned(), limit });
            }
        };
        // A file that cannot be read on breaks the connection, too; the file is what to tell of.
        if let Some(FileError { path, reason }) = broke.borrow().clone() {
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

/// The fields come before the files, so that the gateway can refuse them before it takes a gigabyte.
async fn form(upload: &Upload) -> Result<Form, ClientError> {
    let mut form = Form::new();
    let options = &upload.signal_options;
    let fields = [
        ("name", upload.name.clone()),
        ("rename", upload.rename.then(|| "true".to_owned())),
        ("heart_rate", upload.heart_rate.map(|bpm| bpm.to_string())),
        ("recorded_at", upload.recorded_at.map(|at| at.to_string())),
        ("ecg_sample_rate", options.sample_rate_hz.map(|rate| rate.to_string())),
        ("ecg_lead", options.lead.clone()),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            form.text(field, &value);
        }
    }
    for file in &upload.files {
        let part = FilePart {
            field: file.field(),
            file_name: &file.file_name,
            media_type: file.media_type.map_or("application/octet-stream", MediaType::as_str),
        };
        match &file.content {
            FileContent::Bytes(bytes) => form.bytes(&part, bytes.clone()),
            FileContent::Path(path) => {
                let fail = |reason: String| ClientError::File { path: path.display().to_string(), reason };
                let opened = tokio::fs::File::open(path).await.map_err(|error| fail(error.to_string()))?;
                let facts = opened.metadata().await.map_err(|error| fail(error.to_string()))?;
                if !facts.is_file() {
                    return Err(fail("it is not a file".to_owned()));
                }
                form.file(&part, path.clone(), opened, facts.len());
            }
        }
    }
    Ok(form)
}

/// Counts what leaves, and notices when nothing does.
#[derive(Debug, Clone)]
struct Meter {
    started: Instant,
    total: u64,
    sent: Arc<AtomicU64>,
    last_ms: Arc<AtomicU64>,
}

impl Meter {
    fn new(total: u64) -> Self {
        Meter { started: Instant::now(), total, sent: Arc::default(), last_ms: Arc::default() }
    }

    fn add(&self, bytes: u64) -> Progress {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        Progress { sent, total: self.total }
    }

    /// Resolves, with the limit, when no byte left for longer than `stall`, or no answer came within `receipt` after
    /// the last one.
    async fn stalled(&self, stall: Duration, receipt: Duration) -> Duration {
        loop {
            let limit = if self.sent.load(Ordering::Relaxed) < self.total { stall } else { receipt };
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.started + last + limit;
            if due <= Instant::now() {
                return limit;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}
