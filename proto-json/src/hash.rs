//! Hashing: what turns bytes into the [`BlobHash`] they are known by.

use std::fmt;

use bytes::Bytes;
use ring::digest::{Context, SHA256, digest};

use crate::BlobHash;

/// Takes the SHA-256 of bytes as they come.
#[derive(Clone)]
pub struct BlobHasher(Context);

impl fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobHasher").finish_non_exhaustive()
    }
}

impl BlobHasher {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        BlobHasher(Context::new(&SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything it took.
    #[must_use]
    pub fn finish(self) -> BlobHash {
        whole(&self.0.finish())
    }
}

impl Default for BlobHasher {
    fn default() -> Self {
        BlobHasher::new()
    }
}

impl BlobHash {
    /// The hash of bytes held in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        whole(&digest(&SHA256, bytes))
    }
}

fn whole(digest: &ring::digest::Digest) -> BlobHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    BlobHash::from_bytes(hash)
}

/// Bytes in memory with their hash. The only way to make one is to take the hash, so that whoever is handed one need not
/// take it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedBytes {
    sha256: BlobHash,
    bytes: Bytes,
}

impl HashedBytes {
    /// Takes the hash.
    #[must_use]
    pub fn of(bytes: Bytes) -> Self {
        HashedBytes { sha256: BlobHash::of(&bytes), bytes }
    }

    /// Their hash.
    #[must_use]
    pub fn sha256(&self) -> BlobHash {
        self.sha256
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
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
    fn the_hash_is_sha_256_in_one_piece_and_in_parts() {
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
