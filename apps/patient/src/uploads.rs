//! Sends uploads: first to the outbox on disk, from there to the gateway.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::{
    ClientError, EntryId, FileContent, Gateway, Outbox, OutboxError, OutboxEvent, Progress, Upload,
    UploadAnswer, UploadFile,
};
use proto_json::{Mrn, SignalOptions, Timestamp};
use slint::{ModelRc, VecModel};
use ui::{Task, format, tr};

use crate::backend::{Backend, UiSender};
use crate::message::Message;
use crate::messages;
use crate::model::{FileStamp, Preview};
use crate::recording::RecordingTime;
use crate::window::OutboxUpload;

/// Attempts to open an outbox that a closing window may still hold, and the pause between them.
const OPEN_ATTEMPTS: u32 = 10;
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// Steps of the progress bar.
const PROGRESS_STEPS: u64 = 500;

/// What has become of an upload.
pub(crate) enum UploadOutcome {
    /// The gateway has the upload of the form: the form can be cleared.
    Delivered { answer: UploadAnswer, previews: Vec<Preview> },
    /// The upload of the form waits in the outbox for this reason: the form can be cleared.
    Queued { mrn: Option<Mrn>, reason: ClientError },
    /// The upload of the form was not sent, for this reason in one or more sentences. The form is kept.
    Failed(String),
    /// The user cancelled the upload of the form. The form is kept.
    Cancelled,
    /// The gateway has an upload that waited in the outbox.
    BacklogDelivered(UploadAnswer),
    /// The gateway rejected an upload that waited in the outbox.
    BacklogRejected(ClientError),
}

/// The content of an upload, as the user confirmed it.
pub(crate) struct UploadContent {
    pub(crate) mrn: Mrn,
    pub(crate) name: Option<String>,
    /// Whether the upload may replace another name of the patient.
    pub(crate) rename: bool,
    pub(crate) recorded: RecordingTime,
    pub(crate) signal_options: SignalOptions,
    /// Each file with the stamp of the file that was shown.
    pub(crate) files: Vec<(UploadFile, FileStamp)>,
}

/// State of the upload of the form.
enum Phase {
    Idle,
    /// The upload is being copied to the outbox. Dropping the task cancels the copy.
    Copying(#[allow(dead_code, reason = "dropping it cancels the copy")] Task),
    /// The upload is in the outbox.
    Sending(EntryId),
}

/// Sends the upload of the form and the uploads that wait in the outbox.
pub(crate) struct UploadController {
    backend: Backend,
    outbox: Option<Outbox>,
    /// Why the outbox could not be opened.
    outbox_error: Option<String>,
    gateway: Option<Gateway>,
    sending: Task,
    watching: Task,
    phase: Phase,
    mrn: Option<Mrn>,
    previews: Vec<Preview>,
    /// Number of the latest upload of the form.
    number: u64,
}

impl UploadController {
    /// Opens the outbox in this folder. The result arrives as [`Message::OutboxOpened`].
    pub(crate) fn new(backend: Backend, folder: PathBuf) -> Self {
        let sender = backend.sender.clone();
        backend.background.spawn_blocking(move || sender.send(Message::OutboxOpened(open(&folder))));
        UploadController {
            backend,
            outbox: None,
            outbox_error: None,
            gateway: None,
            sending: Task::default(),
            watching: Task::default(),
            phase: Phase::Idle,
            mrn: None,
            previews: Vec::new(),
            number: 0,
        }
    }

    pub(crate) fn opened(&mut self, outbox: Result<Outbox, OutboxError>) {
        match outbox {
            Ok(outbox) => {
                let (sender, mut changes) = (self.backend.sender.clone(), outbox.changes());
                self.watching = self.backend.background.spawn(async move {
                    while changes.changed().await.is_ok() {
                        sender.send(Message::OutboxChanged);
                    }
                });
                self.outbox = Some(outbox);
                self.run();
                self.refresh();
            }
            Err(error) => self.outbox_error = Some(messages::error(&error)),
        }
    }

