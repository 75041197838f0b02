//! Detects changes of small files: token files and renewed certificates.
//!
//! The files are polled. Notification services such as inotify do not report a file that is replaced by a
//! mount, which is how container platforms update secrets; therefore no file-watching library is used.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proto_json::BlobHash;

/// Polling interval.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two reads that must return the same content before a change is reported. A file that is
/// written in place is empty or incomplete for a moment.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Maximum number of reads per change. Bounds the wait for a file that changes continuously.
const MAX_READS: u32 = 5;

/// A set of files that is watched for changes. Keeps only hashes, because the contents may be secret.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    /// `None` while one of the files cannot be read.
    last: Option<Vec<BlobHash>>,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the file {} cannot be read: {cause}", path.display())]
pub struct UnreadableFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The I/O error.
    pub cause: io::Error,
}

type Contents = Result<Vec<Vec<u8>>, UnreadableFile>;

impl WatchedFiles {
    /// Reads the files and returns their contents in the order of `paths`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), UnreadableFile> {
        let contents = read_all(&paths)?;
        Ok((WatchedFiles { last: Some(hashes(&contents)), paths }, contents))
    }

    /// Waits until a file changes and returns the contents of all files.
    ///
    /// # Errors
    /// If a file can no longer be read, for example because it was removed. This counts as a change and is
    /// reported once; the next change is reported when all files can be read again.
    pub async fn changed(&mut self) -> Result<Vec<Vec<u8>>, UnreadableFile> {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let Some((mut hashes, mut contents)) = self.read_now().await else { continue };
            if hashes == self.last {
                continue;
            }
            for _ in 1..MAX_READS {
                tokio::time::sleep(SETTLE_TIME).await;
                let Some(again) = self.read_now().await else { break };
                let settled = again.0 == hashes;
                (hashes, contents) = again;
                if settled {
                    break;
                }
            }
            if hashes != self.last {
                self.last = hashes;
                return contents;
            }
        }
    }

    /// Returns `None` if the read did not complete because the runtime is shutting down.
    async fn read_now(&self) -> Option<(Option<Vec<BlobHash>>, Contents)> {
        let paths = self.paths.clone();
        let contents = tokio::task::spawn_blocking(move || read_all(&paths)).await.ok()?;
        Some((contents.as_ref().ok().map(|contents| hashes(contents)), contents))
    }
}

fn read_all(paths: &[PathBuf]) -> Contents {
    paths
        .iter()
        .map(|path| std::fs::read(path).map_err(|cause| UnreadableFile { path: path.clone(), cause }))
        .collect()
}

fn hashes(contents: &[Vec<u8>]) -> Vec<BlobHash> {
    contents.iter().map(|content| BlobHash::of(content)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(content: &str) -> (tempfile::TempDir, PathBuf, WatchedFiles) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, content).unwrap();
        let (files, first) = WatchedFiles::read(vec![path.clone()]).unwrap();
        assert_eq!(first, [content.as_bytes()]);
        (folder, path, files)
    }

    #[tokio::test(start_paused = true)]
    async fn changed_file_is_reported_once() {
        let (_folder, path, mut files) = watched("one");
        assert!(tokio::time::timeout(POLL_INTERVAL * 3, files.changed()).await.is_err());
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.changed().await.unwrap(), [b"two"]);
        assert!(tokio::time::timeout(POLL_INTERVAL * 3, files.changed()).await.is_err(), "no further change");
    }

    #[tokio::test(start_paused = true)]
    async fn missing_and_restored_file_are_each_reported_once() {
        let (_folder, path, mut files) = watched("one");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.changed().await.unwrap_err().cause.kind(), io::ErrorKind::NotFound);
        assert!(tokio::time::timeout(POLL_INTERVAL * 3, files.changed()).await.is_err(), "still missing");
        std::fs::write(&path, "one").unwrap();
        assert_eq!(files.changed().await.unwrap(), [b"one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn partially_written_file_is_reported_when_complete() {
        let (_folder, path, mut files) = watched("one");
        std::fs::write(&path, "").unwrap();
        let (changed, ()) = tokio::join!(files.changed(), async {
            tokio::time::sleep(POLL_INTERVAL + SETTLE_TIME / 2).await;
            std::fs::write(&path, "two").unwrap();
        });
        assert_eq!(changed.unwrap(), [b"two"]);
    }
}
