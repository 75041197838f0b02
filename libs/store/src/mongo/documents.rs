//! Types of the stored documents, and their conversion to and from records.
//!
//! Ids are BSON UUIDs (binary subtype 4), times BSON dates, record numbers 64-bit integers, hashes lower-case hexadecimal
//! text. A field that has no value is absent, never null.

use mongodb::bson::{self, DateTime};
use proto_json::{
    BlobHash, BlobInfo, Bpm, EcgAnalysis, EcgQuality, EcgRecord, EcgStatus, FileKind, FormerName,
    HeartRateRecord, HeartRateSource, ImageRecord, LatestEcg, LatestHeartRate, LatestImage, MediaType, Mrn,
    NameChange, PatientSummary, RecordId, SignalOptions, StoredFile, Timestamp, UploadId, UploadReceipt,
    name_key,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::records::StoredEcg;
use crate::{NewUpload, PendingEcg, StoreError, StoredUpload};

use super::failure::broken;
use super::wards::{AdmissionField, DetailsField};

pub(super) fn uuid(id: &Uuid) -> bson::Uuid {
    bson::Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn record(id: RecordId) -> bson::Uuid {
    uuid(id.as_uuid())
}

pub(super) fn upload(id: UploadId) -> bson::Uuid {
    uuid(id.as_uuid())
}

pub(super) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

/// Lossless: record numbers are below 2^53.
pub(super) fn number(mrn: Mrn) -> i64 {
    mrn.get() as i64
}

pub(super) fn record_id(id: bson::Uuid) -> RecordId {
    RecordId::from_uuid(Uuid::from_bytes(id.bytes()))
}

fn upload_id(id: bson::Uuid) -> UploadId {
    UploadId::from_uuid(Uuid::from_bytes(id.bytes()))
}

pub(super) fn time(date: DateTime) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(date.timestamp_millis()).map_err(|error| broken("time", error))
}

pub(super) fn mrn(number: i64) -> Result<Mrn, StoreError> {
    let number = u64::try_from(number).map_err(|error| broken("record number", error))?;
    Mrn::new(number).map_err(|error| broken("record number", error))
}

/// `patients`. `name_key` is for the search.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PatientDocument {
    #[serde(rename = "_id")]
    mrn: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    version: i64,
    created_at: DateTime,
    updated_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest_heart_rate: Option<LatestHeartRateField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest_ecg: Option<LatestEcgField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest_image: Option<LatestImageField>,
    /// The name without case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renamed: Option<NameChangeField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admission: Option<AdmissionField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<DetailsField>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NameChangeField {
    from: String,
    at: DateTime,
    confirmed: bool,
}

/// `former_names`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FormerNameDocument {
    /// Derived from the upload that replaced the name.
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    name: String,
    replaced_at: DateTime,
    upload_id: bson::Uuid,
    confirmed: bool,
}

impl FormerNameDocument {
    pub(super) fn new(mrn: Mrn, former: &FormerName) -> Self {
        FormerNameDocument {
            id: record(former.upload_id.record("former_name", 0)),
            mrn: number(mrn),
            name: former.name.clone(),
            replaced_at: date(former.replaced_at),
            upload_id: upload(former.upload_id),
            confirmed: former.confirmed,
        }
    }
}

