//! Bodies of the legacy API. The field names are those that existing clients use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Mrn;

/// `GET /api/get_patient`: every medical record number, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatientIds {
    /// The record numbers.
    #[serde(rename = "ID")]
    pub id: Vec<Mrn>,
}

/// `GET /api/get_patient/{id}`. The three lists `ecg_image`, `heart_rate` and `timestamp` are index-aligned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatientData {
    /// ECG images, oldest first, base64.
    pub ecg_image: Vec<String>,
    /// Heart rate of each ECG; 0 if unknown.
    pub heart_rate: Vec<u16>,
    /// Medical record number.
    pub id: Mrn,
    /// Medical images, oldest first, base64.
    pub medical_image: Vec<String>,
    /// Name, or `Not Specified`.
    pub name: String,
    /// Local time of receipt of each ECG, `YYYY-MM-DD HH:MM:SS`.
    pub timestamp: Vec<String>,
}

/// `POST /api/new_patient`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewPatient {
    /// Medical record number: an integer, or a string that contains one.
    pub medical_record_number: serde_json::Value,
    /// Name; empty or absent: not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Base64 of a PNG or JPEG; empty or absent: not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medical_image: Option<String>,
    /// Base64 of a PNG or JPEG of an ECG trace; empty or absent: not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_image: Option<String>,
    /// Heart rate, 1 to 400; `0`, `""` or absent: not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hr: Option<serde_json::Value>,
    /// Base64 of a raw ECG as CSV; absent: not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecg_csv: Option<String>,
}
