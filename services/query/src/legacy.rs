//! The legacy read routes `/api/get_patient` and `/api/get_patient/{id}`.
//!
//! The response of a patient contains every file as base64. It is streamed: only the lists of records are in
//! memory, and one file at a time is read and encoded.

use std::collections::VecDeque;
use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_server::problem::{ApiError, text};
use proto_json::legacy::PatientIds;
use proto_json::{BlobInfo, Bpm, Mrn, MrnError, Page, RecordId, Timestamp, UploadId};
use store::{BlobKey, ByteStream, PageRequest, StoreError};

use crate::errors::store_error;
use crate::params::Segment;
use crate::state::Ports;

/// Records per page when the lists are read.
const PAGE: usize = 500;
/// Size of the pieces that are encoded at once, in bytes. Must be a multiple of 3.
const ENCODE_AT_ONCE: usize = 48 * 1024;

pub(crate) async fn patient_ids(State(store): State<Ports>) -> Response {
    match store.patients.mrns().await {
        Ok(id) => Json(PatientIds { id }).into_response(),
        Err(error) => store_error(error).into_text(),
    }
}

pub(crate) async fn patient(State(store): State<Ports>, raw: Result<Segment, ApiError>) -> Response {
    let raw = match raw {
        Ok(Segment(raw)) => raw,
        Err(error) => return error.into_text(),
    };
    let unknown = |number: &str| {
        text(StatusCode::BAD_REQUEST, format!("{number} does not exist in the current database"))
    };
    let mrn = match raw.parse::<Mrn>() {
        Ok(mrn) => mrn,
        Err(MrnError::NotAnInteger) => {
            return text(StatusCode::BAD_REQUEST, format!("{raw} cannot be converted into integer"));
        }
        // An integer outside of the range of record numbers.
        Err(MrnError::OutOfRange) => return unknown(raw.trim()),
    };
    match patient_response(store, mrn).await {
        Ok(Some(response)) => response,
        Ok(None) => unknown(&mrn.to_string()),
        Err(error) => error.into_text(),
    }
}

async fn patient_response(store: Ports, mrn: Mrn) -> Result<Option<Response>, ApiError> {
    let Some(patient) = store.patients.patient(mrn).await.map_err(store_error)? else { return Ok(None) };
    let ecgs = ecgs(&store, mrn).await?;
    let images = images(&store, mrn).await?;

    let mut pieces = Pieces::default();
    pieces.text("{\"ecg_image\":[");
    pieces.files(ecgs.iter().map(|ecg| ecg.picture));
    let rates: Vec<u16> = ecgs.iter().map(|ecg| ecg.heart_rate.map_or(0, Bpm::get)).collect();
    let times: Vec<String> = ecgs.iter().map(|ecg| ecg.received_at.local_seconds()).collect();
    pieces.text(&format!("],\"heart_rate\":{},\"id\":{mrn},\"medical_image\":[", json(&rates)?));
    pieces.files(images.into_iter().map(|image| image.file));
    let name = patient.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("Not Specified");
    pieces.text(&format!("],\"name\":{},\"timestamp\":{}}}", json(&name)?, json(&times)?));

    // The length is known before the first file is read, so clients can detect a response that was aborted.
    let headers = [
        (header::CONTENT_TYPE, header::HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, pieces.bytes.into()),
    ];
    Ok(Some((headers, Body::from_stream(pieces.stream(store))).into_response()))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(ApiError::internal)
}

/// The stored file of a record.
#[derive(Clone, Copy)]
struct File {
    key: BlobKey,
    bytes: u64,
}

impl File {
    fn of(upload: UploadId, blob: &BlobInfo) -> Self {
        File { key: BlobKey { upload, sha256: blob.sha256 }, bytes: blob.bytes }
    }
}

/// Rejects a page with damaged records: the legacy format cannot represent them, and omitting them would look
/// complete.
fn reject_damaged<T>(page: Result<Page<T>, StoreError>) -> Result<Page<T>, ApiError> {
    let mut page = page.map_err(store_error)?;
    match page.damaged.pop() {
        None => Ok(page),
        Some(record) => Err(store_error(StoreError::Damaged(record))),
    }
}

struct LegacyEcg {
    received_at: Timestamp,
    id: RecordId,
    picture: File,
    heart_rate: Option<Bpm>,
}

/// Returns all ECGs that have a picture, ordered by time of receipt.
async fn ecgs(store: &Ports, mrn: Mrn) -> Result<Vec<LegacyEcg>, ApiError> {
    let mut found = Vec::new();
    let mut page = PageRequest { after: None, limit: PAGE, include_errors: false };
    loop {
        let ecgs = reject_damaged(store.patients.ecgs(mrn, page).await)?;
        found.extend(ecgs.items.iter().filter_map(|ecg| {
            Some(LegacyEcg {
                received_at: ecg.received_at,
                id: ecg.id,
                picture: File::of(ecg.upload_id, ecg.plot.as_ref()?),
                heart_rate: ecg.heart_rate,
            })
        }));
        page.after = ecgs.next;
        if page.after.is_none() {
            break;
        }
    }
    found.sort_by_key(|ecg| (ecg.received_at, ecg.id));
    Ok(found)
}

struct LegacyImage {
    received_at: Timestamp,
    id: RecordId,
    file: File,
}

