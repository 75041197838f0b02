//! The body of a file on its way in: cut into batches, and checked against the length and hash that were announced.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::Fuse;
use proto_json::BlobHash;
use sha2::{Digest, Sha256};

use crate::{ByteStream, StoreError};

/// What a body has to be.
pub(crate) struct Check {
    sha256: BlobHash,
    bytes: u64,
    seen: u64,
    hasher: Sha256,
}

impl Check {
    /// Nothing seen yet.
    pub(crate) fn new(sha256: BlobHash, bytes: u64) -> Self {
        Check { sha256, bytes, seen: 0, hasher: Sha256::new() }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        self.seen += piece.len() as u64;
        if self.seen > self.bytes {
            return Err(StoreError::Corrupt(format!(
                "a file is longer than the {} bytes announced",
                self.bytes
            )));
        }
        self.hasher.update(piece);
        Ok(())
    }

    /// After the last byte: whether it was what was announced.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        if self.seen < self.bytes {
            return Err(StoreError::Corrupt(format!(
                "a file ended after {} of the {} bytes announced",
                self.seen, self.bytes
            )));
        }
        if BlobHash::from_bytes(self.hasher.finalize_reset().into()) == self.sha256 {
            Ok(())
        } else {
            Err(StoreError::Corrupt(format!("a file does not have the hash announced, {}", self.sha256)))
        }
    }
}

/// Reads until `batch` bytes are there or the body ends: a shorter batch is the last one. `rest` is what was read beyond.
pub(crate) async fn next_batch(
    batch: usize,
    body: &mut Fuse<ByteStream>,
    rest: &mut BytesMut,
    check: &mut Check,
) -> Result<Bytes, StoreError> {
    while rest.len() < batch
        && let Some(piece) = body.next().await
    {
        let piece = piece.map_err(StoreError::unavailable)?;
        check.take(&piece)?;
        rest.extend_from_slice(&piece);
    }
    Ok(rest.split_to(rest.len().min(batch)).freeze())
}
