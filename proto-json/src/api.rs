//! Bodies of `/api/v1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cursor::Cursor;
use crate::ecg::{EcgAnalysis, EcgQuality, EcgStatus, SignalOptions};
use crate::files::{BlobInfo, FileKind, MediaType};
use crate::ids::{BlobHash, Mrn, RecordId, UploadId};
use crate::queue::Queue;
use crate::time::Timestamp;
use crate::vitals::{Bpm, HeartRateSource};

/// Summary of a patient. Its size does not depend on the length of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PatientSummary {
    /// Medical record number.
    pub mrn: Mrn,
    /// Name, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The last change of the name; absent if the name has never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<NameChange>,
    /// Each change increases the version: of two summaries of a patient, the one with the higher version is
    /// newer.
    pub version: u64,
    /// When the first upload was stored.
    pub created_at: Timestamp,
    /// When the last change was stored.
    pub updated_at: Timestamp,
    /// The latest heart rate, by recording time, or by time of receipt if the recording time is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_heart_rate: Option<LatestHeartRate>,
    /// The latest ECG of any status, by recording time, or by time of receipt if the recording time is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ecg: Option<LatestEcg>,
    /// The latest medical image, by time of receipt. If the time of a value is in the future, the order of
    /// uploads decides; this also applies to the latest heart rate and the latest ECG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_image: Option<LatestImage>,
}

/// A change of a patient's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameChange {
    /// The name before the change.
    pub from: String,
    /// When the new name was stored.
    pub at: Timestamp,
    /// Whether the client asked for the change. `false` for the legacy API, which replaces a name without
    /// confirmation; stations then show a notice.
    pub confirmed: bool,
}

/// A former name of a patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FormerName {
    /// The name.
    pub name: String,
    /// When it was replaced by another name.
    pub replaced_at: Timestamp,
    /// The upload that changed the name.
    pub upload_id: UploadId,
    /// Whether the client asked for the change; see [`NameChange::confirmed`].
    pub confirmed: bool,
}

/// The former names of a patient, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FormerNames {
    /// At most 100 names.
    pub items: Vec<FormerName>,
}

/// Body of a name check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameQuery {
    /// The name to compare with the stored name.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))]
    pub name: String,
}

/// Result of a name check. It does not contain the stored name, so clients that may only upload can request
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameMatch {
    /// The patient has this name. The comparison ignores case.
    Same,
    /// The patient has another name.
    Different,
    /// The patient is unknown or has no name.
    Unnamed,
}

/// Response to a name check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameCheck {
    /// The result.
    pub result: NameMatch,
}

/// Compares a given name with the stored name of a patient. Ignores case, leading and trailing white space,
/// and the amount of white space between words.
#[must_use]
pub fn match_names(given: &str, stored: Option<&str>) -> NameMatch {
    let key = |name: &str| -> String {
        let words: Vec<String> = name.split_whitespace().map(name_key).collect();
        words.join(" ")
    };
    match stored {
        None => NameMatch::Unnamed,
        Some(stored) if key(stored) == key(given) => NameMatch::Same,
        Some(_) => NameMatch::Different,
    }
}

/// Case-insensitive form of a name. Maps each character to upper case and then to lower case, so that `ß`
/// equals `SS` and all three sigmas are equal.
#[must_use]
pub fn name_key(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The latest heart rate of a patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatestHeartRate {
    /// Record in the heart rate history.
    pub id: RecordId,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, or received if the recording time is unknown.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client stated it. If absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Source of the value.
    pub source: HeartRateSource,
    /// The ECG from which it was computed or with which it was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_id: Option<RecordId>,
    /// Version of the patient after the upload that contained it: the order of uploads, independent of
    /// clocks.
    #[serde(default)]
    pub upload_version: u64,
    /// Whether its time was in the future when it was stored, or is in the future since the server's clock
    /// was corrected. The age is then unknown: do not show one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_wrong: bool,
}

/// Time of a value, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueTime {
    /// When it was recorded.
    Recorded(Timestamp),
    /// When it was received. The recording time is unknown, but not later.
    Received(Timestamp),
    /// The time is in the future: a clock was wrong, and the age is unknown.
    ClockWrong,
}

impl ValueTime {
    fn of(at: Timestamp, recorded_at: Option<Timestamp>, clock_wrong: bool, now: Timestamp) -> Self {
        if clock_wrong || at.is_in_future_of(now) {
            ValueTime::ClockWrong
        } else {
            recorded_at.map_or(ValueTime::Received(at), ValueTime::Recorded)
        }
    }
}

