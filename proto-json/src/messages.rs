//! What travels on the bus.
//!
//! Three work queues ([`UploadReceived`], [`AnalyzeEcg`], [`EcgAnalyzed`]) and one announcement ([`PatientUpdated`]).
//! Subjects are built from types: no text of a client ever becomes part of one.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    BlobHash, BlobInfo, Bpm, EcgAnalysis, Mrn, PatientSummary, RecordId, SignalOptions, Timestamp, UploadId,
    UploadReceipt,
};

/// A work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Queue {
    /// Uploads on their way to ingest.
    Uploads,
    /// ECGs that wait for a worker.
    EcgJobs,
    /// Results on their way back to ingest.
    EcgResults,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Queue; 3] = [Queue::Uploads, Queue::EcgJobs, Queue::EcgResults];

    /// Name of its stream.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Queue::Uploads => "UPLOADS",
            Queue::EcgJobs => "ECG_JOBS",
            Queue::EcgResults => "ECG_RESULTS",
        }
    }

    /// The subject of a message about this patient.
    #[must_use]
    pub fn subject(self, mrn: Mrn) -> String {
        format!("{}.{mrn}", self.subject_prefix())
    }

    /// The subjects of all its messages, as a pattern.
    #[must_use]
    pub fn subject_pattern(self) -> String {
        format!("{}.*", self.subject_prefix())
    }

    fn subject_prefix(self) -> &'static str {
        match self {
            Queue::Uploads => "upload.received",
            Queue::EcgJobs => "ecg.analyze",
            Queue::EcgResults => "ecg.analyzed",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message of a work queue.
pub trait QueueMessage: Serialize + DeserializeOwned + Send + Sync {
    /// The queue it belongs to.
    const QUEUE: Queue;
    /// The patient it is about.
    fn mrn(&self) -> Mrn;
    /// The upload it goes back to.
    fn upload_id(&self) -> UploadId;
}

/// The subject on which a patient's changes are announced; of every patient without `mrn`.
#[must_use]
pub fn updates_subject(mrn: Option<Mrn>) -> String {
    mrn.map_or_else(|| "patient.*.updated".to_owned(), |mrn| format!("patient.{mrn}.updated"))
}

/// Formats that are taken and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MediaType {
    /// PNG picture.
    #[serde(rename = "image/png")]
    Png,
    /// JPEG picture.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// Raw ECG as text.
    #[serde(rename = "text/csv")]
    Csv,
    /// Raw ECG in the European Data Format.
    #[serde(rename = "application/edf")]
    Edf,
    /// Beats and trend of an analysed ECG.
    #[serde(rename = "application/json")]
    Json,
}

impl MediaType {
    /// As in `Content-Type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Png => "image/png",
            MediaType::Jpeg => "image/jpeg",
            MediaType::Csv => "text/csv",
            MediaType::Edf => "application/edf",
            MediaType::Json => "application/json",
        }
    }

    /// The usual ending of a file name, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            MediaType::Png => "png",
            MediaType::Jpeg => "jpg",
            MediaType::Csv => "csv",
            MediaType::Edf => "edf",
            MediaType::Json => "json",
        }
    }
}

/// What an uploaded file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A medical image.
    MedicalImage,
    /// A picture of an ECG trace.
    EcgImage,
    /// A raw ECG.
    Ecg,
}

/// A file that waits in the blob stage under its upload and its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StagedFile {
    /// What it is.
    pub kind: FileKind,
    /// Hash, length, format, name, size in pixels.
    #[serde(flatten)]
    pub blob: BlobInfo,
}

/// gateway -> ingest: an upload, its files staged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadReceived {
    /// The upload.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Name of the client that sent it. Of clients that only upload, this one alone may read what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_by: Option<String>,
    /// When its ECGs and its heart rate were recorded, if the client said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Name, if given; never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the name may replace another name.
    #[serde(default)]
    pub rename: Rename,
    /// Heart rate, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<Bpm>,
    /// Files in the order of the request.
    pub files: Vec<StagedFile>,
    /// How to read the raw ECGs among the files.
    #[serde(default)]
    pub signal_options: SignalOptions,
    /// SHA-256 over everything the client sent: tells a retry from another upload under the same `Idempotency-Key`.
    pub fingerprint: BlobHash,
}

/// Whether the name of an upload may replace another name of the patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rename {
    /// No: the stored name is kept.
    #[default]
    No,
    /// Yes: the client asked for it.
    Confirmed,
    /// Yes, without a question, as the legacy route does. Stations show a notice.
    Unconfirmed,
}

/// ingest -> gateway: what became of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Receipt {
    /// Everything in it is stored durably.
    Stored(UploadReceipt),
    /// Nothing of it is stored: an upload of the same id but other content was stored before.
    Conflict {
        /// The upload.
        upload_id: UploadId,
    },
}

/// ingest -> ecg-worker: analyse this ECG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnalyzeEcg {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that brought it; its signal is staged under it.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When the upload was received.
    pub received_at: Timestamp,
    /// When it was recorded, if the client said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// The signal.
    pub signal: BlobInfo,
    /// How to read it.
    #[serde(default)]
    pub options: SignalOptions,
}

/// ecg-worker -> ingest: what was found in an ECG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgAnalyzed {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that brought it; plot and detail are staged under it.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When the upload was received; for latency metrics.
    pub received_at: Timestamp,
    /// When the analysis ended.
    pub analyzed_at: Timestamp,
    /// Hash of the signal that was analysed: it is no longer needed on the stage.
    pub signal: BlobHash,
    /// The result.
    pub outcome: EcgOutcome,
}

/// Result of the analysis of an ECG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EcgOutcome {
    /// It could be read.
    Analyzed {
        /// What was found.
        analysis: Box<EcgAnalysis>,
        /// The picture, staged.
        plot: BlobInfo,
        /// Beats and trend, staged.
        detail: BlobInfo,
    },
    /// It could not be read as an ECG. Not an error of the system: trying again would end alike.
    Failed {
        /// One sentence a person can act on.
        reason: String,
    },
}

/// ingest -> everyone: a patient has changed. Nobody acknowledges it; who misses one loads the summary instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PatientUpdated {
    /// The upload that led to the change; absent where none did, as when values from the future were marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// What changed.
    pub changes: Vec<Change>,
    /// The patient after the change. Apply it only over a lower version.
    pub patient: PatientSummary,
    /// When it was published, by the clock of the server: ages are counted by that clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
}

/// One thing that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What kind of thing.
    pub kind: ChangeKind,
    /// The record; absent for the patient itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
}

/// What can change of a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The patient became known.
    PatientCreated,
    /// The name was set or changed; the patient after the change has it.
    Name,
    /// The upload named the patient differently, and the stored name was kept.
    NameKept,
    /// A heart rate was added.
    HeartRate,
    /// A medical image was added.
    Image,
    /// An ECG was added.
    Ecg,
    /// An ECG was analysed, or its analysis failed.
    EcgAnalyzed,
}

macro_rules! queue_message {
    ($message:ty, $queue:expr) => {
        impl QueueMessage for $message {
            const QUEUE: Queue = $queue;
            fn mrn(&self) -> Mrn {
                self.mrn
            }
            fn upload_id(&self) -> UploadId {
                self.upload_id
            }
        }
    };
}

queue_message!(UploadReceived, Queue::Uploads);
queue_message!(AnalyzeEcg, Queue::EcgJobs);
queue_message!(EcgAnalyzed, Queue::EcgResults);
