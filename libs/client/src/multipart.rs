//! The `multipart/form-data` body of an upload, of known length and read from disk while it is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use proto_json::MediaType;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use crate::ClientError;
use crate::upload::{FileContent, Upload, UploadFile, field};

/// Bytes handed to the connection at a time: small enough for a smooth progress bar.
const CHUNK: usize = 64 << 10;

/// A form and what is needed to follow how it is sent.
pub(crate) struct UploadForm {
    pub(crate) form: Form,
    /// Size of all files in bytes.
    pub(crate) total: u64,
    /// The first file that could not be read to its end.
    pub(crate) failed: watch::Receiver<Option<FileError>>,
}

/// A file could not be read to the length that it had when it was opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct FileError {
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// Opens the files and builds the form. `sent` is called with the number of bytes of each piece of a file that is sent.
///
/// The fields come before the files, so that the gateway can reject them before it receives the files.
///
/// # Errors
/// [`ClientError::File`], if a file cannot be opened.
pub(crate) async fn form(
    upload: &Upload,
    sent: impl Fn(u64) + Send + Sync + 'static,
) -> Result<UploadForm, ClientError> {
    let sent: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(sent);
    let (fail, failed) = watch::channel(None);
    let (mut form, mut total) = (Form::new(), 0);
    let options = &upload.signal_options;
    let fields = [
        ("name", upload.name.clone()),
        ("rename", upload.rename.then(|| "true".to_owned())),
        ("heart_rate", upload.heart_rate.map(|bpm| bpm.to_string())),
        ("recorded_at", upload.recorded_at.map(|at| at.to_string())),
        ("ecg_sample_rate", options.sample_rate_hz.map(|rate| rate.to_string())),
        ("ecg_lead", options.lead.clone()),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            form = form.text(field, value);
        }
    }
    for file in &upload.files {
        let source = open(file).await?;
        let length = source.left();
        total += length;
        let (sent, fail) = (Arc::clone(&sent), fail.clone());
        let chunks = futures::stream::try_unfold(source, move |source| {
            let (sent, fail) = (Arc::clone(&sent), fail.clone());
            async move {
                let next = next_chunk(source).await;
                match &next {
                    Ok(Some((chunk, _))) => sent(chunk.len() as u64),
                    Ok(None) => {}
                    Err(error) => drop(fail.send_replace(Some(error.clone()))),
                }
                next
            }
        });
        form = form.part(field(file.kind), part(file, chunks, length)?);
    }
    Ok(UploadForm { form, total, failed })
}

fn part(
    file: &UploadFile,
    chunks: impl Stream<Item = Result<Bytes, FileError>> + Send + 'static,
    length: u64,
) -> Result<Part, ClientError> {
    let media_type = file.media_type.map_or("application/octet-stream", MediaType::as_str);
    Part::stream_with_length(Body::wrap_stream(chunks), length)
        .file_name(quotable(&file.file_name))
        .mime_str(media_type)
        .map_err(|error| {
            ClientError::Settings(format!("the media type {media_type} cannot be sent: {error}"))
        })
}

/// The part of a file that is not sent yet.
enum Source {
    Bytes(Bytes),
    File { path: PathBuf, file: File, left: u64 },
}

impl Source {
    /// Number of bytes.
    fn left(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File { left, .. } => *left,
        }
    }
}

async fn open(file: &UploadFile) -> Result<Source, ClientError> {
    let path = match &file.content {
        FileContent::Bytes(bytes) => return Ok(Source::Bytes(bytes.clone())),
        FileContent::Path(path) => path,
    };
    let fail = |reason: String| ClientError::File { path: path.display().to_string(), reason };
    let opened = File::open(path).await.map_err(|error| fail(error.to_string()))?;
    let metadata = opened.metadata().await.map_err(|error| fail(error.to_string()))?;
    if !metadata.is_file() {
        return Err(fail("it is not a file".to_owned()));
    }
    Ok(Source::File { path: path.clone(), file: opened, left: metadata.len() })
}

async fn next_chunk(source: Source) -> Result<Option<(Bytes, Source)>, FileError> {
    match source {
        _ if source.left() == 0 => Ok(None),
        Source::Bytes(mut bytes) => {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            Ok(Some((chunk, Source::Bytes(bytes))))
        }
        Source::File { path, mut file, left } => {
            let fail = |path: &Path, reason: String| FileError { path: path.display().to_string(), reason };
            let mut chunk = BytesMut::with_capacity(CHUNK);
            // A file that has grown is sent to the length that was announced.
            let read = (&mut file).take(left).read_buf(&mut chunk).await;
            match read.map_err(|error: io::Error| fail(&path, error.to_string()))? {
                0 => Err(fail(&path, "it became shorter while it was sent".to_owned())),
                read => {
                    let left = left - read as u64;
                    Ok(Some((chunk.freeze(), Source::File { path, file, left })))
                }
            }
        }
    }
}

/// The file name without characters that need escaping in a header.
fn quotable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || c == '"' || c == '\\' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use proto_json::FileKind;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn form_is_sent_in_small_chunks_and_its_file_names_need_no_escaping() {
        let file = UploadFile::from_bytes(FileKind::Ecg, "a\"\r\nX: y\\.csv", vec![b'1'; 3 * CHUNK + 1]);
        let upload = Upload { name: Some("Ann".to_owned()), ..Upload::of(vec![file]) };
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let count = move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        };
        let UploadForm { form, total, .. } = form(&upload, count).await.unwrap();
        let boundary = form.boundary().to_owned();
        let chunks: Vec<Bytes> = form.into_stream().try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        assert_eq!((total, sent.load(Ordering::Relaxed)), (3 * CHUNK as u64 + 1, total));
        let text = String::from_utf8(chunks.concat()).unwrap();
        assert!(text.starts_with(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAnn\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"ecg\"; filename=\"a___X: y_.csv\"\r\n\
             Content-Type: text/csv\r\n\r\n111"
        )));
        assert!(text.ends_with(&format!("1\r\n--{boundary}--\r\n")));
    }
}