impl TryFrom<FormerNameDocument> for FormerName {
    type Error = StoreError;
    fn try_from(former: FormerNameDocument) -> Result<Self, StoreError> {
        Ok(FormerName {
            name: former.name,
            replaced_at: time(former.replaced_at)?,
            upload_id: upload_id(former.upload_id),
            confirmed: former.confirmed,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LatestHeartRateField {
    id: bson::Uuid,
    bpm: Bpm,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded_at: Option<DateTime>,
    source: HeartRateSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ecg_id: Option<bson::Uuid>,
    upload_version: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clock_wrong: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LatestEcgField {
    id: bson::Uuid,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded_at: Option<DateTime>,
    status: EcgStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heart_rate: Option<Bpm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quality: Option<EcgQuality>,
    upload_version: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clock_wrong: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LatestImageField {
    id: bson::Uuid,
    at: DateTime,
    media_type: MediaType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    upload_version: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clock_wrong: bool,
}

impl From<&LatestHeartRate> for LatestHeartRateField {
    fn from(rate: &LatestHeartRate) -> Self {
        LatestHeartRateField {
            id: record(rate.id),
            bpm: rate.bpm,
            at: date(rate.at),
            received_at: rate.received_at.map(date),
            recorded_at: rate.recorded_at.map(date),
            source: rate.source,
            ecg_id: rate.ecg_id.map(record),
            upload_version: rate.upload_version as i64,
            clock_wrong: rate.clock_wrong,
        }
    }
}

impl From<&LatestEcg> for LatestEcgField {
    fn from(ecg: &LatestEcg) -> Self {
        LatestEcgField {
            id: record(ecg.id),
            at: date(ecg.at),
            received_at: ecg.received_at.map(date),
            recorded_at: ecg.recorded_at.map(date),
            status: ecg.status,
            heart_rate: ecg.heart_rate,
            quality: ecg.quality,
            upload_version: ecg.upload_version as i64,
            clock_wrong: ecg.clock_wrong,
        }
    }
}

impl From<&LatestImage> for LatestImageField {
    fn from(image: &LatestImage) -> Self {
        LatestImageField {
            id: record(image.id),
            at: date(image.at),
            media_type: image.media_type,
            file_name: image.file_name.clone(),
            upload_version: image.upload_version as i64,
            clock_wrong: image.clock_wrong,
        }
    }
}

impl From<&PatientSummary> for PatientDocument {
    fn from(patient: &PatientSummary) -> Self {
        PatientDocument {
            mrn: number(patient.mrn),
            name: patient.name.clone(),
            version: patient.version as i64,
            created_at: date(patient.created_at),
            updated_at: date(patient.updated_at),
            latest_heart_rate: patient.latest_heart_rate.as_ref().map(Into::into),
            latest_ecg: patient.latest_ecg.as_ref().map(Into::into),
            latest_image: patient.latest_image.as_ref().map(Into::into),
            name_key: patient.name.as_deref().map(name_key),
            renamed: patient.renamed.as_ref().map(|change| NameChangeField {
                from: change.from.clone(),
                at: date(change.at),
                confirmed: change.confirmed,
            }),
            admission: patient.admission.as_ref().map(Into::into),
            details: patient.details.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<PatientDocument> for PatientSummary {
    type Error = StoreError;
    fn try_from(patient: PatientDocument) -> Result<Self, StoreError> {
        let heart_rate = |rate: LatestHeartRateField| {
            Ok::<_, StoreError>(LatestHeartRate {
                id: record_id(rate.id),
                bpm: rate.bpm,
                at: time(rate.at)?,
                received_at: rate.received_at.map(time).transpose()?,
                recorded_at: rate.recorded_at.map(time).transpose()?,
                source: rate.source,
                ecg_id: rate.ecg_id.map(record_id),
                upload_version: version(rate.upload_version)?,
                clock_wrong: rate.clock_wrong,
            })
        };
        let ecg = |ecg: LatestEcgField| {
            Ok::<_, StoreError>(LatestEcg {
                id: record_id(ecg.id),
                at: time(ecg.at)?,
                received_at: ecg.received_at.map(time).transpose()?,
                recorded_at: ecg.recorded_at.map(time).transpose()?,
                status: ecg.status,
                heart_rate: ecg.heart_rate,
                quality: ecg.quality,
                upload_version: version(ecg.upload_version)?,
                clock_wrong: ecg.clock_wrong,
            })
        };
        let image = |image: LatestImageField| {
            Ok::<_, StoreError>(LatestImage {
                id: record_id(image.id),
                at: time(image.at)?,
                media_type: image.media_type,
                file_name: image.file_name,
                upload_version: version(image.upload_version)?,
                clock_wrong: image.clock_wrong,
            })
        };
        let renamed = |change: NameChangeField| {
            let at = time(change.at)?;
            Ok::<_, StoreError>(NameChange { from: change.from, at, confirmed: change.confirmed })
        };
        Ok(PatientSummary {
            renamed: patient.renamed.map(renamed).transpose()?,
            mrn: mrn(patient.mrn)?,
            name: patient.name,
            version: version(patient.version)?,
            created_at: time(patient.created_at)?,
            updated_at: time(patient.updated_at)?,
            latest_heart_rate: patient.latest_heart_rate.map(heart_rate).transpose()?,
            latest_ecg: patient.latest_ecg.map(ecg).transpose()?,
            latest_image: patient.latest_image.map(image).transpose()?,
            admission: patient.admission.map(TryInto::try_into).transpose()?,
            details: patient.details.map(TryInto::try_into).transpose()?,
        })
    }
}

pub(super) fn version(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|error| broken("version", error))
}

/// `heart_rates`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeartRateDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    bpm: Bpm,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded_at: Option<DateTime>,
    source: HeartRateSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ecg_id: Option<bson::Uuid>,
}

impl From<&HeartRateRecord> for HeartRateDocument {
    fn from(rate: &HeartRateRecord) -> Self {
        HeartRateDocument {
            id: record(rate.id),
            mrn: number(rate.mrn),
            bpm: rate.bpm,
            at: date(rate.at),
            received_at: rate.received_at.map(date),
            recorded_at: rate.recorded_at.map(date),
            source: rate.source,
            ecg_id: rate.ecg_id.map(record),
        }
    }
}

impl TryFrom<HeartRateDocument> for HeartRateRecord {
    type Error = StoreError;
    fn try_from(rate: HeartRateDocument) -> Result<Self, StoreError> {
        Ok(HeartRateRecord {
            id: record_id(rate.id),
            mrn: mrn(rate.mrn)?,
            bpm: rate.bpm,
            at: time(rate.at)?,
            received_at: rate.received_at.map(time).transpose()?,
            recorded_at: rate.recorded_at.map(time).transpose()?,
            source: rate.source,
            ecg_id: rate.ecg_id.map(record_id),
        })
    }
}

/// `ecgs`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EcgDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    upload_id: bson::Uuid,
    at: DateTime,
    received_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded_at: Option<DateTime>,
    status: EcgStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heart_rate: Option<Bpm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<BlobInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plot: Option<BlobInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<BlobInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    analysis: Option<EcgAnalysis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// How to read the signal. Earlier versions removed it after the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<SignalOptions>,
}

impl From<&StoredEcg> for EcgDocument {
    fn from(ecg: &StoredEcg) -> Self {
        let StoredEcg { record: stored, options } = ecg.clone();
        let pending = (stored.status == EcgStatus::Pending).then_some(options);
        EcgDocument {
            id: record(stored.id),
            mrn: number(stored.mrn),
            upload_id: upload(stored.upload_id),
            at: date(stored.at),
            received_at: date(stored.received_at),
            recorded_at: stored.recorded_at.map(date),
            status: stored.status,
            heart_rate: stored.heart_rate,
            signal: stored.signal,
            plot: stored.plot,
            detail: stored.detail,
            analysis: stored.analysis,
            failure: stored.failure,
            options: stored.signal_options.or(pending),
        }
    }
}

impl TryFrom<EcgDocument> for EcgRecord {
    type Error = StoreError;
    fn try_from(ecg: EcgDocument) -> Result<Self, StoreError> {
        Ok(EcgRecord {
            id: record_id(ecg.id),
            mrn: mrn(ecg.mrn)?,
            upload_id: upload_id(ecg.upload_id),
            at: time(ecg.at)?,
            received_at: time(ecg.received_at)?,
            recorded_at: ecg.recorded_at.map(time).transpose()?,
            status: ecg.status,
            heart_rate: ecg.heart_rate,
            signal: ecg.signal,
            plot: ecg.plot,
            detail: ecg.detail,
            signal_options: ecg.options,
            analysis: ecg.analysis,
            failure: ecg.failure,
        })
    }
}

impl TryFrom<EcgDocument> for PendingEcg {
    type Error = StoreError;
    fn try_from(ecg: EcgDocument) -> Result<Self, StoreError> {
        Ok(PendingEcg {
            id: record_id(ecg.id),
            upload_id: upload_id(ecg.upload_id),
            mrn: mrn(ecg.mrn)?,
            received_at: time(ecg.received_at)?,
            signal: ecg.signal.ok_or_else(|| broken("ECG", "it waits for analysis without a signal"))?,
            options: ecg.options.unwrap_or_default(),
        })
    }
}

/// `images`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    upload_id: bson::Uuid,
    at: DateTime,
    file: BlobInfo,
}

impl From<&ImageRecord> for ImageDocument {
    fn from(image: &ImageRecord) -> Self {
        ImageDocument {
            id: record(image.id),
            mrn: number(image.mrn),
            upload_id: upload(image.upload_id),
            at: date(image.at),
            file: image.file.clone(),
        }
    }
}

impl TryFrom<ImageDocument> for ImageRecord {
    type Error = StoreError;
    fn try_from(image: ImageDocument) -> Result<Self, StoreError> {
        Ok(ImageRecord {
            id: record_id(image.id),
            mrn: mrn(image.mrn)?,
            upload_id: upload_id(image.upload_id),
            at: time(image.at)?,
            file: image.file,
        })
    }
}

/// `uploads`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UploadDocument {
    #[serde(rename = "_id")]
    id: bson::Uuid,
    mrn: i64,
    fingerprint: BlobHash,
    /// Name of the client that sent it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uploaded_by: Option<String>,
    stored_at: DateTime,
    receipt: ReceiptField,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReceiptField {
    received_at: DateTime,
    patient_created: bool,
    changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    name_kept: bool,
    version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heart_rate: Option<bson::Uuid>,
    files: Vec<StoredFileField>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredFileField {
    id: bson::Uuid,
    kind: FileKind,
    sha256: BlobHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
}

impl From<&UploadReceipt> for ReceiptField {
    fn from(receipt: &UploadReceipt) -> Self {
        let file = |file: &StoredFile| StoredFileField {
            id: record(file.id),
            kind: file.kind,
            sha256: file.sha256,
            file_name: file.file_name.clone(),
        };
        ReceiptField {
            received_at: date(receipt.received_at),
            patient_created: receipt.patient_created,
            changed: receipt.changed,
            name_kept: receipt.name_kept,
            version: receipt.version as i64,
            heart_rate: receipt.heart_rate.map(record),
            files: receipt.files.iter().map(file).collect(),
        }
    }
}

impl UploadDocument {
    pub(super) fn new(new: &NewUpload, receipt: &UploadReceipt) -> Self {
        UploadDocument {
            id: upload(new.id),
            mrn: number(new.mrn),
            fingerprint: new.fingerprint,
            uploaded_by: new.uploaded_by.clone(),
            stored_at: date(new.stored_at),
            receipt: ReceiptField::from(receipt),
        }
    }
}

impl TryFrom<UploadDocument> for StoredUpload {
    type Error = StoreError;
    fn try_from(stored: UploadDocument) -> Result<Self, StoreError> {
        let UploadDocument { id, fingerprint, uploaded_by, receipt, .. } = stored;
        let file = |file: StoredFileField| StoredFile {
            id: record_id(file.id),
            kind: file.kind,
            sha256: file.sha256,
            file_name: file.file_name,
        };
        let receipt = UploadReceipt {
            upload_id: upload_id(id),
            mrn: mrn(stored.mrn)?,
            received_at: time(receipt.received_at)?,
            patient_created: receipt.patient_created,
            changed: receipt.changed,
            name_kept: receipt.name_kept,
            version: version(receipt.version)?,
            heart_rate: receipt.heart_rate.map(record_id),
            files: receipt.files.into_iter().map(file).collect(),
        };
        Ok(StoredUpload { receipt, fingerprint, uploaded_by })
    }
}

/// `clock`: one document, with the highest time that the server's clock has shown.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClockDocument {
    #[serde(rename = "_id")]
    id: String,
    highest: DateTime,
}

impl ClockDocument {
    /// The id of the document.
    pub(super) const ID: &str = "server";

    pub(super) fn highest(&self) -> Result<Timestamp, StoreError> {
        time(self.highest)
    }
}
