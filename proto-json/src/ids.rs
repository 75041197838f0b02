//! Identifiers of patients, uploads, records and blobs.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Medical record number: an integer from 0 to 2^53 - 1, which every JSON client can represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(with = "u64", extend("maximum" = 9_007_199_254_740_991_u64))]
pub struct Mrn(u64);

/// Why a number or text is not a medical record number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MrnError {
    /// Not a sequence of ASCII digits. Surrounding white space and one leading sign are accepted.
    #[error("the medical record number must be an integer")]
    NotAnInteger,
    /// Negative or above [`Mrn::MAX`].
    #[error("the medical record number must be from 0 to 9007199254740991")]
    OutOfRange,
}

impl Mrn {
    /// The largest medical record number, 2^53 - 1.
    pub const MAX: u64 = (1 << 53) - 1;

    /// Creates a medical record number.
    ///
    /// # Errors
    /// [`MrnError::OutOfRange`] above [`Mrn::MAX`].
    pub fn new(value: u64) -> Result<Self, MrnError> {
        if value <= Self::MAX { Ok(Mrn(value)) } else { Err(MrnError::OutOfRange) }
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Mrn {
    type Error = MrnError;
    fn try_from(value: u64) -> Result<Self, MrnError> {
        Mrn::new(value)
    }
}

impl From<Mrn> for u64 {
    fn from(mrn: Mrn) -> u64 {
        mrn.0
    }
}

impl fmt::Display for Mrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Accepts ASCII digits with surrounding white space and at most one leading sign. Subject wildcards, path
/// segments and digits of other scripts are rejected.
impl FromStr for Mrn {
    type Err = MrnError;
    fn from_str(text: &str) -> Result<Self, MrnError> {
        let text = text.trim();
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MrnError::NotAnInteger);
        }
        let value: u64 = digits.parse().map_err(|_| MrnError::OutOfRange)?;
        if negative && value != 0 { Err(MrnError::OutOfRange) } else { Mrn::new(value) }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(#[schemars(with = "String", extend("format" = "uuid"))] Uuid);

        impl $name {
            /// Returns the UUID.
            #[must_use]
            pub fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// Wraps a UUID read from a store.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                $name(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map($name)
            }
        }
    };
}

uuid_id! {
    /// Id of a ward.
    WardId
}

uuid_id! {
    /// Id of a bed.
    BedId
}

uuid_id! {
    /// Identifies an upload. A retry with the same `Idempotency-Key` has the same id.
    UploadId
}

uuid_id! {
    /// Identifies a stored record: a heart rate, an ECG or an image. Derived from its upload, so that a
    /// redelivery yields the same id.
    RecordId
}

uuid_id! {
    /// Identifies a waveform stream: what one device sends for one patient, over any number of connections.
    StreamId
}

impl StreamId {
    /// Creates a new id: a UUID version 7, so that ids sort by creation time.
    #[must_use]
    pub fn generate() -> Self {
        StreamId(Uuid::now_v7())
    }
}

/// Namespace of upload ids that are derived from an `Idempotency-Key`.
const IDEMPOTENCY_KEYS: Uuid = Uuid::from_u128(0x6f0b_6d0e_31f7_4f0c_9b5e_8f0a_51d3_c8a1);

impl UploadId {
    /// Creates a new id: a UUID version 7, so that ids sort by creation time.
    #[must_use]
    pub fn generate() -> Self {
        UploadId(Uuid::now_v7())
    }

    /// Derives the id from a client's `Idempotency-Key`: a UUID version 8 from a hash of client and key. The same
    /// key of another client yields another id. If the key is a UUID version 7, the id begins with its time.
    #[must_use]
    pub fn from_idempotency_key(client: &str, key: &str) -> Self {
        let hash = Uuid::new_v5(&IDEMPOTENCY_KEYS, format!("{client}\n{key}").as_bytes());
        UploadId(with_time(time_of_key(key), hash.as_bytes()))
    }

    /// Derives the id from a keyed hash of client and `Idempotency-Key`: a UUID version 8. Without the secret
    /// key, the id cannot be computed from client names and idempotency keys. If the key is a UUID version 7, the
    /// id begins with its time.
    #[must_use]
    pub fn from_keyed_hash(hash: &[u8; 32], key: &str) -> Self {
        UploadId(with_time(time_of_key(key), hash))
    }

    /// Returns whether the id is derived from an `Idempotency-Key`, so that an earlier upload may have the
    /// same id.
    #[must_use]
    pub fn is_from_key(&self) -> bool {
        self.0.get_version_num() == 8
    }

    /// Returns the id of the `index`-th record of `kind` in this upload. It begins with the same six bytes as
    /// the id of the upload; they are a time if that id has one.
    #[must_use]
    pub fn record(&self, kind: &str, index: usize) -> RecordId {
        RecordId(derived(&self.0, &format!("{kind}/{index}")))
    }
}

