//! Buffers the files and the body of a request until the request is validated: small ones in memory, large
//! ones in an anonymous file. Files are hashed at the same time.
//!
//! `tempfile::SpooledTempFile` is not used: it does not share a memory budget between requests, and its I/O
//! is blocking.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use proto_json::{BlobHash, BlobHasher, HashedBytes};
use tokio::sync::Semaphore;

use crate::admission::{MemoryBudget, Reservation};

/// Maximum size of a file that stays in memory, if the budget allows.
const FILE_IN_MEMORY: usize = 1 << 20;
/// Maximum size of all files of a request that stay in memory.
const REQUEST_IN_MEMORY: usize = 4 << 20;
/// Bytes of a body that need no reservation. The number of bodies is limited by the number of connections.
const BODY_WITHOUT_RESERVATION: usize = 64 * 1024;
/// Size of disk reads and writes.
const BLOCK: usize = 256 * 1024;
/// Bytes of a spool file that the operating system may hold unwritten. Without a limit, a large body fills the page
/// cache, and the stores of other uploads wait until it is written.
const UNWRITTEN: u64 = 1 << 20;

/// Spool folder and memory budget, shared by all requests.
#[derive(Debug, Clone)]
pub(crate) struct SpoolFolder {
    folder: Arc<Path>,
    memory: MemoryBudget,
    /// One spool file is written out at a time. The writes of a store then wait for at most one of them.
    writing_out: Arc<Semaphore>,
}

impl SpoolFolder {
    pub(crate) fn new(folder: Option<PathBuf>, memory: MemoryBudget) -> Self {
        let folder = folder.unwrap_or_else(std::env::temp_dir).into();
        SpoolFolder { folder, memory, writing_out: Arc::new(Semaphore::new(1)) }
    }

    /// Checks that files can be created in the folder.
    pub(crate) fn check(&self) -> io::Result<()> {
        tempfile::tempfile_in(&self.folder).map(drop)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes `bytes` bytes to a spool file in the background. `unwritten` counts the bytes that the operating system may
    /// not have written yet; at [`UNWRITTEN`], waits until it has written them.
    async fn write<T: Send + 'static>(
        &self,
        file: Arc<File>,
        bytes: usize,
        unwritten: &mut u64,
        write: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        *unwritten += bytes as u64;
        let write_out = *unwritten >= UNWRITTEN;
        let turn = if write_out { self.writing_out.acquire().await.ok() } else { None };
        let written = background::run(move || {
            let written = write(&file)?;
            if write_out {
                file.sync_data()?;
            }
            Ok(written)
        })
        .await?;
        drop(turn);
        if write_out {
            *unwritten = 0;
        }
        written
    }

    /// Returns a spool for the files of one request.
    pub(crate) fn spool(&self) -> Spool {
        Spool { folder: self.clone(), in_memory: 0, file: None, end: 0, unwritten: 0 }
    }

    /// Returns a spool for the body of one request.
    pub(crate) fn body(&self) -> BodySpool {
        BodySpool {
            folder: self.clone(),
            bytes: 0,
            buffer: Vec::new(),
            memory: None,
            file: None,
            unwritten: 0,
        }
    }
}

/// The files of one request. All files on disk share one anonymous file, so a request uses one file
/// descriptor regardless of the number of files.
pub(crate) struct Spool {
    folder: SpoolFolder,
    in_memory: usize,
    file: Option<Arc<File>>,
    end: u64,
    /// Bytes of the file that the operating system may not have written.
    unwritten: u64,
}

impl Spool {
    /// Starts a file. Only one file at a time can be written.
    pub(crate) fn begin(&mut self) -> SpoolWriter<'_> {
        SpoolWriter {
            spool: self,
            hasher: BlobHasher::new(),
            bytes: 0,
            buffer: BytesMut::new(),
            memory: None,
            on_disk_from: None,
        }
    }

    /// Writes the buffer to disk and updates the hash.
    async fn append(
        &mut self,
        buffer: BytesMut,
        mut hasher: BlobHasher,
    ) -> io::Result<(BytesMut, BlobHasher)> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let folder = self.folder.folder.clone();
                let file = blocking(move || tempfile::tempfile_in(&folder)).await?;
                self.file.insert(Arc::new(file)).clone()
            }
        };
        let at = self.end;
        self.end += buffer.len() as u64;
        let bytes = buffer.len();
        let write = move |file: &File| {
            hasher.update(&buffer);
            write_all_at(file, &buffer, at)?;
            Ok((buffer, hasher))
        };
        self.folder.write(file, bytes, &mut self.unwritten, write).await
    }
}

