//! Where the files of one request wait until all of it has been checked: in memory while they are small, in an anonymous
//! file when they are not. Each is hashed on the way.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use proto_json::{BlobHash, BlobHasher, HashedBytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A file up to this size stays in memory, if there is room.
const FILE_IN_MEMORY: usize = 1 << 20;
/// Files of one request that stay in memory, together.
const REQUEST_IN_MEMORY: usize = 4 << 20;
/// What is written to or read from disk at once.
const BLOCK: usize = 256 * 1024;

/// The room that the spools of all requests share.
#[derive(Debug, Clone)]
pub(crate) struct SpoolRoom {
    folder: Arc<Path>,
    /// One permit for each byte of memory.
    memory: Arc<Semaphore>,
}

impl SpoolRoom {
    pub(crate) fn new(folder: Option<PathBuf>, memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        SpoolRoom {
            folder: folder.unwrap_or_else(std::env::temp_dir).into(),
            memory: Arc::new(Semaphore::new(memory)),
        }
    }

    /// Proves that files can be made there.
    pub(crate) fn check(&self) -> io::Result<()> {
        tempfile::tempfile_in(&self.folder).map(drop)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The spool of one request.
    pub(crate) fn spool(&self) -> Spool {
        Spool { room: self.clone(), in_memory: 0, file: None, end: 0 }
    }
}

/// The files of one request. All that go to disk share one anonymous file, so that a request takes one file descriptor
/// however many files it brings.
pub(crate) struct Spool {
    room: SpoolRoom,
    in_memory: usize,
    file: Option<Arc<File>>,
    end: u64,
}

impl Spool {
    /// Begins a file. One at a time.
    pub(crate) fn begin(&mut self) -> SpoolWriter<'_> {
        SpoolWriter {
            spool: self,
            hasher: BlobHasher::new(),
            bytes: 0,
            buffer: BytesMut::new(),
            permit: None,
            on_disk_from: None,
        }
    }

    /// Writes what is in the buffer, and adds it to the hash.
    async fn append(
        &mut self,
        buffer: BytesMut,
        mut hasher: BlobHasher,
    ) -> io::Result<(BytesMut, BlobHasher)> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let folder = self.room.folder.clone();
                let file = blocking(move || tempfile::tempfile_in(&folder)).await?;
                self.file.insert(Arc::new(file)).clone()
            }
        };
        let at = self.end;
        self.end += buffer.len() as u64;
        background::run(move || {
            hasher.update(&buffer);
            write_all_at(&file, &buffer, at)?;
            Ok((buffer, hasher))
        })
        .await?
    }
}

/// Takes the bytes of one file.
pub(crate) struct SpoolWriter<'a> {
    spool: &'a mut Spool,
    /// Takes what goes to disk; what stays in memory is hashed at the end, in one piece.
    hasher: BlobHasher,
    bytes: u64,
    buffer: BytesMut,
    /// Room for the buffer, while the file is in memory.
    permit: Option<OwnedSemaphorePermit>,
    on_disk_from: Option<u64>,
}

impl SpoolWriter<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes += chunk.len() as u64;
        if self.on_disk_from.is_none() && !self.take_memory(chunk.len()) {
            self.on_disk_from = Some(self.spool.end);
            self.flush().await?;
            self.permit = None;
        }
        self.buffer.extend_from_slice(chunk);
        if self.on_disk_from.is_some() && self.buffer.len() >= BLOCK {
            self.flush().await?;
        }
        Ok(())
    }

    fn take_memory(&mut self, bytes: usize) -> bool {
        let spool = &self.spool;
        if self.buffer.len() + bytes > FILE_IN_MEMORY
            || spool.in_memory + self.buffer.len() + bytes > REQUEST_IN_MEMORY
        {
            return false;
        }
        let Ok(more) =
            u32::try_from(bytes).map(|bytes| spool.room.memory.clone().try_acquire_many_owned(bytes))
        else {
            return false;
        };
        match (more, &mut self.permit) {
            (Ok(more), Some(permit)) => permit.merge(more),
            (Ok(more), none) => *none = Some(more),
            (Err(_), _) => return false,
        }
        true
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let (buffer, hasher) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.hasher));
            (self.buffer, self.hasher) = self.spool.append(buffer, hasher).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The whole file, ready to be read as often as needed.
    pub(crate) async fn finish(mut self) -> io::Result<Spooled> {
        let (sha256, place) = match self.on_disk_from {
            Some(from) => {
                self.flush().await?;
                let file = self.spool.file.clone().ok_or_else(|| io::Error::other("nothing was written"))?;
                (self.hasher.finish(), Place::Disk { file, from })
            }
            None => {
                self.spool.in_memory += self.buffer.len();
                let bytes = self.buffer.freeze();
                let content = if bytes.len() < BLOCK {
                    HashedBytes::of(bytes)
                } else {
                    background::run(move || HashedBytes::of(bytes)).await?
                };
                (content.sha256(), Place::Memory { content, _room: self.permit })
            }
        };
        Ok(Spooled { sha256, bytes: self.bytes, place })
    }
}