impl RecordId {
    /// Returns the id of a record that is derived from this record, such as the heart rate of an ECG.
    #[must_use]
    pub fn derived(&self, kind: &str) -> RecordId {
        RecordId(derived(&self.0, kind))
    }
}

/// Bytes at the beginning of a UUID version 7 that hold its time. Ids keep them, so that the index of a store grows at its
/// end, and new records are next to each other.
const TIME: usize = 6;

/// The time of an idempotency key that is a UUID version 7.
fn time_of_key(key: &str) -> Option<[u8; TIME]> {
    let uuid = Uuid::parse_str(key).ok().filter(|uuid| uuid.get_version_num() == 7)?;
    uuid.as_bytes().first_chunk().copied()
}

/// A UUID version 8 of a time, if there is one, and the beginning of a hash.
fn with_time(time: Option<[u8; TIME]>, hash: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    let bytes_of_id = time.iter().flatten().chain(hash);
    bytes.iter_mut().zip(bytes_of_id).for_each(|(byte, of_id)| *byte = *of_id);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A UUID version 8 that begins as `parent`, followed by a hash of it and `name`.
fn derived(parent: &Uuid, name: &str) -> Uuid {
    let time = parent.as_bytes().first_chunk().copied();
    with_time(time, Uuid::new_v5(parent, name.as_bytes()).as_bytes())
}

/// SHA-256 of a blob. Its text form is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{64}$"))]
pub struct BlobHash([u8; 32]);

/// The text is not a SHA-256 in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a blob hash consists of 64 lower-case hexadecimal digits")]
pub struct HashError;

impl BlobHash {
    /// Wraps the 32 bytes of a finished SHA-256.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        BlobHash(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobHash({self})")
    }
}

impl FromStr for BlobHash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(HashError),
        };
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(HashError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(BlobHash(bytes))
    }
}

impl TryFrom<String> for BlobHash {
    type Error = HashError;
    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mrn_accepts_only_integers_with_white_space_and_sign() {
        assert_eq!(" 7 ".parse(), Ok(Mrn(7)));
        assert_eq!("+7".parse(), Ok(Mrn(7)));
        assert_eq!("-0".parse(), Ok(Mrn(0)));
        assert_eq!("9007199254740991".parse(), Ok(Mrn(Mrn::MAX)));
        for text in
            ["", "  ", "-", "1.0", "1e3", "0x1", "1_000", "*", ">", "1.*", "../1", "1/2", "٣", "1\u{0}"]
        {
            assert_eq!(text.parse::<Mrn>(), Err(MrnError::NotAnInteger), "{text:?}");
        }
        for text in ["-1", "9007199254740992", "99999999999999999999999"] {
            assert_eq!(text.parse::<Mrn>(), Err(MrnError::OutOfRange), "{text:?}");
        }
    }

    #[test]
    fn records_of_an_upload_have_stable_distinct_ids() {
        let upload = UploadId::from_idempotency_key("", "key");
        assert_eq!(upload, UploadId::from_idempotency_key("", "key"));
        assert_ne!(upload, UploadId::from_idempotency_key("other", "key"));
        let keyed = UploadId::from_keyed_hash(&[7; 32], "key");
        assert!(upload.is_from_key() && keyed.is_from_key() && !UploadId::generate().is_from_key());
        assert_ne!(keyed, UploadId::from_keyed_hash(&[8; 32], "key"));
        assert_eq!(upload.record("ecg", 0), upload.record("ecg", 0));
        assert_ne!(upload.record("ecg", 0), upload.record("ecg", 1));
        assert_ne!(upload.record("ecg", 0), upload.record("image", 0));
    }

    #[test]
    fn ids_from_keys_with_a_time_are_in_the_order_of_their_times() {
        let key = |millis: u64| {
            let time = uuid::Timestamp::from_unix(
                uuid::NoContext,
                millis / 1_000,
                (millis % 1_000) as u32 * 1_000_000,
            );
            Uuid::new_v7(time).to_string()
        };
        let mut last = None;
        for (index, millis) in (1_790_000_000_000..).step_by(7).take(200).enumerate() {
            let key = key(millis);
            let upload = if index % 2 == 0 {
                UploadId::from_keyed_hash(&[index as u8; 32], &key)
            } else {
                UploadId::from_idempotency_key("client", &key)
            };
            assert!(upload.is_from_key());
            let records = [upload.record("ecg", 0), upload.record("ecg", 1)];
            let of_ecg = records[0].derived("heart_rate");
            assert!(of_ecg != records[0] && records[0] != records[1]);
            for id in records.into_iter().chain([of_ecg]) {
                assert!(last.is_none_or(|last| last < upload), "{index}");
                assert_eq!(id.as_uuid().as_bytes()[..6], upload.as_uuid().as_bytes()[..6]);
            }
            last = Some(upload);
        }
    }

    #[test]
    fn blob_hash_round_trips_and_other_text_is_rejected() {
        let hash = BlobHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse::<BlobHash>(), Err(HashError));
        assert_eq!("ba78".parse::<BlobHash>(), Err(HashError));
    }
}
