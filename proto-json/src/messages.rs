//! Messages on the bus.
//!
//! There are three work queue messages ([`UploadReceived`], [`AnalyzeEcg`], [`EcgAnalyzed`]) and one
//! published message ([`PatientUpdated`]). Subjects are built from typed values; they never contain client
//! text.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::{PatientSummary, UploadReceipt};
use crate::ecg::{EcgAnalysis, SignalOptions};
use crate::files::{BlobInfo, FileKind};
use crate::ids::{BlobHash, Mrn, RecordId, UploadId};
use crate::queue::Queue;
use crate::time::Timestamp;
use crate::vitals::Bpm;

/// A message of a work queue.
pub trait QueueMessage: Serialize + DeserializeOwned + Send + Sync {
    /// The queue for this message.
    const QUEUE: Queue;
    /// Returns the record number of the patient.
    fn mrn(&self) -> Mrn;
    /// Returns the upload that caused the message.
    fn upload_id(&self) -> UploadId;
}

/// Returns the subject on which changes of a patient are published; without `mrn`, the wildcard subject of
/// all patients.
#[must_use]
pub fn updates_subject(mrn: Option<Mrn>) -> String {
    mrn.map_or_else(|| "patient.*.updated".to_owned(), |mrn| format!("patient.{mrn}.updated"))
}

/// A file in the staging store. Its key is upload and hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StagedFile {
    /// Kind of the file.
    pub kind: FileKind,
    /// Hash, length, format, name and size in pixels.
    #[serde(flatten)]
    pub blob: BlobInfo,
}

/// gateway -> ingest: an upload whose files are staged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadReceived {
    /// The upload.
    pub upload_id: UploadId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Name of the client that sent it. Among clients that may only upload, only this client may read its
    /// status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_by: Option<String>,
    /// When its ECGs and its heart rate were recorded, if the client stated it.
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
    /// SHA-256 of everything the client sent. Distinguishes a retry from a different upload with the same
    /// `Idempotency-Key`.
    pub fingerprint: BlobHash,
}

/// Whether the name of an upload may replace another name of the patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rename {
    /// The stored name is kept.
    #[default]
    No,
    /// The name is replaced; the client asked for it.
    Confirmed,
    /// The name is replaced without confirmation, as in the legacy API. Stations show a notice.
    Unconfirmed,
}

/// ingest -> gateway: result of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Receipt {
    /// The whole upload is stored durably.
    Stored(UploadReceipt),
    /// Nothing is stored: an upload with the same id and different content was stored before.
    Conflict {
        /// The upload.
        upload_id: UploadId,
    },
}

/// ingest -> ecg-worker: a request to analyse an ECG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnalyzeEcg {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that contained it. The signal is staged under this id.
    pub upload_id: UploadId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// When the upload was received.
    pub received_at: Timestamp,
    /// When it was recorded, if the client stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// The signal file.
    pub signal: BlobInfo,
    /// How to read it.
    #[serde(default)]
    pub options: SignalOptions,
}

/// ecg-worker -> ingest: result of an ECG analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgAnalyzed {
    /// The ECG.
    pub ecg_id: RecordId,
    /// The upload that contained it. Plot and detail are staged under this id.
    pub upload_id: UploadId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// When the upload was received; for latency metrics.
    pub received_at: Timestamp,
    /// When the analysis finished.
    pub analyzed_at: Timestamp,
    /// Hash of the analysed signal, which can be removed from the staging store.
    pub signal: BlobHash,
    /// The result.
    pub outcome: EcgOutcome,
}

/// Result of the analysis of an ECG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EcgOutcome {
    /// The ECG was analysed.
    Analyzed {
        /// Result.
        analysis: Box<EcgAnalysis>,
        /// The plot, staged.
        plot: BlobInfo,
        /// Beats and trend, staged.
        detail: BlobInfo,
    },
    /// The file could not be read as an ECG. This is not a system error: a retry would have the same result.
    Failed {
        /// Why, in one sentence.
        reason: String,
    },
}

/// ingest -> subscribers: a patient has changed. Delivered at most once; a subscriber that misses a message
/// loads the summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PatientUpdated {
    /// The upload that caused the change; absent for other changes, such as a corrected server clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// What changed.
    pub changes: Vec<Change>,
    /// The patient after the change. Apply it only if its version is higher than the known one.
    pub patient: PatientSummary,
    /// When it was published, in server time. Compute ages from server time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
}

/// A change of a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// The changed record; absent if the patient itself changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
}

/// Kinds of changes of a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The patient was created.
    PatientCreated,
    /// The name was set or changed.
    Name,
    /// The upload contained another name, and the stored name was kept.
    NameKept,
    /// A heart rate was added.
    HeartRate,
    /// A medical image was added.
    Image,
    /// An ECG was added.
    Ecg,
    /// An ECG was analysed, or its analysis failed.
    EcgAnalyzed,
    /// The patient was admitted, transferred or discharged, or the ward or bed was renamed.
    Admission,
    /// The details were changed.
    Details,
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
