//! Every message and HTTP body of Bedside, and the subjects they travel on.
//!
//! What crosses a process boundary is defined here once, as types that cannot hold a wrong value: an [`Mrn`] is in range,
//! a [`Bpm`] is a rate a heart can have, a [`BlobHash`] is 32 bytes. The JSON Schemas under `schemas/` are made from these
//! types, and a test fails when they drift.

mod api;
mod cursor;
mod ecg;
mod hash;
mod ids;
pub mod legacy;
mod messages;
pub mod schemas;
mod time;
mod vitals;

pub use api::{
    BlobInfo, DamagedRecord, DeadLetter, DeadLetterPage, DeadLetterSummary, EcgRecord, FormerName,
    FormerNames, HeartRateRecord, ImageRecord, LatestEcg, LatestHeartRate, LatestImage, NameChange,
    NameCheck, NameConflict, NameMatch, NameQuery, Page, PatientSummary, Problem, ReceivedUpload, RecordKind,
    ServerClock, StoredFile, StreamState, UploadReceipt, UploadState, UploadStatus, ValueTime, match_names,
    name_key,
};
pub use cursor::{Cursor, CursorError};
pub use ecg::{
    BeatMark, EcgAnalysis, EcgDetail, EcgGap, EcgNote, EcgQuality, EcgQualitySegment, EcgRate,
    EcgRrStatistics, EcgStatus, EcgTrendPoint, EcgWarning, SignalOptions,
};
pub use hash::{BlobHasher, HashedBytes};
pub use ids::{BlobHash, HashError, Mrn, MrnError, RecordId, UploadId};
pub use messages::{
    AnalyzeEcg, Change, ChangeKind, EcgAnalyzed, EcgOutcome, FileKind, MediaType, PatientUpdated, Queue,
    QueueMessage, Receipt, Rename, StagedFile, UploadReceived, updates_subject,
};
pub use time::{CLOCK_PROBLEM_HEADER, CLOCK_TOLERANCE_MS, TIME_HEADER, Timestamp, TimestampError};
pub use vitals::{Bpm, BpmError, HeartRateSource};
