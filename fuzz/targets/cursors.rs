//! Values of paths, query strings and settings: parsed values survive a round trip.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use proto_json::{BlobHash, Cursor, Mrn, RecordId, Timestamp, UploadId};
use runtime::ByteSize;

fn round_trip<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>().expect("a formatted value can be parsed");
        assert_eq!(again, value);
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    round_trip::<Mrn>(text);
    round_trip::<RecordId>(text);
    round_trip::<UploadId>(text);
    round_trip::<BlobHash>(text);
    round_trip::<Timestamp>(text);
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert!(size.0 <= 1000 || size.to_string().len() < 30);
    }
    let _ = runtime::parse_duration(text);
});
