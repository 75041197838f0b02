//! The operations of a store that corrections are made of. Each adapter implements them within one of its transactions, so
//! the rules in [`begin`](super::begin) and [`steps`](super::steps) exist once.

use proto_json::wards::{AdmissionRecord, Ward};
use proto_json::{
    CorrectionId, EcgRecord, Fate, FormerName, HeartRateRecord, ImageRecord, Mrn, PatientSummary, RecordId,
    StreamId, Timestamp, UploadId, WardId,
};
use uuid::Uuid;

use crate::waveforms::StoredStream;
use crate::{BlobKey, StoreError, StoredUpload};

use super::{MergedItem, StoredCorrection};

/// A transaction. After an error, it must not be committed.
pub(crate) trait Transaction {
    /// The error of the adapter.
    type Error: From<StoreError>;

    async fn patient(&mut self, mrn: Mrn) -> Result<Option<PatientSummary>, Self::Error>;
    /// Inserts or replaces a patient.
    async fn put_patient(&mut self, patient: &PatientSummary) -> Result<(), Self::Error>;
    async fn delete_patient(&mut self, mrn: Mrn) -> Result<(), Self::Error>;

    async fn upload(&mut self, id: UploadId) -> Result<Option<StoredUpload>, Self::Error>;
    /// Uploads of a patient in the order of their ids.
    async fn uploads_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredUpload>, Self::Error>;
    /// Replaces patient and version of an upload.
    async fn put_upload(&mut self, upload: &StoredUpload) -> Result<(), Self::Error>;
    async fn delete_upload(&mut self, id: UploadId) -> Result<(), Self::Error>;

    async fn ecg(&mut self, id: RecordId) -> Result<Option<EcgRecord>, Self::Error>;
    /// Replaces an ECG. How to read its signal stays stored.
    async fn put_ecg(&mut self, ecg: &EcgRecord) -> Result<(), Self::Error>;
    async fn delete_ecg(&mut self, id: RecordId) -> Result<(), Self::Error>;

    async fn image(&mut self, id: RecordId) -> Result<Option<ImageRecord>, Self::Error>;
    async fn put_image(&mut self, image: &ImageRecord) -> Result<(), Self::Error>;
    async fn delete_image(&mut self, id: RecordId) -> Result<(), Self::Error>;

    async fn rate(&mut self, id: RecordId) -> Result<Option<HeartRateRecord>, Self::Error>;
    /// Replaces `before` by a rate with the same id and time.
    async fn put_rate(&mut self, before: &HeartRateRecord, rate: &HeartRateRecord)
    -> Result<(), Self::Error>;
    async fn delete_rate(&mut self, rate: &HeartRateRecord) -> Result<(), Self::Error>;

    /// The newest records of a patient that are not marked, newest first; enough to find the latest one.
    async fn newest_rates(&mut self, mrn: Mrn) -> Result<Vec<HeartRateRecord>, Self::Error>;
    async fn newest_ecgs(&mut self, mrn: Mrn) -> Result<Vec<EcgRecord>, Self::Error>;
    async fn newest_images(&mut self, mrn: Mrn) -> Result<Vec<ImageRecord>, Self::Error>;