/// A whole file of a request.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) sha256: BlobHash,
    pub(crate) bytes: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory { content: HashedBytes, _room: Option<OwnedSemaphorePermit> },
    Disk { file: Arc<File>, from: u64 },
}

impl Spooled {
    /// All of the bytes, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<&HashedBytes> {
        match &self.place {
            Place::Memory { content, .. } => Some(content),
            Place::Disk { .. } => None,
        }
    }

    /// The bytes, from the start.
    pub(crate) fn stream(&self) -> ByteStream {
        match &self.place {
            Place::Memory { content, .. } => {
                let bytes = content.bytes().clone();
                stream::once(async move { Ok(bytes) }).boxed()
            }
            Place::Disk { file, from } => {
                let (file, end) = (file.clone(), from + self.bytes);
                stream::unfold(Some(*from), move |at| {
                    let file = file.clone();
                    async move {
                        let at = at.filter(|at| *at < end)?;
                        let block = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
                        match blocking(move || read_block(&file, at, block)).await {
                            Ok(bytes) => {
                                let next = at + bytes.len() as u64;
                                Some((Ok(bytes), Some(next)))
                            }
                            Err(error) => Some((Err(error), None)),
                        }
                    }
                })
                .boxed()
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read_block(file: &File, at: u64, block: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; block];
    let read = read_at(file, &mut buffer, at)?;
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the spooled file is shorter than it was"));
    }
    buffer.truncate(read);
    Ok(buffer.into())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(unix)]
fn write_all_at(file: &File, buffer: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut buffer: &[u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, buffer, at)?;
        at += written as u64;
        buffer = buffer.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn spool_all(room: &SpoolRoom, sizes: &[usize]) -> (Vec<Vec<u8>>, Vec<Spooled>) {
        let mut spool = room.spool();
        let (mut contents, mut spooled) = (Vec::new(), Vec::new());
        for (index, size) in sizes.iter().enumerate() {
            let content: Vec<u8> = (0..*size).map(|at| (at / 3 + at / 1000 + index) as u8).collect();
            let mut writer = spool.begin();
            for chunk in content.chunks(10_000) {
                writer.write(chunk).await.unwrap();
            }
            spooled.push(writer.finish().await.unwrap());
            contents.push(content);
        }
        (contents, spooled)
    }

    async fn read(spooled: &Spooled) -> Vec<u8> {
        spooled.stream().try_collect::<Vec<Bytes>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn files_of_any_size_come_back_as_they_went_in() {
        let sizes = [0, 1, 9_999, 300_000, 1 << 20, (1 << 20) + 1, 3_000_000, 5, 900_000, 900_000, 900_000];
        for memory in [0, 100_000, 64_000_000] {
            let room = SpoolRoom::new(None, memory);
            let (contents, spooled) = spool_all(&room, &sizes).await;
            for (content, spooled) in contents.iter().zip(&spooled) {
                assert_eq!(spooled.bytes, content.len() as u64);
                assert_eq!(spooled.sha256, BlobHash::of(content));
                assert!(read(spooled).await == *content, "{} bytes", content.len());
            }
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let room = SpoolRoom::new(None, 1_500_000);
        let (_, spooled) = spool_all(&room, &[600_000, 600_000, 600_000, 2_000_000]).await;
        let in_memory: Vec<bool> =
            spooled.iter().map(|one| matches!(one.place, Place::Memory { .. })).collect();
        assert_eq!(in_memory, [true, true, false, false]);
        assert_eq!(room.memory.available_permits(), 300_000);
        drop(spooled);
        assert_eq!(room.memory.available_permits(), 1_500_000);
    }
}
