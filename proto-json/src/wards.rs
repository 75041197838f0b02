//! Wards, beds, admissions and details of patients, and the bodies of the calls that change them.
//!
//! A ward has beds. A patient who is admitted occupies one bed, and a bed has at most one patient. A **stay** is the time
//! that a patient spends in one bed: an admission or a transfer begins it, a transfer or the discharge ends it. The stays of
//! a patient are its history; they are never removed.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{BedId, Mrn, RecordId, WardId};
use crate::schemas::{LINES, TEXT};
use crate::time::Timestamp;

/// Maximum number of wards.
pub const MAX_WARDS: usize = 100;
/// Maximum number of beds of a ward.
pub const MAX_BEDS: usize = 100;

/// Name of a ward or a bed: 1 to 60 characters without control characters. White space around it is removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 60, "pattern" = TEXT))]
pub struct PlaceName(String);

/// The text is not a name of a ward or bed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name of a ward or bed has 1 to 60 characters and no control characters")]
pub struct PlaceNameError;

impl PlaceName {
    /// Maximum length in characters.
    pub const MAX_CHARS: usize = 60;

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the form in which two names are compared: without case, and with single blanks between words.
    #[must_use]
    pub fn key(&self) -> String {
        let words: Vec<String> = self.0.split_whitespace().map(crate::name_key).collect();
        words.join(" ")
    }
}

impl FromStr for PlaceName {
    type Err = PlaceNameError;
    fn from_str(text: &str) -> Result<Self, PlaceNameError> {
        let text = text.trim();
        let is_valid = !text.is_empty()
            && text.chars().count() <= PlaceName::MAX_CHARS
            && !text.chars().any(char::is_control);
        if is_valid { Ok(PlaceName(text.to_owned())) } else { Err(PlaceNameError) }
    }
}

impl TryFrom<String> for PlaceName {
    type Error = PlaceNameError;
    fn try_from(text: String) -> Result<Self, PlaceNameError> {
        text.parse()
    }
}

impl From<PlaceName> for String {
    fn from(name: PlaceName) -> String {
        name.0
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A ward with its beds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ward {
    /// Id of the ward.
    pub id: WardId,
    /// Its name. No two wards have the same name; case does not matter.
    pub name: PlaceName,
    /// Each change of the ward, of its beds or of their occupants increases the version.
    pub version: u64,
    /// Its beds, in the order in which they were added.
    pub beds: Vec<Bed>,
}

impl Ward {
    /// Returns a bed.
    #[must_use]
    pub fn bed(&self, bed: BedId) -> Option<&Bed> {
        self.beds.iter().find(|known| known.id == bed)
    }
}

/// A bed of a ward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bed {
    /// Id of the bed.
    pub id: BedId,
    /// Its name. No two beds of a ward have the same name; case does not matter.
    pub name: PlaceName,
    /// The patient in this bed; absent if the bed is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupant: Option<Mrn>,
}

/// Where a patient is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admission {
    /// Id of the stay in this bed.
    pub id: RecordId,
    /// The ward.
    pub ward: WardId,
    /// Its name.
    pub ward_name: PlaceName,
    /// The bed.
    pub bed: BedId,
    /// Its name.
    pub bed_name: PlaceName,
    /// When the patient was admitted. A transfer keeps this time.
    pub admitted_at: Timestamp,
}

/// A stay of a patient in one bed, in the history of the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdmissionRecord {
    /// Id of the stay.
    pub id: RecordId,
    /// The patient.
    pub mrn: Mrn,
    /// The ward.
    pub ward: WardId,
    /// Its name when the stay began.
    pub ward_name: PlaceName,
    /// The bed.
    pub bed: BedId,
    /// Its name when the stay began.
    pub bed_name: PlaceName,
    /// How the stay began: by an admission or a transfer. The history is sorted by this time.
    pub began: StayEvent,
    /// How the stay ended: by a transfer or the discharge; absent while the patient is in this bed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<StayEvent>,
}

/// Beginning or end of a stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StayEvent {
    /// What happened.
    pub kind: StayEventKind,
    /// When.
    pub at: Timestamp,
    /// Name of the user or of the client.
    pub by: String,
}

/// Kinds of events of a stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StayEventKind {
    /// The patient was admitted.
    Admitted,
    /// The patient was moved from one bed to another.
    Transferred,
    /// The patient was discharged.
    Discharged,
}