/// Writes one file.
pub(crate) struct SpoolWriter<'a> {
    spool: &'a mut Spool,
    /// Hashes the bytes on disk. A file in memory is hashed at the end.
    hasher: BlobHasher,
    bytes: u64,
    buffer: BytesMut,
    /// Reservation of the buffer while the file is in memory.
    memory: Option<Reservation>,
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
            self.memory = None;
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
        let Some(more) = spool.folder.memory.try_reserve(bytes) else { return false };
        match &mut self.memory {
            Some(memory) => memory.merge(more),
            none => *none = Some(more),
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

    /// Completes the file.
    pub(crate) async fn finish(mut self) -> io::Result<Spooled> {
        let (sha256, location) = match self.on_disk_from {
            Some(from) => {
                self.flush().await?;
                let file = self.spool.file.clone().ok_or_else(|| io::Error::other("nothing was written"))?;
                (self.hasher.finish(), Location::Disk { file, from })
            }
            None => {
                self.spool.in_memory += self.buffer.len();
                let bytes = self.buffer.freeze();
                let content = if bytes.len() < BLOCK {
                    HashedBytes::of(bytes)
                } else {
                    background::run(move || HashedBytes::of(bytes)).await?
                };
                (content.sha256(), Location::Memory { content, _memory: self.memory })
            }
        };
        Ok(Spooled { sha256, bytes: self.bytes, location })
    }
}

/// A complete file of a request. It can be read any number of times.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) sha256: BlobHash,
    pub(crate) bytes: u64,
    location: Location,
}

#[derive(Debug)]
enum Location {
    Memory { content: HashedBytes, _memory: Option<Reservation> },
    Disk { file: Arc<File>, from: u64 },
}

