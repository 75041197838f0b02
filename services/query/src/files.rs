//! Serves stored files: entity tags, conditional requests, byte ranges and safe headers.
//!
//! Ranges are handled here and not with `axum-range`, which needs a seekable body; a stored file is a stream.
//! The `headers` crate does not distinguish a malformed range (the whole file, 200) from an unsatisfiable one
//! (416).

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_server::problem::{ApiError, ProblemType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proto_json::{BlobInfo, MediaType, UploadId};
use store::{BlobKey, ByteStream};

use crate::errors::{damaged, file_error, store_error};
use crate::state::Ports;

/// Characters that `filename*` does not percent-encode, RFC 8187.
const EXT_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// An uploaded file never changes, so clients may cache it. Shared caches must not, because the content is private.
pub(crate) const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, immutable, max-age=31536000");
/// The result of an analysis can be replaced, so clients compare its tag before they use a cached copy.
pub(crate) const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Prevents a file that a browser opens as a page from running scripts or loading anything.
pub(crate) const FILE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Answers a GET or HEAD request for a file of this upload. `stem` is the file name if the client gave none;
/// `cache` is [`IMMUTABLE`] or [`REVALIDATE`].
pub(crate) async fn serve(
    store: &Ports,
    upload: UploadId,
    blob: &BlobInfo,
    (stem, cache): (&str, HeaderValue),
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let tag = format!("\"{}\"", blob.sha256);
    let tag = HeaderValue::try_from(tag).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, cache);
    if request.get_all(header::IF_NONE_MATCH).iter().any(|value| contains_tag(value, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }

    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(blob.media_type)));
    headers.insert(header::CONTENT_DISPOSITION, disposition(blob, stem)?);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, FILE_POLICY);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));

    // With a different entity tag in `If-Range`, the range refers to another file: send the whole file.
    let range_holds = request.get(header::IF_RANGE).is_none_or(|value| value == tag);
    let range_header = request.get(header::RANGE).filter(|_| range_holds && method == Method::GET);
    let (status, range) = match range_header.map(|value| parse_range(value, blob.bytes)) {
        None | Some(RangeRequest::Whole) => (StatusCode::OK, 0..blob.bytes),
        Some(RangeRequest::Part(range)) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.bytes);
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(text).map_err(ApiError::internal)?);
            (StatusCode::PARTIAL_CONTENT, range)
        }
        Some(RangeRequest::Unsatisfiable) => {
            let text = format!("bytes */{}", blob.bytes);
            let value = HeaderValue::try_from(text).map_err(ApiError::internal)?;
            return Err(ApiError::new(ProblemType::RANGE, format!("The file has {} bytes.", blob.bytes))
                .header(header::CONTENT_RANGE, value));
        }
    };
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if method == Method::HEAD {
        return Ok((status, headers).into_response());
    }
    let stored = store.files.blob(BlobKey { upload, sha256: blob.sha256 }).await.map_err(store_error)?;
    let stored =
        stored.ok_or_else(|| damaged(&format!("the stored file (sha256 {}) is missing", blob.sha256)))?;
    // Read the first chunk before the response starts, so that a damaged file is an error response. Later
    // errors can only abort the connection.
    let mut body = select_range(stored.body, range);
    let body = match body.next().await {
        None => Body::empty(),
        Some(Err(error)) => return Err(file_error(&error)),
        Some(first) => Body::from_stream(stream::iter([first]).chain(body)),
    };
    Ok((status, headers, body).into_response())
}

fn content_type(media_type: MediaType) -> &'static str {
    media_type.as_str()
}

/// Returns whether an `If-None-Match` value contains the tag. Uses weak comparison, RFC 9110 section 13.1.2.
pub(crate) fn contains_tag(value: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(value), Ok(tag)) = (value.to_str(), tag.to_str()) else { return false };
    value.trim() == "*" || value.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

/// The part of a file that a `Range` header requests.
#[derive(Debug, PartialEq, Eq)]
enum RangeRequest {
    /// No range, several ranges, or a unit other than bytes: the whole file, as RFC 9110 allows.
    Whole,
    Part(Range<u64>),
    /// The range is outside of the file.
    Unsatisfiable,
}

fn parse_range(value: &HeaderValue, bytes: u64) -> RangeRequest {
    let Some(spec) = value.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return RangeRequest::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return RangeRequest::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.is_empty() => first..bytes,
        (None, Some(suffix)) if first.is_empty() => bytes.saturating_sub(suffix)..bytes,
        _ => return RangeRequest::Whole,
    };
    if range.start < range.end { RangeRequest::Part(range) } else { RangeRequest::Unsatisfiable }
}

