//! What stands in paths and query strings, and in settings: what is read is written as it was, or as the same again.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use proto_json::{BlobHash, Cursor, Mrn, RecordId, Timestamp, UploadId};
use runtime::ByteSize;

fn same_again<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>().expect("what was written can be read");
        assert_eq!(again, value);
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    same_again::<Mrn>(text);
    same_again::<RecordId>(text);
    same_again::<UploadId>(text);
    same_again::<BlobHash>(text);
    same_again::<Timestamp>(text);
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert!(size.0 <= 1000 || size.to_string().len() < 30);
    }
    let _ = runtime::parse_duration(text);
});
