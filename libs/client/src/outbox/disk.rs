//! The folder of an outbox: one subfolder for each upload, named by its id, with a manifest and numbered copies of its files.
//!
//! Invariants: an entry is complete or does not exist, because it is written under a temporary name, flushed and renamed. Files
//! and folders are readable by their owner only, because they hold data of patients.
//!
//! The file `SHA256SUMS` holds the hashes of the manifest and the copies in the format of `sha256sum --check`. The manifest is
//! verified whenever it is read, the copies before they are sent. A damaged copy is never sent.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use checksum::Sums;
use proto_json::{
    BlobHash, BlobHasher, Bpm, CLOCK_TOLERANCE_MS, FileKind, MediaType, Mrn, SignalOptions, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{EntryId, OutboxEntry, OutboxError};
use crate::{FileContent, IdempotencyKey, Progress, Upload, UploadFile};

const MANIFEST: &str = "manifest.json";
/// Version of the manifest. Version 1 had no `SHA256SUMS`.
const FORMAT: u32 = 2;
/// The reason why the upload was rejected.
const REJECTION: &str = "refused.txt";
/// Empty file. Exists if the upload was rejected because its patient has another name.
const NAME_DIFFERS: &str = "name-differs";
/// Empty file. Exists if the upload may change the name of its patient. Not part of the manifest, because the user may allow
/// it later.
const RENAME: &str = "rename";
const DAMAGED: &str = "damaged";
/// Prefix of files and folders that are being written or removed. They are deleted when the outbox is opened.
const UNFINISHED: &str = ".";
const CHUNK: usize = 1 << 20;

/// Everything about an upload except the content of its files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) mrn: Mrn,
    created_at: Timestamp,
    idempotency_key: IdempotencyKey,
    name: Option<String>,
    heart_rate: Option<Bpm>,
    recorded_at: Option<Timestamp>,
    /// Whether `recorded_at` is by the clock of this computer and was not compared with the server's clock yet.
    #[serde(default)]
    pub(super) recorded_by_this_computer: bool,
    signal_options: SignalOptions,
    files: Vec<ManifestFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestFile {
    kind: FileKind,
    file_name: String,
    media_type: Option<MediaType>,
    bytes: u64,
}

impl Manifest {
    /// Reads and verifies a manifest, and checks that its files are complete.
    ///
    /// # Errors
    /// One sentence that says what is missing or damaged.
    pub(super) fn read(folder: &Path, id: EntryId) -> Result<Self, String> {
        let entry = entry_folder(folder, id);
        let text = fs::read(entry.join(MANIFEST)).map_err(|error| error.to_string())?;
        let sums = Sums::read(&entry)?;
        if let Some(sums) = &sums {
            sums.compare(MANIFEST, BlobHash::of(&text))?;
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if manifest.format >= FORMAT && sums.is_none() {
            return Err(format!("{} is missing", Sums::NAME));
        }
        for (index, file) in manifest.files.iter().enumerate() {
            let metadata = fs::metadata(entry.join(index.to_string())).map_err(|error| error.to_string())?;
            if metadata.len() != file.bytes {
                return Err(format!("a copy has {} bytes instead of {}", metadata.len(), file.bytes));
            }
        }
        Ok(manifest)
    }

    /// Corrects the recording time to the server's clock, which shows `now` and is `ahead_ms` ahead of the clock of this
    /// computer. The manifest is replaced, because each attempt must send the same time. A corrected time in the future is
    /// dropped: the clock of this computer was set meanwhile.
    pub(super) fn correct_time(
        &mut self,
        folder: &Path,
        id: EntryId,
        ahead_ms: i64,
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        let ahead_ms = if ahead_ms.abs() > CLOCK_TOLERANCE_MS { ahead_ms } else { 0 };
        let at = self.recorded_at.map(|at| at.plus_millis(ahead_ms));
        self.recorded_at = at.filter(|at| !at.is_in_future_of(now));
        self.recorded_by_this_computer = false;
        let entry = entry_folder(folder, id);
        replace_manifest(&entry, self).map_err(|error| disk_error(folder, &error))
    }

    /// Verifies the copies of the files.
    ///
    /// # Errors
    /// One sentence, if a copy is damaged.
    pub(super) fn verify_files(&self, folder: &Path, id: EntryId) -> Result<(), String> {
        let entry = entry_folder(folder, id);
        let Some(sums) = Sums::read(&entry)? else { return Ok(()) };
        for (index, file) in self.files.iter().enumerate() {
            let name = index.to_string();
            let hash = checksum::hash_file(&entry.join(&name)).map_err(|error| error.to_string())?;
            sums.compare(&name, hash).map_err(|error| format!("the copy of {}: {error}", file.file_name))?;
        }
        Ok(())
    }

    pub(super) fn upload(&self, folder: &Path, id: EntryId) -> Upload {
        let entry = entry_folder(folder, id);
        let file = |(index, file): (usize, &ManifestFile)| UploadFile {
            kind: file.kind,
            content: FileContent::Path(entry.join(index.to_string())),
            file_name: file.file_name.clone(),
            media_type: file.media_type,
        };
        Upload {
            name: self.name.clone(),
            rename: entry.join(RENAME).exists(),
            heart_rate: self.heart_rate,
            recorded_at: self.recorded_at,
            recorded_by_this_computer: self.recorded_by_this_computer,
            signal_options: self.signal_options.clone(),
            files: self.files.iter().enumerate().map(file).collect(),
            idempotency_key: self.idempotency_key.clone(),
            respond_async: false,
        }
    }

    fn entry(&self, id: EntryId, attention: Option<String>, name_differs: bool) -> OutboxEntry {
        OutboxEntry {
            id,
            mrn: self.mrn,
            name: self.name.clone(),
            created_at: self.created_at,
            files: self.files.len(),
            bytes: self.files.iter().map(|file| file.bytes).sum(),
            attention,
            name_differs,
        }
    }
}

/// Creates the folder, takes its lock, and deletes unfinished entries.
pub(super) fn prepare(folder: &Path) -> Result<File, OutboxError> {
    let fail = |error: io::Error| disk_error(folder, &error);
    make_folder(folder).map_err(fail)?;
    let lock = create(&folder.join("lock"), false).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OutboxError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    for found in fs::read_dir(folder).map_err(fail)? {
        let found = found.map_err(fail)?;
        if found.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(found.path()).map_err(fail)?;
        }
    }
    Ok(lock)
}

/// All uploads in the folder, and the number of damaged ones. Damaged entries are moved to a folder of their own.
pub(super) fn list(folder: &Path) -> Result<(Vec<OutboxEntry>, usize), OutboxError> {
    let fail = |error: io::Error| disk_error(folder, &error);
    let mut entries = Vec::new();
    for found in fs::read_dir(folder).map_err(fail)? {
        let name = found.map_err(fail)?.file_name();
        let Some(id) = name.to_str().and_then(|name| Uuid::try_parse(name).ok()).map(EntryId) else {
            continue;
        };
        match Manifest::read(folder, id) {
            Ok(manifest) => {
                let entry = entry_folder(folder, id);
                let rejection = fs::read_to_string(entry.join(REJECTION)).ok();
                let name_differs = rejection.is_some() && entry.join(NAME_DIFFERS).exists();
                entries.push(manifest.entry(id, rejection, name_differs));
            }
            Err(reason) => {
                // Not deleted: the files may still be recovered.
                tracing::warn!(%id, reason, "an upload in the outbox is damaged and was set aside");
                let aside = folder.join(DAMAGED);
                make_folder(&aside).map_err(fail)?;
                fs::rename(entry_folder(folder, id), aside.join(id.to_string())).map_err(fail)?;
            }
        }
    }
    let damaged = fs::read_dir(folder.join(DAMAGED)).map_or(0, Iterator::count);
    Ok((entries, damaged))
}

/// Writes an upload durably. `is_cancelled` is called while files are copied.
pub(super) fn write(
    folder: &Path,
    id: EntryId,
    mrn: Mrn,
    upload: &Upload,
    progress: &dyn Fn(Progress),
    is_cancelled: &dyn Fn() -> bool,
) -> Result<OutboxEntry, OutboxError> {
    let part = folder.join(format!("{UNFINISHED}new-{id}"));
    let written = write_part(folder, &part, mrn, upload, progress, is_cancelled).and_then(|manifest| {
        if is_cancelled() {
            return Err(OutboxError::Cancelled);
        }
        let place = || {
            fs::rename(&part, entry_folder(folder, id))?;
            flush_folder(folder)
        };
        place().map_err(|error| disk_error(folder, &error))?;
        Ok(manifest.entry(id, None, false))
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&part);
    }
    written
}

fn write_part(
    folder: &Path,
    part: &Path,
    mrn: Mrn,
    upload: &Upload,
    progress: &dyn Fn(Progress),
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Manifest, OutboxError> {
    let fail = |error: io::Error| disk_error(folder, &error);
    make_folder(part).map_err(fail)?;
    let mut copy = Copy { sent: 0, total: 0, progress, is_cancelled };
    copy.total = upload.files.iter().map(length).sum();
    let mut files = Vec::with_capacity(upload.files.len());
    let mut sums = Sums::default();
    for (index, file) in upload.files.iter().enumerate() {
        let mut target = create(&part.join(index.to_string()), true).map_err(fail)?;
        let (bytes, hash) = match &file.content {
            FileContent::Bytes(bytes) => {
                target.write_all(bytes).map_err(fail)?;
                (bytes.len() as u64, BlobHash::of(bytes))
            }
            FileContent::Path(path) => {
                let unreadable =
                    |error: io::Error| OutboxError::File { path: path.clone(), reason: error.to_string() };
                let mut source = File::open(path).map_err(unreadable)?;
                if !source.metadata().map_err(unreadable)?.is_file() {
                    return Err(OutboxError::File {
                        path: path.clone(),
                        reason: "it is not a file".to_owned(),
                    });
                }
                copy.run(&mut source, &mut target, &unreadable, &fail)?
            }
        };
        target.sync_all().map_err(fail)?;
        let UploadFile { kind, file_name, media_type, .. } = file.clone();
        sums.add(index.to_string(), hash);
        files.push(ManifestFile { kind, file_name, media_type, bytes });
    }
    let manifest = Manifest {
        format: FORMAT,
        mrn,
        created_at: Timestamp::now(),
        idempotency_key: upload.idempotency_key.clone(),
        name: upload.name.clone(),
        heart_rate: upload.heart_rate,
        recorded_at: upload.recorded_at,
        recorded_by_this_computer: upload.recorded_by_this_computer,
        signal_options: upload.signal_options.clone(),
        files,
    };
    if upload.rename {
        create(&part.join(RENAME), true).map_err(fail)?;
    }
    write_manifest(part, &manifest, sums).map_err(fail)?;
    Ok(manifest)
}

/// Replaces the manifest. The hash of the new manifest is listed first, so that the entry stays valid if this is interrupted.
fn replace_manifest(entry: &Path, manifest: &Manifest) -> io::Result<()> {
    let text = serde_json::to_vec(manifest)?;
    if let Some(mut sums) = Sums::read(entry).map_err(io::Error::other)? {
        sums.add(MANIFEST, BlobHash::of(&text));
        let mut listed = Vec::new();
        sums.write(&mut listed)?;
        replace(entry, Sums::NAME, &listed)?;
    }
    replace(entry, MANIFEST, &text)
}

/// Replaces a file of an entry. The old content stays until the new content is complete.
fn replace(entry: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = entry.join(format!("{UNFINISHED}{name}"));
    let mut file = create(&new, true)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, entry.join(name))?;
    flush_folder(entry)
}

fn write_manifest(part: &Path, manifest: &Manifest, mut sums: Sums) -> io::Result<()> {
    let text = serde_json::to_vec(manifest)?;
    let mut file = create(&part.join(MANIFEST), true)?;
    file.write_all(&text)?;
    file.sync_all()?;
    sums.add(MANIFEST, BlobHash::of(&text));
    let mut file = create(&part.join(Sums::NAME), true)?;
    sums.write(&mut file)?;
    file.sync_all()?;
    flush_folder(part)
}

/// Copies files with progress and cancellation.
struct Copy<'a> {
    sent: u64,
    total: u64,
    progress: &'a dyn Fn(Progress),
    is_cancelled: &'a dyn Fn() -> bool,
}

