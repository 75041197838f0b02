//! Files that are read again when somebody has changed them: access tokens, renewed certificates.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proto_json::BlobHash;

/// How often the files are looked at. They are small, and watching a folder does not see what is mounted over it.
const EVERY: Duration = Duration::from_secs(1);

/// Files whose changes matter. Keeps hashes of them alone: their contents may be secret.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    last: Vec<BlobHash>,
    /// Said once for each time they cannot be read.
    complained: bool,
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

impl WatchedFiles {
    /// Reads the files for the first time: gives their contents, in order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), UnreadableFile> {
        let contents = read_all(&paths)?;
        Ok((WatchedFiles { last: hashes(&contents), paths, complained: false }, contents))
    }

    /// Waits until one of them is another than before, and gives the contents of all. While one cannot be read, it waits on.
    pub async fn changed(&mut self) -> Vec<Vec<u8>> {
        loop {
            tokio::time::sleep(EVERY).await;
            let paths = self.paths.clone();
            let read = tokio::task::spawn_blocking(move || read_all(&paths)).await;
            match read {
                Ok(Ok(contents)) => {
                    self.complained = false;
                    let hashes = hashes(&contents);
                    if hashes != self.last {
                        self.last = hashes;
                        return contents;
                    }
                }
                Ok(Err(error)) if !self.complained => {
                    tracing::warn!(%error, "what was read before stays in force");
                    self.complained = true;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, UnreadableFile> {
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

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_also_when_the_file_was_away_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "one").unwrap();
        let (mut files, first) = WatchedFiles::read(vec![path.clone()]).unwrap();
        assert_eq!(first, [b"one"]);
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(EVERY * 3, files.changed()).await.is_err());
        std::fs::write(&path, "one").unwrap();
        assert!(tokio::time::timeout(EVERY * 3, files.changed()).await.is_err(), "the same as before");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.changed().await, [b"two"]);
    }
}