    /// Records before a time, marked ones included, oldest first.
    async fn old_rates(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<HeartRateRecord>, Self::Error>;
    async fn old_ecgs(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<EcgRecord>, Self::Error>;
    async fn old_images(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ImageRecord>, Self::Error>;

    /// The newest former names of a patient.
    async fn former_names(&mut self, mrn: Mrn) -> Result<Vec<FormerName>, Self::Error>;
    async fn put_former_name(&mut self, mrn: Mrn, former: &FormerName) -> Result<(), Self::Error>;
    async fn delete_former_name(&mut self, mrn: Mrn, former: &FormerName) -> Result<(), Self::Error>;

    /// Marks a file as orphaned: the sweep removes it.
    async fn release_file(&mut self, key: BlobKey) -> Result<(), Self::Error>;
    /// Removes files of an upload, at most about `budget` chunks, which it decreases. Returns whether none is left.
    async fn delete_files(&mut self, upload: UploadId, budget: &mut usize) -> Result<bool, Self::Error>;

    /// What has become of a number directly; merges are not followed.
    async fn fate(&mut self, mrn: Mrn) -> Result<Option<Fate>, Self::Error>;
    async fn put_fate(&mut self, mrn: Mrn, fate: &Fate) -> Result<(), Self::Error>;
    async fn delete_fate(&mut self, mrn: Mrn) -> Result<(), Self::Error>;
    async fn put_erased(&mut self, item: Uuid) -> Result<(), Self::Error>;
    async fn is_held(&mut self, mrn: Mrn) -> Result<bool, Self::Error>;
    async fn set_held(&mut self, mrn: Mrn, held: bool) -> Result<(), Self::Error>;

    async fn correction(&mut self, id: CorrectionId) -> Result<Option<StoredCorrection>, Self::Error>;
    async fn put_correction(&mut self, correction: &StoredCorrection) -> Result<(), Self::Error>;
    async fn delete_correction(&mut self, id: CorrectionId) -> Result<(), Self::Error>;
    /// The corrections of a patient, newest first.
    async fn corrections_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredCorrection>, Self::Error>;
    /// All running corrections.
    async fn running(&mut self) -> Result<Vec<StoredCorrection>, Self::Error>;

    async fn put_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), Self::Error>;
    async fn items(&mut self, merge: CorrectionId, limit: usize) -> Result<Vec<MergedItem>, Self::Error>;
    async fn delete_item(&mut self, merge: CorrectionId, item: MergedItem) -> Result<(), Self::Error>;

    async fn stream(&mut self, id: StreamId) -> Result<Option<StoredStream>, Self::Error>;
    async fn streams_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<StoredStream>, Self::Error>;
    /// Changes the patient of a stream.
    async fn move_stream(&mut self, stream: &StoredStream, to: Mrn) -> Result<(), Self::Error>;
    /// Removes parts of a stream, at most about `budget`, which it decreases. Returns whether none is left.
    async fn delete_parts(&mut self, stream: StreamId, budget: &mut usize) -> Result<bool, Self::Error>;
    async fn delete_stream(&mut self, stream: StreamId) -> Result<(), Self::Error>;
    /// Removes sealed parts of a stream that end before a time, at most `limit`. Returns how many; `delete` false only counts.
    async fn old_parts(
        &mut self,
        stream: &StoredStream,
        before_us: i64,
        limit: usize,
        delete: bool,
    ) -> Result<u64, Self::Error>;

    async fn ward(&mut self, id: WardId) -> Result<Option<Ward>, Self::Error>;
    /// Replaces a ward.
    async fn put_ward(&mut self, ward: &Ward) -> Result<(), Self::Error>;
    async fn stay(&mut self, id: RecordId) -> Result<Option<AdmissionRecord>, Self::Error>;
    /// Replaces a stay.
    async fn put_stay(&mut self, stay: &AdmissionRecord) -> Result<(), Self::Error>;
    /// Stays of a patient, oldest first.
    async fn stays_of(&mut self, mrn: Mrn, limit: usize) -> Result<Vec<AdmissionRecord>, Self::Error>;
    /// Removes stays that have ended and began before a time, oldest first, at most `limit`. Returns how many; `delete` false
    /// only counts.
    async fn old_stays(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
        delete: bool,
    ) -> Result<usize, Self::Error>;
    /// As [`Transaction::old_stays`], for alarms that have ended and were raised before a time.
    async fn old_alarms(
        &mut self,
        mrn: Mrn,
        before: Timestamp,
        limit: usize,
        delete: bool,
    ) -> Result<usize, Self::Error>;

    /// Removes what other parts of the system have stored about a patient: alarms, limits, admissions, emergency access of
    /// sessions.
    async fn delete_other_data(&mut self, mrn: Mrn) -> Result<(), Self::Error>;
}
