//! The tables, and the conversion of their rows to records.
//!
//! Every row is read through [`checked`] or [`required`], which verify its checksum first: no value of a damaged row is used.

use proto_json::wards::{AdmissionRecord, Ward};
use proto_json::{
    BlobHash, Bpm, DamagedRecord, EcgRecord, FormerName, HeartRateRecord, ImageRecord, Mrn, PatientSummary,
    RecordId, RecordKind, Timestamp, UploadId,
};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlite::{Integrity, Table};
use uuid::Uuid;

use crate::{StoreError, StoredUpload};

use super::failure::broken;

pub(super) const PATIENTS: Table = Table {
    name: "patients",
    columns: &[
        "mrn",
        "name",
        "name_key",
        "version",
        "created_at",
        "updated_at",
        "latest_heart_rate",
        "latest_ecg",
        "latest_image",
        "renamed",
        "admission",
        "details",
    ],
    key: 1,
    unique: "mrn",
};

/// In this and the next two tables, the first three columns are the order of the history.
pub(super) const HEART_RATES: Table = Table {
    name: "heart_rates",
    columns: &["mrn", "at", "id", "bpm", "source", "ecg_id", "received_at", "recorded_at", "error"],
    key: 3,
    unique: "mrn, at, id",
};

pub(super) const ECGS: Table = Table {
    name: "ecgs",
    columns: &["mrn", "at", "id", "received_at", "pending", "record", "options"],
    key: 3,
    unique: "id",
};

pub(super) const IMAGES: Table = Table {
    name: "images",
    columns: &["mrn", "at", "id", "upload_id", "file", "error"],
    key: 3,
    unique: "id",
};

pub(super) const FORMER_NAMES: Table = Table {
    name: "former_names",
    columns: &["mrn", "replaced_at", "upload_id", "name", "confirmed"],
    key: 3,
    unique: "mrn, replaced_at, upload_id",
};

pub(super) const UPLOADS: Table = Table {
    name: "uploads",
    columns: &["id", "mrn", "fingerprint", "stored_at", "receipt", "uploaded_by", "addressed_to"],
    key: 1,
    unique: "id",
};

pub(super) const BLOBS: Table = Table {
    name: "blobs",
    columns: &["number", "upload", "sha256", "bytes", "complete", "referenced", "written_at"],
    key: 1,
    unique: "number",
};

pub(super) const BLOB_CHUNKS: Table =
    Table { name: "blob_chunks", columns: &["key", "data"], key: 1, unique: "key" };

pub(super) const WAVE_STREAMS: Table = Table {
    name: "wave_streams",
    columns: &["stream", "mrn", "opened_at", "description", "longest_chunk_us"],
    key: 1,
    unique: "stream",
};

pub(super) const WAVE_PIECES: Table = Table {
    name: "wave_pieces",
    columns: &["stream", "id", "part", "from_us", "to_us", "stored_us", "data"],
    key: 2,
    unique: "stream, id",
};

pub(super) const WAVE_HEADS: Table = Table {
    name: "wave_heads",
    columns: &["stream", "channel", "number", "from_us", "to_us", "head"],
    key: 3,
    unique: "stream, channel, number",
};

pub(super) const WAVE_SAMPLES: Table = Table {
    name: "wave_samples",
    columns: &["stream", "channel", "number", "data"],
    key: 3,
    unique: "stream, channel, number",
};

pub(super) const ALARMS: Table = Table {
    name: "alarms",
    columns: &["id", "mrn", "rule", "raised_at", "priority", "is_open", "version", "record"],
    key: 1,
    unique: "id",
};

pub(super) const ALARM_LIMITS: Table =
    Table { name: "alarm_limits", columns: &["scope", "version", "record"], key: 1, unique: "scope" };

pub(super) const ALARM_RULES: Table =
    Table { name: "alarm_rules", columns: &["mrn", "state"], key: 1, unique: "mrn" };

pub(super) const ALARM_RECEIVERS: Table =
    Table { name: "alarm_receivers", columns: &["receiver", "state"], key: 1, unique: "receiver" };

