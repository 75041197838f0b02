//! Checksums for the adapters on SQLite files.
//!
//! SQLite has no checksums of its own: a flipped bit in a page is read as valid data. A [`Table`] stores a checksum with each
//! row and verifies it whenever the row is read.

mod pages;
mod table;

pub use pages::check_pages;
pub use table::{Integrity, Table};
