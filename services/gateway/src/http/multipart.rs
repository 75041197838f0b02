//! A streaming parser of `multipart/form-data` (RFC 7578).
//!
//! It keeps at most one chunk of the body and the headers of one part in memory. `multer`, which axum uses,
//! is not used: it buffers part headers up to the whole-body limit, so a 1 GB upload could exhaust memory.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::http::body::{BodyError, BodyReader};

/// Maximum size of the headers of a part in bytes.
const MAX_PART_HEADERS: usize = 8 * 1024;
/// Maximum length of a boundary, RFC 2046 section 5.1.1.
const MAX_BOUNDARY: usize = 70;

/// Why a form cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MultipartError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("The multipart body ends before its last boundary.")]
    Disconnected,
    #[error("The multipart body has no boundary where one must be.")]
    NoBoundary,
    #[error("The headers of part {0} are longer than 8 KB or do not end.")]
    LongHeaders(usize),
    #[error("Part {0} has headers that cannot be read.")]
    BadHeaders(usize),
    #[error("Part {0} has no name.")]
    NoName(usize),
}

/// Returns the boundary of a `Content-Type`, or `None` if it is not a valid multipart form.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, params) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(params, "boundary")?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(letter);
    let valid = !boundary.is_empty() && boundary.len() <= MAX_BOUNDARY && boundary.chars().all(allowed);
    (valid && !boundary.ends_with(' ')).then_some(boundary)
}

/// Returns a parameter of a header value: `; name=token` or `; name="quoted"`. A backslash escapes only a
/// quote, because browsers send the backslashes of Windows paths unescaped.
fn parameter(mut params: &str, wanted: &str) -> Option<String> {
    loop {
        params = params.trim_start_matches([';', ' ', '\t']);
        let (name, rest) = params.split_once('=')?;
        let rest = rest.trim_start();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut letters = quoted.char_indices().peekable();
                let end = loop {
                    match letters.next()? {
                        (at, '"') => break at,
                        (_, '\\') if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                            value.push('"');
                            letters.next();
                        }
                        (_, letter) => value.push(letter),
                    }
                };
                (value, quoted.get(end + 1..)?)
            }
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let (value, after) = rest.split_at(end);
                (value.trim().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        params = after;
    }
}

/// Name and file name of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub(crate) name: String,
    /// The file name as sent by the client. Browsers send an empty name if no file was selected.
    pub(crate) file_name: Option<String>,
}

/// Position of the parser in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Before the first boundary.
    Preamble,
    /// In the content of a part.
    Part,
    /// Directly after a boundary.
    Boundary,
    End,
}

/// The parts of a body. [`Multipart::next_part`] starts a part, [`Multipart::chunk`] returns its content.
pub(crate) struct Multipart {
    body: BodyReader,
    /// Bytes read from the body and not returned yet.
    buffer: BytesMut,
    /// CRLF, two hyphens and the boundary.
    delimiter: memmem::Finder<'static>,
    position: Position,
    parts: usize,
}

impl Multipart {
    pub(crate) fn new(body: BodyReader, boundary: &str) -> Self {
        let delimiter = memmem::Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary may be at the start of the body without a preceding CRLF.
        Multipart {
            body,
            buffer: BytesMut::from(&b"\r\n"[..]),
            delimiter,
            position: Position::Preamble,
            parts: 0,
        }
    }

    /// Returns the body, so that the rest of it can be discarded.
    pub(crate) fn into_body(self) -> BodyReader {
        self.body
    }

