//! The one way of an upload, whichever route it came by: stage, enqueue, wait for the receipt. Files that are in memory go
//! along with the message.
//!
//! A [`Draft`] has been checked as a whole; nothing is staged before. From the broker's acknowledgement on the upload is
//! never lost, so the way from there is walked to its end even if the client has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Attachment, EnqueueError, StagingKey};
use futures::{StreamExt, TryStreamExt, stream};
use proto_json::{
    BlobHash, BlobHasher, BlobInfo, Bpm, FileKind, MediaType, Mrn, Receipt, ReceivedUpload, Rename,
    SignalOptions, StagedFile, Timestamp, UploadId, UploadReceipt, UploadReceived,
};
use runtime::problem::{ApiError, ProblemType};
use runtime::trace;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use crate::App;
use crate::admission::Permit;
use crate::auth::access::AuditNotes;
use crate::uploads::spool::Spooled;

/// Files of one upload that are staged at the same time.
const STAGE_AT_ONCE: usize = 4;

/// Whoever waits for a receipt for longer than this gives its turn to the next: nothing is to be gained by waiting where
/// nothing is stored.
const TURN: Duration = Duration::from_secs(1);

/// An upload that has been checked as a whole.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) mrn: Mrn,
    pub(crate) name: Option<String>,
    /// Whether the name may replace another name.
    pub(crate) rename: Rename,
    pub(crate) heart_rate: Option<Bpm>,
    pub(crate) recorded_at: Option<Timestamp>,
    pub(crate) signal_options: SignalOptions,
    pub(crate) files: Vec<DraftFile>,
}

/// A file of a draft.
#[derive(Debug)]
pub(crate) struct DraftFile {
    pub(crate) kind: FileKind,
    pub(crate) media_type: MediaType,
    pub(crate) file_name: Option<String>,
    /// Width and height of a picture.
    pub(crate) pixels: Option<(u32, u32)>,
    pub(crate) content: Spooled,
}

/// What the client wants beside the upload itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// For the audit line of the request.
    pub(crate) notes: AuditNotes,
    /// Name of the client.
    pub(crate) client: Arc<str>,
    /// Id that follows from the client's `Idempotency-Key`.
    pub(crate) keyed: Option<UploadId>,
    /// `Prefer: respond-async`: do not wait for the receipt.
    pub(crate) respond_async: bool,
    /// W3C `traceparent` of the request.
    pub(crate) trace_parent: Option<String>,
}

/// How an upload ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored {
        receipt: UploadReceipt,
        /// It had been stored by an earlier request with the same key.
        replayed: bool,
    },
    /// Queued durably, and not known to be stored yet.
    Received(ReceivedUpload),
}

impl Outcome {
    pub(crate) fn upload_id(&self) -> UploadId {
        match self {
            Outcome::Stored { receipt, .. } => receipt.upload_id,
            Outcome::Received(received) => received.upload_id,
        }
    }
}

/// Takes a draft the whole way, once it is its turn. Goes on to its end even if the caller is dropped.
pub(crate) async fn accept(
    app: &Arc<App>,
    draft: Draft,
    wishes: Wishes,
    permit: Permit,
) -> Result<Outcome, ApiError> {
    let app = app.clone();
    let work = async move {
        let turn = permit.queue().await;
        walk(&app, draft, wishes, turn).await
    };
    let work = tokio::spawn(work.in_current_span());
    work.await.map_err(ApiError::internal)?
}

