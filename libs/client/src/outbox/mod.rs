//! Uploads on disk until the gateway has them: what a nurse has sent is not lost when the network is.
//!
//! Every upload is first written to a folder of its own, with its files and its idempotency key, and leaves it when the
//! gateway has taken it. They are sent in order. However often one is sent again, also after a restart, it is stored once.

mod disk;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto_json::{Mrn, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{ClientError, Gateway, Progress, Upload, UploadAnswer};
use disk::Manifest;

/// Waits between attempts: the first, doubled after each failure up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Wait where only a person can help, such as with a token that is not accepted.
const BLOCKED_WAIT: Duration = Duration::from_secs(30);

/// Why an upload cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Another program holds it.
    #[error("the folder {0} is in use by another window of this program: close that one first")]
    InUse(PathBuf),
    /// A file to upload cannot be read.
    #[error("the file {path} cannot be read: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk does not take it.
    #[error("the upload cannot be kept in {folder}: {reason}")]
    Disk {
        /// Folder of the outbox.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was cut off while it was written.
    #[error("the upload was cancelled")]
    Cancelled,
}

/// Names one upload of an outbox. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(Uuid);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An upload that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// This entry.
    pub id: EntryId,
    /// Whose it is.
    pub mrn: Mrn,
    /// Name of the patient, if it was given.
    pub name: Option<String>,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// Number of its files.
    pub files: usize,
    /// Bytes of its files.
    pub bytes: u64,
    /// Why the gateway refused it: it is not sent again until a person says so.
    pub attention: Option<String>,
    /// The gateway rejected it because the patient has another name; see [`Outbox::retry_with_rename`].
    pub name_differs: bool,
}

/// What becomes of the uploads of an outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxEvent {
    /// One is being sent.
    Progress {
        /// Which.
        id: EntryId,
        /// How far it has come.
        progress: Progress,
    },
    /// The gateway has it; it has left the outbox.
    Delivered {
        /// Which.
        id: EntryId,
        /// What the gateway said.
        answer: UploadAnswer,
    },
    /// The gateway refused it: it stays, and needs attention.
    Refused {
        /// Which.
        id: EntryId,
        /// Why.
        error: ClientError,
    },
    /// It could not be sent now; it will be tried again, and those behind it wait, too.
    Delayed {
        /// Which.
        id: EntryId,
        /// Why.
        error: ClientError,
    },
}

/// An outbox. Clones share it.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    entries: Mutex<BTreeMap<EntryId, OutboxEntry>>,
    /// Counts changes, so that whoever sends looks again.
    changes: watch::Sender<u64>,
    /// Entries whose files are damaged, found when it was opened.
    damaged: usize,
    /// Held as long as the outbox is open.
    _lock: File,
}

impl Outbox {
    /// Opens the outbox in this folder, which is made if it is not there. Reads and writes the disk.
    ///
    /// # Errors
    /// [`OutboxError::InUse`] while another program has it open; [`OutboxError::Disk`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OutboxError> {
        let folder = folder.into();
        let lock = disk::prepare(&folder)?;
        let (entries, damaged) = disk::list(&folder)?;
        let entries = entries.into_iter().map(|entry| (entry.id, entry)).collect();
        let changes = watch::Sender::new(0);
        Ok(Outbox(Arc::new(Shared { folder, entries: Mutex::new(entries), changes, damaged, _lock: lock })))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Everything in it, in the order it is sent.
    #[must_use]
    pub fn entries(&self) -> Vec<OutboxEntry> {
        self.0.entries().values().cloned().collect()
    }