    /// Sends all uploads to this gateway from now on.
    pub(crate) fn connect(&mut self, gateway: Gateway) {
        self.gateway = Some(gateway);
        self.run();
    }

    fn run(&mut self) {
        // An upload in progress is interrupted and sent again with the same idempotency key.
        self.sending = Task::default();
        let (Some(outbox), Some(gateway)) = (self.outbox.clone(), self.gateway.clone()) else { return };
        let sender = self.backend.sender.clone();
        let reported = AtomicU64::new(u64::MAX);
        self.sending = self.backend.background.spawn(async move {
            let report = move |event: OutboxEvent| {
                if let OutboxEvent::Progress { progress, .. } = &event {
                    // A large upload makes progress in thousands of steps.
                    let step = progress.sent * PROGRESS_STEPS / progress.total.max(1);
                    if reported.swap(step, Ordering::Relaxed) == step {
                        return;
                    }
                }
                sender.send(Message::Outbox(event));
            };
            match outbox.run(&gateway, report).await {}
        });
    }

    /// Sends waiting uploads at once, because the connection is back.
    pub(crate) fn retry_now(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.retry_now();
        }
    }

    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// Why no upload is possible at all.
    pub(crate) fn problem(&self) -> Option<&str> {
        match &self.outbox {
            Some(_) => None,
            None => Some(self.outbox_error.as_deref().unwrap_or(tr!("Starting…"))),
        }
    }

    /// Whether an upload of the form is in progress.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// The entry of the outbox that holds the upload of the form.
    fn current(&self) -> Option<EntryId> {
        if let Phase::Sending(id) = &self.phase { Some(*id) } else { None }
    }

    /// The uploads in the outbox, without the upload of the form.
    fn backlog(&self) -> Vec<client::OutboxEntry> {
        let entries = self.outbox.as_ref().map(Outbox::entries).unwrap_or_default();
        entries.into_iter().filter(|entry| Some(entry.id) != self.current()).collect()
    }

    /// Number of uploads in the outbox, without the upload of the form.
    pub(crate) fn backlog_len(&self) -> usize {
        self.backlog().len()
    }

    /// Starts an upload: copies it to the outbox, which sends it. `previews` holds one entry for each ECG.
    pub(crate) fn start(&mut self, content: UploadContent, previews: Vec<Preview>) {
        let Some(outbox) = self.outbox.clone() else { return };
        self.number += 1;
        self.mrn = Some(content.mrn);
        self.previews = previews;
        let (number, sender) = (self.number, self.backend.sender.clone());
        let task = self.backend.background.spawn(async move {
            let result = put(&outbox, content, number, &sender).await;
            sender.send(Message::Queued { number, result });
        });
        self.phase = Phase::Copying(task);
        self.show_progress(0.0, tr!("Preparing…"));
    }

    pub(crate) fn copying(&self, number: u64, progress: Progress) {
        if number == self.number && matches!(self.phase, Phase::Copying(_)) {
            let (copied, total) = (format::bytes(progress.sent), format::bytes(progress.total));
            self.show_progress(0.0, &tr!("Preparing: {} of {}", copied, total));
        }
    }

    pub(crate) fn queued(&mut self, number: u64, result: Result<EntryId, String>) -> Option<UploadOutcome> {
        if number != self.number || !matches!(self.phase, Phase::Copying(_)) {
            // The user cancelled the upload while this message was on its way.
            let removed = result.ok().and_then(|id| self.outbox.as_ref().map(|outbox| outbox.remove(id)));
            self.refresh();
            return match removed {
                Some(Err(error)) => Some(UploadOutcome::Failed(messages::error(&error))),
                _ => None,
            };
        }
        match result {
            Ok(id) => {
                self.phase = Phase::Sending(id);
                self.refresh();
                self.show_progress(0.0, tr!("Connecting…"));
                None
            }
            Err(reason) => {
                self.finish();
                Some(UploadOutcome::Failed(tr!("Not uploaded. {}", messages::error(&reason))))
            }
        }
    }

