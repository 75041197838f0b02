//! Parses the body of `POST /api/new_patient`. Only known keys are read. Values are borrowed from the body,
//! so a base64 string of 40 MB is not copied and is decoded in pieces.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto_json::{Bpm, Mrn};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Number of base64 characters decoded at once; a multiple of 4. Small when fuzzing, so that short inputs
/// have several pieces.
const DECODE_AT_ONCE: usize = if cfg!(fuzzing) { 16 } else { 64 * 1024 };
/// Maximum number of characters of the request that a response repeats.
const MAX_ECHO_CHARS: usize = 4096;

/// The raw JSON values of the known keys.
#[derive(Default)]
pub(crate) struct LegacyBody<'a> {
    medical_record_number: Option<&'a str>,
    name: Option<&'a str>,
    medical_image: Option<&'a str>,
    ecg_image: Option<&'a str>,
    hr: Option<&'a str>,
    ecg_csv: Option<&'a str>,
}

impl<'de> Deserialize<'de> for LegacyBody<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = LegacyBody<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LegacyBody<'de>, A::Error> {
                let mut body = LegacyBody::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let slot = match &*key {
                        "medical_record_number" => &mut body.medical_record_number,
                        "name" => &mut body.name,
                        "medical_image" => &mut body.medical_image,
                        "ecg_image" => &mut body.ecg_image,
                        "hr" => &mut body.hr,
                        "ecg_csv" => &mut body.ecg_csv,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value::<&'de RawValue>()?.get());
                }
                Ok(body)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The key of a file and its base64 text.
pub(crate) type KeyedFile<'a> = (&'static str, Option<Cow<'a, str>>);

/// Why the record number is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InvalidMrn {
    /// Absent or empty.
    Missing,
    /// Not an integer; contains the value that was sent.
    NotAnInteger(String),
}

impl<'a> LegacyBody<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, String> {
        let text =
            std::str::from_utf8(body).map_err(|_| "The request body is not valid UTF-8.".to_owned())?;
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                "The request body must be a JSON object.".to_owned()
            } else {
                format!(
                    "The request body must be a JSON object; it cannot be read on from line {}, column {}.",
                    error.line(),
                    error.column()
                )
            }
        })
    }

    pub(crate) fn mrn(&self) -> Result<Mrn, InvalidMrn> {
        let raw = self.medical_record_number.ok_or(InvalidMrn::Missing)?;
        let (text, mrn) = match string(raw) {
            Some(text) if text.is_empty() => return Err(InvalidMrn::Missing),
            Some(text) => {
                let mrn = text.parse().ok();
                (text, mrn)
            }
            None => {
                let number = integer(raw).and_then(|number| u64::try_from(number).ok());
                (Cow::Borrowed(raw), number.and_then(|number| Mrn::new(number).ok()))
            }
        };
        mrn.ok_or_else(|| InvalidMrn::NotAnInteger(text.chars().take(MAX_ECHO_CHARS).collect()))
    }

    pub(crate) fn name(&self) -> Result<Option<String>, String> {
        let Some(raw) = self.name else { return Ok(None) };
        let text = string(raw).ok_or("`name` must be a string.")?;
        crate::uploads::fields::name(text.into_owned()).map_err(|error| format!("`name` {error}."))
    }

    pub(crate) fn heart_rate(&self) -> Result<Option<Bpm>, String> {
        const WRONG: &str = "`hr` must be an integer from 1 to 400, or 0 or \"\" where none is known.";
        let Some(raw) = self.hr else { return Ok(None) };
        if string(raw).is_some_and(|text| text.is_empty()) {
            return Ok(None);
        }
        match integer(raw) {
            Some(0) => Ok(None),
            Some(value) => Bpm::new(value).map(Some).map_err(|_| WRONG.to_owned()),
            None => Err(WRONG.to_owned()),
        }
    }

    /// Returns the keys and base64 texts of the files. Absent and empty ones are `None`.
    pub(crate) fn files(&self) -> Result<[KeyedFile<'a>; 3], String> {
        let base64 = |key, raw: Option<&'a str>| -> Result<KeyedFile<'a>, String> {
            let Some(raw) = raw else { return Ok((key, None)) };
            let text = string(raw).ok_or_else(|| format!("`{key}` must be a string of base64."))?;
            // Some encoders insert line breaks.
            let text = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
                Cow::Owned(text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect())
            } else {
                text
            };
            Ok((key, Some(text).filter(|text: &Cow<'_, str>| !text.is_empty())))
        };
        Ok([
            base64("medical_image", self.medical_image)?,
            base64("ecg_image", self.ecg_image)?,
            base64("ecg_csv", self.ecg_csv)?,
        ])
    }
}

/// Returns the integer of a JSON number. 7, 7.0 and 7e0 are one number in JSON. `None` for another JSON value and for
/// integers that not every JSON client can represent.
fn integer(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let number: f64 = raw.parse().ok()?;
        (number.fract() == 0.0 && number.abs() <= Mrn::MAX as f64).then_some(number as i64)
    })
}

/// Returns the content of a JSON string, borrowed if it has no escapes, or `None` for another JSON type.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The text is not valid base64.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotBase64;

