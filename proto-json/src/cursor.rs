//! Cursors for lists that are read page by page.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Mrn, RecordId};
use crate::time::Timestamp;

/// End of a page, and start of the next page. Clients pass it back unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Cursor {
    /// Position in the list of patients, which ascends by record number: after this patient.
    Patient(Mrn),
    /// Position in a history, newest first: before the record with this time and id.
    Record(Timestamp, RecordId),
}

/// The text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`after` must be the `next` value of an earlier page of the same list")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cursor::Patient(mrn) => write!(f, "p{mrn}"),
            Cursor::Record(at, id) => write!(f, "r{}.{}", at.as_millis(), id.as_uuid().as_simple()),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parsed = if let Some(mrn) = text.strip_prefix('p') {
            mrn.parse().map(Cursor::Patient).map_err(|_| CursorError)?
        } else {
            let (at, id) = text.strip_prefix('r').and_then(|rest| rest.split_once('.')).ok_or(CursorError)?;
            let at =
                at.parse().ok().and_then(|millis| Timestamp::from_millis(millis).ok()).ok_or(CursorError)?;
            Cursor::Record(at, RecordId::from_uuid(Uuid::try_parse(id).map_err(|_| CursorError)?))
        };
        // Each cursor has one spelling. Other spellings are rejected.
        if parsed.to_string() == text { Ok(parsed) } else { Err(CursorError) }
    }
}

impl TryFrom<String> for Cursor {
    type Error = CursorError;
    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::UploadId;

    #[test]
    fn cursors_round_trip_and_other_text_is_rejected() {
        let id = UploadId::from_idempotency_key("", "a").record("ecg", 0);
        for cursor in
            [Cursor::Patient(Mrn::new(7).unwrap()), Cursor::Record(Timestamp::from_millis(-5).unwrap(), id)]
        {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "p", "p-0", "p 7", "r1", "r1.", "rx.00", "q7", "r99999999999999999999.0"] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text}");
        }
    }

    /// Milliseconds of the years -9999 to 9999.
    const MILLIS: std::ops::RangeInclusive<i64> = -377_705_000_000_000..=253_402_000_000_000;

    proptest! {
        #[test]
        fn every_cursor_round_trips(mrn in 0..=Mrn::MAX, millis in MILLIS, id in any::<u128>()) {
            let id = RecordId::from_uuid(Uuid::from_u128(id));
            let at = Timestamp::from_millis(millis).unwrap();
            for cursor in [Cursor::Patient(Mrn::new(mrn).unwrap()), Cursor::Record(at, id)] {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }

        #[test]
        fn accepted_text_is_the_only_spelling(text in "[pr]?[-+ 0-9]{0,17}(\\.[0-9a-fA-F-]{30,36})?") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
