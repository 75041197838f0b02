//! Reads one patient document of the original server.
//!
//! `_id` is the record number and `name` is a string. `medical_image`, `ecg_image`, `heart_rate` and
//! `timestamp` are lists; the last three are index-aligned. An empty list is missing. The original server
//! stored values without validation.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use mongodb::bson::{Bson, Document};
use proto_json::{Bpm, Mrn, Timestamp};

use crate::counts::Counts;

/// Some clients of the original server omitted the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Placeholder of the original server for a missing name.
const NO_NAME: &str = "Not Specified";

/// A patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Medical record number.
    pub mrn: Mrn,
    /// Name, if one was given.
    pub name: Option<String>,
    /// Entries of the aligned lists, by index. Entries without a usable value are kept as empty entries.
    pub ecgs: Vec<Ecg>,
    /// Medical images, by index. `None` if an image cannot be imported.
    pub images: Vec<Option<Vec<u8>>>,
}

/// One entry of the aligned lists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ecg {
    /// Image bytes. The gateway checks the format.
    pub image: Option<Vec<u8>>,
    /// Heart rate, if known.
    pub rate: Option<Bpm>,
    /// When the original server received it.
    pub at: Option<Timestamp>,
}

impl Record {
    /// Number of items to send.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |has: fn(&Ecg) -> bool| self.ecgs.iter().filter(|ecg| has(ecg)).count() as u64;
        Counts {
            patients: 1,
            ecg_images: count(|ecg| ecg.image.is_some()),
            heart_rates: count(|ecg| ecg.rate.is_some()),
            medical_images: self.images.iter().flatten().count() as u64,
        }
    }
}

/// Reads a patient. Calls `find` with path and reason for each value that is skipped. Returns `None` if the
/// patient has no valid record number.
pub fn read(document: &Document, zone: &TimeZone, find: &mut impl FnMut(&str, String)) -> Option<Record> {
    let id = document.get("_id").unwrap_or(&Bson::Null);
    let Some(mrn) = integer(id).and_then(|number| Mrn::new(u64::try_from(number).ok()?).ok()) else {
        find("_id", "is not a record number from 0 to 2^53-1: the patient was skipped".to_owned());
        return None;
    };
    let name = match document.get("name") {
        None | Some(Bson::Null) => None,
        Some(Bson::String(name)) => {
            Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != NO_NAME)
        }
        Some(_) => {
            find("name", "is not a string".to_owned());
            None
        }
    };
    let mut list = |key: &str| match document.get(key) {
        None | Some(Bson::Null) => &[][..],
        Some(Bson::Array(list)) => &list[..],
        Some(_) => {
            find(key, "is not a list".to_owned());
            &[][..]
        }
    };
    let (ecg_images, rates, times, images) =
        (list("ecg_image"), list("heart_rate"), list("timestamp"), list("medical_image"));
    let lengths = [ecg_images.len(), rates.len(), times.len()];
    let longest = lengths.into_iter().max().unwrap_or_default();
    if lengths.iter().any(|length| *length != longest) {
        let [ecg_images, rates, times] = lengths;
        find(
            "ecg_image, heart_rate, timestamp",
            format!(
                "have different lengths ({ecg_images}, {rates}, {times}); values with the same index were combined"
            ),
        );
    }
    let ecgs = (0..longest)
        .map(|index| Ecg {
            image: value_at(ecg_images, "ecg_image", index, find, image),
            rate: value_at(rates, "heart_rate", index, find, rate),
            at: value_at(times, "timestamp", index, find, |value| time(value, zone)),
        })
        .collect();
    let images =
        (0..images.len()).map(|index| value_at(images, "medical_image", index, find, image)).collect();
    Some(Record { mrn, name, ecgs, images })
}

/// Returns the value at an index of a list, or `None` if it is missing or invalid.
fn value_at<T>(
    list: &[Bson],
    key: &str,
    index: usize,
    find: &mut impl FnMut(&str, String),
    read: impl Fn(&Bson) -> Result<Option<T>, String>,
) -> Option<T> {
    read(list.get(index)?).unwrap_or_else(|reason| {
        find(&format!("{key}[{index}]"), reason);
        None
    })
}

fn image(value: &Bson) -> Result<Option<Vec<u8>>, String> {
    match value {
        Bson::Null => Ok(None),
        Bson::Binary(binary) => Ok(Some(binary.bytes.clone())),
        Bson::String(text) => {
            let text: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            let text = text.split_once(";base64,").map_or(text.as_str(), |(_, base64)| base64);
            if text.is_empty() {
                return Ok(None);
            }
            BASE64.decode(text).map(Some).map_err(|_| "is not base64".to_owned())
        }
        _ => Err("is not a string".to_owned()),
    }
}