impl LatestHeartRate {
    /// Returns the time of this record. `now` is the server's time.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, self.clock_wrong, now)
    }
}

impl HeartRateRecord {
    /// Returns the time of this record. `now` is the server's time.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, false, now)
    }
}

impl EcgRecord {
    /// Returns the time of this record. `now` is the server's time.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, false, now)
    }
}

impl ImageRecord {
    /// Returns the time of receipt. `now` is the server's time.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, None, false, now)
    }
}

impl LatestEcg {
    /// Returns the time of this record. `now` is the server's time.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, self.clock_wrong, now)
    }

    /// Returns whether this ECG is newer than `rate`, which may be computed from this ECG. If one of the
    /// times is wrong, the order of uploads decides.
    #[must_use]
    pub fn is_after(&self, rate: &LatestHeartRate) -> bool {
        if self.clock_wrong || rate.clock_wrong {
            self.upload_version > rate.upload_version
        } else {
            self.at > rate.at
        }
    }
}

/// The latest ECG of a patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatestEcg {
    /// The ECG.
    pub id: RecordId,
    /// When it was recorded, or received if the recording time is unknown.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client stated it. If absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Status of its analysis.
    pub status: EcgStatus,
    /// Its heart rate, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<Bpm>,
    /// Its signal quality; present after the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<EcgQuality>,
    /// Version of the patient after the upload that contained it: the order of uploads, independent of
    /// clocks.
    #[serde(default)]
    pub upload_version: u64,
    /// Whether its time was in the future when it was stored, or is in the future since the server's clock
    /// was corrected. The age is then unknown: do not show one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_wrong: bool,
}

/// The latest medical image of a patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatestImage {
    /// The image.
    pub id: RecordId,
    /// When it was received.
    pub at: Timestamp,
    /// Format.
    pub media_type: MediaType,
    /// Name of the uploaded file, if the client stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Version of the patient after the upload that contained it: the order of uploads, independent of
    /// clocks.
    #[serde(default)]
    pub upload_version: u64,
    /// Whether its time was in the future when it was stored, or is in the future since the server's clock
    /// was corrected. The age is then unknown: do not show one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_wrong: bool,
}

/// A heart rate in a patient's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartRateRecord {
    /// Id of this record.
    pub id: RecordId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, or received if the recording time is unknown.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client stated it. If absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Source of the value.
    pub source: HeartRateSource,
    /// The ECG from which it was computed or with which it was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_id: Option<RecordId>,
}

/// An ECG in a patient's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgRecord {
    /// Id of this record.
    pub id: RecordId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// The upload that contained it.
    pub upload_id: UploadId,
    /// When it was recorded, or received if the recording time is unknown. The history is sorted by this
    /// time.
    pub at: Timestamp,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// When it was recorded, if the client stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Status of its analysis.
    pub status: EcgStatus,
    /// Its heart rate: computed from the signal, or reported with an ECG image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<Bpm>,
    /// The uploaded signal; absent for an ECG image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<BlobInfo>,
    /// The uploaded image, or the plot of the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<BlobInfo>,
    /// Beats and trend, as [`crate::EcgDetail`]; present after the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<BlobInfo>,
    /// How to read the signal, as the upload stated it; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_options: Option<SignalOptions>,
    /// Result of the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<EcgAnalysis>,
    /// Why the analysis failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A medical image in a patient's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRecord {
    /// Id of this record.
    pub id: RecordId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// The upload that contained it.
    pub upload_id: UploadId,
    /// When the gateway received it. The history is sorted by this time.
    pub at: Timestamp,
    /// The image file.
    pub file: BlobInfo,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Pass this value as `after` to get the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Damaged records that belong, or may belong, on this page. Their content is not returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedRecord>,
}

/// A stored record whose checksum does not match. Its content is never returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamagedRecord {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Key of the record, as far as it is readable. The key may be damaged as well.
    pub key: String,
}

/// Kinds of stored records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// The summary of a patient.
    Patient,
    /// A former name of a patient.
    FormerName,
    /// A heart rate in a patient's history.
    HeartRate,
    /// An ECG.
    Ecg,
    /// A medical image.
    Image,
    /// The receipt of an upload.
    Upload,
    /// A stored file.
    File,
    /// A part of a stored file.
    FilePart,
    /// A part of a waveform.
    Waveform,
    /// An alarm.
    Alarm,
    /// Limits of alarms, or the state of their rules.
    AlarmRules,
}