    /// Returns the next part, or `None` after the last one. Skips the unread content of the previous part.
    pub(crate) async fn next_part(&mut self) -> Result<Option<PartHead>, MultipartError> {
        while matches!(self.position, Position::Preamble | Position::Part) {
            let in_preamble = self.position == Position::Preamble;
            match self.up_to_delimiter().await {
                Err(MultipartError::Disconnected) if in_preamble => return Err(MultipartError::NoBoundary),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        if self.position == Position::End {
            return Ok(None);
        }
        self.fill(2).await?;
        if self.buffer.starts_with(b"--") {
            self.position = Position::End;
            // The epilogue has no meaning, but must be read before the connection can be reused.
            self.buffer.clear();
            while self.body.chunk().await?.is_some() {}
            return Ok(None);
        }
        self.parts += 1;
        // White space may follow a boundary before the line ends.
        let line = self.line_end().await?;
        if !line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(MultipartError::NoBoundary);
        }
        let mut disposition = None;
        let mut length = 0;
        loop {
            let line = self.line_end().await?;
            if line.is_empty() {
                break;
            }
            length += line.len() + 2;
            if length > MAX_PART_HEADERS {
                return Err(MultipartError::LongHeaders(self.parts));
            }
            let line = std::str::from_utf8(&line).map_err(|_| MultipartError::BadHeaders(self.parts))?;
            let (name, value) = line.split_once(':').ok_or(MultipartError::BadHeaders(self.parts))?;
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                disposition = Some(value.trim().to_owned());
            }
        }
        self.position = Position::Part;
        let (kind, params) = disposition
            .as_deref()
            .and_then(|value| value.split_once(';'))
            .ok_or(MultipartError::NoName(self.parts))?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(MultipartError::BadHeaders(self.parts));
        }
        let name = parameter(params, "name").ok_or(MultipartError::NoName(self.parts))?;
        Ok(Some(PartHead { name, file_name: parameter(params, "filename") }))
    }

    /// Returns the next chunk of the current part, or `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        if self.position != Position::Part { Ok(None) } else { self.up_to_delimiter().await }
    }

    /// Returns the available bytes before the next delimiter, or `None` after consuming the delimiter.
    async fn up_to_delimiter(&mut self) -> Result<Option<Bytes>, MultipartError> {
        loop {
            let delimiter = self.delimiter.needle().len();
            if let Some(at) = self.delimiter.find(&self.buffer) {
                if at > 0 {
                    return Ok(Some(self.buffer.split_to(at).freeze()));
                }
                self.buffer.advance(delimiter);
                self.position = Position::Boundary;
                return Ok(None);
            }
            // The last bytes may be the start of a delimiter.
            if self.buffer.len() >= delimiter {
                let sure = self.buffer.len() - (delimiter - 1);
                return Ok(Some(self.buffer.split_to(sure).freeze()));
            }
            if !self.read().await? {
                return Err(MultipartError::Disconnected);
            }
        }
    }

    /// Returns the bytes up to the next CRLF and consumes both.
    async fn line_end(&mut self) -> Result<Bytes, MultipartError> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(1);
            if let Some(at) = memmem::find(self.buffer.get(from..).unwrap_or_default(), b"\r\n") {
                if from + at > MAX_PART_HEADERS {
                    return Err(MultipartError::LongHeaders(self.parts));
                }
                let line = self.buffer.split_to(from + at).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            searched = self.buffer.len();
            // The last byte may be the CR of the line end.
            if searched > MAX_PART_HEADERS + 1 {
                return Err(MultipartError::LongHeaders(self.parts));
            }
            if !self.read().await? {
                return Err(MultipartError::Disconnected);
            }
        }
    }

    async fn fill(&mut self, bytes: usize) -> Result<(), MultipartError> {
        while self.buffer.len() < bytes {
            if !self.read().await? {
                return Err(MultipartError::Disconnected);
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<bool, MultipartError> {
        match self.body.chunk().await? {
            Some(chunk) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Helpers of the tests and of the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) mod testing {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::HeaderMap;
    use futures::stream;
    use runtime::ByteSize;

    use super::*;
    use crate::http::body::Pace;

    /// Name, file name and content of each part.
    pub(crate) type Parts = Vec<(String, Option<String>, Vec<u8>)>;

    /// Parses a body that arrives in these chunks.
    pub(crate) async fn parts<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        boundary: &str,
    ) -> Result<Parts, MultipartError> {
        let pieces: Vec<_> = pieces.map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let pace = Pace {
            window: Duration::from_secs(60),
            min_rate: ByteSize(0),
            deadline: Duration::from_secs(60),
        };
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::Parts;
    use super::*;

    async fn parts(body: &[u8], chunk: usize) -> Result<Parts, MultipartError> {
        testing::parts(body.chunks(chunk.max(1)), "XyZ").await
    }

    fn part(name: &str, file_name: Option<&str>, content: &[u8]) -> (String, Option<String>, Vec<u8>) {
        (name.to_owned(), file_name.map(str::to_owned), content.to_vec())
    }

    #[tokio::test]
    async fn parts_do_not_depend_on_chunk_boundaries() {
        let body = b"preamble\r\n--XyZ \t\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n\r\n--XyZ\r\n\
            Content-Type: text/plain\r\nContent-Disposition: form-data; filename=\"C:\\dir\\x \\\"y\\\".csv\"; name=file\r\n\r\n\
            1\r\n--XyY\r\r\n--Xy\r\n--XyZ\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n--XyZ\r\n--XyZ--epilogue";
        let expected = vec![
            part("a", None, b""),
            part("file", Some("C:\\dir\\x \"y\".csv"), b"1\r\n--XyY\r\r\n--Xy"),
            part("", None, b"--XyZ"),
        ];
        for chunk in [1, 2, 3, 5, 8, 13, 1000] {
            assert_eq!(parts(body, chunk).await.unwrap(), expected, "by {chunk}");
        }
        assert_eq!(parts(b"--XyZ--", 3).await.unwrap(), vec![]);
    }

    #[tokio::test]
    async fn malformed_bodies_are_rejected() {
        let head = "Content-Disposition: form-data; name=\"a\"\r\n";
        for body in [
            String::new(),
            "no boundary at all".to_owned(),
            "--XyZ".to_owned(),
            format!("--XyZ\r\n{head}"),
            format!("--XyZ\r\n{head}\r\nbytes"),
            format!("--XyZ\r\n{head}\r\nbytes\r\n--XyZ\r\n"),
            format!("--XyZjunk\r\n{head}\r\nbytes\r\n--XyZ--"),
            "--XyZ\r\nno header\r\n\r\nbytes\r\n--XyZ--".to_owned(),
            "--XyZ\r\nContent-Type: text/plain\r\n\r\nbytes\r\n--XyZ--".to_owned(),
            "--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\nbytes\r\n--XyZ--".to_owned(),
            format!("--XyZ\r\nX: {}\r\n{head}\r\nbytes\r\n--XyZ--", "x".repeat(9_000)),
            format!("--XyZ\r\n{}", "X: y\r\n".repeat(2_000)),
            format!("--XyZ{}\r\n{head}\r\nbytes\r\n--XyZ--", " ".repeat(MAX_PART_HEADERS + 1)),
        ] {
            for chunk in [7, 100_000] {
                assert!(parts(body.as_bytes(), chunk).await.is_err(), "{body}");
            }
        }
    }

    #[test]
    fn boundary_is_read_from_the_content_type() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc".to_owned()));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), Some("a b".to_owned()));
        for text in [
            "",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "application/json; boundary=a",
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=a\u{7}b",
        ] {
            assert_eq!(boundary(text), None, "{text}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
    }

    proptest! {
        #[test]
        fn any_input_is_parsed_without_panic_and_independently_of_chunks(
            pieces in proptest::collection::vec(prop_oneof![
                20 => Just("--XyZ".to_owned()), 20 => Just("\r\n".to_owned()), 20 => Just("--".to_owned()),
                1 => (MAX_PART_HEADERS - 3..MAX_PART_HEADERS + 3).prop_map(|length| " ".repeat(length)),
                20 => Just("Content-Disposition: form-data; name=\"a\"; filename=\"b\"".to_owned()), 20 => "[\\x00-\\x7f]{0,6}",
            ], 0..30),
            chunk in 1usize..9,
        ) {
            let body = pieces.concat();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (by_chunk, whole) = runtime.block_on(async {
                (parts(body.as_bytes(), chunk).await, parts(body.as_bytes(), 100_000).await)
            });
            prop_assert_eq!(by_chunk.map_err(|error| error.to_string()), whole.map_err(|error| error.to_string()));
        }
    }
}
