//! The way of an upload out of this computer: into the outbox first, from there to the gateway.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{
    ClientError, EntryId, FileContent, Gateway, Outbox, OutboxError, OutboxEvent, Progress, Upload,
    UploadAnswer,
};
use proto_json::{Mrn, Timestamp, UploadReceipt};
use slint::{ModelRc, VecModel};
use ui::{Task, format};

use crate::link::Link;
use crate::message::Message;
use crate::recording::Recorded;
use crate::staging::{Preview, Stamp};
use crate::window::WaitingUpload;

/// How often, and after what time, to try again to open an outbox that another window still holds.
const PATIENCE: u32 = 10;
const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);

/// What has become of an upload, for the desk to act on.
pub(crate) enum Outcome {
    /// It is stored, or as good as: the form can be cleared.
    Done { words: String, receipt: Option<(UploadReceipt, Vec<Preview>)> },
    /// It waits in the outbox: the form can be cleared.
    Kept(String),
    /// It is not on its way: nothing is cleared.
    Failed(String),
    /// One that waited has gone.
    Delivered(String),
}

/// The patient of an upload, as the person confirmed it.
pub(crate) struct Named {
    pub(crate) mrn: Mrn,
    pub(crate) name: Option<String>,
    /// The name may replace another name of the patient.
    pub(crate) rename: bool,
}

/// The upload that the person is waiting for.
enum Phase {
    Idle,
    /// It is being copied to the outbox.
    Keeping(#[allow(dead_code, reason = "dropping it ends the copy")] Task),
    /// It is in the outbox.
    Sending(EntryId),
}

/// The way of an upload out of this computer.
pub(crate) struct Sending {
    link: Link,
    outbox: Option<Outbox>,
    /// Why there is no outbox.
    problem: Option<String>,
    gateway: Option<Gateway>,
    runner: Task,
    watcher: Task,
    phase: Phase,
    mrn: Option<Mrn>,
    previews: Vec<Preview>,
    /// Number of the latest attempt.
    number: u64,
}

impl Sending {
    /// Opens the outbox in this folder; the answer comes as [`Message::OutboxOpened`].
    pub(crate) fn new(link: Link, folder: std::path::PathBuf) -> Self {
        let mail = link.mail.clone();
        link.network.spawn_blocking(move || drop(mail.send(Message::OutboxOpened(open(&folder)))));
        Sending {
            link,
            outbox: None,
            problem: None,
            gateway: None,
            runner: Task::default(),
            watcher: Task::default(),
            phase: Phase::Idle,
            mrn: None,
            previews: Vec::new(),
            number: 0,
        }
    }

    pub(crate) fn opened(&mut self, outbox: Result<Outbox, OutboxError>) {
        match outbox {
            Ok(outbox) => {
                let (mail, mut changes) = (self.link.mail.clone(), outbox.changes());
                self.watcher = self.link.network.spawn(async move {
                    while changes.changed().await.is_ok() && mail.send(Message::OutboxChanged).is_ok() {}
                });
                self.outbox = Some(outbox);
                self.run();
                self.refresh();
            }
            Err(error) => self.problem = Some(format::sentence(&error.to_string())),
        }
    }

    /// Sends to this gateway from now on.
    pub(crate) fn connect(&mut self, gateway: Gateway) {
        self.gateway = Some(gateway);
        self.run();
    }

    fn run(&mut self) {
        // What was being sent is cut off, and begins anew under the same key.
        self.runner = Task::default();
        let (Some(outbox), Some(gateway)) = (self.outbox.clone(), self.gateway.clone()) else { return };
        let mail = self.link.mail.clone();
        let told = AtomicU64::new(u64::MAX);
        self.runner = self.link.network.spawn(async move {
            let tell = move |event: OutboxEvent| {
                if let OutboxEvent::Progress { progress, .. } = &event {
                    // A long upload has thousands of steps, a bar has a few hundred pixels.
                    let share = progress.sent * 500 / progress.total.max(1);
                    if told.swap(share, Ordering::Relaxed) == share {
                        return;
                    }
                }
                let _ = mail.send(Message::Outbox(event));
            };
            match outbox.run(&gateway, tell).await {}
        });
    }