pub(super) const WARDS: Table =
    Table { name: "wards", columns: &["id", "name_key", "record"], key: 1, unique: "id" };

pub(super) const BEDS: Table = Table { name: "beds", columns: &["id", "ward"], key: 1, unique: "id" };

pub(super) const ADMISSIONS: Table =
    Table { name: "admissions", columns: &["mrn", "at", "id", "bed", "record"], key: 3, unique: "id" };
pub(super) const CORRECTIONS: Table =
    Table { name: "corrections", columns: &["id", "at", "running", "content"], key: 1, unique: "id" };

pub(super) const CORRECTION_PATIENTS: Table =
    Table { name: "correction_patients", columns: &["mrn", "at", "id"], key: 3, unique: "mrn, at, id" };

pub(super) const FATES: Table = Table { name: "fates", columns: &["mrn", "content"], key: 1, unique: "mrn" };

pub(super) const ERASED: Table = Table { name: "erased", columns: &["id"], key: 1, unique: "id" };

pub(super) const HOLDS: Table = Table { name: "holds", columns: &["mrn"], key: 1, unique: "mrn" };

pub(super) const MERGED_ITEMS: Table =
    Table { name: "merged_items", columns: &["merge", "kind", "id"], key: 3, unique: "merge, kind, id" };

/// The kind of record that a row of this table is.
pub(super) fn kind(table: &Table) -> RecordKind {
    match table.name {
        "patients" => RecordKind::Patient,
        "former_names" => RecordKind::FormerName,
        "heart_rates" => RecordKind::HeartRate,
        "ecgs" => RecordKind::Ecg,
        "images" => RecordKind::Image,
        "uploads" => RecordKind::Upload,
        "blobs" => RecordKind::File,
        "wave_streams" | "wave_pieces" | "wave_heads" | "wave_samples" => RecordKind::Waveform,
        "alarms" => RecordKind::Alarm,
        "alarm_limits" | "alarm_rules" | "alarm_receivers" => RecordKind::AlarmRules,
        "users" => RecordKind::User,
        "wards" | "beds" => RecordKind::Ward,
        "admissions" => RecordKind::Admission,
        "corrections" | "correction_patients" | "fates" | "erased" | "holds" | "merged_items" => {
            RecordKind::Correction
        }
        _ => RecordKind::FilePart,
    }
}

/// Identifies the record of a damaged row.
pub(super) fn damaged(table: &Table, row: &Row<'_>) -> Result<DamagedRecord, StoreError> {
    Ok(DamagedRecord { kind: kind(table), key: table.name_of(row)? })
}

/// A row whose checksum was verified.
pub(super) enum Checked<T> {
    /// The checksum matches.
    Intact(T),
    /// The checksum does not match.
    Damaged(DamagedRecord),
}

/// Verifies the checksum of a row of `table`, and reads the row if it is intact.
pub(super) fn checked<T>(
    table: &Table,
    row: &Row<'_>,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Checked<T>, StoreError> {
    Ok(match table.verify(row)? {
        Integrity { row: true, .. } => Checked::Intact(read(row)?),
        Integrity { row: false, .. } => Checked::Damaged(damaged(table, row)?),
    })
}

/// As [`checked`], for a row that the caller cannot do without.
pub(super) fn required<T>(
    table: &Table,
    row: &Row<'_>,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match checked(table, row, read)? {
        Checked::Intact(record) => Ok(record),
        Checked::Damaged(record) => Err(StoreError::Damaged(record)),
    }
}

/// A row of [`PATIENTS`].
pub(super) fn patient(row: &Row<'_>) -> Result<PatientSummary, StoreError> {
    Ok(PatientSummary {
        mrn: mrn(row.get("mrn")?)?,
        name: row.get("name")?,
        version: u64::try_from(row.get::<_, i64>("version")?).map_err(|error| broken("version", error))?,
        created_at: time(row.get("created_at")?)?,
        updated_at: time(row.get("updated_at")?)?,
        latest_heart_rate: optional(row.get("latest_heart_rate")?)?,
        latest_ecg: optional(row.get("latest_ecg")?)?,
        latest_image: optional(row.get("latest_image")?)?,
        renamed: optional(row.get("renamed")?)?,
        admission: optional(row.get("admission")?)?,
        details: optional(row.get("details")?)?,
    })
}