impl RecordKind {
    /// Returns the name of the kind for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Patient => "patient",
            RecordKind::FormerName => "former name",
            RecordKind::HeartRate => "heart rate",
            RecordKind::Ecg => "ECG",
            RecordKind::Image => "image",
            RecordKind::Upload => "upload",
            RecordKind::File => "file",
            RecordKind::FilePart => "part of a file",
            RecordKind::Waveform => "part of a waveform",
            RecordKind::Alarm => "alarm",
            RecordKind::AlarmRules => "record of alarm rules",
        }
    }
}

/// The text contains the key of the record and must not be logged.
impl std::fmt::Display for DamagedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the stored {} ({}) is damaged: its checksum does not match; restore it from a backup",
            self.kind.name(),
            self.key
        )
    }
}

/// Response to an upload that is confirmed as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadReceipt {
    /// The upload.
    pub upload_id: UploadId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Whether this upload created the patient.
    pub patient_created: bool,
    /// Whether this upload changed anything: a name, a heart rate or a file.
    pub changed: bool,
    /// Whether the upload contained another name than the stored one, and the stored name was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub name_kept: bool,
    /// Version of the patient after this upload: the order of uploads.
    pub version: u64,
    /// Record of the reported heart rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<RecordId>,
    /// The stored files, in the order of the request.
    pub files: Vec<StoredFile>,
}

/// A stored file of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredFile {
    /// Id of the ECG or image.
    pub id: RecordId,
    /// Kind of the file.
    pub kind: FileKind,
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
    /// Name of the uploaded file, if the client stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

/// Response to an upload that is durably queued, but not confirmed as stored yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReceivedUpload {
    /// The upload; `GET /api/v1/uploads/{id}` returns its status.
    pub upload_id: UploadId,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Message for users, one sentence.
    pub message: String,
    /// SHA-256 over the content of the request. If the status of the upload shows another one, another upload with
    /// the same `Idempotency-Key` was stored instead.
    pub fingerprint: BlobHash,
}

/// Whether an upload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Stored; see the receipt.
    Stored,
}

/// Status of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadStatus {
    /// Whether it is stored.
    pub state: UploadState,
    /// What was stored.
    pub receipt: UploadReceipt,
    /// SHA-256 over the content of the stored request.
    pub fingerprint: BlobHash,
}

/// A dead-lettered message, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterSummary {
    /// Number of the dead letter.
    pub id: u64,
    /// The queue it was taken from.
    pub queue: Queue,
    /// Medical record number of the patient.
    pub mrn: Mrn,
    /// The upload that caused it; absent if the message cannot be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// Why it was dead-lettered.
    pub reason: String,
    /// Number of delivery attempts.
    pub attempts: u64,
    /// When it was dead-lettered.
    pub died_at: Timestamp,
    /// Length of the message in bytes.
    pub bytes: u64,
}

/// A dead-lettered message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Everything but the content.
    #[serde(flatten)]
    pub summary: DeadLetterSummary,
    /// Content of the message; a string if the message is not JSON.
    pub message: serde_json::Value,
}

/// One page of dead letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterPage {
    /// The items of this page.
    pub items: Vec<DeadLetterSummary>,
    /// Pass this value as `after` to get the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Time of the server, and whether it is reliable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerClock {
    /// Current time of the server. Compute the age of a value from it, not from the local clock.
    pub time: Timestamp,
    /// The highest time that the server's clock has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Timestamp>,
    /// Problem of the server's clock, in one sentence; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Data of the events `ready` and `keep-alive` of an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamState {
    /// Maximum time between two events, in milliseconds.
    pub keep_alive_ms: u64,
    /// Current time of the server. Compute the age of a value from it, not from the local clock.
    pub time: Timestamp,
    /// Problem of the server's clock, in one sentence; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_problem: Option<String>,
}

/// An error response as defined by RFC 9457 (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`, or the stable identifier of the problem type: `urn:bedside:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short title, the same for all problems of this type.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Explanation of this occurrence, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The two names, if the type is `urn:bedside:problem:name-differs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NameConflict>,
}

/// The names of an upload that was rejected because the patient has another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameConflict {
    /// The name in the upload.
    pub given: String,
    /// The stored name; absent if the client may not read patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}
