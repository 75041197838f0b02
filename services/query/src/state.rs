//! The state of all request handlers.

use std::sync::Arc;

use store::{AuditReader, BlobReader, CorrectionReader, PatientReader, WardReader, WaveformReader};

/// The ports of the query service. It only reads.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Patients and their history.
    pub patients: Arc<dyn PatientReader>,
    /// Stored files.
    pub files: Arc<dyn BlobReader>,
    /// Stored waveforms.
    pub waveforms: Arc<dyn WaveformReader>,
    /// The audit.
    pub audit: Arc<dyn AuditReader>,
    /// Wards and admissions.
    pub wards: Arc<dyn WardReader>,
    /// Corrections, and what has become of merged and erased numbers.
    pub corrections: Arc<dyn CorrectionReader>,
}

impl Ports {
    /// The ports of one store.
    pub fn of(
        store: Arc<
            impl PatientReader + BlobReader + WaveformReader + AuditReader + WardReader + CorrectionReader,
        >,
    ) -> Self {
        Ports {
            patients: store.clone(),
            files: store.clone(),
            waveforms: store.clone(),
            audit: store.clone(),
            wards: store.clone(),
            corrections: store,
        }
    }
}
