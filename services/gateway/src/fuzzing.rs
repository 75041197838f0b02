//! Properties of all parsers of the gateway, for any input. The fuzzer (`scripts/fuzz`) and the property
//! tests below call them; one test runs them on the fuzzer's corpus.

#![allow(clippy::expect_used, reason = "a failed expectation is a finding of the fuzzer")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto_json::Timestamp;
use serde_json::Value;

use crate::auth::tokens::Tokens;
use crate::http::multipart::boundary;
use crate::http::multipart::testing::parts;
use crate::legacy::body::{LegacyBody, decode};
use crate::uploads::ecg_file::{EcgFileError, EcgFileScan};
use crate::uploads::fields;
use crate::uploads::image::{ImageError, ImageInfo, ImageScan};

/// Splits the input into chunks of varying length. The lengths depend on the last byte, so they are
/// reproducible.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = bytes.last().copied().map_or(0, u32::from);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // A linear congruential generator.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 16) as usize % 37;
        let (piece, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The detected type of image and ECG files does not depend on how the bytes are split into chunks.
pub fn files(bytes: &[u8]) {
    const MAX_MEGAPIXELS: u32 = 64;
    fn picture<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<ImageInfo, ImageError> {
        let mut scan = ImageScan::new(MAX_MEGAPIXELS);
        for piece in pieces {
            scan.feed(piece)?;
        }
        scan.finish()
    }
    fn ecg<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<proto_json::MediaType, EcgFileError> {
        let mut scan = EcgFileScan::default();
        for piece in pieces {
            scan.feed(piece)?;
        }
        scan.finish()
    }
    let found = picture(std::iter::once(bytes));
    assert_eq!(picture(pieces(bytes)), found);
    if let Ok(ImageInfo { width, height, .. }) = found {
        let pixels = u64::from(width) * u64::from(height);
        assert!(pixels > 0 && pixels <= u64::from(MAX_MEGAPIXELS) * 1_000_000, "{width} x {height}");
    }
    assert_eq!(ecg(pieces(bytes)), ecg(std::iter::once(bytes)));
}

/// The first line is the `Content-Type`, the rest is the body. The parsed parts do not depend on the chunks.
pub fn multipart(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let boundary = boundary(&String::from_utf8_lossy(head)).unwrap_or_else(|| "XyZ".to_owned());
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (cut, whole) = clock.expect("a runtime without I/O needs no system resources").block_on(async {
        (parts(pieces(body), &boundary).await, parts(std::iter::once(body), &boundary).await)
    });
    let delimiter = format!("\r\n--{boundary}");
    for (_, _, content) in whole.iter().flatten() {
        assert!(memchr::memmem::find(content, delimiter.as_bytes()).is_none(), "delimiter in a part");
    }
    assert_eq!(cut.map_err(|error| error.to_string()), whole.map_err(|error| error.to_string()));
}

/// The body of the legacy route is parsed like `serde_json` parses the whole text, and its base64 is decoded
/// like the `base64` crate decodes the whole string.
pub fn legacy(bytes: &[u8]) {
    let body = LegacyBody::parse(bytes);
    if let Ok(whole) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(body.is_ok(), whole.is_object(), "{whole}");
        if let (Ok(body), Some(name)) = (&body, whole.get("name")) {
            let expected = name.as_str().map(|name| fields::name(name.to_owned()));
            assert_eq!(body.name().ok(), expected.and_then(Result::ok));
        }
    }
    let Ok(body) = body else { return };
    let _ = (body.mrn(), body.name(), body.heart_rate());
    for base64 in body.files().into_iter().flatten().filter_map(|(_, base64)| base64) {
        let decoded: Result<Vec<Vec<u8>>, _> = decode(&base64).collect();
        assert_eq!(decoded.ok().map(|pieces| pieces.concat()), STANDARD.decode(&*base64).ok());
    }
}

