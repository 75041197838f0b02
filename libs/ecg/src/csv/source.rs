//! Reads a file in blocks of whole lines. Memory holds one block.

use std::io::{self, Read};

use super::ReadError;

/// Size of a block. The layout is determined from the first block.
const BLOCK_BYTES: usize = 256 * 1024;

/// Returns the file as blocks that end with a line.
pub(super) struct Source<R> {
    reader: R,
    buffer: Vec<u8>,
    filled: usize,
    /// End of the last complete line in the buffer.
    whole: usize,
    ended: bool,
    terminator: u8,
    max_line_bytes: usize,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, max_line_bytes: usize) -> Self {
        let max_line_bytes = max_line_bytes.clamp(64, BLOCK_BYTES / 2);
        Source {
            reader,
            buffer: vec![0; BLOCK_BYTES],
            filled: 0,
            whole: 0,
            ended: false,
            terminator: b'\n',
            max_line_bytes,
        }
    }

    /// Sets the terminator: old spreadsheet programs end lines with a carriage return alone.
    pub(super) fn set_terminator(&mut self, terminator: u8) {
        self.terminator = terminator;
        self.find_whole();
    }

    pub(super) fn terminator(&self) -> u8 {
        self.terminator
    }

    /// All bytes in the buffer.
    pub(super) fn raw(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Replaces the returned block by the next bytes of the file. Returns false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ReadError> {
        self.buffer.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        self.whole = 0;
        while self.filled < self.buffer.len() && !self.ended {
            let Some(free) = self.buffer.get_mut(self.filled..) else { break };
            match self.reader.read(free) {
                Ok(0) => self.ended = true,
                // A reader may violate its contract and report more bytes than there is space for.
                Ok(count) => self.filled = (self.filled + count).min(self.buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.find_whole();
        Ok(self.filled > 0)
    }

    fn find_whole(&mut self) {
        self.whole = if self.ended {
            self.filled
        } else {
            memchr::memrchr(self.terminator, self.raw()).map_or(0, |at| at + 1)
        };
    }

    /// The complete lines in the buffer. `line` is the number of the first, for the error message.
    pub(super) fn block(&self, line: u64) -> Result<&[u8], ReadError> {
        let block = self.buffer.get(..self.whole).unwrap_or_default();
        if block.is_empty() && self.filled > 0 {
            return Err(ReadError::LineTooLong { line, limit: self.max_line_bytes });
        }
        Ok(block)
    }

    pub(super) fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }
}

/// Splits the first line off `block`. Returns it without its terminator, and its length with it.
#[inline]
pub(super) fn first_line(block: &[u8], terminator: u8) -> (&[u8], usize) {
    match memchr::memchr(terminator, block) {
        Some(end) => {
            let line = block.get(..end).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), end + 1)
        }
        None => (block.strip_suffix(b"\r").unwrap_or(block), block.len()),
    }
}