/// Details of a patient that a person enters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatientDetails {
    /// Date of birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<BirthDate>,
    /// Sex, as in the administrative records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sex: Option<Sex>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Notes>,
    /// Each change of the details increases the version. A patient without details has version 0.
    pub version: u64,
}

/// Sex of a patient, as the administrative gender of FHIR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Other.
    Other,
    /// Not known.
    Unknown,
}

/// A date of birth, from the year 1850 on. Its text form is `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "date", "pattern" = "^(18[5-9][0-9]|19[0-9]{2}|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}$"))]
pub struct BirthDate(jiff::civil::Date);

/// The text is not a date of birth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a date of birth is written as in 1957-03-14 and is in the year 1850 or later")]
pub struct BirthDateError;

impl BirthDate {
    /// First accepted year.
    pub const FIRST_YEAR: i16 = 1850;

    /// Returns whether the date is after `now` in every time zone.
    #[must_use]
    pub fn is_in_future_of(self, now: Timestamp) -> bool {
        const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
        let text = now.plus_millis(DAY_MS).to_string();
        text.get(..10).is_some_and(|tomorrow| self.to_string().as_str() > tomorrow)
    }

    /// Returns the age in whole years on the day of `now` in UTC; `None` if the date is in the future.
    #[must_use]
    pub fn age_at(self, now: Timestamp) -> Option<u16> {
        let today: jiff::civil::Date = now.to_string().get(..10)?.parse().ok()?;
        let had_birthday = (today.month(), today.day()) >= (self.0.month(), self.0.day());
        u16::try_from(today.year() - self.0.year() - i16::from(!had_birthday)).ok()
    }
}

impl fmt::Display for BirthDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for BirthDate {
    type Err = BirthDateError;
    fn from_str(text: &str) -> Result<Self, BirthDateError> {
        let date: jiff::civil::Date = text.trim().parse().map_err(|_| BirthDateError)?;
        // The parser accepts other spellings and times of day, too.
        let is_valid = date.year() >= BirthDate::FIRST_YEAR && date.to_string() == text.trim();
        if is_valid { Ok(BirthDate(date)) } else { Err(BirthDateError) }
    }
}

impl TryFrom<String> for BirthDate {
    type Error = BirthDateError;
    fn try_from(text: String) -> Result<Self, BirthDateError> {
        text.parse()
    }
}

impl From<BirthDate> for String {
    fn from(date: BirthDate) -> String {
        date.to_string()
    }
}

/// Notes about a patient: 1 to 1,000 characters, without control characters other than line feeds and tabs. White space
/// around them is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 1000, "pattern" = LINES))]
pub struct Notes(String);

/// The text cannot be stored as notes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("notes have 1 to 1000 characters and no control characters other than line feeds and tabs")]
pub struct NotesError;

impl Notes {
    /// Maximum length in characters.
    pub const MAX_CHARS: usize = 1_000;

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Notes {
    type Err = NotesError;
    fn from_str(text: &str) -> Result<Self, NotesError> {
        let text = text.trim().replace("\r\n", "\n");
        let is_allowed = |letter: char| matches!(letter, '\n' | '\t') || !letter.is_control();
        let is_valid =
            !text.is_empty() && text.chars().count() <= Notes::MAX_CHARS && text.chars().all(is_allowed);
        if is_valid { Ok(Notes(text)) } else { Err(NotesError) }
    }
}

impl TryFrom<String> for Notes {
    type Error = NotesError;
    fn try_from(text: String) -> Result<Self, NotesError> {
        text.parse()
    }
}

impl From<Notes> for String {
    fn from(notes: Notes) -> String {
        notes.0
    }
}

/// Body of a request that adds a ward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWard {
    /// Id that the client chooses, so that a repeated request adds one ward; otherwise the server chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<WardId>,
    /// The name.
    pub name: PlaceName,
}

/// Body of a request that adds a bed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBed {
    /// Id that the client chooses, so that a repeated request adds one bed; otherwise the server chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<BedId>,
    /// The name.
    pub name: PlaceName,
}

/// Body of a request that renames a ward or a bed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenamePlace {
    /// The new name.
    pub name: PlaceName,
    /// The version of the ward that the user saw. If the ward has changed since, the request is rejected with 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: Option<u64>,
}

/// Body of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// The bed.
    pub bed: BedId,
    /// Id of the stay that the client chooses, so that a repeated request admits once; otherwise the server chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
}

