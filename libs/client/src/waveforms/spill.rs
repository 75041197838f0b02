//! Messages on disk: blocks in a temporary file that is used as a ring.
//!
//! The file has no name, so that nothing is left over when the process ends. Each block has a checksum; a damaged block is
//! dropped, never sent.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use parking_lot::Mutex;

use super::queue::Message;

/// Kind of the checksums.
const KIND: &str = "spilled waveforms";

#[derive(Debug)]
pub(super) struct SpillFile {
    folder: PathBuf,
    max_bytes: u64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Created when it is needed.
    file: Option<File>,
    /// Position and length of the blocks that are not read, oldest first.
    used: std::collections::VecDeque<(u64, u64)>,
}

/// A block in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    at: u64,
    bytes: u64,
    checksum: u32,
    pub(super) messages: u64,
}

/// A written block.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) block: Block,
    /// Positions of the oldest blocks, which were overwritten.
    pub(super) overwritten: Vec<u64>,
}

impl SpillFile {
    pub(super) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        SpillFile { folder, max_bytes, ring: Mutex::default() }
    }

    /// Writes messages as one block. Blocks on disk access.
    pub(super) fn write(&self, messages: &[Message]) -> io::Result<Written> {
        let mut content = Vec::new();
        for message in messages {
            message.encode(&mut content);
        }
        let bytes = content.len() as u64;
        let ring = &mut *self.ring.lock();
        if bytes > self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the limit of the file is too small"));
        }
        let file = match &mut ring.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        let end = ring.used.back().map_or(0, |(at, bytes)| at + bytes);
        let at = if end + bytes > self.max_bytes { 0 } else { end };
        let mut overwritten = Vec::new();
        while let Some((other, length)) = ring.used.front().copied()
            && at < other + length
            && other < at + bytes
        {
            ring.used.pop_front();
            overwritten.push(other);
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&content)?;
        ring.used.push_back((at, bytes));
        let checksum = checksum::of(KIND, &content);
        Ok(Written { block: Block { at, bytes, checksum, messages: messages.len() as u64 }, overwritten })
    }

    /// Reads the oldest block and releases it. Blocks on disk access.
    pub(super) fn take(&self, block: Block) -> io::Result<Vec<Message>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a block is damaged");
        let ring = &mut *self.ring.lock();
        let Some(file) = &mut ring.file else { return Err(damaged()) };
        if ring.used.front() != Some(&(block.at, block.bytes)) {
            // Overwritten since.
            return Err(damaged());
        }
        ring.used.pop_front();
        let mut content = vec![0; usize::try_from(block.bytes).map_err(|_| damaged())?];
        file.seek(SeekFrom::Start(block.at))?;
        file.read_exact(&mut content)?;
        if ring.used.is_empty() {
            file.set_len(0)?;
        }
        if checksum::of(KIND, &content) != block.checksum {
            return Err(damaged());
        }
        let mut messages = Vec::new();
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            messages.push(Message::decode(&mut rest).ok_or_else(damaged)?);
        }
        Ok(messages)
    }
}

impl Block {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_at(&self, position: u64) -> bool {
        self.at == position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(number: u8) -> Vec<Message> {
        (0..4).map(|index| Message::Frame(vec![number * 10 + index; 96])).collect()
    }

    #[test]
    fn blocks_are_read_as_written_and_the_oldest_are_overwritten() {
        let file = SpillFile::new(std::env::temp_dir(), 1_000);
        // A block has 4 * 101 bytes: two fit.
        let written: Vec<Written> = (1..=3).map(|number| file.write(&messages(number)).unwrap()).collect();
        let overwritten: Vec<&[u64]> = written.iter().map(|written| written.overwritten.as_slice()).collect();
        assert_eq!(overwritten, [&[][..], &[], &[0]]);
        assert!(file.take(written[0].block).is_err());
        assert_eq!(file.take(written[1].block).unwrap(), messages(2));
        assert_eq!(file.take(written[2].block).unwrap(), messages(3));
        let again = file.write(&messages(4)).unwrap();
        assert_eq!((again.block.at, again.overwritten.len()), (0, 0));
        assert!(file.write(&[Message::Frame(vec![0; 2_000])]).is_err());
    }

    #[test]
    fn damaged_block_is_not_read() {
        let file = SpillFile::new(std::env::temp_dir(), 1_000);
        let written = file.write(&messages(1)).unwrap();
        {
            let mut ring = file.ring.lock();
            let inner = ring.file.as_mut().unwrap();
            inner.seek(SeekFrom::Start(50)).unwrap();
            inner.write_all(&[255]).unwrap();
        }
        assert!(file.take(written.block).is_err());
    }
}
