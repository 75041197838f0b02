//! A `multipart/form-data` body of known length that is read from disk while it is sent.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, Take};

/// Bytes handed to the connection at a time: small enough for a smooth progress bar.
const CHUNK: usize = 64 << 10;

/// A form; its parts are sent in the order they were added.
#[derive(Debug)]
pub(crate) struct Form {
    boundary: String,
    pieces: VecDeque<Piece>,
    length: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    File { path: PathBuf, file: Take<File>, left: u64 },
}

/// What a file part says of itself.
#[derive(Debug)]
pub(crate) struct FilePart<'a> {
    pub(crate) field: &'a str,
    pub(crate) file_name: &'a str,
    pub(crate) media_type: &'a str,
}

impl Form {
    pub(crate) fn new() -> Self {
        // A random UUID does not occur in the content.
        let boundary = format!("bedside-{}", uuid::Uuid::now_v7().simple());
        Form { boundary, pieces: VecDeque::new(), length: 0 }
    }

    pub(crate) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub(crate) fn text(&mut self, field: &str, value: &str) {
        let head = format!("--{}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n", self.boundary);
        self.push(head);
        self.push(value.to_owned());
        self.push("\r\n".to_owned());
    }

    pub(crate) fn bytes(&mut self, part: &FilePart<'_>, content: Bytes) {
        self.push(self.head(part));
        self.length += content.len() as u64;
        self.pieces.push_back(Piece::Bytes(content));
        self.push("\r\n".to_owned());
    }

    /// `length` bytes of the file are sent: those that were there when it was opened.
    pub(crate) fn file(&mut self, part: &FilePart<'_>, path: PathBuf, file: File, length: u64) {
        self.push(self.head(part));
        self.length += length;
        self.pieces.push_back(Piece::File { path, file: file.take(length), left: length });
        self.push("\r\n".to_owned());
    }

    /// Ends the form; its length in bytes and its content.
    pub(crate) fn finish(mut self) -> (u64, impl Stream<Item = Result<Bytes, FileError>> + Send + 'static) {
        self.push(format!("--{}--\r\n", self.boundary));
        (self.length, futures::stream::try_unfold(self.pieces, next_chunk))
    }

    fn head(&self, part: &FilePart<'_>) -> String {
        format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
            self.boundary,
            part.field,
            quotable(part.file_name),
            part.media_type
        )
    }

    fn push(&mut self, text: String) {
        self.length += text.len() as u64;
        self.pieces.push_back(Piece::Bytes(text.into()));
    }
}

/// A file could not be read to the length it had when it was opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct FileError {
    pub(crate) path: String,
    pub(crate) reason: String,
}

async fn next_chunk(mut pieces: VecDeque<Piece>) -> Result<Option<(Bytes, VecDeque<Piece>)>, FileError> {
    loop {
        match pieces.front_mut() {
            None => return Ok(None),
            Some(Piece::Bytes(bytes)) if bytes.is_empty() => drop(pieces.pop_front()),
            Some(Piece::Bytes(bytes)) => {
                let chunk = bytes.split_to(bytes.len().min(CHUNK));
                return Ok(Some((chunk, pieces)));
            }
            Some(Piece::File { left: 0, .. }) => drop(pieces.pop_front()),
            Some(Piece::File { path, file, left }) => {
                let fail = |reason: String| FileError { path: path.display().to_string(), reason };
                let mut chunk = BytesMut::with_capacity(CHUNK);
                let read =
                    file.read_buf(&mut chunk).await.map_err(|error: io::Error| fail(error.to_string()))?;
                if read == 0 {
                    return Err(fail("it became shorter while it was sent".to_owned()));
                }
                *left -= read as u64;
                return Ok(Some((chunk.freeze(), pieces)));
            }
        }
    }
}

/// A file name that can stand between quotes in a header of a part, whatever it held.
fn quotable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || c == '"' || c == '\\' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn a_form_has_the_length_it_announces_and_cannot_be_broken_out_of() {
        let mut form = Form::new();
        let boundary = form.boundary.clone();
        form.text("name", "Ann");
        let part = FilePart { field: "ecg", file_name: "a\"\r\nX: y\\.csv", media_type: "text/csv" };
        form.bytes(&part, Bytes::from(vec![b'1'; 3 * CHUNK + 1]));
        let (length, stream) = form.finish();
        let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        let all = chunks.concat();
        assert_eq!(all.len() as u64, length);
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"ecg\"; filename=\"a___X: y_.csv\"\r\n\
             Content-Type: text/csv\r\n\r\n111"
        )));
        assert!(text.ends_with(&format!("1\r\n--{boundary}--\r\n")));
    }
}