/// Returns all medical images, ordered by time of receipt.
async fn images(store: &Ports, mrn: Mrn) -> Result<Vec<LegacyImage>, ApiError> {
    let mut found = Vec::new();
    let mut page = PageRequest { after: None, limit: PAGE, include_errors: false };
    loop {
        let images = reject_damaged(store.patients.images(mrn, page).await)?;
        found.extend(images.items.iter().map(|image| LegacyImage {
            received_at: image.at,
            id: image.id,
            file: File::of(image.upload_id, &image.file),
        }));
        page.after = images.next;
        if page.after.is_none() {
            break;
        }
    }
    found.sort_by_key(|image| (image.received_at, image.id));
    Ok(found)
}

/// The pieces of a response in order: text, and files that are read and encoded when they are sent.
#[derive(Default)]
struct Pieces {
    queue: VecDeque<Piece>,
    /// Length of the whole response.
    bytes: u64,
}

enum Piece {
    Text(Bytes),
    File(File),
}

impl Pieces {
    fn text(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        self.queue.push_back(Piece::Text(Bytes::copy_from_slice(text.as_bytes())));
    }

    /// Adds the elements of a JSON array of base64 strings.
    fn files(&mut self, files: impl Iterator<Item = File>) {
        for (index, file) in files.enumerate() {
            let opening: &'static str = if index == 0 { "\"" } else { ",\"" };
            self.queue.push_back(Piece::Text(Bytes::from_static(opening.as_bytes())));
            self.queue.push_back(Piece::File(file));
            self.queue.push_back(Piece::Text(Bytes::from_static(b"\"")));
            self.bytes += opening.len() as u64 + file.bytes.div_ceil(3) * 4 + 1;
        }
    }

    fn stream(self, store: Ports) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::iter(self.queue)
            .then(move |piece| {
                let store = store.clone();
                async move {
                    match piece {
                        Piece::Text(text) => stream::once(async move { Ok(text) }).boxed(),
                        Piece::File(file) => match store.files.blob(file.key).await {
                            Ok(Some(blob)) => base64_stream(blob.body).boxed(),
                            Ok(None) => abort("a record names a file that is not stored"),
                            Err(error) => abort(error),
                        },
                    }
                }
            })
            .flatten()
    }
}

/// The status has been sent already: abort the connection. The client detects it by the length.
fn abort(cause: impl std::fmt::Display) -> ByteStream {
    tracing::error!(%cause, "a response was aborted");
    let error = io::Error::other("a stored file could not be read");
    stream::once(async move { Err(error) }).boxed()
}

/// Encodes a stream as base64. Bytes that do not fill a group of 3 are kept for the next chunk.
fn base64_stream(body: ByteStream) -> impl Stream<Item = io::Result<Bytes>> + Send {
    struct Encoder {
        body: ByteStream,
        /// Bytes that are not encoded yet.
        chunk: Bytes,
        /// Up to two bytes of an incomplete group.
        rest: Vec<u8>,
        ended: bool,
    }
    let encoder = Encoder { body, chunk: Bytes::new(), rest: Vec::with_capacity(3), ended: false };
    stream::unfold(encoder, |mut state| async move {
        loop {
            if state.ended {
                return None;
            }
            if state.chunk.is_empty() {
                match state.body.next().await {
                    Some(Ok(chunk)) => state.chunk = chunk,
                    Some(Err(error)) => {
                        state.ended = true;
                        return Some((Err(error), state));
                    }
                    None => {
                        state.ended = true;
                        let last = STANDARD.encode(&state.rest);
                        return (!last.is_empty()).then(|| (Ok(Bytes::from(last)), state));
                    }
                }
                continue;
            }
            let mut text = String::new();
            if !state.rest.is_empty() {
                let missing = (3 - state.rest.len()).min(state.chunk.len());
                state.rest.extend_from_slice(&state.chunk.split_to(missing));
                if state.rest.len() < 3 {
                    continue;
                }
                STANDARD.encode_string(&state.rest, &mut text);
                state.rest.clear();
            }
            let at_once = state.chunk.len().min(ENCODE_AT_ONCE);
            let whole = state.chunk.split_to(at_once - at_once % 3);
            STANDARD.encode_string(&whole, &mut text);
            if state.chunk.len() < 3 {
                state.rest.extend_from_slice(&state.chunk);
                state.chunk.clear();
            }
            if !text.is_empty() {
                return Some((Ok(Bytes::from(text)), state));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn base64_is_continuous_over_chunks_of_any_size() {
        let data: Vec<u8> = (0..200_000u32).map(|index| (index * 7 + index / 251) as u8).collect();
        for length in [0, 1, 2, 3, 4, 5, 1000, data.len()] {
            for chunk in [1, 2, 3, 4, 7, 1000, 65_536, 200_000] {
                if length / chunk > 2_000 {
                    continue;
                }
                let data = &data[..length];
                let chunks: Vec<io::Result<Bytes>> =
                    data.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
                let parts: Vec<Bytes> =
                    base64_stream(stream::iter(chunks).boxed()).try_collect().await.unwrap();
                assert_eq!(parts.concat(), STANDARD.encode(data).as_bytes(), "{length} bytes by {chunk}");
            }
        }
    }
}