    /// Cancels the upload of the form and removes it from the outbox.
    pub(crate) fn cancel(&mut self) -> Option<UploadOutcome> {
        if let Some(id) = self.current()
            && let Some(Err(error)) = self.outbox.as_ref().map(|outbox| outbox.remove(id))
        {
            return Some(UploadOutcome::Failed(messages::error(&error)));
        }
        // A cancelled copy removes what it has written.
        self.number += 1;
        self.finish();
        Some(UploadOutcome::Cancelled)
    }

    /// Takes an event of the outbox and returns what it means for the user.
    pub(crate) fn outbox_event(&mut self, event: OutboxEvent) -> Option<UploadOutcome> {
        let current = self.current();
        match event {
            OutboxEvent::Progress { id, progress } => {
                if current == Some(id) {
                    let share = progress.sent as f32 / progress.total.max(1) as f32;
                    let (sent, total) = (format::bytes(progress.sent), format::bytes(progress.total));
                    let text = if progress.total == 0 {
                        tr!("Waiting for the answer…").to_owned()
                    } else if progress.sent < progress.total {
                        tr!("Sent {} of {}", sent, total)
                    } else {
                        tr!("All {} sent, waiting for the answer…", total)
                    };
                    self.show_progress(share, &text);
                }
                None
            }
            OutboxEvent::Delivered { id, answer } => {
                self.refresh();
                if current != Some(id) {
                    return Some(UploadOutcome::BacklogDelivered(answer));
                }
                let previews = std::mem::take(&mut self.previews);
                self.finish();
                Some(UploadOutcome::Delivered { answer, previews })
            }
            OutboxEvent::Rejected { id, error } if current == Some(id) => Some(self.take_back(id, &error)),
            OutboxEvent::Rejected { error, .. } => {
                self.refresh();
                Some(UploadOutcome::BacklogRejected(error))
            }
            OutboxEvent::Delayed { error, .. } => {
                let id = current?;
                if !error.is_transient() {
                    return Some(self.take_back(id, &error));
                }
                self.finish();
                Some(UploadOutcome::Queued { mrn: self.mrn, reason: error })
            }
        }
    }

