//! What ingest writes.

use proto_json::{
    BlobHash, BlobInfo, Bpm, EcgAnalysis, HeartRateSource, Mrn, RecordId, Rename, SignalOptions, StoredFile,
    Timestamp, UploadId,
};

/// Who brings a file: an upload, as it was received at a certain time. The same upload sent again is received later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The upload.
    pub upload: UploadId,
    /// When the gateway received it.
    pub received_at: Timestamp,
}

/// Everything of one upload but the bytes of its files. Every id is derived from the upload's.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUpload {
    /// The upload.
    pub id: UploadId,
    /// SHA-256 over everything the client sent.
    pub fingerprint: BlobHash,
    /// Whose it is.
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

impl NewUpload {
    /// Who brings its files.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { upload: self.id, received_at: self.received_at }
    }
}

/// A heart rate to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewHeartRate {
    /// The record.
    pub id: RecordId,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, if the client said so.
    pub recorded_at: Option<Timestamp>,
    /// Where it comes from.
    pub source: HeartRateSource,
    /// The ECG it comes from or came with.
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
    /// When it was recorded, if the client said so.
    pub recorded_at: Option<Timestamp>,
    /// The raw signal; then the ECG is pending.
    pub signal: Option<BlobInfo>,
    /// How to read the signal.
    pub options: SignalOptions,
    /// The uploaded picture; then there is nothing to analyse.
    pub picture: Option<BlobInfo>,
    /// Heart rate that was reported along with a picture.
    pub reported: Option<Bpm>,
}

/// Result of an analysis to store.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisResult {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that brought the ECG, and with it what was made of it.
    pub from: Origin,
    /// Whose it is.
    pub mrn: Mrn,
    /// When it is stored.
    pub stored_at: Timestamp,
    /// Findings, picture and detail, or the reason why there are none.
    pub outcome: Result<(EcgAnalysis, BlobInfo, BlobInfo), String>,
}

impl AnalysisResult {
    /// The heart rate of the ECG in whole beats per minute, if it has one.
    #[must_use]
    pub fn heart_rate(&self) -> Option<Bpm> {
        let (analysis, ..) = self.outcome.as_ref().ok()?;
        Bpm::rounded(analysis.heart_rate?.mean_bpm).ok()
    }
}
