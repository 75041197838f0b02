//! The state of all request handlers.

use std::sync::Arc;

use store::{BlobReader, CorrectionReader, PatientReader, WaveformReader};

/// The ports of the query service. It only reads.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Patients and their history.
    pub patients: Arc<dyn PatientReader>,
    /// Stored files.
    pub files: Arc<dyn BlobReader>,
    /// Stored waveforms.
    pub waveforms: Arc<dyn WaveformReader>,
    /// Corrections, and what has become of merged and erased numbers.
    pub corrections: Arc<dyn CorrectionReader>,
}

impl Ports {
    /// The ports of one store.
    pub fn of(store: Arc<impl PatientReader + BlobReader + WaveformReader + CorrectionReader>) -> Self {
        Ports { patients: store.clone(), files: store.clone(), waveforms: store.clone(), corrections: store }
    }
}
