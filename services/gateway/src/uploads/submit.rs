//! Submits a validated upload, for both upload routes: stages large files, enqueues the message and waits for the
//! receipt. Small files are sent with the message.
//!
//! Invariants: nothing is staged before the whole upload is validated. After the broker's acknowledgement the
//! upload cannot be lost. Submission runs in its own task, so it completes even if the client disconnects.
//!
//! Failure modes: if the queue is full, the staged files are removed. If the broker fails, they stay, because
//! the broker may have stored the message; ingest removes unreferenced files later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Attachment, EnqueueError, StagingKey};
use futures::{StreamExt, TryStreamExt, stream};
use http_server::problem::{ApiError, ProblemType};
use proto_json::{
    BlobHash, BlobHasher, BlobInfo, Bpm, FileKind, MediaType, Mrn, Receipt, ReceivedUpload, Rename,
    SignalOptions, StagedFile, Timestamp, UploadId, UploadReceipt, UploadReceived,
};
use runtime::trace;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use crate::admission::Permit;
use crate::app::App;
use crate::uploads::options::RequestOptions;
use crate::uploads::spool::Spooled;

/// Number of files of an upload that are staged at the same time.
const STAGE_AT_ONCE: usize = 4;

/// Time after which an upload that waits for its receipt leaves the client's queue position. A slow store
/// must not delay the next upload of the client.
const MAX_ACTIVE_WAIT: Duration = Duration::from_secs(1);

/// An upload whose fields and files are valid.
#[derive(Debug)]
pub(crate) struct ValidatedUpload {
    pub(crate) mrn: Mrn,
    pub(crate) name: Option<String>,
    /// Whether the name may replace another one.
    pub(crate) rename: Rename,
    pub(crate) heart_rate: Option<Bpm>,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) signal_options: SignalOptions,
    pub(crate) files: Vec<ValidatedFile>,
}

/// A file of a validated upload.
#[derive(Debug)]
pub(crate) struct ValidatedFile {
    pub(crate) kind: FileKind,
    pub(crate) media_type: MediaType,
    pub(crate) file_name: Option<String>,
    /// Width and height of an image.
    pub(crate) pixels: Option<(u32, u32)>,
    pub(crate) content: Spooled,
}

/// Result of a submission.
#[derive(Debug)]
pub(crate) enum SubmitOutcome {
    Stored {
        receipt: UploadReceipt,
        /// Whether an earlier request with the same key stored it.
        replayed: bool,
    },
    /// Enqueued durably; not known to be stored yet.
    Received(ReceivedUpload),
}

impl SubmitOutcome {
    pub(crate) fn upload_id(&self) -> UploadId {
        match self {
            SubmitOutcome::Stored { receipt, .. } => receipt.upload_id,
            SubmitOutcome::Received(received) => received.upload_id,
        }
    }
}

/// Submits an upload when it reaches the front of the client's queue. Completes even if the caller is
/// dropped.
pub(crate) async fn submit(
    app: &Arc<App>,
    upload: ValidatedUpload,
    options: RequestOptions,
    permit: Permit,
) -> Result<SubmitOutcome, ApiError> {
    let app = app.clone();
    let work = async move {
        let position = permit.queue().await;
        process(&app, upload, options, position).await
    };
    let work = tokio::spawn(work.in_current_span());
    work.await.map_err(ApiError::internal)?
}

