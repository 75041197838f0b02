//! Documents with checksums.
//!
//! The checksum covers the document as this program serializes it, without the field `checksum`. To verify a document, it is
//! parsed, serialized again and compared. So the order of fields and the width of numbers, which a server may change, do not
//! matter, and a field that is added later is covered without further work.

use mongodb::bson::{self, RawDocument, RawDocumentBuf, cstr};
use proto_json::{DamagedRecord, RecordKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

use super::alarms::{AlarmDocument, LimitsDocument, ReceiverDocument, RulesDocument};
use super::corrections::{CorrectionDocument, FateDocument};
use super::documents::{
    EcgDocument, FormerNameDocument, HeartRateDocument, ImageDocument, PatientDocument, UploadDocument,
};
use super::failure::broken;
use super::wards::{AdmissionDocument, BedDocument, WardDocument};
use super::waveforms::StreamDocument;

/// A document that carries a checksum.
pub(super) trait Sealed: Serialize + DeserializeOwned {
    /// Name of its collection; part of the checksum.
    const COLLECTION: &'static str;
    /// What kind of record it is.
    const KIND: RecordKind;
}

macro_rules! sealed {
    ($($document:ty: $collection:literal $kind:ident;)*) => {
        $(impl Sealed for $document {
            const COLLECTION: &'static str = $collection;
            const KIND: RecordKind = RecordKind::$kind;
        })*
    };
}

sealed! {
    PatientDocument: "patients" Patient;
    FormerNameDocument: "former_names" FormerName;
    HeartRateDocument: "heart_rates" HeartRate;
    EcgDocument: "ecgs" Ecg;
    ImageDocument: "images" Image;
    UploadDocument: "uploads" Upload;
    StreamDocument: "waveform_streams" Waveform;
    AlarmDocument: "alarms" Alarm;
    LimitsDocument: "alarm_limits" AlarmRules;
    RulesDocument: "alarm_rules" AlarmRules;
    ReceiverDocument: "alarm_receivers" AlarmRules;
    WardDocument: "wards" Ward;
    BedDocument: "beds" Ward;
    AdmissionDocument: "admissions" Admission;
    CorrectionDocument: "corrections" Correction;
    FateDocument: "fates" Correction;
}

/// Serializes a document with its checksum.
pub(super) fn seal<D: Sealed>(document: &D) -> Result<RawDocumentBuf, StoreError> {
    let mut raw = bson::serialize_to_raw_document_buf(document).map_err(|error| broken("document", error))?;
    let checksum = checksum::of(D::COLLECTION, raw.as_bytes());
    raw.append(cstr!("checksum"), i64::from(checksum));
    Ok(raw)
}

/// Reads the checksum of a stored document.
fn checksum_in(raw: &RawDocument) -> Option<i64> {
    match raw.get("checksum") {
        Ok(Some(bson::RawBsonRef::Int64(checksum))) => Some(checksum),
        Ok(Some(bson::RawBsonRef::Int32(checksum))) => Some(i64::from(checksum)),
        _ => None,
    }
}

/// Verifies the checksum of a stored document and parses it.
pub(super) fn unseal<D: Sealed>(raw: &RawDocument) -> Result<D, DamagedRecord> {
    let damaged = || DamagedRecord { kind: D::KIND, key: key_of(raw) };
    let document: D = bson::deserialize_from_slice(raw.as_bytes()).map_err(|_| damaged())?;
    let written = bson::serialize_to_vec(&document).map_err(|_| damaged())?;
    let computed = i64::from(checksum::of(D::COLLECTION, &written));
    if checksum_in(raw) == Some(computed) { Ok(document) } else { Err(damaged()) }
}

/// As [`unseal`], for a document that the caller cannot do without.
pub(super) fn required<D: Sealed>(raw: &RawDocument) -> Result<D, StoreError> {
    unseal(raw).map_err(StoreError::Damaged)
}

/// The fields `_id` and `mrn` as text, as far as they can be read.
fn key_of(raw: &RawDocument) -> String {
    let field = |name: &str| {
        let text = match raw.get(name).ok()?? {
            bson::RawBsonRef::Int32(number) => number.to_string(),
            bson::RawBsonRef::Int64(number) => number.to_string(),
            bson::RawBsonRef::String(text) => text.to_owned(),
            bson::RawBsonRef::ObjectId(id) => id.to_string(),
            bson::RawBsonRef::Binary(binary) => uuid::Uuid::from_slice(binary.bytes).ok()?.to_string(),
            _ => return None,
        };
        Some(format!("{name} {text}"))
    };
    let parts: Vec<String> = ["_id", "mrn"].into_iter().filter_map(field).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc};

    use super::*;
    use crate::mongo::documents::HeartRateDocument;

    fn stored() -> Document {
        let rate = proto_json::HeartRateRecord {
            id: proto_json::UploadId::from_idempotency_key("", "rate").record("heart_rate", 0),
            mrn: proto_json::Mrn::new(7).unwrap(),
            bpm: proto_json::Bpm::new(92).unwrap(),
            at: proto_json::Timestamp::from_millis(1_800_000_000_000).unwrap(),
            received_at: None,
            recorded_at: None,
            source: proto_json::HeartRateSource::Reported,
            ecg_id: None,
            entered_in_error: None,
        };
        let raw = seal(&HeartRateDocument::from(&rate)).unwrap();
        Document::try_from(raw).unwrap()
    }

    fn read(document: &Document) -> Result<HeartRateDocument, DamagedRecord> {
        unseal(&RawDocumentBuf::try_from(document).unwrap())
    }

    #[test]
    fn order_of_fields_and_width_of_numbers_do_not_matter_and_values_do() {
        let whole = stored();
        read(&whole).unwrap();
        let mut other = Document::new();
        let fields: Vec<_> = whole.iter().collect();
        for (name, value) in fields.into_iter().rev() {
            other.insert(name, value.clone());
        }
        other.insert("mrn", 7_i32);
        other.insert("written_by_a_later_version", 1);
        read(&other).unwrap();
        for change in
            [doc! { "bpm": 32 }, doc! { "mrn": 8_i64 }, doc! { "checksum": 1_i64 }, doc! { "bpm": "x" }]
        {
            let mut changed = whole.clone();
            changed.extend(change);
            let damaged = read(&changed).unwrap_err();
            assert!(damaged.to_string().contains("heart rate (_id "), "{damaged}");
        }
        for field in ["checksum", "at"] {
            let mut changed = whole.clone();
            changed.remove(field);
            assert!(read(&changed).is_err(), "without {field}");
        }
    }
}