/// Reduces the stream of a whole file to a range.
fn select_range(body: ByteStream, range: Range<u64>) -> ByteStream {
    let mut at = 0;
    let parts = body.map_ok(move |mut part: Bytes| {
        let start = at;
        at += part.len() as u64;
        let from = range.start.saturating_sub(start).min(part.len() as u64);
        let to = range.end.saturating_sub(start).min(part.len() as u64);
        let part = if from < to { part.split_to(to as usize).split_off(from as usize) } else { Bytes::new() };
        (part, at >= range.end)
    });
    // Stop reading from the store after the last byte of the range.
    stream::unfold(Some(parts.boxed()), |parts| async move {
        let mut parts = parts?;
        match parts.next().await? {
            Ok((part, last)) => Some((Ok(part), (!last).then_some(parts))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .filter(|part| {
        let keep = !matches!(part, Ok(part) if part.is_empty());
        async move { keep }
    })
    .boxed()
}

/// Builds `Content-Disposition` with the client's file name, encoded so that no name can end the header
/// value.
fn disposition(blob: &BlobInfo, stem: &str) -> Result<HeaderValue, ApiError> {
    let picture = matches!(blob.media_type, MediaType::Png | MediaType::Jpeg);
    let kind = if picture { "inline" } else { "attachment" };
    let fallback = format!("{stem}.{}", blob.media_type.extension());
    let name = blob.file_name.as_deref().filter(|name| !name.is_empty());
    let name = name.map_or(fallback, |name| with_extension(name, blob.media_type));
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-._ ".contains(letter) { letter } else { '_' })
        .collect();
    let mut value = format!("{kind}; filename=\"{plain}\"");
    if plain != name {
        value.push_str(&format!("; filename*=UTF-8''{}", utf8_percent_encode(&name, EXT_VALUE)));
    }
    HeaderValue::try_from(value).map_err(ApiError::internal)
}

/// Appends the extension of the content's type unless the name has one: a PNG named `x.html` is saved as
/// `x.html.png`.
fn with_extension(name: &str, content: MediaType) -> String {
    let usual = content.extension();
    let fits = match (name.rsplit_once('.'), content) {
        (None, _) => false,
        (Some((_, extension)), MediaType::Jpeg) => {
            extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg")
        }
        (Some((_, extension)), MediaType::Csv) => {
            extension.eq_ignore_ascii_case("csv") || extension.eq_ignore_ascii_case("txt")
        }
        (Some((_, extension)), _) => extension.eq_ignore_ascii_case(usual),
    };
    if fits { name.to_owned() } else { format!("{name}.{usual}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &'static str) -> RangeRequest {
        parse_range(&HeaderValue::from_static(text), 10)
    }

    #[test]
    fn single_byte_range_is_parsed_and_anything_else_selects_the_whole_file() {
        assert_eq!(range("bytes=0-0"), RangeRequest::Part(0..1));
        assert_eq!(range("bytes=3-"), RangeRequest::Part(3..10));
        assert_eq!(range("bytes=3-99999999999999999999999"), RangeRequest::Part(3..10));
        assert_eq!(range("bytes=-4"), RangeRequest::Part(6..10));
        assert_eq!(range("bytes=-40"), RangeRequest::Part(0..10));
        assert_eq!(range("bytes=10-"), RangeRequest::Unsatisfiable);
        assert_eq!(range("bytes=-0"), RangeRequest::Unsatisfiable);
        for text in
            ["bytes=4-3", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=a-b", "bytes=-", "bytes=+1-2"]
        {
            assert_eq!(range(text), RangeRequest::Whole, "{text}");
        }
    }

    #[tokio::test]
    async fn range_spans_chunks_and_stops_reading_after_its_end() {
        for (range, expected) in [(0..10, "abcdefghij"), (2..4, "cd"), (3..6, "def"), (4..9, "efghi")] {
            let chunks = ["abc", "def", "ghij"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
            // The stream never ends, so reading past the range would hang.
            let body = stream::iter(chunks).chain(stream::pending()).boxed();
            let selected: Vec<Bytes> = select_range(body, range).try_collect().await.unwrap();
            assert_eq!(selected.concat(), expected.as_bytes());
        }
    }

    #[test]
    fn file_names_cannot_end_the_header_value() {
        let blob = |name: Option<&str>| BlobInfo {
            sha256: proto_json::BlobHash::of(b""),
            bytes: 0,
            media_type: MediaType::Jpeg,
            file_name: name.map(str::to_owned),
            width: None,
            height: None,
        };
        let value = |name| disposition(&blob(name), "image-1").unwrap().to_str().unwrap().to_owned();
        assert_eq!(value(None), "inline; filename=\"image-1.jpg\"");
        assert_eq!(value(Some("a b.jpg")), "inline; filename=\"a b.jpg\"");
        assert_eq!(
            value(Some("x\"; y=\"é\r\n.jpg")),
            "inline; filename=\"x__ y_____.jpg\"; filename*=UTF-8''x%22%3B%20y%3D%22%C3%A9%0D%0A.jpg"
        );
    }

    #[test]
    fn saved_file_has_an_extension_of_its_content_type() {
        for (name, content, saved) in [
            ("x.html", MediaType::Png, "x.html.png"),
            ("x.PNG", MediaType::Png, "x.PNG"),
            ("x.jpeg", MediaType::Jpeg, "x.jpeg"),
            ("x.png", MediaType::Jpeg, "x.png.jpg"),
            ("strip", MediaType::Csv, "strip.csv"),
            ("strip.txt", MediaType::Csv, "strip.txt"),
            ("strip.exe", MediaType::Edf, "strip.exe.edf"),
        ] {
            assert_eq!(with_extension(name, content), saved);
        }
    }

    #[test]
    fn each_listed_entity_tag_is_compared() {
        let tag = HeaderValue::from_static("\"abc\"");
        for value in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(contains_tag(&HeaderValue::from_static(value), &tag), "{value}");
        }
        for value in ["abc", "\"abcd\"", ""] {
            assert!(!contains_tag(&HeaderValue::from_static(value), &tag), "{value}");
        }
    }
}