async fn process(
    app: &App,
    upload: ValidatedUpload,
    options: RequestOptions,
    position: Option<OwnedSemaphorePermit>,
) -> Result<SubmitOutcome, ApiError> {
    let received_at = Timestamp::now();
    let fingerprint = fingerprint(&upload);
    let upload_id = options.idempotent_id.unwrap_or_else(UploadId::generate);
    trace::about_upload(upload_id);
    options.notes.upload(upload_id);

    let inbox = async {
        if options.respond_async {
            Ok(None)
        } else {
            app.bus.replies.expect_receipt(upload_id).await.map(Some)
        }
    };
    let (inbox, staged) = tokio::join!(
        inbox,
        stage_large(app, upload_id, &upload.files).instrument(trace::step("stage large files"))
    );
    let inbox = match (inbox, staged) {
        (Ok(inbox), Ok(())) => inbox,
        (inbox, staged) => {
            let error = staged.err().or(inbox.err().map(EnqueueError::from));
            remove_staged(app, upload_id, &upload.files, options.idempotent_id).await;
            return Err(error.as_ref().map_or_else(|| ApiError::internal("nothing failed"), broker_error));
        }
    };

    let message = UploadReceived {
        upload_id,
        mrn: upload.mrn,
        received_at,
        uploaded_by: Some(options.client.to_string()),
        recorded_at: upload.recorded_at,
        name: upload.name,
        rename: upload.rename,
        heart_rate: upload.heart_rate,
        files: upload.files.iter().map(staged_file).collect(),
        signal_options: upload.signal_options,
        fingerprint,
    };
    let reply_to = inbox.as_ref().map(|inbox| inbox.reply_to.clone());
    let attachments = attachments(upload_id, &upload.files);
    let trace_parent = options.trace_parent.as_deref();
    if let Err(error) = trace::send_with(&*app.bus.queue, attachments, &message, reply_to, trace_parent).await
    {
        // The broker may have stored the message before it failed. Its files are needed then.
        if matches!(error, EnqueueError::Full) {
            remove_staged(app, upload_id, &upload.files, options.idempotent_id).await;
        }
        return Err(broker_error(&error));
    }
    metrics::counter!("bedside_gateway_uploads_accepted_total").increment(1);
    drop(upload.files);

    let queued = Instant::now();
    let receipt = match inbox {
        Some(inbox) => {
            let wait = app.config.receipt_wait;
            let timeout = async {
                tokio::time::sleep(wait.min(MAX_ACTIVE_WAIT)).await;
                drop(position);
                tokio::time::sleep(wait.saturating_sub(MAX_ACTIVE_WAIT)).await;
            };
            tokio::select! {
                receipt = inbox.receipt => receipt,
                () = timeout => None,
            }
        }
        None => None,
    };
    if !options.respond_async {
        metrics::histogram!("bedside_gateway_receipt_wait_seconds").record(queued.elapsed().as_secs_f64());
    }
    match receipt {
        Some(Receipt::Stored(receipt)) => {
            let replayed = receipt.received_at != received_at;
            Ok(SubmitOutcome::Stored { receipt, replayed })
        }
        Some(Receipt::Conflict { .. }) => Err(key_reused()),
        Some(Receipt::Erased { .. }) => {
            let detail = "The patient with this number was erased, and the number cannot be used again.";
            Err(ApiError::new(ProblemType::ERASED, detail))
        }
        None => Ok(SubmitOutcome::Received(ReceivedUpload {
            upload_id,
            mrn: upload.mrn,
            received_at,
            message: "The upload has been accepted and will be stored shortly.".to_owned(),
            fingerprint,
        })),
    }
}

fn staged_file(file: &ValidatedFile) -> StagedFile {
    StagedFile {
        kind: file.kind,
        blob: BlobInfo {
            sha256: file.content.sha256,
            bytes: file.content.bytes,
            media_type: file.media_type,
            file_name: file.file_name.clone(),
            width: file.pixels.map(|(width, _)| width),
            height: file.pixels.map(|(_, height)| height),
        },
    }
}

/// Returns the files in memory, each content once. They are enqueued with the message. The worker also reads raw
/// ECGs; only ingest reads the others.
fn attachments(upload: UploadId, files: &[ValidatedFile]) -> Vec<Attachment> {
    let is_ecg =
        |sha256| files.iter().any(|file| file.content.sha256 == sha256 && file.kind == FileKind::Ecg);
    distinct(files)
        .filter_map(|file| {
            let (content, consumer_only) = (file.in_memory()?.clone(), !is_ecg(file.sha256));
            Some(Attachment { upload, content, consumer_only })
        })
        .collect()
}

