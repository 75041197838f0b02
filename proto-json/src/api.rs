//! Bodies of `/api/v1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BlobHash, Bpm, Cursor, EcgAnalysis, EcgQuality, EcgStatus, HeartRateSource, MediaType, Mrn, RecordId,
    Timestamp, UploadId,
};

/// What is known of a patient at one look. Bounded in size, however long the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PatientSummary {
    /// Medical record number.
    pub mrn: Mrn,
    /// Name, if one was ever given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The last change of the name; absent if the name has never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<NameChange>,
    /// Grows with every change: of two summaries of a patient, the one with the higher version is the later one.
    pub version: u64,
    /// When the first upload was stored.
    pub created_at: Timestamp,
    /// When the last change was stored.
    pub updated_at: Timestamp,
    /// The latest heart rate by time of recording, or of receipt where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_heart_rate: Option<LatestHeartRate>,
    /// The latest ECG by time of recording, or of receipt where that is not known, whatever its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ecg: Option<LatestEcg>,
    /// The latest medical image by time of receipt. For all three: where a time is in the future, the later upload is
    /// the latest.
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
    /// The client asked for the change. `false` for the legacy route, which replaces a name without a question: stations
    /// show a notice.
    pub confirmed: bool,
}

/// A name that a patient had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FormerName {
    /// The name.
    pub name: String,
    /// When another name replaced it.
    pub replaced_at: Timestamp,
    /// The upload that replaced it.
    pub upload_id: UploadId,
    /// The client asked for the change; see [`NameChange::confirmed`].
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

/// Result of a name check. It does not contain the stored name, so that clients which may only upload can ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameMatch {
    /// The patient has this name. Upper and lower case are not distinguished.
    Same,
    /// The patient has another name.
    Different,
    /// The patient is unknown or has no name.
    Unnamed,
}

/// Answer to a name check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameCheck {
    /// The result.
    pub result: NameMatch,
}

/// Compares a given name with the stored name of a patient. Differences of case and of white space at the ends and
/// between words are ignored.
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

/// Case-insensitive form of a name: characters are mapped to upper and then to lower case one by one, so that `ß` equals
/// `SS` and all three sigmas are equal.
#[must_use]
pub fn name_key(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The latest heart rate of a patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatestHeartRate {
    /// Record of the history of heart rates.
    pub id: RecordId,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, or received where that is not known.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of versions that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client said so. Where it is absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Where it comes from.
    pub source: HeartRateSource,
    /// The ECG it comes from or came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_id: Option<RecordId>,
    /// Version of the patient with the upload that brought it: the order of uploads, whatever clocks said.
    #[serde(default)]
    pub upload_version: u64,
    /// Its time was in the future when it was stored, or has become so when the server's clock was corrected. Then nobody
    /// can tell how old it is: do not show an age.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_wrong: bool,
}

/// When a value is from, as far as that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueTime {
    /// When it was recorded.
    Recorded(Timestamp),
    /// When it was received; when it was recorded is not known, only that it was not later.
    Received(Timestamp),
    /// It is from the future: a clock was wrong, so its age cannot be told.
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
    /// When it is from; `now` by the clock of the server.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, self.clock_wrong, now)
    }
}

impl HeartRateRecord {
    /// When it is from; `now` by the clock of the server.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, false, now)
    }
}

impl EcgRecord {
    /// When it is from; `now` by the clock of the server.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, false, now)
    }
}

impl ImageRecord {
    /// When it was received; `now` by the clock of the server.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, None, false, now)
    }
}

impl LatestEcg {
    /// When it is from; `now` by the clock of the server.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> ValueTime {
        ValueTime::of(self.at, self.recorded_at, self.clock_wrong, now)
    }

    /// Whether it comes after this heart rate, which may be its own. Where the time of one of them cannot be trusted, the
    /// order of uploads decides.
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
    /// When it was recorded, or received where that is not known.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of versions that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client said so. Where it is absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// How far its analysis has come.
    pub status: EcgStatus,
    /// Its heart rate, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<Bpm>,
    /// Its quality, once it is analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<EcgQuality>,
    /// Version of the patient with the upload that brought it: the order of uploads, whatever clocks said.
    #[serde(default)]
    pub upload_version: u64,
    /// Its time was in the future when it was stored, or has become so when the server's clock was corrected. Then nobody
    /// can tell how old it is: do not show an age.
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
    /// Name of the uploaded file, if the client gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Version of the patient with the upload that brought it: the order of uploads, whatever clocks said.
    #[serde(default)]
    pub upload_version: u64,
    /// Its time was in the future when it was stored, or has become so when the server's clock was corrected. Then nobody
    /// can tell how old it is: do not show an age.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_wrong: bool,
}

/// One heart rate of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartRateRecord {
    /// This record.
    pub id: RecordId,
    /// Whose it is.
    pub mrn: Mrn,
    /// The rate.
    pub bpm: Bpm,
    /// When it was recorded, or received where that is not known.
    pub at: Timestamp,
    /// When the gateway received it; absent in records of versions that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When it was recorded, if the client said so. Where it is absent, `at` is the time of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Where it comes from.
    pub source: HeartRateSource,
    /// The ECG it comes from or came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_id: Option<RecordId>,
}

