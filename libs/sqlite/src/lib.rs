//! What the adapters on SQLite files share.
//!
//! SQLite has no checksums of its own: a flipped bit in a page is read as if it had been written. A [`Table`] stores a
//! checksum with each row and compares it whenever the row is read.

mod pages;
mod table;

pub use pages::check_pages;
pub use table::{Integrity, Table};
