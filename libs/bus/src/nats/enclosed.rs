//! Files inside of messages.
//!
//! A small file that nobody but the consumer of a message reads need not be staged, read and deleted again: it is sent behind
//! the JSON of the message, and a header says where it begins and ends. It is then as durable as its message, goes with it
//! wherever it is delivered again, and leaves with it. Only a dead letter has its files on the stage, as it may lie for long,
//! and whoever clears the stage later looks for them in the store, too. While the stage has no room they stay inside.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use proto_json::HashedBytes;

use super::pull::text;
use super::{Core, blobs, names};
use crate::staging::StagingKey;
use crate::{BusError, EnqueueError, SmallFile};

/// Bytes of one message with files inside. A consumer may have asked for many of them at once, and the broker cuts off who
/// has more to read than it likes to keep.
const ROOM: usize = 192 << 10;

/// Files in one message: the broker counts their names as part of its length.
const MOST: usize = 16;

/// Parts the files of a message into those that fit inside of it, whose bytes are then behind its JSON, and those that have
/// to be staged.
pub(super) fn enclose(
    room: usize,
    headers: &mut HeaderMap,
    json: Bytes,
    files: Vec<SmallFile>,
) -> (Bytes, Vec<SmallFile>) {
    let room = room.min(ROOM);
    let mut left = room.saturating_sub(json.len());
    let mut fits = Vec::new();
    let mut to_stage = Vec::new();
    for file in files {
        if file.may_enclose && file.content.len() <= left && fits.len() < MOST {
            left -= file.content.len();
            fits.push(file);
        } else {
            to_stage.push(file);
        }
    }
    if fits.is_empty() {
        return (json, to_stage);
    }
    let list: Vec<_> = fits.iter().map(|file| format!("{}:{}", file.key(), file.content.len())).collect();
    headers.insert(names::ENCLOSED, list.join(" "));
    let mut whole = BytesMut::with_capacity(room - left);
    whole.extend_from_slice(&json);
    for file in fits {
        whole.extend_from_slice(file.content.bytes());
    }
    (whole.freeze(), to_stage)
}

/// The JSON of a message, and the files inside of it.
///
/// # Errors
/// When they are not what the header says.
pub(super) fn open(headers: &HeaderMap, payload: &Bytes) -> Result<(Bytes, Vec<SmallFile>), BusError> {
    let (json, parts) = part(headers, payload)?;
    let files = parts.into_iter().map(|(key, bytes)| {
        let content = HashedBytes::of(bytes);
        if content.sha256() != key.sha256 {
            return Err(BusError::refused("a file in the message is damaged"));
        }
        Ok(SmallFile { upload: key.upload, content, may_enclose: true })
    });
    Ok((json, files.collect::<Result<_, _>>()?))
}

/// The JSON of a message, without a look at what the files behind it hold.
pub(super) fn json(headers: &HeaderMap, payload: &Bytes) -> Result<Bytes, BusError> {
    part(headers, payload).map(|(json, _)| json)
}

fn part(headers: &HeaderMap, payload: &Bytes) -> Result<(Bytes, Vec<(StagingKey, Bytes)>), BusError> {
    let Some(list) = text(headers, names::ENCLOSED) else { return Ok((payload.clone(), Vec::new())) };
    let unreadable = || BusError::refused("the message does not say what files are in it");
    let mut json = payload.clone();
    let mut files = Vec::new();
    // From the end, as nothing says how long the JSON is.
    for entry in list.rsplit(' ') {
        let (key, bytes) = entry.split_once(':').ok_or_else(unreadable)?;
        let (key, bytes) = (key.parse().map_err(|_| unreadable())?, bytes.parse().map_err(|_| unreadable())?);
        let start = json.len().checked_sub(bytes).ok_or_else(unreadable)?;
        files.push((key, json.split_off(start)));
    }
    files.reverse();
    Ok((json, files))
}

/// Stages the files inside of a message that becomes a dead letter, and gives its JSON; `None` if they have to stay inside,
/// because the stage has no room, or because the message cannot be opened.
///
/// # Errors
/// When the broker cannot be reached.
pub(super) async fn take_out(
    core: &Arc<Core>,
    headers: &HeaderMap,
    payload: &Bytes,
) -> Result<Option<Bytes>, BusError> {
    let Ok((json, files)) = open(headers, payload) else { return Ok(None) };
    for file in files {
        match blobs::put_small(core, file).await {
            Ok(()) => {}
            Err(EnqueueError::Full) => return Ok(None),
            Err(EnqueueError::Bus(error)) => return Err(error),
        }
    }
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use proto_json::UploadId;

    use super::*;

    fn file(bytes: usize, may_enclose: bool) -> SmallFile {
        let content = HashedBytes::of(vec![7; bytes].into());
        SmallFile { upload: UploadId::generate(), content, may_enclose }
    }

    #[test]
    fn what_goes_in_comes_out_and_the_rest_is_staged() {
        let files = [file(100, true), file(0, true), file(10, false), file(901, true), file(890, true)];
        let mut headers = HeaderMap::new();
        let (payload, rest) = enclose(1_000, &mut headers, Bytes::from_static(b"0123456789"), files.to_vec());
        assert_eq!(payload.len(), 1_000);
        assert_eq!(rest, [files[2].clone(), files[3].clone()]);
        let (json, found) = open(&headers, &payload).unwrap();
        assert_eq!(json, "0123456789");
        assert_eq!(found, [files[0].clone(), files[1].clone(), files[4].clone()]);
    }

    #[test]
    fn many_files_do_not_make_the_header_too_long() {
        let mut headers = HeaderMap::new();
        let files = (0..40).map(|_| file(1, true)).collect();
        let (payload, rest) = enclose(1_000, &mut headers, Bytes::from_static(b"{}"), files);
        assert_eq!((payload.len(), rest.len()), (2 + MOST, 40 - MOST));
        assert!(text(&headers, names::ENCLOSED).unwrap().len() < blobs::BESIDE_PAYLOAD - 1_024);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let mut headers = HeaderMap::new();
        let (payload, _) = enclose(1_000, &mut headers, Bytes::from_static(b"{}"), vec![file(20, true)]);
        assert!(open(&headers, &payload.slice(..19)).is_err());
        assert!(open(&headers, &payload.slice(1..)).is_ok_and(|(json, _)| json == "}"));
        let mut other = payload.to_vec();
        other[10] = 0;
        assert!(open(&headers, &other.into()).is_err());
        for wrong in ["", "x", "x:1", "a.b:c"] {
            headers.insert(names::ENCLOSED, wrong);
            assert!(open(&headers, &payload).is_err(), "{wrong}");
        }
    }
}
