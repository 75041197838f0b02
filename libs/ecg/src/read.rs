//! Reader that selects the format by the first bytes of a file.

use std::io::Read;

use crate::{Strip, csv, edf};

/// Error of [`read`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Error of the text reader.
    #[error(transparent)]
    Csv(#[from] csv::ReadError),
    /// Error of the EDF reader.
    #[error(transparent)]
    Edf(#[from] edf::ReadError),
}

/// Reads an ECG from a text file ([`csv::read`]) or from EDF, EDF+ or BDF ([`edf::read`]), depending on the
/// first bytes. A WFDB record consists of several files; [`crate::wfdb`] reads it.
///
/// # Errors
/// Returns the error of the selected reader.
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