/// A row of [`FORMER_NAMES`].
pub(super) fn former_name(row: &Row<'_>) -> Result<FormerName, StoreError> {
    Ok(FormerName {
        name: row.get("name")?,
        replaced_at: time(row.get("replaced_at")?)?,
        upload_id: UploadId::from_uuid(Uuid::from_bytes(row.get("upload_id")?)),
        confirmed: row.get("confirmed")?,
    })
}

/// A row of [`HEART_RATES`].
pub(super) fn heart_rate(row: &Row<'_>) -> Result<HeartRateRecord, StoreError> {
    Ok(HeartRateRecord {
        id: record_id(row.get("id")?),
        mrn: mrn(row.get("mrn")?)?,
        bpm: Bpm::new(row.get("bpm")?).map_err(|error| broken("heart rate", error))?,
        at: time(row.get("at")?)?,
        received_at: row.get::<_, Option<i64>>("received_at")?.map(time).transpose()?,
        recorded_at: row.get::<_, Option<i64>>("recorded_at")?.map(time).transpose()?,
        source: parse(&row.get::<_, String>("source")?)?,
        ecg_id: row.get::<_, Option<[u8; 16]>>("ecg_id")?.map(record_id),
        entered_in_error: optional(row.get("error")?)?,
    })
}

/// A row of [`ECGS`].
pub(super) fn ecg(row: &Row<'_>) -> Result<EcgRecord, StoreError> {
    parse(&row.get::<_, String>("record")?)
}

/// A row of [`IMAGES`].
pub(super) fn image(row: &Row<'_>) -> Result<ImageRecord, StoreError> {
    Ok(ImageRecord {
        id: record_id(row.get("id")?),
        mrn: mrn(row.get("mrn")?)?,
        upload_id: UploadId::from_uuid(Uuid::from_bytes(row.get("upload_id")?)),
        at: time(row.get("at")?)?,
        file: parse(&row.get::<_, String>("file")?)?,
        entered_in_error: optional(row.get("error")?)?,
    })
}

/// A row of [`UPLOADS`].
pub(super) fn upload(row: &Row<'_>) -> Result<StoredUpload, StoreError> {
    let receipt: proto_json::UploadReceipt = parse(&row.get::<_, String>("receipt")?)?;
    let addressed_to = row.get::<_, Option<i64>>("addressed_to")?.map(mrn).transpose()?;
    Ok(StoredUpload {
        addressed_to: addressed_to.unwrap_or(receipt.mrn),
        receipt,
        fingerprint: BlobHash::from_bytes(row.get("fingerprint")?),
        uploaded_by: row.get("uploaded_by")?,
    })
}

/// A row of [`WARDS`].
pub(super) fn ward(row: &Row<'_>) -> Result<Ward, StoreError> {
    parse(&row.get::<_, String>("record")?)
}

/// A row of [`ADMISSIONS`].
pub(super) fn admission(row: &Row<'_>) -> Result<AdmissionRecord, StoreError> {
    parse(&row.get::<_, String>("record")?)
}

/// Text of a JSON column.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| broken("value", error))
}

/// Text of a JSON column that may be NULL.
pub(super) fn optional_json<T: Serialize>(value: Option<&T>) -> Result<Option<String>, StoreError> {
    value.map(json).transpose()
}

/// Reads a JSON column.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| broken("record", error))
}

fn optional<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
    text.as_deref().map(parse).transpose()
}

pub(super) fn mrn(number: i64) -> Result<Mrn, StoreError> {
    let number = u64::try_from(number).map_err(|error| broken("record number", error))?;
    Mrn::new(number).map_err(|error| broken("record number", error))
}

/// Lossless: record numbers are below 2^53.
pub(super) fn number(mrn: Mrn) -> i64 {
    mrn.get() as i64
}

pub(super) fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(millis).map_err(|error| broken("time", error))
}

fn record_id(bytes: [u8; 16]) -> RecordId {
    RecordId::from_uuid(Uuid::from_bytes(bytes))
}