/// Body of a transfer to another bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// The bed to which the patient is moved.
    pub bed: BedId,
    /// The stay that the user saw. If the patient has another one, the request is rejected with 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RecordId>,
    /// Id of the new stay that the client chooses, so that a repeated request moves the patient once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
}

/// Body of a discharge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DischargeRequest {
    /// The stay that the user saw. If the patient has another one, the request is rejected with 409. A repeated request
    /// with the same stay changes nothing and succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RecordId>,
}

/// Body of a change of a patient's details. An absent field is not changed; `null` removes the value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailsUpdate {
    /// Date of birth.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Option<BirthDate>")]
    pub birth_date: Option<Option<BirthDate>>,
    /// Sex.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Option<Sex>")]
    pub sex: Option<Option<Sex>>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Option<Notes>")]
    pub notes: Option<Option<Notes>>,
    /// The version of the details that the user saw; 0 for a patient without details. If they have changed since, the
    /// request is rejected with 409.
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: u64,
}

/// Distinguishes `null` from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl DetailsUpdate {
    /// Applies the update to details. The result has the next version.
    #[must_use]
    pub fn apply(&self, details: Option<&PatientDetails>) -> PatientDetails {
        let mut changed = details.cloned().unwrap_or_default();
        if let Some(birth_date) = self.birth_date {
            changed.birth_date = birth_date;
        }
        if let Some(sex) = self.sex {
            changed.sex = sex;
        }
        if let Some(notes) = &self.notes {
            changed.notes.clone_from(notes);
        }
        changed.version += 1;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_wards_and_beds_are_bounded_and_compared_without_case() {
        let name: PlaceName = "  Bed  1 ".parse().unwrap();
        assert_eq!((name.as_str(), name.key()), ("Bed  1", "bed 1".to_owned()));
        assert_eq!("BED 1".parse::<PlaceName>().unwrap().key(), name.key());
        assert!("ü".repeat(60).parse::<PlaceName>().is_ok());
        for wrong in ["", " ", "a\nb", "a\u{0}", "\u{85}b\u{85}b", &"ü".repeat(61)] {
            assert_eq!(wrong.parse::<PlaceName>(), Err(PlaceNameError), "{wrong:?}");
            assert!(serde_json::from_value::<PlaceName>(wrong.into()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn date_of_birth_is_a_calendar_date_in_range() {
        let now: Timestamp = "2026-03-14T15:09:26Z".parse().unwrap();
        let date: BirthDate = "1957-03-15".parse().unwrap();
        assert_eq!((date.to_string(), date.age_at(now)), ("1957-03-15".to_owned(), Some(68)));
        assert_eq!("1957-03-14".parse::<BirthDate>().unwrap().age_at(now), Some(69));
        for (text, is_in_future) in [("2026-03-15", false), ("2026-03-16", true)] {
            assert_eq!(text.parse::<BirthDate>().unwrap().is_in_future_of(now), is_in_future, "{text}");
        }
        for wrong in
            ["", "1957", "1849-12-31", "1957-02-29", "14.3.1957", "19570314", "1957-03-14T00:00", "1957-3-14"]
        {
            assert_eq!(wrong.parse::<BirthDate>(), Err(BirthDateError), "{wrong}");
        }
    }

    #[test]
    fn notes_keep_their_lines_and_reject_other_control_characters() {
        let notes: Notes = " two\r\nlines\t\n".parse().unwrap();
        assert_eq!(notes.as_str(), "two\nlines");
        for wrong in ["", "\n", "a\u{0}b", "a\u{1b}b", &"x".repeat(1_001)] {
            assert_eq!(wrong.parse::<Notes>(), Err(NotesError), "{wrong:?}");
        }
    }

    #[test]
    fn null_removes_a_detail_and_an_absent_field_keeps_it() {
        let update = |json: &str| serde_json::from_str::<DetailsUpdate>(json).unwrap();
        let first =
            update(r#"{"birth_date":"1957-03-14","sex":"female","notes":"n","version":0}"#).apply(None);
        assert_eq!((first.version, first.sex), (1, Some(Sex::Female)));
        let second = update(r#"{"sex":null,"version":1}"#).apply(Some(&first));
        assert_eq!((second.sex, &second.notes, second.version), (None, &first.notes, 2));
        assert!(serde_json::from_str::<DetailsUpdate>(r#"{"sex":"f","version":0}"#).is_err());
        assert!(serde_json::from_str::<DetailsUpdate>(r#"{"sex":"female"}"#).is_err());
    }
}
