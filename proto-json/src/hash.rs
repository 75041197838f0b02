//! SHA-256 hashing of blobs.

use std::fmt;

use bytes::Bytes;
use ring::digest::{Context, SHA256, digest};

use crate::ids::BlobHash;

/// Computes a SHA-256 incrementally.
#[derive(Clone)]
pub struct BlobHasher(Context);

impl fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobHasher").finish_non_exhaustive()
    }
}

impl BlobHasher {
    /// Creates a hasher that has processed no bytes.
    #[must_use]
    pub fn new() -> Self {
        BlobHasher(Context::new(&SHA256))
    }

    /// Processes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all processed bytes.
    #[must_use]
    pub fn finish(self) -> BlobHash {
        finished(&self.0.finish())
    }
}

impl Default for BlobHasher {
    fn default() -> Self {
        BlobHasher::new()
    }
}

impl BlobHash {
    /// Computes the hash of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        finished(&digest(&SHA256, bytes))
    }
}

fn finished(digest: &ring::digest::Digest) -> BlobHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    BlobHash::from_bytes(hash)
}

/// Bytes in memory with their hash. Every constructor computes the hash, so a receiver does not need to
/// compute it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedBytes {
    sha256: BlobHash,
    bytes: Bytes,
}

impl HashedBytes {
    /// Computes the hash of `bytes`.
    #[must_use]
    pub fn of(bytes: Bytes) -> Self {
        HashedBytes { sha256: BlobHash::of(&bytes), bytes }
    }

    /// Returns the hash.
    #[must_use]
    pub fn sha256(&self) -> BlobHash {
        self.sha256
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.
    #[test]
    fn hash_is_sha_256_for_whole_and_chunked_input() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(BlobHash::of(b"abc").to_string(), expected);
        let mut hasher = BlobHasher::new();
        for part in [&b"a"[..], b"", b"bc"] {
            hasher.update(part);
        }
        assert_eq!(hasher.finish(), BlobHash::of(b"abc"));
        let hashed = HashedBytes::of(Bytes::from_static(b"abc"));
        assert_eq!((hashed.sha256(), hashed.len()), (BlobHash::of(b"abc"), 3));
    }
}
