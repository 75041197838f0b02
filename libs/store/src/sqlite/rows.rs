//! Rows to records and back.

use proto_json::{BlobHash, Mrn, PatientSummary, RecordId, Timestamp, UploadId};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::StoreError;

use super::failure::broken;

/// Columns of [`patient`], in its order.
pub(super) const PATIENT: &str =
    "mrn, name, version, created_at, updated_at, latest_heart_rate, latest_ecg, latest_image";

/// A row of [`PATIENT`] columns.
pub(super) fn patient(row: &Row<'_>) -> Result<PatientSummary, StoreError> {
    Ok(PatientSummary {
        mrn: mrn(row.get(0)?)?,
        name: row.get(1)?,
        version: u64::try_from(row.get::<_, i64>(2)?).map_err(|error| broken("version", error))?,
        created_at: time(row.get(3)?)?,
        updated_at: time(row.get(4)?)?,
        latest_heart_rate: optional(row.get(5)?)?,
        latest_ecg: optional(row.get(6)?)?,
        latest_image: optional(row.get(7)?)?,
    })
}

/// Text of a JSON column.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| broken("value", error))
}

/// Text of a JSON column that may be empty.
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

/// Record numbers are below 2^53, so nothing is lost.
pub(super) fn number(mrn: Mrn) -> i64 {
    mrn.get() as i64
}

pub(super) fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(millis).map_err(|error| broken("time", error))
}

pub(super) fn record_id(bytes: [u8; 16]) -> RecordId {
    RecordId::from_uuid(Uuid::from_bytes(bytes))
}

pub(super) fn upload_id(bytes: [u8; 16]) -> UploadId {
    UploadId::from_uuid(Uuid::from_bytes(bytes))
}

pub(super) fn hash(bytes: [u8; 32]) -> BlobHash {
    BlobHash::from_bytes(bytes)
}
