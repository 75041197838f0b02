//! Reader that selects the format by the first bytes of a file.

use std::io::Read;

use crate::{Recording, Strip, csv, edf};

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

impl ReadError {
    /// Whether another sampling rate or lead could make the file readable.
    #[must_use]
    pub fn needs_options(&self) -> bool {
        use csv::ReadError as Csv;
        use edf::ReadError as Edf;
        matches!(
            self,
            ReadError::Csv(
                Csv::NoTime
                    | Csv::TimeCountsRows
                    | Csv::TimeTooCoarse { .. }
                    | Csv::NoEcgAmong { .. }
                    | Csv::GivenRateImplausible { .. }
                    | Csv::NoSuchLead { .. }
                    | Csv::NoLeadAt { .. }
            ) | ReadError::Edf(Edf::NoEcgAmong { .. } | Edf::NoSuchSignal { .. } | Edf::NoSignalAt { .. })
        )
    }
}

/// Reads one lead of an ECG from a text file ([`csv::read`]) or from EDF, EDF+ or BDF ([`edf::read`]), depending
/// on the first bytes. A WFDB record consists of several files; [`crate::wfdb`] reads it.
///
/// # Errors
/// Returns the error of the selected reader.
pub fn read(reader: impl Read, options: &csv::Options) -> Result<Strip, ReadError> {
    let (is_edf, whole) = detect(reader)?;
    if is_edf { Ok(edf::read(whole, &edf_options(options))?) } else { Ok(csv::read(whole, options)?) }
}

/// Reads all leads of an ECG from a text file ([`csv::read_recording`]) or from EDF, EDF+ or BDF
/// ([`edf::read_recording`]), depending on the first bytes.
///
/// # Errors
/// Returns the error of the selected reader.
pub fn read_recording(reader: impl Read, options: &csv::Options) -> Result<Recording, ReadError> {
    let (is_edf, whole) = detect(reader)?;
    if is_edf {
        Ok(edf::read_recording(whole, &edf_options(options))?)
    } else {
        Ok(csv::read_recording(whole, options)?)
    }
}

/// Whether a file is EDF, and its bytes from the start.
fn detect(mut reader: impl Read) -> Result<(bool, impl Read), ReadError> {
    let mut head = Vec::with_capacity(256);
    (&mut reader).take(256).read_to_end(&mut head).map_err(csv::ReadError::Io)?;
    Ok((edf::is_edf(&head), std::io::Cursor::new(head).chain(reader)))
}

fn edf_options(options: &csv::Options) -> edf::Options {
    let max_samples = usize::try_from(options.max_rows).unwrap_or(usize::MAX);
    edf::Options { lead: options.lead.clone(), max_samples }
}