/// Stages each content that is not in memory once, several at a time.
async fn stage_large(app: &App, upload: UploadId, files: &[ValidatedFile]) -> Result<(), EnqueueError> {
    let puts: Vec<_> = distinct(files)
        .filter(|content| content.in_memory().is_none())
        .map(|content| {
            let key = StagingKey { upload, sha256: content.sha256 };
            app.bus.staging.put(key, content.bytes, content.stream())
        })
        .collect();
    stream::iter(puts).buffer_unordered(STAGE_AT_ONCE).try_collect().await
}

/// Returns each content of the upload once, even if several files are equal.
fn distinct(files: &[ValidatedFile]) -> impl Iterator<Item = &Spooled> {
    files.iter().enumerate().filter_map(|(index, file)| {
        let again = files.iter().take(index).any(|earlier| earlier.content.sha256 == file.content.sha256);
        (!again).then_some(&file.content)
    })
}

/// Removes the staged files of an upload that was not enqueued. With an idempotency key, another request may
/// have enqueued it, so the files stay and ingest removes them if they are not referenced.
async fn remove_staged(
    app: &App,
    upload: UploadId,
    files: &[ValidatedFile],
    idempotent_id: Option<UploadId>,
) {
    if idempotent_id.is_some() {
        return;
    }
    for content in distinct(files) {
        if let Err(error) = app.bus.staging.delete(StagingKey { upload, sha256: content.sha256 }).await {
            tracing::warn!(upload_id = %upload, %error, "a staged file could not be removed");
        }
    }
}

/// Converts an error of the broker to a response.
fn broker_error(error: &EnqueueError) -> ApiError {
    metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
    match error {
        EnqueueError::Full => {
            tracing::warn!("the upload queue is full");
            ApiError::unavailable("The upload queue is full for now; send the upload again in a moment.", 5)
        }
        EnqueueError::Bus(cause) => {
            tracing::warn!(%cause, "the broker failed");
            ApiError::unavailable(
                "The message broker cannot be reached for now; send the upload again in a moment.",
                2,
            )
        }
    }
}

fn key_reused() -> ApiError {
    ApiError::new(
        ProblemType::KEY_REUSED,
        "This Idempotency-Key was used for an upload with other content; use a new key for a new upload.",
    )
}

/// SHA-256 over all values of the upload, the same for both routes. Each value is prefixed with its length,
/// so different uploads never produce the same input.
fn fingerprint(upload: &ValidatedUpload) -> BlobHash {
    let mut hasher = BlobHasher::new();
    let mut add = |value: Option<&[u8]>| match value {
        Some(value) => {
            hasher.update(&(value.len() as u64).to_be_bytes());
            hasher.update(value);
        }
        None => hasher.update(&u64::MAX.to_be_bytes()),
    };
    let options = &upload.signal_options;
    add(Some(b"bedside upload 1"));
    add(Some(&upload.mrn.get().to_be_bytes()));
    add(upload.name.as_deref().map(str::as_bytes));
    add(upload.heart_rate.map(|bpm| bpm.get().to_be_bytes()).as_ref().map(<[u8; 2]>::as_slice));
    add(upload.recorded_at.map(|at| at.as_millis().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    add(options.sample_rate_hz.map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(options.lead.as_deref().map(str::as_bytes));
    if upload.rename == Rename::Confirmed {
        add(Some(b"rename"));
    }
    for file in &upload.files {
        let kind: &[u8] = match file.kind {
            FileKind::MedicalImage => b"medical_image",
            FileKind::EcgImage => b"ecg_image",
            FileKind::Ecg => b"ecg",
        };
        add(Some(kind));
        add(Some(file.content.sha256.as_bytes()));
        add(file.file_name.as_deref().map(str::as_bytes));
    }
    hasher.finish()
}
