//! Input of [`PatientWriter`](crate::PatientWriter).

use proto_json::{
    BlobHash, BlobInfo, Bpm, EcgAnalysis, HeartRateSource, Mrn, RecordId, Rename, SignalOptions, StoredFile,
    Timestamp, UploadId,
};

/// An upload without the bytes of its files. Every id is derived from the id of the upload.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUpload {
    /// The upload.
    pub id: UploadId,
    /// SHA-256 of the whole request.
    pub fingerprint: BlobHash,
    /// Record number of the patient.
    pub mrn: Mrn,
    /// Name of the client that sent it, if it is known.
    pub uploaded_by: Option<String>,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// When it is stored.
    pub stored_at: Timestamp,
    /// Name, if given; never empty.
    pub name: Option<String>,
    /// Whether the name may replace another name.
    pub rename: Rename,
    /// A reported heart rate.
    pub heart_rate: Option<NewHeartRate>,
    /// Medical images, in the order of the request.
    pub images: Vec<NewImage>,
    /// ECGs, in the order of the request.
    pub ecgs: Vec<NewEcg>,
    /// Files in the order of the request, for the receipt.
    pub files: Vec<StoredFile>,
}

/// A heart rate to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewHeartRate {
    /// The record.
    pub id: RecordId,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, if the client has sent that.
    pub recorded_at: Option<Timestamp>,
    /// The source of the value.
    pub source: HeartRateSource,
    /// The ECG that it was computed from or reported with.
    pub ecg_id: Option<RecordId>,
}

/// A medical image to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewImage {
    /// The record.
    pub id: RecordId,
    /// The file.
    pub file: BlobInfo,
}

/// An ECG to store: a raw signal to analyse, or a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEcg {
    /// The record.
    pub id: RecordId,
    /// When it was recorded, if the client has sent that.
    pub recorded_at: Option<Timestamp>,
    /// The raw signal. An ECG with a signal is pending until it is analysed.
    pub signal: Option<BlobInfo>,
    /// How to read the signal.
    pub options: SignalOptions,
    /// The uploaded picture. An ECG with a picture is not analysed.
    pub picture: Option<BlobInfo>,
    /// Heart rate that was reported with the picture.
    pub reported: Option<Bpm>,
}

/// The result of an analysis to store.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisResult {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that the ECG belongs to, and with it the files of the result.
    pub upload_id: UploadId,
    /// Record number of the patient.
    pub mrn: Mrn,
    /// When it is stored.
    pub stored_at: Timestamp,
    /// Findings, plot and details, or the reason why the analysis failed.
    pub outcome: Result<(EcgAnalysis, BlobInfo, BlobInfo), String>,
}

impl AnalysisResult {
    /// The mean heart rate in whole beats per minute, if there is one.
    #[must_use]
    pub fn heart_rate(&self) -> Option<Bpm> {
        let (analysis, ..) = self.outcome.as_ref().ok()?;
        Bpm::rounded(analysis.heart_rate?.mean_bpm).ok()
    }
}