impl Copy<'_> {
    fn run(
        &mut self,
        source: &mut File,
        target: &mut File,
        unreadable: &dyn Fn(io::Error) -> OutboxError,
        unwritable: &dyn Fn(io::Error) -> OutboxError,
    ) -> Result<(u64, BlobHash), OutboxError> {
        let mut buffer = vec![0; CHUNK];
        let mut bytes = 0;
        let mut hash = BlobHasher::new();
        loop {
            if (self.is_cancelled)() {
                return Err(OutboxError::Cancelled);
            }
            let read = source.read(&mut buffer).map_err(unreadable)?;
            if read == 0 {
                return Ok((bytes, hash.finish()));
            }
            let part = buffer.get(..read).unwrap_or_default();
            hash.update(part);
            target.write_all(part).map_err(unwritable)?;
            bytes += read as u64;
            self.sent += read as u64;
            (self.progress)(Progress { sent: self.sent, total: self.total.max(self.sent) });
        }
    }
}

fn length(file: &UploadFile) -> u64 {
    match &file.content {
        FileContent::Bytes(bytes) => bytes.len() as u64,
        FileContent::Path(path) => fs::metadata(path).map_or(0, |facts| facts.len()),
    }
}

pub(super) fn remove(folder: &Path, id: EntryId) -> Result<(), OutboxError> {
    let gone = folder.join(format!("{UNFINISHED}gone-{id}"));
    match fs::rename(entry_folder(folder, id), &gone) {
        Ok(()) => {
            // What remains is deleted when the outbox is opened.
            let _ = fs::remove_dir_all(&gone);
            let _ = flush_folder(folder);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk_error(folder, &error)),
    }
}