    /// Removes an upload that cannot succeed from the outbox. Its content is still in the form.
    fn take_back(&mut self, id: EntryId, error: &ClientError) -> UploadOutcome {
        let removed = self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.remove(id));
        self.finish();
        let message = tr!("Not uploaded. {}", messages::error(error));
        UploadOutcome::Failed(match removed {
            Ok(()) => message,
            Err(error) => format!("{message} {}", messages::error(&error)),
        })
    }

    fn finish(&mut self) {
        self.phase = Phase::Idle;
        self.backend.api(|api| api.set_uploading(false));
        self.refresh();
    }

    fn show_progress(&self, share: f32, text: &str) {
        self.backend.api(|api| {
            api.set_uploading(true);
            api.set_progress(share);
            api.set_progress_text(text.into());
        });
    }

    /// Sends a rejected upload again.
    ///
    /// # Errors
    /// One sentence, if the outbox cannot be written.
    pub(crate) fn retry(&mut self, id: &str) -> Result<(), String> {
        self.with_entry(id, Outbox::retry)
    }

    /// Sends a rejected upload again and allows it to change the name of its patient.
    ///
    /// # Errors
    /// One sentence, if the outbox cannot be written.
    pub(crate) fn retry_with_rename(&mut self, id: &str) -> Result<(), String> {
        self.with_entry(id, Outbox::retry_with_rename)
    }

    /// Removes an upload from the outbox without sending it.
    ///
    /// # Errors
    /// One sentence, if the outbox cannot be written.
    pub(crate) fn discard(&mut self, id: &str) -> Result<(), String> {
        self.with_entry(id, Outbox::remove)
    }

    fn with_entry(
        &mut self,
        id: &str,
        act: impl Fn(&Outbox, EntryId) -> Result<(), OutboxError>,
    ) -> Result<(), String> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let entry = outbox.entries().into_iter().find(|entry| entry.id.to_string() == id);
        let result = entry.map_or(Ok(()), |entry| act(outbox, entry.id));
        self.refresh();
        result.map_err(|error| messages::error(&error))
    }

    /// Shows the uploads that wait in the outbox.
    pub(crate) fn refresh(&self) {
        let Some(outbox) = &self.outbox else { return };
        let backlog = self.backlog();
        let rejected = backlog.iter().filter(|entry| entry.attention.is_some()).count();
        let mut parts = Vec::new();
        if backlog.len() > rejected {
            parts.push(tr!("{} waiting", backlog.len() - rejected));
        }
        if rejected > 0 {
            parts.push(format::count(rejected as u64, tr!("needs attention"), tr!("need attention")));
        }
        if outbox.damaged() > 0 {
            parts.push(tr!("{} damaged", outbox.damaged()));
        }
        let now = Timestamp::now();
        let row = |entry: &client::OutboxEntry| OutboxUpload {
            id: entry.id.to_string().into(),
            title: match &entry.name {
                Some(name) => tr!("Patient {}, {}", entry.mrn, name).into(),
                None => tr!("Patient {}", entry.mrn).into(),
            },
            detail: match &entry.attention {
                Some(reason) => tr!("Rejected: {}", reason).into(),
                None => tr!(
                    "{}, {}, since {}",
                    format::count(entry.files as u64, tr!("file"), tr!("files")),
                    format::bytes(entry.bytes),
                    format::time_or_date(entry.created_at, now)
                )
                .into(),
            },
            needs_attention: entry.attention.is_some(),
            name_differs: entry.name_differs,
        };
        let rows: Vec<OutboxUpload> = backlog.iter().map(row).collect();
        self.backend.api(|api| {
            api.set_outbox_text(parts.join(", ").into());
            api.set_outbox_needs_attention(rejected > 0 || outbox.damaged() > 0);
            api.set_outbox_uploads(ModelRc::new(VecModel::from(rows)));
        });
    }

    /// Stops sending and closes the outbox.
    pub(crate) fn stop(&mut self) {
        self.sending = Task::default();
        self.watching = Task::default();
        self.phase = Phase::Idle;
        self.outbox = None;
    }
}

/// Opens the outbox. Waits for a moment while a window that is being closed still holds it.
fn open(folder: &Path) -> Result<Outbox, OutboxError> {
    for _ in 0..OPEN_ATTEMPTS {
        match Outbox::open(folder) {
            Err(OutboxError::InUse(_)) => std::thread::sleep(OPEN_PAUSE),
            result => return result,
        }
    }
    Outbox::open(folder)
}

/// Copies an upload to the outbox, if none of its files has changed since it was shown.
async fn put(
    outbox: &Outbox,
    content: UploadContent,
    number: u64,
    sender: &UiSender,
) -> Result<EntryId, String> {
    for (file, stamp) in &content.files {
        if let FileContent::Path(path) = &file.content
            && stamp_of(path).await? != *stamp
        {
            return Err(tr!(
                "The file {} has changed since it was read. Remove it and select it again",
                file.file_name
            ));
        }
    }
    let upload = Upload {
        name: content.name,
        rename: content.rename,
        recorded_at: content.recorded.at,
        recorded_by_this_computer: content.recorded.by_this_computer,
        signal_options: content.signal_options,
        ..Upload::of(content.files.into_iter().map(|(file, _)| file).collect())
    };
    let progress = {
        let sender = sender.clone();
        move |progress| sender.send(Message::Copying { number, progress })
    };
    outbox.put(content.mrn, &upload, progress).await.map_err(|error| error.to_string())
}

async fn stamp_of(path: &Path) -> Result<FileStamp, String> {
    let metadata = tokio::fs::metadata(path).await;
    metadata
        .map(|metadata| FileStamp::of(&metadata))
        .map_err(|error| tr!("the file {} cannot be read: {}", path.display(), error))
}