fn rate(value: &Bson) -> Result<Option<Bpm>, String> {
    match value {
        Bson::Null => return Ok(None),
        Bson::String(text) if text.trim().is_empty() => return Ok(None),
        _ => {}
    }
    match integer(value) {
        Some(0) => Ok(None),
        Some(number) => Bpm::new(number).map(Some).map_err(|error| format!("is {number}: {error}")),
        None => Err("is not an integer".to_owned()),
    }
}

fn time(value: &Bson, zone: &TimeZone) -> Result<Option<Timestamp>, String> {
    let millis = match value {
        Bson::Null => return Ok(None),
        Bson::DateTime(at) => Some(at.timestamp_millis()),
        Bson::String(text) => {
            let text = text.trim();
            let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
                .iter()
                .find_map(|format| DateTime::strptime(format, text).ok())
                .and_then(|time| time.to_zoned(zone.clone()).ok())
                .map(|time| time.timestamp().as_millisecond());
            local.or_else(|| text.parse::<Timestamp>().ok().map(Timestamp::as_millis))
        }
        _ => None,
    };
    let at = millis.and_then(|millis| Timestamp::from_millis(millis).ok());
    let at = at.ok_or_else(|| "is not a time such as 2018-04-19 15:09:26".to_owned())?;
    if at > Timestamp::now() {
        return Err("is in the future".to_owned());
    }
    Ok(Some(at))
}

/// Reads an integer from any BSON number type or from a string.
fn integer(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        // Above 2^53 a double cannot represent every integer.
        Bson::Double(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
            Some(*number as i64)
        }
        Bson::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn read_all(document: &Document) -> (Option<Record>, Vec<String>) {
        let mut found = Vec::new();
        let record =
            read(document, &TimeZone::UTC, &mut |place, reason| found.push(format!("{place} {reason}")));
        (record, found)
    }

    #[test]
    fn patient_of_original_server_is_read_without_findings() {
        let (record, found) = read_all(&doc! {
            "_id": 7, "name": "Ann", "medical_image": ["aGk="], "ecg_image": ["aGE=", "aG8="],
            "heart_rate": [71, 0], "timestamp": ["2018-04-19 15:09:26", "2018-04-20 01:02:03"],
        });
        assert_eq!(found, [""; 0]);
        let record = record.unwrap();
        assert_eq!((record.mrn.get(), record.name.as_deref()), (7, Some("Ann")));
        assert_eq!(record.images, [Some(b"hi".to_vec())]);
        assert_eq!(record.ecgs[0].image.as_deref(), Some(&b"ha"[..]));
        assert_eq!(record.ecgs[0].at.unwrap().to_string(), "2018-04-19T15:09:26.000Z");
        assert_eq!((record.ecgs[0].rate, record.ecgs[1].rate), (Some(Bpm::new(71).unwrap()), None));
    }

    #[test]
    fn missing_lists_are_empty() {
        let (record, found) = read_all(&doc! { "_id": "8" });
        assert_eq!(found, [""; 0]);
        assert_eq!(record.unwrap().counts(), Counts { patients: 1, ..Counts::default() });
    }

    #[test]
    fn invalid_values_are_reported_and_valid_values_are_kept() {
        let (record, found) = read_all(&doc! {
            "_id": 9.0, "name": 5, "medical_image": ["***", "", "data:image/png;base64,aGk", 3],
            "ecg_image": ["aGE="], "heart_rate": ["72", 72.5, -3, true], "timestamp": ["yesterday", "2999-01-01 00:00:00"],
        });
        let record = record.unwrap();
        assert_eq!(record.images, [None, None, Some(b"hi".to_vec()), None]);
        let rates: Vec<_> = record.ecgs.iter().map(|ecg| ecg.rate.map(Bpm::get)).collect();
        assert_eq!(rates, [Some(72), None, None, None]);
        assert!(record.ecgs.iter().all(|ecg| ecg.at.is_none()));
        let places: Vec<_> = found.iter().map(|found| found.split(' ').next().unwrap()).collect();
        let expected = [
            "name",
            "ecg_image,",
            "timestamp[0]",
            "heart_rate[1]",
            "timestamp[1]",
            "heart_rate[2]",
            "heart_rate[3]",
            "medical_image[0]",
            "medical_image[3]",
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn patient_without_record_number_is_skipped() {
        for id in [Bson::Null, Bson::String("x".to_owned()), Bson::Int32(-1), Bson::Double(1.5)] {
            let (record, found) = read_all(&doc! { "_id": id, "name": "Ann" });
            assert!(record.is_none());
            assert!(found[0].starts_with("_id is not a record number"), "{found:?}");
        }
    }
}