    /// Number of entries that cannot be read any more; they were set aside in the folder `damaged`.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.0.damaged
    }

    /// Changes whenever an entry comes, goes or changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Keeps an upload: when this returns, it is on disk for good, with copies of its files. Dropping the future leaves
    /// nothing. `progress` is called as files are copied.
    ///
    /// # Errors
    /// [`OutboxError`]; then nothing is kept.
    pub async fn put(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<EntryId, OutboxError> {
        let shared = Arc::clone(&self.0);
        let upload = upload.clone();
        let mut caller = Caller { outbox: self.clone(), copy: Arc::default(), waits: true };
        let copy = Arc::clone(&caller.copy);
        let written = tokio::task::spawn_blocking(move || {
            let id = EntryId(Uuid::now_v7());
            let stop = || matches!(*locked(&copy), Copied::Unwanted);
            let entry = disk::write(&shared.folder, id, mrn, &upload, &progress, &stop)?;
            let mut state = locked(&copy);
            if matches!(*state, Copied::Unwanted) {
                disk::remove(&shared.folder, id)?;
                return Err(OutboxError::Cancelled);
            }
            *state = Copied::As(id);
            shared.entries().insert(id, entry);
            shared.changed();
            Ok(id)
        });
        let written = written.await;
        caller.waits = false;
        written.unwrap_or(Err(OutboxError::Cancelled))
    }

    /// Takes one out, sent or not. If it is being sent, that is cut off. Nothing happens if it is not there.
    ///
    /// # Errors
    /// [`OutboxError::Disk`]; then it stays.
    pub fn remove(&self, id: EntryId) -> Result<(), OutboxError> {
        if self.0.entries().contains_key(&id) {
            disk::remove(&self.0.folder, id)?;
            self.0.entries().remove(&id);
            self.0.changed();
        }
        Ok(())
    }

    /// Lets a refused one be sent again.
    ///
    /// # Errors
    /// [`OutboxError::Disk`].
    pub fn retry(&self, id: EntryId) -> Result<(), OutboxError> {
        disk::clear_refusal(&self.0.folder, id)?;
        if let Some(entry) = self.0.entries().get_mut(&id) {
            entry.attention = None;
            entry.name_differs = false;
        }
        self.0.changed();
        Ok(())
    }

    /// Lets a rejected upload be sent again, and change the name of its patient.
    ///
    /// # Errors
    /// [`OutboxError::Disk`].
    pub fn retry_with_rename(&self, id: EntryId) -> Result<(), OutboxError> {
        disk::set_rename(&self.0.folder, id)?;
        self.retry(id)
    }

    /// Tries at once instead of waiting: something has changed for the better.
    pub fn poke(&self) {
        self.0.changed();
    }

    /// Sends what waits, one after the other, as long as the future lives. Run it once at a time.
    pub async fn run(
        &self,
        gateway: &Gateway,
        tell: impl Fn(OutboxEvent) + Send + Sync + 'static,
    ) -> Infallible {
        let tell = Arc::new(tell);
        let mut changes = self.changes();
        let mut wait = FIRST_WAIT;
        loop {
            changes.mark_unchanged();
            let Some(id) = self.next() else {
                // The sender lives as long as this outbox.
                let _ = changes.changed().await;
                continue;
            };
            let error = match self.send(id, gateway, &tell, &mut changes).await {
                None => continue,
                Some(Ok(answer)) => {
                    wait = FIRST_WAIT;
                    // If it cannot be removed it is sent again, and stored once all the same.
                    match self.remove(id) {
                        Ok(()) => tell(OutboxEvent::Delivered { id, answer }),
                        Err(error) => {
                            tracing::warn!(%error, "a delivered upload stays in the outbox");
                            pause(&mut changes, BLOCKED_WAIT).await;
                        }
                    }
                    continue;
                }
                Some(Err(error)) => error,
            };
            if matches!(error, ClientError::Refused(_) | ClientError::File { .. }) {
                self.refuse(id, &error);
                tell(OutboxEvent::Refused { id, error });
                continue;
            }
            let nobody_helps = !error.is_transient();
            let asked = error.retry_after();
            tell(OutboxEvent::Delayed { id, error });
            if nobody_helps {
                pause(&mut changes, BLOCKED_WAIT).await;
            } else {
                pause(&mut changes, asked.unwrap_or(wait).min(BLOCKED_WAIT)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    fn next(&self) -> Option<EntryId> {
        self.0.entries().values().find(|entry| entry.attention.is_none()).map(|entry| entry.id)
    }

    /// Sends one; `None` if it was taken out meanwhile.
    async fn send(
        &self,
        id: EntryId,
        gateway: &Gateway,
        tell: &Arc<impl Fn(OutboxEvent) + Send + Sync + 'static>,
        changes: &mut watch::Receiver<u64>,
    ) -> Option<Result<UploadAnswer, ClientError>> {
        let folder = self.0.folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let manifest = Manifest::read(&folder, id)?;
            manifest.verify_files(&folder, id)?;
            Ok(manifest)
        });
        let manifest = match read.await {
            Ok(Ok(manifest)) => manifest,
            Ok(Err(reason)) => {
                return Some(Err(ClientError::File { path: self.0.folder.display().to_string(), reason }));
            }
            Err(_) => return None,
        };
        let manifest = match self.with_server_time(id, manifest, gateway).await {
            Ok(manifest) => manifest,
            Err(error) => return Some(Err(error)),
        };
        let upload = manifest.upload(&self.0.folder, id);
        let progress = {
            let tell = Arc::clone(tell);
            move |progress| tell(OutboxEvent::Progress { id, progress })
        };
        let sending = gateway.upload(manifest.mrn, &upload, progress);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                answer = &mut sending => return Some(answer),
                _ = changes.changed() => if !self.0.entries().contains_key(&id) { return None },
            }
        }
    }

    /// The manifest, its time of recording by the clock of the server. That is asked for once, before the first attempt.
    async fn with_server_time(
        &self,
        id: EntryId,
        mut manifest: Manifest,
        gateway: &Gateway,
    ) -> Result<Manifest, ClientError> {
        if !manifest.recorded_by_this_computer {
            return Ok(manifest);
        }
        if gateway.server_time().now().is_none() {
            gateway.check(gateway.timeouts().answer).await?;
        }
        // A gateway of an earlier version does not tell the time.
        let ahead_ms = gateway.server_time().ahead_of_computer_ms().unwrap_or(0);
        let (folder, now) = (self.0.folder.clone(), gateway.now());
        let corrected = tokio::task::spawn_blocking(move || {
            manifest.correct_time(&folder, id, ahead_ms, now).map(|()| manifest)
        });
        let unwritable =
            |reason: String| ClientError::File { path: self.0.folder.display().to_string(), reason };
        match corrected.await {
            Ok(Ok(manifest)) => Ok(manifest),
            Ok(Err(error)) => Err(unwritable(error.to_string())),
            Err(error) => Err(unwritable(error.to_string())),
        }
    }

    fn refuse(&self, id: EntryId, error: &ClientError) {
        let reason = error.to_string();
        let name_differs = error.name_conflict().is_some();
        if let Err(error) = disk::write_refusal(&self.0.folder, id, &reason, name_differs) {
            // It is refused again after a restart.
            tracing::warn!(%error, "the reason of a refusal cannot be kept");
        }
        if let Some(entry) = self.0.entries().get_mut(&id) {
            entry.attention = Some(reason);
            entry.name_differs = name_differs;
        }
        self.0.changed();
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<EntryId, OutboxEntry>> {
        locked(&self.entries)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Waits, or until something changes.
async fn pause(changes: &mut watch::Receiver<u64>, wait: Duration) {
    changes.mark_unchanged();
    let _ = tokio::time::timeout(wait, changes.changed()).await;
}

/// How far a copy has come, and whether anybody wants it.
#[derive(Debug, Default)]
enum Copied {
    #[default]
    NotYet,
    Unwanted,
    As(EntryId),
}

/// Who waits for a copy. Given up at whatever moment, nothing of it stays.
struct Caller {
    outbox: Outbox,
    copy: Arc<Mutex<Copied>>,
    waits: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.waits {
            return;
        }
        let before = std::mem::replace(&mut *locked(&self.copy), Copied::Unwanted);
        if let Copied::As(id) = before
            && let Err(error) = self.outbox.remove(id)
        {
            tracing::warn!(%error, "an upload that was given up stays in the outbox");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks, and what they guard is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