/// Stores why an upload was rejected.
pub(super) fn write_rejection(
    folder: &Path,
    id: EntryId,
    reason: &str,
    name_differs: bool,
) -> Result<(), OutboxError> {
    let entry = entry_folder(folder, id);
    let write = || {
        if name_differs {
            create(&entry.join(NAME_DIFFERS), true)?;
        }
        let mut file = create(&entry.join(REJECTION), true)?;
        file.write_all(reason.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| disk_error(folder, &error))
}

/// Allows an upload to change the name of its patient.
pub(super) fn set_rename(folder: &Path, id: EntryId) -> Result<(), OutboxError> {
    let entry = entry_folder(folder, id);
    let write = || {
        create(&entry.join(RENAME), true)?;
        flush_folder(&entry)
    };
    write().map_err(|error| disk_error(folder, &error))
}

/// Marks an upload as not rejected.
pub(super) fn clear_rejection(folder: &Path, id: EntryId) -> Result<(), OutboxError> {
    for name in [REJECTION, NAME_DIFFERS] {
        match fs::remove_file(entry_folder(folder, id).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk_error(folder, &error)),
            _ => {}
        }
    }
    Ok(())
}

fn entry_folder(folder: &Path, id: EntryId) -> PathBuf {
    folder.join(id.to_string())
}