async fn walk(
    app: &App,
    draft: Draft,
    wishes: Wishes,
    turn: Option<OwnedSemaphorePermit>,
) -> Result<Outcome, ApiError> {
    let received_at = Timestamp::now();
    let fingerprint = fingerprint(&draft);
    let upload_id = wishes.keyed.unwrap_or_else(UploadId::generate);
    trace::about_upload(upload_id);
    wishes.notes.upload(upload_id);

    let inbox = async {
        if wishes.respond_async {
            Ok(None)
        } else {
            app.bus.replies.expect_receipt(upload_id).await.map(Some)
        }
    };
    let (inbox, staged) = tokio::join!(
        inbox,
        stage_large(app, upload_id, &draft.files).instrument(trace::step("stage large files"))
    );
    let inbox = match (inbox, staged) {
        (Ok(inbox), Ok(())) => inbox,
        (inbox, staged) => {
            let error = staged.err().or(inbox.err().map(EnqueueError::from));
            unstage(app, upload_id, &draft.files, wishes.keyed).await;
            return Err(error.as_ref().map_or_else(|| ApiError::internal("nothing failed"), refused));
        }
    };

    let message = UploadReceived {
        upload_id,
        mrn: draft.mrn,
        received_at,
        uploaded_by: Some(wishes.client.to_string()),
        recorded_at: draft.recorded_at,
        name: draft.name,
        rename: draft.rename,
        heart_rate: draft.heart_rate,
        files: draft.files.iter().map(staged_file).collect(),
        signal_options: draft.signal_options,
        fingerprint,
    };
    let reply_to = inbox.as_ref().map(|inbox| inbox.reply_to.clone());
    let attachments = attachments(upload_id, &draft.files);
    let trace_parent = wishes.trace_parent.as_deref();
    if let Err(error) = trace::send_with(&*app.bus.queue, attachments, &message, reply_to, trace_parent).await
    {
        // A broker that failed may have taken the message all the same: then its files are needed.
        if matches!(error, EnqueueError::Full) {
            unstage(app, upload_id, &draft.files, wishes.keyed).await;
        }
        return Err(refused(&error));
    }
    metrics::counter!("bedside_gateway_uploads_accepted_total").increment(1);
    drop(draft.files);

    let queued = Instant::now();
    let receipt = match inbox {
        Some(inbox) => {
            let wait = app.config.receipt_wait;
            let patience = async {
                tokio::time::sleep(wait.min(TURN)).await;
                drop(turn);
                tokio::time::sleep(wait.saturating_sub(TURN)).await;
            };
            tokio::select! {
                receipt = inbox.receipt => receipt,
                () = patience => None,
            }
        }
        None => None,
    };
    if !wishes.respond_async {
        metrics::histogram!("bedside_gateway_receipt_wait_seconds").record(queued.elapsed().as_secs_f64());
    }
    match receipt {
        Some(Receipt::Stored(receipt)) => {
            let replayed = receipt.received_at != received_at;
            Ok(Outcome::Stored { receipt, replayed })
        }
        Some(Receipt::Conflict { .. }) => Err(key_reused()),
        None => Ok(Outcome::Received(ReceivedUpload {
            upload_id,
            mrn: draft.mrn,
            received_at,
            message: "The upload has been accepted and will be stored shortly.".to_owned(),
            fingerprint,
        })),
    }
}

fn staged_file(file: &DraftFile) -> StagedFile {
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

/// The files in memory, without duplicates; they are enqueued with the message. Raw ECGs are also read by the worker, all
/// other files only by ingest.
fn attachments(upload: UploadId, files: &[DraftFile]) -> Vec<Attachment> {
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
async fn stage_large(app: &App, upload: UploadId, files: &[DraftFile]) -> Result<(), EnqueueError> {
    let puts: Vec<_> = distinct(files)
        .filter(|content| content.in_memory().is_none())
        .map(|content| {
            let key = StagingKey { upload, sha256: content.sha256 };
            app.bus.staging.put(key, content.bytes, content.stream())
        })
        .collect();
    stream::iter(puts).buffer_unordered(STAGE_AT_ONCE).try_collect().await
}

/// The files of an upload by content: the same picture twice is staged once.
fn distinct(files: &[DraftFile]) -> impl Iterator<Item = &Spooled> {
    files.iter().enumerate().filter_map(|(index, file)| {
        let again = files.iter().take(index).any(|earlier| earlier.content.sha256 == file.content.sha256);
        (!again).then_some(&file.content)
    })
}

/// Takes back what was staged for an upload that is certain not to be queued. With a client's key that is never certain:
/// another request with the same key may have queued it; what is left over then is swept by ingest in time.
async fn unstage(app: &App, upload: UploadId, files: &[DraftFile], keyed: Option<UploadId>) {
    if keyed.is_some() {
        return;
    }
    for content in distinct(files) {
        if let Err(error) = app.bus.staging.delete(StagingKey { upload, sha256: content.sha256 }).await {
            tracing::warn!(upload_id = %upload, %error, "a staged file was left behind");
        }
    }
}

/// What a client is told when the broker does not take its upload.
fn refused(error: &EnqueueError) -> ApiError {
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

/// SHA-256 over everything the client sent, in one form for both routes: each value with its length before it, so that no
/// two uploads can run together into the same bytes.
fn fingerprint(draft: &Draft) -> BlobHash {
    let mut hasher = BlobHasher::new();
    let mut add = |value: Option<&[u8]>| match value {
        Some(value) => {
            hasher.update(&(value.len() as u64).to_be_bytes());
            hasher.update(value);
        }
        None => hasher.update(&u64::MAX.to_be_bytes()),
    };
    let options = &draft.signal_options;
    add(Some(b"bedside upload 1"));
    add(Some(&draft.mrn.get().to_be_bytes()));
    add(draft.name.as_deref().map(str::as_bytes));
    add(draft.heart_rate.map(|bpm| bpm.get().to_be_bytes()).as_ref().map(<[u8; 2]>::as_slice));
    add(draft.recorded_at.map(|at| at.as_millis().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    add(options.sample_rate_hz.map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    add(options.lead.as_deref().map(str::as_bytes));
    if draft.rename == Rename::Confirmed {
        add(Some(b"rename"));
    }
    for file in &draft.files {
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