/// Decodes base64 (standard alphabet with padding) in pieces.
pub(crate) fn decode(base64: &str) -> impl Iterator<Item = Result<Vec<u8>, NotBase64>> {
    let bytes = base64.as_bytes();
    let pieces = bytes.len().div_ceil(DECODE_AT_ONCE);
    bytes.chunks(DECODE_AT_ONCE).enumerate().map(move |(index, piece)| {
        // Padding is only valid at the end of the text. The decoder sees single pieces and would accept it in
        // each.
        let padded = piece.last() == Some(&b'=');
        if padded && index + 1 < pieces {
            return Err(NotBase64);
        }
        STANDARD.decode(piece).map_err(|_| NotBase64)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> LegacyBody<'_> {
        LegacyBody::parse(body.as_bytes()).unwrap()
    }

    fn mrn(value: &str) -> Result<u64, InvalidMrn> {
        parse(&format!("{{\"medical_record_number\":{value}}}")).mrn().map(Mrn::get)
    }

    #[test]
    fn record_number_is_an_integer_or_a_string_with_one() {
        assert_eq!(mrn("7"), Ok(7));
        for value in ["7.0", "7e0", "70E-1", "\" 7 \"", "\"+7\""] {
            assert_eq!(mrn(value), Ok(7), "{value}");
        }
        assert_eq!((mrn("-0"), mrn("9007199254740991.0")), (Ok(0), Ok(Mrn::MAX)));
        assert_eq!(mrn("\"\\u0037\""), Ok(7));
        assert_eq!(mrn("9007199254740991"), Ok(Mrn::MAX));
        assert_eq!(parse("{}").mrn(), Err(InvalidMrn::Missing));
        assert_eq!(mrn("\"\""), Err(InvalidMrn::Missing));
        for (value, shown) in [
            ("\"abc\"", "abc"),
            ("7.5", "7.5"),
            ("\"7.0\"", "7.0"),
            ("1e999", "1e999"),
            ("9007199254740992.0", "9007199254740992.0"),
            ("true", "true"),
            ("null", "null"),
            ("[7]", "[7]"),
            ("-1", "-1"),
            ("9007199254740992", "9007199254740992"),
            ("\"*\"", "*"),
            ("\" x \"", " x "),
            ("\"  \"", "  "),
        ] {
            assert_eq!(mrn(value), Err(InvalidMrn::NotAnInteger(shown.to_owned())), "{value}");
        }
    }

    #[test]
    fn heart_rate_is_an_integer_and_zero_or_empty_means_absent() {
        let hr = |value: &str| parse(&format!("{{\"hr\":{value}}}")).heart_rate();
        assert_eq!(parse("{}").heart_rate(), Ok(None));
        assert_eq!(hr("0"), Ok(None));
        assert_eq!(hr("\"\""), Ok(None));
        assert_eq!((hr("0.0"), hr("72.0")), (Ok(None), Ok(Some(Bpm::new(72).unwrap()))));
        assert_eq!(hr("72"), Ok(Some(Bpm::new(72).unwrap())));
        for value in ["401", "-1", "72.5", "4e2000", "true", "null", "\"72\"", "[72]", "99999999999999999999"]
        {
            assert!(hr(value).unwrap_err().contains("`hr`"), "{value}");
        }
    }

    #[test]
    fn body_must_be_an_object_and_unknown_keys_are_ignored() {
        for body in ["", "[]", "7", "\"x\"", "null", "{", "{\"a\":1}x", "[1,\"Ann\"]", "{\"name\":\"\u{7}\"}"]
        {
            assert!(LegacyBody::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(LegacyBody::parse(b"{\"name\":\"\xff\"}").is_err());
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(LegacyBody::parse(deep.as_bytes()).is_ok());
        assert_eq!(parse("{\"x\":{\"name\":\"Eve\"},\"name\":\"Ann\"}").name(), Ok(Some("Ann".to_owned())));
        assert!(parse("{\"name\":7}").name().unwrap_err().contains("`name`"));
        assert!(parse("{\"ecg_image\":7}").files().unwrap_err().contains("`ecg_image`"));
    }

    #[test]
    fn padding_in_the_middle_is_no_base64() {
        let body = format!("{}{}", STANDARD.encode(vec![0; DECODE_AT_ONCE / 4 * 3 - 1]), "AAAA");
        assert_eq!(body.len(), DECODE_AT_ONCE + 4);
        assert!(decode(&body).any(|piece| piece.is_err()));
    }

    proptest! {
        #[test]
        fn base64_decodes_to_what_was_encoded(data in proptest::collection::vec(any::<u8>(), 0..300), repeat in 1usize..700) {
            let data = data.repeat(repeat);
            let encoded = STANDARD.encode(&data);
            let decoded: Vec<u8> = decode(&encoded).map(|piece| piece.unwrap()).collect::<Vec<_>>().concat();
            prop_assert!(decoded == data);
            if encoded.len() > 1 {
                prop_assert!(decode(&encoded[..encoded.len() - 1]).any(|piece| piece.is_err()));
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(body in ".{0,200}") {
            if let Ok(parsed) = LegacyBody::parse(body.as_bytes()) {
                let _ = (parsed.mrn(), parsed.name(), parsed.heart_rate(), parsed.files().is_ok());
            }
        }
    }
}
