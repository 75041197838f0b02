//! A durable queue of uploads on disk.
//!
//! Each upload is written to a folder of its own, with copies of its files and its idempotency key, before it is sent. It is
//! removed after the gateway has accepted it. Uploads are sent in order.
//!
//! Invariants: an upload that [`Outbox::put`] has returned is never lost. The gateway stores it once, even if it is sent again
//! after a restart.
//!
//! Failure modes: a transient error delays all uploads. An upload that the gateway rejects, or whose copy is damaged, stays in
//! the outbox until the user acts, and does not delay the others. Entries with a damaged manifest are moved to the folder
//! `damaged`.

mod disk;
mod entry;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use parking_lot::{Mutex, MutexGuard};
use proto_json::Mrn;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{ClientError, Gateway, Progress, Upload, UploadAnswer};
use disk::Manifest;
pub use entry::{EntryId, OutboxEntry, OutboxError, OutboxEvent};

/// First and longest wait between attempts. The wait doubles after each failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Wait after an error that needs an action of the user, such as a rejected token, and longest wait that the gateway can ask
/// for.
const BLOCKED_WAIT: Duration = Duration::from_secs(30);

/// An outbox. Clones share it.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    entries: Mutex<BTreeMap<EntryId, OutboxEntry>>,
    /// Number of changes. Wakes the sending task.
    changes: watch::Sender<u64>,
    /// Number of damaged entries.
    damaged: usize,
    /// The lock is held while the outbox is open.
    _lock: File,
}

