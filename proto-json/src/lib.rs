//! Messages, HTTP bodies and subjects of Bedside.
//!
//! Everything that crosses a process boundary is defined here, as types that cannot hold an invalid value: an
//! [`Mrn`] is in range, a [`Bpm`] is from 1 to 400, a [`BlobHash`] has 32 bytes. The JSON Schemas in
//! `schemas/` are generated from these types; a test fails if they differ.

pub mod alarms;
mod api;
pub mod audit;
mod corrections;
mod cursor;
mod ecg;
mod files;
mod hash;
mod ids;
pub mod legacy;
mod messages;
mod preview;
mod queue;
pub mod schemas;
mod system_events;
mod time;
pub mod users;
mod vitals;
pub mod wards;
pub mod waveform;
pub mod waveform_reads;

pub use api::{
    DamagedRecord, DeadLetter, DeadLetterPage, DeadLetterSummary, EcgRecord, FormerName, FormerNames,
    HeartRateRecord, ImageRecord, LatestEcg, LatestHeartRate, LatestImage, NameChange, NameCheck,
    NameConflict, NameMatch, NameQuery, Page, PatientSummary, Problem, ReceivedUpload, RecordKind,
    ServerClock, StoredFile, StreamState, UploadReceipt, UploadState, UploadStatus, ValueTime, match_names,
    name_key,
};
pub use corrections::{
    Correction, CorrectionAction, CorrectionState, EraseBody, ErrorMark, Fate, MAX_REASON_CHARS, MergeBody,
    MoveBody, NameBody, ReasonBody, RetentionBody, RetentionKind, RetentionReport,
};
pub use cursor::{Cursor, CursorError};
pub use ecg::{
    BeatMark, EcgAnalysis, EcgBeatCounts, EcgBeatType, EcgDetail, EcgFinding, EcgGap, EcgInterval,
    EcgIntervals, EcgLead, EcgLevel, EcgNote, EcgQuality, EcgQualitySegment, EcgRate, EcgRrStatistics,
    EcgSampleSegment, EcgSamples, EcgSt, EcgStatus, EcgTrendPoint, EcgWarning, EcgWave, SignalOptions,
};
pub use files::{BlobInfo, FileKind, MediaType};
pub use hash::{BlobHasher, HashedBytes};
pub use ids::{
    BedId, BlobHash, CorrectionId, HashError, Mrn, MrnError, RecordId, StreamId, UploadId, WardId,
};
pub use messages::{
    AnalyzeEcg, Change, ChangeKind, EcgAnalyzed, EcgOutcome, PatientUpdated, QueueMessage, Receipt, Rename,
    StagedFile, UploadReceived, updates_subject,
};
pub use preview::{EcgPreview, PreviewPlot};
pub use queue::Queue;
pub use system_events::SystemEvent;
pub use time::{CLOCK_PROBLEM_HEADER, CLOCK_TOLERANCE_MS, TIME_HEADER, Timestamp, TimestampError};
pub use vitals::{Bpm, BpmError, HeartRateSource};
pub use waveform::{
    BeatTimes, Channel, ChannelError, CloseCode, Column, ColumnBlock, Device, DeviceMessage, DeviceNumeric,
    DeviceReply, Frame, FrameError, FrameLimits, LiveFrame, LiveMessage, LiveMode, LiveRequest,
    MISSING_SAMPLE, Numeric, Numerics, PARTITIONS, RateError, SampleRate, Segment, StreamClock,
    StreamDescription, StreamsState, Vitals, VitalsSource, check_channels, close, partition_of,
    vitals_subject, wave_subject,
};