fn disk_error(folder: &Path, error: &io::Error) -> OutboxError {
    OutboxError::Disk { folder: folder.to_owned(), reason: error.to_string() }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn create(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Flushes the names in a folder to disk. Systems that cannot open folders flush them on their own.
fn flush_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_wrong_clock_is_corrected_once() {
        const YEAR: i64 = 365 * 86_400_000;
        let folder = tempfile::tempdir().unwrap();
        let selected: Timestamp = "2026-03-14T15:00:00Z".parse().unwrap();
        let upload =
            Upload { recorded_at: Some(selected), recorded_by_this_computer: true, ..Upload::of(Vec::new()) };
        for (ahead_ms, now, corrected) in [
            (0, 60_000, Some(0)),
            (-4_000, 60_000, Some(0)),
            (3_600_000, 3_660_000, Some(3_600_000)),
            (-3_600_000, -3_540_000, Some(-3_600_000)),
            (YEAR, YEAR + 60_000, Some(YEAR)),
            (-YEAR, 60_000 - YEAR, Some(-YEAR)),
            // The clock of this computer was an hour ahead and was corrected before the upload was sent.
            (0, -3_540_000, None),
        ] {
            let id = EntryId(Uuid::now_v7());
            write(folder.path(), id, Mrn::new(7).unwrap(), &upload, &|_| {}, &|| false).unwrap();
            let mut manifest = Manifest::read(folder.path(), id).unwrap();
            assert!(manifest.recorded_by_this_computer);
            manifest.correct_time(folder.path(), id, ahead_ms, selected.plus_millis(now)).unwrap();
            let stored = Manifest::read(folder.path(), id).unwrap();
            assert!(!stored.recorded_by_this_computer, "each attempt sends the same time");
            let sent = stored.upload(folder.path(), id);
            assert_eq!(
                sent.recorded_at,
                corrected.map(|millis| selected.plus_millis(millis)),
                "{ahead_ms} {now}"
            );
            assert_eq!(sent.idempotency_key, upload.idempotency_key);
        }
    }
}