impl Outbox {
    /// Opens the outbox in this folder. Creates the folder if it does not exist. Blocks on disk access.
    ///
    /// # Errors
    /// [`OutboxError::InUse`] while another process has the outbox open; [`OutboxError::Disk`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OutboxError> {
        let folder = folder.into();
        let lock = disk::prepare(&folder)?;
        let (entries, damaged) = disk::list(&folder)?;
        let entries = entries.into_iter().map(|entry| (entry.id, entry)).collect();
        let changes = watch::Sender::new(0);
        Ok(Outbox(Arc::new(Shared { folder, entries: Mutex::new(entries), changes, damaged, _lock: lock })))
    }

    /// Folder of the outbox.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// All uploads in the order in which they are sent.
    #[must_use]
    pub fn entries(&self) -> Vec<OutboxEntry> {
        self.0.entries().values().cloned().collect()
    }

    /// Number of entries that cannot be read. They are in the folder `damaged`.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.0.damaged
    }

    /// Changes whenever an entry is added, changed or removed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Adds an upload. When this returns, the upload and copies of its files are durable on disk. Dropping the future removes
    /// what was written. `progress` is called while files are copied.
    ///
    /// # Errors
    /// [`OutboxError`]. Nothing is added then.
    pub async fn put(
        &self,
        mrn: Mrn,
        upload: &Upload,
        progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<EntryId, OutboxError> {
        let shared = Arc::clone(&self.0);
        let upload = upload.clone();
        let mut guard = CancelGuard { outbox: self.clone(), copy: Arc::default(), is_active: true };
        let copy = Arc::clone(&guard.copy);
        let written = tokio::task::spawn_blocking(move || {
            let id = EntryId(Uuid::now_v7());
            let is_cancelled = || matches!(*copy.lock(), CopyState::Cancelled);
            let entry = disk::write(&shared.folder, id, mrn, &upload, &progress, &is_cancelled)?;
            let mut state = copy.lock();
            if matches!(*state, CopyState::Cancelled) {
                disk::remove(&shared.folder, id)?;
                return Err(OutboxError::Cancelled);
            }
            *state = CopyState::Done(id);
            shared.entries().insert(id, entry);
            shared.changed();
            Ok(id)
        });
        let written = written.await;
        guard.is_active = false;
        written.unwrap_or(Err(OutboxError::Cancelled))
    }

    /// Removes an upload. If it is being sent, the attempt is cancelled. Does nothing if the upload does not exist.
    ///
    /// # Errors
    /// [`OutboxError::Disk`]. The upload stays then.
    pub fn remove(&self, id: EntryId) -> Result<(), OutboxError> {
        if self.0.entries().contains_key(&id) {
            disk::remove(&self.0.folder, id)?;
            self.0.entries().remove(&id);
            self.0.changed();
        }
        Ok(())
    }

    /// Sends a rejected upload again.
    ///
    /// # Errors
    /// [`OutboxError::Disk`].
    pub fn retry(&self, id: EntryId) -> Result<(), OutboxError> {
        disk::clear_rejection(&self.0.folder, id)?;
        if let Some(entry) = self.0.entries().get_mut(&id) {
            entry.attention = None;
            entry.name_differs = false;
        }
        self.0.changed();
        Ok(())
    }

    /// Sends a rejected upload again and allows it to change the name of its patient.
    ///
    /// # Errors
    /// [`OutboxError::Disk`].
    pub fn retry_with_rename(&self, id: EntryId) -> Result<(), OutboxError> {
        disk::set_rename(&self.0.folder, id)?;
        self.retry(id)
    }

    /// Ends the current wait and sends the next upload at once.
    pub fn retry_now(&self) {
        self.0.changed();
    }

    /// Sends the uploads one after the other until the future is dropped. Only one `run` may be active at a time.
    pub async fn run(
        &self,
        gateway: &Gateway,
        notify: impl Fn(OutboxEvent) + Send + Sync + 'static,
    ) -> Infallible {
        let notify = Arc::new(notify);
        let mut changes = self.changes();
        let mut backoff = new_backoff();
        loop {
            changes.mark_unchanged();
            let Some(id) = self.next() else {
                // Cannot fail: the outbox owns the sender.
                let _ = changes.changed().await;
                continue;
            };
            let error = match self.send(id, gateway, &notify, &mut changes).await {
                None => continue,
                Some(Ok(answer)) => {
                    backoff = new_backoff();
                    // An upload that cannot be removed is sent again. The gateway does not store it again.
                    match self.remove(id) {
                        Ok(()) => notify(OutboxEvent::Delivered { id, answer }),
                        Err(error) => {
                            tracing::warn!(%error, "a delivered upload cannot be removed from the outbox");
                            pause(&mut changes, BLOCKED_WAIT).await;
                        }
                    }
                    continue;
                }
                Some(Err(error)) => error,
            };
            if matches!(error, ClientError::Refused(_) | ClientError::File { .. }) {
                self.reject(id, &error);
                notify(OutboxEvent::Rejected { id, error });
                continue;
            }
            let wait = if error.is_transient() {
                let wait = backoff.next().unwrap_or(LONGEST_WAIT);
                error.retry_after().unwrap_or(wait).min(BLOCKED_WAIT)
            } else {
                BLOCKED_WAIT
            };
            notify(OutboxEvent::Delayed { id, error });
            pause(&mut changes, wait).await;
        }
    }

    fn next(&self) -> Option<EntryId> {
        self.0.entries().values().find(|entry| entry.attention.is_none()).map(|entry| entry.id)
    }

    /// Sends one upload. Returns `None` if it was removed meanwhile.
    async fn send(
        &self,
        id: EntryId,
        gateway: &Gateway,
        notify: &Arc<impl Fn(OutboxEvent) + Send + Sync + 'static>,
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
            let notify = Arc::clone(notify);
            move |progress| notify(OutboxEvent::Progress { id, progress })
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

    /// Corrects the recording time of the manifest to the server's clock, before the first attempt to send the upload.
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
        // Gateways of earlier versions do not send their time.
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

    fn reject(&self, id: EntryId, error: &ClientError) {
        let reason = error.to_string();
        let name_differs = error.name_conflict().is_some();
        if let Err(error) = disk::write_rejection(&self.0.folder, id, &reason, name_differs) {
            // After a restart the upload is sent and rejected again.
            tracing::warn!(%error, "the reason of a rejection cannot be stored");
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
        self.entries.lock()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Waits for `wait`, or until an entry changes.
async fn pause(changes: &mut watch::Receiver<u64>, wait: Duration) {
    changes.mark_unchanged();
    let _ = tokio::time::timeout(wait, changes.changed()).await;
}

/// State of a copy that [`Outbox::put`] makes.
#[derive(Debug, Default)]
enum CopyState {
    #[default]
    Running,
    Cancelled,
    Done(EntryId),
}

/// Cancels a copy when it is dropped, and removes its result if the copy is complete already.
struct CancelGuard {
    outbox: Outbox,
    copy: Arc<Mutex<CopyState>>,
    is_active: bool,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if !self.is_active {
            return;
        }
        let before = std::mem::replace(&mut *self.copy.lock(), CopyState::Cancelled);
        if let CopyState::Done(id) = before
            && let Err(error) = self.outbox.remove(id)
        {
            tracing::warn!(%error, "a cancelled upload cannot be removed from the outbox");
        }
    }
}

fn new_backoff() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .build()
}
