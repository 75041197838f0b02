//! One door for files of any kind this crate reads from a single stream.

use std::io::Read;

use crate::{Strip, csv, edf};

/// Why no strip came of a file of whatever kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It was read as text.
    #[error(transparent)]
    Csv(#[from] csv::ReadError),
    /// It was read as EDF or BDF.
    #[error(transparent)]
    Edf(#[from] edf::ReadError),
}

/// Reads an ECG from a text file ([`csv::read`]) or from EDF, EDF+ or BDF ([`edf::read`]), whichever its first bytes are.
/// WFDB records are several files and have a reader of their own: [`crate::wfdb`].
///
/// # Errors
/// Those of the reader that the file's kind calls for.
pub fn read(mut reader: impl Read, options: &csv::Options) -> Result<Strip, ReadError> {
    let mut head = Vec::with_capacity(256);
    (&mut reader).take(256).read_to_end(&mut head).map_err(csv::ReadError::Io)?;
    let is_edf = edf::is_edf(&head);
    let whole = head.as_slice().chain(reader);
    if is_edf {
        let max_samples = usize::try_from(options.max_rows).unwrap_or(usize::MAX);
        return Ok(edf::read(whole, &edf::Options { lead: options.lead.clone(), max_samples })?);
    }
    Ok(csv::read(whole, options)?)
}
