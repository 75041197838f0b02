//! Watches files that are read again when they change: access tokens, renewed certificates.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proto_json::BlobHash;

/// Time between two looks at the files. They are small, and watching a folder does not see what is mounted over it.
const EVERY: Duration = Duration::from_secs(1);

/// A change counts once two reads that are this far apart give the same: a file that is being written in place is empty or
/// incomplete for a moment.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// A file that changes all the time is taken as it is after so many reads.
const MOST_READS: u32 = 5;

/// Files whose changes matter. Keeps only hashes of them: their contents may be secret.
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
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub cause: io::Error,
}

type Contents = Result<Vec<Vec<u8>>, UnreadableFile>;

impl WatchedFiles {
    /// Reads the files for the first time. Returns their contents, in order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), UnreadableFile> {
        let contents = read_all(&paths)?;
        Ok((WatchedFiles { last: Some(hashes(&contents)), paths }, contents))
    }

    /// Waits until one of the files has changed, and returns the contents of all.
    ///
    /// # Errors
    /// When one of them cannot be read any more, such as a file that was removed. That is a change, too: it is reported
    /// once, and the next change is a file that can be read again.
    pub async fn changed(&mut self) -> Result<Vec<Vec<u8>>, UnreadableFile> {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some((mut hashes, mut contents)) = self.read_now().await else { continue };
            if hashes == self.last {
                continue;
            }
            for _ in 1..MOST_READS {
                tokio::time::sleep(SETTLED_AFTER).await;
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

    /// `None` if the read was not run to its end, as at the end of the process.
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
    async fn changed_file_is_returned_once() {
        let (_folder, path, mut files) = watched("one");
        assert!(tokio::time::timeout(EVERY * 3, files.changed()).await.is_err());
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.changed().await.unwrap(), [b"two"]);
        assert!(tokio::time::timeout(EVERY * 3, files.changed()).await.is_err(), "the same as before");
    }

    #[tokio::test(start_paused = true)]
    async fn missing_file_is_reported_once_and_so_is_its_return() {
        let (_folder, path, mut files) = watched("one");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.changed().await.unwrap_err().cause.kind(), io::ErrorKind::NotFound);
        assert!(tokio::time::timeout(EVERY * 3, files.changed()).await.is_err(), "still missing");
        std::fs::write(&path, "one").unwrap();
        assert_eq!(files.changed().await.unwrap(), [b"one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn file_that_is_being_written_is_read_when_it_is_complete() {
        let (_folder, path, mut files) = watched("one");
        std::fs::write(&path, "").unwrap();
        let (changed, ()) = tokio::join!(files.changed(), async {
            tokio::time::sleep(EVERY + SETTLED_AFTER / 2).await;
            std::fs::write(&path, "two").unwrap();
        });
        assert_eq!(changed.unwrap(), [b"two"]);
    }
}
