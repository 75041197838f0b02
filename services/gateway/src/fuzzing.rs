//! What holds of every reader here, whatever bytes a client sends: asked by the fuzzer (`scripts/fuzz`), and by a test of
//! the bytes that the fuzzer has kept.

#![allow(clippy::expect_used, reason = "what tries others out ends when something fails")]

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream;
use proto_json::Timestamp;
use runtime::ByteSize;
use serde_json::Value;

use crate::auth::tokens::Tokens;
use crate::http::body::{BodyReader, Pace};
use crate::http::multipart::{Multipart, MultipartError, boundary};
use crate::legacy::body::{LegacyBody, decode};
use crate::uploads::ecg_file::{EcgFileError, EcgFileScan};
use crate::uploads::fields;
use crate::uploads::image::{Picture, PictureError, PictureScan};

/// Pieces as they may arrive, of changing length: how they are cut follows from the last byte.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = bytes.last().copied().map_or(0, u32::from);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // A linear congruence is random enough for this.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 16) as usize % 37;
        let (piece, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Pictures and ECG files are told from their first bytes, however these arrive.
pub fn files(bytes: &[u8]) {
    const MAX_MEGAPIXELS: u32 = 64;
    fn picture<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Picture, PictureError> {
        let mut scan = PictureScan::new(MAX_MEGAPIXELS);
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
    if let Ok(Picture { width, height, .. }) = found {
        let pixels = u64::from(width) * u64::from(height);
        assert!(pixels > 0 && pixels <= u64::from(MAX_MEGAPIXELS) * 1_000_000, "{width} x {height}");
    }
    assert_eq!(ecg(pieces(bytes)), ecg(std::iter::once(bytes)));
}

/// Name, name of the file and content of each part.
pub(crate) type Parts = Vec<(String, Option<String>, Vec<u8>)>;

/// The first line is the `Content-Type`, the rest the body: the same parts come of it however it arrives.
pub fn multipart(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let boundary = boundary(&String::from_utf8_lossy(head)).unwrap_or_else(|| "XyZ".to_owned());
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (cut, whole) = clock.expect("a runtime without I/O is made of memory alone").block_on(async {
        (parts(pieces(body), &boundary).await, parts(std::iter::once(body), &boundary).await)
    });
    let delimiter = format!("\r\n--{boundary}");
    for (_, _, content) in whole.iter().flatten() {
        assert!(memchr::memmem::find(content, delimiter.as_bytes()).is_none(), "a part holds its delimiter");
    }
    assert_eq!(cut.map_err(|error| error.to_string()), whole.map_err(|error| error.to_string()));
}

/// The parts of a body that arrives in these pieces.
pub(crate) async fn parts<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    boundary: &str,
) -> Result<Parts, MultipartError> {
    let pieces: Vec<_> = pieces.map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(stream::iter(pieces));
    let pace =
        Pace { window: Duration::from_secs(60), min_rate: ByteSize(0), deadline: Duration::from_secs(60) };
    let body = BodyReader::new(body, &HeaderMap::new(), ByteSize(1 << 30), pace);
    let mut multipart = Multipart::new(body, boundary);
    let mut parts = Vec::new();
    while let Some(head) = multipart.next_part().await? {
        let mut content = Vec::new();
        while let Some(chunk) = multipart.chunk().await? {
            content.extend_from_slice(&chunk);
        }
        parts.push((head.name, head.file_name, content));
    }
    Ok(parts)
}

/// A body of the documented route says what a whole JSON parser makes of it, and its base64 is what a whole decoder makes
/// of it.
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

/// Values of forms are refused or bounded.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Some(name)) = fields::name(text.clone().into_owned()) {
        assert!(!name.is_empty() && name.chars().count() <= fields::MAX_NAME_CHARS);
    }
    let _ = (fields::lead(text.clone().into_owned()), fields::heart_rate(&text));
    if let Ok(Some(rate)) = fields::sample_rate(&text) {
        assert!((1.0..=100_000.0).contains(&rate));
    }
    let now = Timestamp::from_millis(1_800_000_000_000).expect("a time of this century");
    if let Ok(Some(at)) = fields::recorded_at(&text, now) {
        assert_eq!(at.to_string().parse(), Ok(at));
    }
    if let Some(name) = fields::file_name(&text) {
        assert!(!name.contains(['/', '\\', '\0', '\n']) && name != "." && name != "..", "{name:?}");
        assert_eq!(fields::file_name(&name).as_deref(), Some(&*name));
    }
}

/// Token lines that were read and written are read as the same again, and none of them is skipped.
pub fn tokens(bytes: &[u8]) {
    let (tokens, _skipped) = Tokens::parse(bytes);
    let written = tokens.lines();
    let (again, skipped) = Tokens::parse(written.as_bytes());
    assert_eq!((again.lines(), skipped.len()), (written, 0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// A JSON value, mostly whole, as bodies of the documented route hold them.
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
        let role =
            prop_oneof![4 => Just("viewer"), 2 => Just("uploader"), 2 => Just("admin"), 1 => Just("root")];
        ("[ \t]{0,2}", "[a-c]{1,2}", role, "[0-9a-fA-F]{64}", "( #.{0,4})?", "\r?\n").prop_map(
            |(before, name, role, digest, after, end)| format!("{before}{name} {role}\t{digest}{after}{end}"),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_body_of_the_documented_route(body in legacy_body()) {
            super::legacy(body.as_bytes());
        }

        #[test]
        fn any_file_of_tokens(lines in proptest::collection::vec(tokens_line(), 0..4)) {
            super::tokens(lines.concat().as_bytes());
        }

        #[test]
        fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::files(&bytes);
            super::multipart(&bytes);
            super::legacy(&bytes);
            super::values(&bytes);
            super::tokens(&bytes);
        }

        #[test]
        fn any_text_as_a_value(text in "[ 0-9A-Za-z.:+/\\\\\\-\u{202e}\u{0}é]{0,40}") {
            super::values(text.as_bytes());
        }
    }

    #[test]
    fn what_the_fuzzer_has_kept_holds() {
        let corpus = std::path::Path::new("../../fuzz/corpus");
        type Reader = fn(&[u8]);
        let readers: [(&str, Reader); 5] = [
            ("files", super::files),
            ("multipart", super::multipart),
            ("legacy", super::legacy),
            ("values", super::values),
            ("tokens", super::tokens),
        ];
        for (name, reader) in readers {
            let mut kept = 0;
            for file in std::fs::read_dir(corpus.join(name)).unwrap() {
                reader(&std::fs::read(file.unwrap().path()).unwrap());
                kept += 1;
            }
            assert!(kept > 3, "{name}");
        }
    }
}