impl Spooled {
    /// Returns the content if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<&HashedBytes> {
        match &self.location {
            Location::Memory { content, .. } => Some(content),
            Location::Disk { .. } => None,
        }
    }

    /// Streams the content from the start.
    pub(crate) fn stream(&self) -> ByteStream {
        match &self.location {
            Location::Memory { content, .. } => {
                let bytes = content.bytes().clone();
                stream::once(async move { Ok(bytes) }).boxed()
            }
            Location::Disk { file, from } => {
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

/// Buffers the body of one request: in memory while it is small and the budget allows, otherwise in an
/// anonymous file. A body on disk holds no reservation while it arrives.
pub(crate) struct BodySpool {
    folder: SpoolFolder,
    bytes: usize,
    /// The whole body, or the part that is not in the file yet.
    buffer: Vec<u8>,
    memory: Option<Reservation>,
    file: Option<Arc<File>>,
    /// Bytes of the file that the operating system may not have written.
    unwritten: u64,
}

impl BodySpool {
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.file.is_none() && !self.take_memory(chunk.len()) {
            let folder = self.folder.folder.clone();
            self.file = Some(Arc::new(blocking(move || tempfile::tempfile_in(&folder)).await?));
        }
        self.bytes += chunk.len();
        self.buffer.extend_from_slice(chunk);
        if self.file.is_some() && self.buffer.len() >= BLOCK {
            self.flush().await?;
            self.memory = None;
        }
        Ok(())
    }

    fn take_memory(&mut self, bytes: usize) -> bool {
        let length = self.buffer.len() + bytes;
        if length > FILE_IN_MEMORY {
            return false;
        }
        let reserved = self.buffer.len().max(BODY_WITHOUT_RESERVATION);
        if length <= reserved {
            return true;
        }
        let Some(more) = self.folder.memory.try_reserve(length - reserved) else { return false };
        match &mut self.memory {
            Some(memory) => memory.merge(more),
            none => *none = Some(more),
        }
        true
    }

    async fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.clone()
            && !self.buffer.is_empty()
        {
            let buffer = std::mem::take(&mut self.buffer);
            let bytes = buffer.len();
            let write = move |mut file: &File| {
                file.write_all(&buffer)?;
                Ok(buffer)
            };
            let mut buffer = self.folder.write(file, bytes, &mut self.unwritten, write).await?;
            buffer.clear();
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Completes the body.
    pub(crate) async fn finish(mut self) -> io::Result<SpooledBody> {
        self.flush().await?;
        Ok(match self.file {
            Some(file) => SpooledBody::Disk { file, bytes: self.bytes },
            None => SpooledBody::Memory { content: self.buffer, _memory: self.memory },
        })
    }
}

/// The complete body of a request.
pub(crate) enum SpooledBody {
    Memory { content: Vec<u8>, _memory: Option<Reservation> },
    Disk { file: Arc<File>, bytes: usize },
}

impl SpooledBody {
    /// Returns the number of bytes that [`SpooledBody::read`] allocates.
    pub(crate) fn bytes_to_read(&self) -> usize {
        match self {
            SpooledBody::Memory { .. } => 0,
            SpooledBody::Disk { bytes, .. } => *bytes,
        }
    }

    /// Reads the whole body. Blocks.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        match self {
            SpooledBody::Memory { content, .. } => Ok(std::mem::take(content)),
            SpooledBody::Disk { file, bytes } => {
                let mut content = vec![0; *bytes];
                let mut file = &**file;
                file.rewind()?;
                file.read_exact(&mut content)?;
                Ok(content)
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
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the spool file is truncated"));
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

    async fn spool_all(folder: &SpoolFolder, sizes: &[usize]) -> (Vec<Vec<u8>>, Vec<Spooled>) {
        let mut spool = folder.spool();
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
    async fn files_of_any_size_are_read_back_unchanged() {
        let sizes = [0, 1, 9_999, 300_000, 1 << 20, (1 << 20) + 1, 3_000_000, 5, 900_000, 900_000, 900_000];
        for memory in [0, 100_000, 64_000_000] {
            let folder = SpoolFolder::new(None, MemoryBudget::new(memory, 1));
            let (contents, spooled) = spool_all(&folder, &sizes).await;
            for (content, spooled) in contents.iter().zip(&spooled) {
                assert_eq!(spooled.bytes, content.len() as u64);
                assert_eq!(spooled.sha256, BlobHash::of(content));
                assert!(read(spooled).await == *content, "{} bytes", content.len());
            }
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_and_released() {
        let folder = SpoolFolder::new(None, MemoryBudget::new(1_500_000, 1));
        let (_, spooled) = spool_all(&folder, &[600_000, 600_000, 600_000, 2_000_000]).await;
        let in_memory: Vec<bool> =
            spooled.iter().map(|one| matches!(one.location, Location::Memory { .. })).collect();
        assert_eq!(in_memory, [true, true, false, false]);
        assert_eq!(folder.memory.available(), 300_000);
        drop(spooled);
        assert_eq!(folder.memory.available(), 1_500_000);
    }

    #[tokio::test]
    async fn bodies_of_any_size_are_read_back_unchanged() {
        for memory in [0, 300_000, 64_000_000] {
            let folder = SpoolFolder::new(None, MemoryBudget::new(memory, 1));
            for size in [0, 1, 65_536, 65_537, 300_000, 1 << 20, (1 << 20) + 1, 3_000_000] {
                let content: Vec<u8> = (0..size).map(|at| (at / 3 + at / 1000) as u8).collect();
                let mut spool = folder.body();
                for chunk in content.chunks(10_000) {
                    spool.write(chunk).await.unwrap();
                }
                let mut body = spool.finish().await.unwrap();
                let on_disk = matches!(body, SpooledBody::Disk { .. });
                assert_eq!(
                    on_disk,
                    size > FILE_IN_MEMORY || size > BODY_WITHOUT_RESERVATION + memory as usize
                );
                assert_eq!(body.bytes_to_read(), if on_disk { size } else { 0 });
                assert!(body.read().unwrap() == content, "{size} bytes");
            }
            assert_eq!(folder.memory.available(), memory as usize);
        }
    }

    #[tokio::test]
    async fn large_body_holds_no_memory_while_it_arrives() {
        let folder = SpoolFolder::new(None, MemoryBudget::new(64_000_000, 1));
        let mut spool = folder.body();
        for _ in 0..100 {
            spool.write(&[1; 50_000]).await.unwrap();
        }
        assert_eq!(folder.memory.available(), 64_000_000);
    }
}