/// Form fields are rejected or bounded.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Some(name)) = fields::name(text.clone().into_owned()) {
        assert!(!name.is_empty() && name.chars().count() <= fields::MAX_NAME_CHARS);
    }
    let _ = (fields::lead(text.clone().into_owned()), fields::heart_rate(&text));
    if let Ok(Some(rate)) = fields::sample_rate(&text) {
        assert!((1.0..=100_000.0).contains(&rate));
    }
    let now = Timestamp::from_millis(1_800_000_000_000).expect("the time is valid");
    if let Ok(Some(at)) = fields::recorded_at(&text, now) {
        assert_eq!(at.to_string().parse(), Ok(at));
    }
    if let Some(name) = fields::file_name(&text) {
        assert!(!name.contains(['/', '\\', '\0', '\n']) && name != "." && name != "..", "{name:?}");
        assert_eq!(fields::file_name(&name).as_deref(), Some(&*name));
    }
}

/// Parsed tokens that are written to a file are parsed to the same tokens, and no line is skipped.
pub fn tokens(bytes: &[u8]) {
    let (tokens, _skipped) = Tokens::parse(bytes);
    let written = tokens.lines();
    let (again, skipped) = Tokens::parse(written.as_bytes());
    assert_eq!((again.lines(), skipped.len()), (written, 0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// A JSON value, mostly valid, as in bodies of the legacy route.
    fn json() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "\"[A-Za-z0-9+/=]{0,12}\"",
            2 => "\"( |\\\\n|\\\\u00[0-9a-f]{2}|\\\\ud83d|\\\\ude00|[a-z*>é]){0,6}\"",
            2 => "-?[0-9]{1,20}(\\.[0-9]{1,3})?(e[0-9]{1,3})?",
            1 => Just("null".to_owned()),
            1 => "(\\[|\\{\"name\":){0,5}1?[\\]}]{0,5}",
        ]
    }

    fn legacy_body() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("medical_record_number"),
            Just("name"),
            Just("n\\u0061me"),
            Just("medical_image"),
            Just("ecg_image"),
            Just("hr"),
            Just("ecg_csv"),
            Just("other"),
        ];
        let member = (key, json()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        (proptest::collection::vec(member, 0..6), "[ \n]{0,2}[}x]{0,2}")
            .prop_map(|(members, end)| format!("{{{}}}{end}", members.join(",")))
    }

    fn tokens_line() -> impl Strategy<Value = String> {
        let role = prop_oneof![4 => Just("viewer"), 2 => Just("uploader"), 2 => Just("admin"), 2 => Just("device"), 1 => Just("root")];
        ("[ \t]{0,2}", "[a-c]{1,2}", role, "[0-9a-fA-F]{64}", "( #.{0,4})?", "\r?\n").prop_map(
            |(before, name, role, digest, after, end)| format!("{before}{name} {role}\t{digest}{after}{end}"),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn legacy_properties_hold_for_generated_bodies(body in legacy_body()) {
            super::legacy(body.as_bytes());
        }

        #[test]
        fn token_properties_hold_for_generated_lines(lines in proptest::collection::vec(tokens_line(), 0..4)) {
            super::tokens(lines.concat().as_bytes());
        }

        #[test]
        fn all_properties_hold_for_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::files(&bytes);
            super::multipart(&bytes);
            super::legacy(&bytes);
            super::values(&bytes);
            super::tokens(&bytes);
        }

        #[test]
        fn field_properties_hold_for_random_text(text in "[ 0-9A-Za-z.:+/\\\\\\-\u{202e}\u{0}é]{0,40}") {
            super::values(text.as_bytes());
        }
    }

    #[test]
    fn all_properties_hold_for_the_fuzzer_corpus() {
        let corpus = std::path::Path::new("../../fuzz/corpus");
        type Property = fn(&[u8]);
        let properties: [(&str, Property); 5] = [
            ("files", super::files),
            ("multipart", super::multipart),
            ("legacy", super::legacy),
            ("values", super::values),
            ("tokens", super::tokens),
        ];
        for (name, property) in properties {
            let mut inputs = 0;
            for file in std::fs::read_dir(corpus.join(name)).unwrap() {
                property(&std::fs::read(file.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs > 3, "{name}");
        }
    }
}