    /// The connection is back.
    pub(crate) fn poke(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.poke();
        }
    }

    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// Why nothing can be uploaded at all.
    pub(crate) fn problem(&self) -> Option<&str> {
        match &self.outbox {
            Some(_) => None,
            None => Some(self.problem.as_deref().unwrap_or("Starting…")),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Number of uploads that wait, without the one the person is waiting for.
    pub(crate) fn waiting(&self) -> usize {
        let mine = if let Phase::Sending(id) = &self.phase { Some(*id) } else { None };
        self.outbox
            .as_ref()
            .map_or(0, |outbox| outbox.entries().iter().filter(|entry| Some(entry.id) != mine).count())
    }

    /// Begins an upload: it goes to the outbox, and from there on.
    pub(crate) fn begin(
        &mut self,
        patient: Named,
        recorded: Recorded,
        files: Vec<(client::UploadFile, Stamp)>,
        previews: Vec<Preview>,
    ) {
        let Some(outbox) = self.outbox.clone() else { return };
        self.number += 1;
        self.mrn = Some(patient.mrn);
        self.previews = previews;
        let (number, mail) = (self.number, self.link.mail.clone());
        let task = self.link.network.spawn(async move {
            let result = keep(&outbox, patient, recorded, files, number, &mail).await;
            let _ = mail.send(Message::Kept { number, result });
        });
        self.phase = Phase::Keeping(task);
        self.show_progress(0.0, "Preparing…");
    }

    pub(crate) fn keeping(&self, number: u64, progress: Progress) {
        if number == self.number && matches!(self.phase, Phase::Keeping(_)) {
            let (sent, total) = (format::bytes(progress.sent), format::bytes(progress.total));
            self.show_progress(0.0, &format!("Preparing: {sent} of {total}"));
        }
    }

    pub(crate) fn kept(&mut self, number: u64, result: Result<EntryId, String>) -> Option<Outcome> {
        if number != self.number || !matches!(self.phase, Phase::Keeping(_)) {
            // It was cancelled in the moment in which it was kept.
            let removed = result.ok().and_then(|id| self.outbox.as_ref().map(|outbox| outbox.remove(id)));
            self.refresh();
            return match removed {
                Some(Err(error)) => Some(Outcome::Failed(format::sentence(&error.to_string()))),
                _ => None,
            };
        }
        match result {
            Ok(id) => {
                self.phase = Phase::Sending(id);
                self.refresh();
                self.show_progress(0.0, "Connecting…");
                None
            }
            Err(reason) => {
                self.end();
                Some(Outcome::Failed(format!("Not uploaded. {}", format::sentence(&reason))))
            }
        }
    }

    /// The person has thought better of it.
    pub(crate) fn cancel(&mut self) -> Option<Outcome> {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        if let Phase::Sending(id) = phase
            && let Some(Err(error)) = self.outbox.as_ref().map(|outbox| outbox.remove(id))
        {
            self.phase = Phase::Sending(id);
            return Some(Outcome::Failed(format::sentence(&error.to_string())));
        }
        // A copy that is being made removes what it has written.
        self.number += 1;
        self.end();
        Some(Outcome::Failed("Upload cancelled. Nothing was cleared.".to_owned()))
    }

    /// What the outbox tells, and what that means for the person.
    pub(crate) fn told(&mut self, event: OutboxEvent) -> Option<Outcome> {
        let mine = if let Phase::Sending(id) = &self.phase { Some(*id) } else { None };
        match event {
            OutboxEvent::Progress { id, progress } => {
                if mine == Some(id) {
                    let share = progress.sent as f32 / progress.total.max(1) as f32;
                    let (sent, total) = (format::bytes(progress.sent), format::bytes(progress.total));
                    let words = if progress.sent < progress.total {
                        format!("Sent {sent} of {total}")
                    } else {
                        format!("All {total} sent, waiting for the answer…")
                    };
                    self.show_progress(share, &words);
                }
                None
            }
            OutboxEvent::Delivered { id, answer } => {
                self.refresh();
                let words = answered(&answer);
                if mine != Some(id) {
                    return Some(Outcome::Delivered(format!("An upload that had waited was sent. {words}")));
                }
                let previews = std::mem::take(&mut self.previews);
                self.end();
                let receipt = match answer {
                    UploadAnswer::Stored(receipt) => Some((receipt, previews)),
                    UploadAnswer::Accepted(_) => None,
                };
                Some(Outcome::Done { words, receipt })
            }
            OutboxEvent::Refused { id, error } if mine == Some(id) => Some(self.take_back(id, &error)),
            OutboxEvent::Refused { error, .. } => {
                self.refresh();
                Some(Outcome::Delivered(format!(
                    "An upload that had waited was refused and needs attention. {}",
                    format::sentence(&error.to_string())
                )))
            }
            OutboxEvent::Delayed { error, .. } => {
                let id = mine?;
                if !error.is_transient() {
                    return Some(self.take_back(id, &error));
                }
                self.end();
                let mrn = self.mrn.map_or(String::new(), |mrn| format!(" for patient {mrn}"));
                let reason = format::sentence(&error.to_string());
                Some(Outcome::Kept(format!(
                    "The upload{mrn} is kept on this computer and will be sent as soon as possible. {reason}"
                )))
            }
        }
    }

    /// An upload that failed for good stays in the form, not in the outbox.
    fn take_back(&mut self, id: EntryId, error: &ClientError) -> Outcome {
        let removed = self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.remove(id));
        self.end();
        let told = format!("Not uploaded. {}", format::sentence(&error.to_string()));
        match removed {
            Ok(()) => Outcome::Failed(told),
            Err(error) => Outcome::Failed(format!("{told} {}", format::sentence(&error.to_string()))),
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Idle;
        self.link.api(|api| api.set_uploading(false));
        self.refresh();
    }

    fn show_progress(&self, share: f32, words: &str) {
        self.link.api(|api| {
            api.set_uploading(true);
            api.set_progress(share);
            api.set_progress_words(words.into());
        });
    }

    pub(crate) fn retry(&mut self, id: &str) -> Result<(), String> {
        self.with(id, Outbox::retry)
    }

    /// Sends a rejected upload again and lets it change the name of its patient.
    pub(crate) fn rename(&mut self, id: &str) -> Result<(), String> {
        self.with(id, Outbox::retry_with_rename)
    }

    pub(crate) fn discard(&mut self, id: &str) -> Result<(), String> {
        self.with(id, Outbox::remove)
    }

    fn with(
        &mut self,
        id: &str,
        act: impl Fn(&Outbox, EntryId) -> Result<(), OutboxError>,
    ) -> Result<(), String> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let entry = outbox.entries().into_iter().find(|entry| entry.id.to_string() == id);
        let done = entry.map_or(Ok(()), |entry| act(outbox, entry.id));
        self.refresh();
        done.map_err(|error| format::sentence(&error.to_string()))
    }

    /// Shows what waits.
    pub(crate) fn refresh(&self) {
        let mine = if let Phase::Sending(id) = &self.phase { Some(*id) } else { None };
        let Some(outbox) = &self.outbox else { return };
        let entries: Vec<_> = outbox.entries().into_iter().filter(|entry| Some(entry.id) != mine).collect();
        let attention = entries.iter().filter(|entry| entry.attention.is_some()).count();
        let mut parts = Vec::new();
        if entries.len() > attention {
            parts.push(format!("{} waiting", entries.len() - attention));
        }
        if attention > 0 {
            parts.push(format::count(attention as u64, "needs attention", "need attention"));
        }
        if outbox.damaged() > 0 {
            parts.push(format!("{} damaged", outbox.damaged()));
        }
        let now = Timestamp::now();
        let row = |entry: &client::OutboxEntry| WaitingUpload {
            id: entry.id.to_string().into(),
            title: match &entry.name {
                Some(name) => format!("Patient {}, {name}", entry.mrn).into(),
                None => format!("Patient {}", entry.mrn).into(),
            },
            detail: match &entry.attention {
                Some(reason) => format!("Refused: {reason}").into(),
                None => format!(
                    "{}, {}, since {}",
                    format::count(entry.files as u64, "file", "files"),
                    format::bytes(entry.bytes),
                    format::time_or_date(entry.created_at, now)
                )
                .into(),
            },
            needs_attention: entry.attention.is_some(),
            name_differs: entry.name_differs,
        };
        let rows: Vec<WaitingUpload> = entries.iter().map(row).collect();
        self.link.api(|api| {
            api.set_waiting_words(parts.join(", ").into());
            api.set_waiting_needs_attention(attention > 0 || outbox.damaged() > 0);
            api.set_waiting(ModelRc::new(VecModel::from(rows)));
        });
    }

    /// Lets go of everything.
    pub(crate) fn stop(&mut self) {
        self.runner = Task::default();
        self.watcher = Task::default();
        self.phase = Phase::Idle;
        self.outbox = None;
    }
}

/// Opens the outbox; a window that is just being closed has a moment to let go of it.
fn open(folder: &Path) -> Result<Outbox, OutboxError> {
    for _ in 0..PATIENCE {
        match Outbox::open(folder) {
            Err(OutboxError::InUse(_)) => std::thread::sleep(MOMENT),
            opened => return opened,
        }
    }
    Outbox::open(folder)
}

/// Copies an upload to the outbox, unless one of its files is no longer the one that was shown.
async fn keep(
    outbox: &Outbox,
    Named { mrn, name, rename }: Named,
    recorded: Recorded,
    files: Vec<(client::UploadFile, Stamp)>,
    number: u64,
    mail: &tokio::sync::mpsc::UnboundedSender<Message>,
) -> Result<EntryId, String> {
    for (file, stamp) in &files {
        if let FileContent::Path(path) = &file.content
            && now(path).await? != *stamp
        {
            return Err(format!(
                "The file {} has changed since it was read: remove it and choose it again",
                file.file_name
            ));
        }
    }
    let upload = Upload {
        name,
        rename,
        recorded_at: recorded.at,
        recorded_by_this_computer: recorded.by_this_computer,
        ..Upload::of(files.into_iter().map(|(file, _)| file).collect())
    };
    let progress = {
        let mail = mail.clone();
        move |progress| drop(mail.send(Message::Keeping { number, progress }))
    };
    outbox.put(mrn, &upload, progress).await.map_err(|error| error.to_string())
}

async fn now(path: &Path) -> Result<Stamp, String> {
    let facts = tokio::fs::metadata(path).await;
    facts
        .map(|facts| Stamp::of(&facts))
        .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))
}

/// What the gateway said, as people say it.
fn answered(answer: &UploadAnswer) -> String {
    match answer {
        UploadAnswer::Stored(receipt) if receipt.patient_created => {
            format!("New patient {} registered.", receipt.mrn)
        }
        UploadAnswer::Stored(receipt) if receipt.changed => format!("Patient {} updated.", receipt.mrn),
        UploadAnswer::Stored(receipt) => format!("Nothing new for patient {}.", receipt.mrn),
        UploadAnswer::Accepted(accepted) => {
            format!("The upload for patient {} is accepted and will be stored shortly.", accepted.mrn)
        }
    }
}
