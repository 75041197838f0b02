//! Annotated WFDB records in a directory, for the programs that evaluate or fit the analysis.

#[allow(unused_imports, reason = "each program uses a part of this module")]
pub(crate) use ecg_cli::wfdb_files::{RecordFiles, has_atr, headers};