/// One ECG of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgRecord {
    /// This record.
    pub id: RecordId,
    /// Whose it is.
    pub mrn: Mrn,
    /// The upload that brought it.
    pub upload_id: UploadId,
    /// When it was recorded, or received where that is not known: the order of the history.
    pub at: Timestamp,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// When it was recorded, if the client said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// How far its analysis has come.
    pub status: EcgStatus,
    /// Its heart rate: computed from the signal, or reported along with a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<Bpm>,
    /// The signal as uploaded; absent for a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<BlobInfo>,
    /// The picture: uploaded, or drawn from the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<BlobInfo>,
    /// Every beat and the trend, as [`crate::EcgDetail`]; present once it is analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<BlobInfo>,
    /// What was found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<EcgAnalysis>,
    /// Why it could not be analysed: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One medical image of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageRecord {
    /// This record.
    pub id: RecordId,
    /// Whose it is.
    pub mrn: Mrn,
    /// The upload that brought it.
    pub upload_id: UploadId,
    /// When the gateway received it: the order of the history.
    pub at: Timestamp,
    /// The bytes.
    pub file: BlobInfo,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlobInfo {
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
    /// Length in bytes.
    pub bytes: u64,
    /// Format.
    pub media_type: MediaType,
    /// Name of the uploaded file, if the client gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Width in pixels, of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels, of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// Pass it as `after` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Stored records that belong, or may belong, on this page and cannot be shown because they are damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedRecord>,
}

/// A stored record that is damaged: its checksum does not match. Its content is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamagedRecord {
    /// What kind of record it is.
    pub kind: RecordKind,
    /// Its key, as far as it can be read; the key itself may be damaged.
    pub key: String,
}

/// Kinds of stored records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// The summary of a patient.
    Patient,
    /// A name that a patient had before.
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
}

impl RecordKind {
    /// The kind in words.
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
        }
    }
}

/// Names the record, so it is not for logs.
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

/// Answer to an upload whose storing is confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadReceipt {
    /// The upload.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// This upload made the patient known.
    pub patient_created: bool,
    /// This upload brought anything new: a name, a heart rate, a file.
    pub changed: bool,
    /// The upload named the patient differently, and the stored name was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub name_kept: bool,
    /// Version of the patient after this upload was stored: the order of uploads.
    pub version: u64,
    /// The heart rate that was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_rate: Option<RecordId>,
    /// What became of each file, in the order of the request.
    pub files: Vec<StoredFile>,
}

/// What became of an uploaded file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredFile {
    /// The ECG or image it became.
    pub id: RecordId,
    /// What it is.
    pub kind: crate::FileKind,
    /// SHA-256 of the bytes.
    pub sha256: BlobHash,
    /// Name of the uploaded file, if the client gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

/// Answer to an upload that is durably queued, but not known to be stored yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReceivedUpload {
    /// The upload; `GET /api/v1/uploads/{id}` tells what became of it.
    pub upload_id: UploadId,
    /// Whose it is.
    pub mrn: Mrn,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// A sentence for people.
    pub message: String,
    /// SHA-256 over the content of the request. If the status of the upload shows another one, another upload with
    /// the same `Idempotency-Key` was stored instead.
    pub fingerprint: BlobHash,
}

/// Whether an upload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Stored; the receipt says what.
    Stored,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadStatus {
    /// Whether it is stored.
    pub state: UploadState,
    /// What was stored.
    pub receipt: UploadReceipt,
    /// SHA-256 over the content of the stored request.
    pub fingerprint: BlobHash,
}

/// A message that was given up, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterSummary {
    /// Its number.
    pub id: u64,
    /// The queue it was on.
    pub queue: crate::Queue,
    /// The patient it is about.
    pub mrn: Mrn,
    /// The upload it goes back to, where the message can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<UploadId>,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u64,
    /// When it was given up.
    pub died_at: Timestamp,
    /// Length of the message.
    pub bytes: u64,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// What is known of it.
    #[serde(flatten)]
    pub summary: DeadLetterSummary,
    /// The message; as text where it is no JSON.
    pub message: serde_json::Value,
}

/// One page of dead letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterPage {
    /// The entries of this page.
    pub items: Vec<DeadLetterSummary>,
    /// Pass it as `after` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What the clock of the server shows, and whether it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerClock {
    /// What it shows now. Count the age of a value by this clock, not by your own.
    pub time: Timestamp,
    /// The highest time that it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Timestamp>,
    /// What is wrong with it, in one sentence; absent while nothing is known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Data of the events `ready` and `keep-alive` of an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamState {
    /// Longest silence between two events, in milliseconds.
    pub keep_alive_ms: u64,
    /// What the clock of the server shows. Count the age of a value by this clock, not by your own.
    pub time: Timestamp,
    /// What is wrong with that clock, in one sentence; absent while nothing is known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_problem: Option<String>,
}

/// An error, as RFC 9457 has it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`, or the stable name of the problem: `urn:bedside:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The problem in a few words, alike for all of its kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// One sentence on this very case that a person can act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The two names, if the type is `urn:bedside:problem:name-differs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NameConflict>,
}

/// The names of an upload that was rejected because it names a known patient differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameConflict {
    /// The name in the upload.
    pub given: String,
    /// The stored name; absent if the client may not read patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}
