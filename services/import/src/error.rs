//! Errors that end an import.

use std::path::PathBuf;

use client::ClientError;

/// Error that ends an import. Imported patients stay; another run continues.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The connection string does not name a usable database.
    #[error("{0}")]
    Source(String),
    /// The source database cannot be read.
    #[error("the source database cannot be read: {0}")]
    Read(#[from] mongodb::error::Error),
    /// The gateway rejects uploads or is unreachable.
    #[error("{0}; run the same command again to continue")]
    Gateway(#[from] ClientError),
    /// The report file cannot be written.
    #[error("{} cannot be written: {cause}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}
