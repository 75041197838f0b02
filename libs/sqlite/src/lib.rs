//! The storage engine of the adapters that keep their data in one SQLite file.
//!
//! A [`Format`] describes a kind of file. [`DatabaseFile::open`] locks, checks and migrates a file. A [`Writer`] takes it over and
//! writes with group commit on one thread, while [`Readers`] read concurrently. A [`ChunkTable`] stores large files in
//! chunks, through an [`UnfinishedFile`]. A [`Table`] stores a checksum with each row and verifies it whenever the row is
//! read: SQLite has no checksums of its own, so a flipped bit in a page is read as valid data.
//!
//! Invariants: one process writes a file. A write is confirmed after its commit has been synced to the disk, never before. A
//! file of which not all parts were written is never visible, and its chunks are removed.
//!
//! Failures are an [`Error`], which adapters convert to their own errors.

mod checkpoints;
mod chunks;
mod error;
mod file;
mod migrations;
mod pages;
mod readers;
mod snapshot;
mod table;
mod writer;

pub use chunks::{CHUNK, Chunk, ChunkError, ChunkTable, MAX_CHUNKS, PART, Removals, UnfinishedFile};
pub use error::Error;
pub use file::{DatabaseFile, Format, open_reader};
pub use pages::check_pages;
pub use readers::Readers;
pub use snapshot::snapshot;
pub use table::{Integrity, Table};
pub use writer::{Failure, Priority, Writer};
