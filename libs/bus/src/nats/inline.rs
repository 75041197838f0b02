//! Attachments inside messages: an optimization of `enqueue` that consumers do not see.
//!
//! A small file that only the consumer reads need not be staged, read and deleted. It follows the JSON of its
//! message, and a header lists the key and length of each file. The file is as durable as the message, is
//! redelivered with it, and is removed with it. When a message becomes a dead letter, its attachments are
//! staged, because readers of dead letters expect plain JSON. If the staging store is full, they stay in the
//! message.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use proto_json::HashedBytes;

use super::pull_consumer::text;
use super::{Core, names, staging};
use crate::{Attachment, BusError, EnqueueError, StagingKey};

/// Longest message with attachments. A consumer may request many messages at once, and the broker disconnects
/// clients whose pending data exceeds its limit.
const MAX_BYTES: usize = 192 << 10;

/// Most attachments in one message: the list of keys counts towards the length of the message.
const MAX_ATTACHMENTS: usize = 16;

/// An attachment that came with a message.
pub(super) type Unpacked = (StagingKey, HashedBytes);

/// Packs attachments into the message while they fit. Returns the payload and the attachments that must be
/// staged.
pub(super) fn pack(
    max_message_bytes: usize,
    headers: &mut HeaderMap,
    json: Bytes,
    attachments: Vec<Attachment>,
) -> (Bytes, Vec<Attachment>) {
    let capacity = max_message_bytes.min(MAX_BYTES);
    let mut left = capacity.saturating_sub(json.len());
    let mut packed = Vec::new();
    let mut to_stage = Vec::new();
    for file in attachments {
        if file.consumer_only && file.content.len() <= left && packed.len() < MAX_ATTACHMENTS {
            left -= file.content.len();
            packed.push(file);
        } else {
            to_stage.push(file);
        }
    }
    if packed.is_empty() {
        return (json, to_stage);
    }
    let list: Vec<_> = packed.iter().map(|file| format!("{}:{}", file.key(), file.content.len())).collect();
    headers.insert(names::ATTACHMENTS, list.join(" "));
    let mut payload = BytesMut::with_capacity(capacity - left);
    payload.extend_from_slice(&json);
    for file in packed {
        payload.extend_from_slice(file.content.bytes());
    }
    (payload.freeze(), to_stage)
}

/// Splits a payload into its JSON and its attachments.
///
/// # Errors
/// If the attachments do not match the header.
pub(super) fn unpack(headers: &HeaderMap, payload: &Bytes) -> Result<(Bytes, Vec<Unpacked>), BusError> {
    let (json, parts) = split(headers, payload)?;
    let files = parts.into_iter().map(|(key, bytes)| {
        let content = HashedBytes::of(bytes);
        if content.sha256() != key.sha256 {
            return Err(BusError::refused("an attachment of the message is damaged"));
        }
        Ok((key, content))
    });
    Ok((json, files.collect::<Result<_, _>>()?))
}

/// Returns the JSON of a payload without verifying its attachments.
pub(super) fn json(headers: &HeaderMap, payload: &Bytes) -> Result<Bytes, BusError> {
    split(headers, payload).map(|(json, _)| json)
}

fn split(headers: &HeaderMap, payload: &Bytes) -> Result<(Bytes, Vec<(StagingKey, Bytes)>), BusError> {
    let Some(list) = text(headers, names::ATTACHMENTS) else { return Ok((payload.clone(), Vec::new())) };
    let invalid = || BusError::refused("the list of attachments does not match the message");
    let mut json = payload.clone();
    let mut files = Vec::new();
    // From the end, because the length of the JSON is not stated.
    for entry in list.rsplit(' ') {
        let (key, bytes) = entry.split_once(':').ok_or_else(invalid)?;
        let (key, bytes) = (key.parse().map_err(|_| invalid())?, bytes.parse().map_err(|_| invalid())?);
        let start = json.len().checked_sub(bytes).ok_or_else(invalid)?;
        files.push((key, json.split_off(start)));
    }
    files.reverse();
    Ok((json, files))
}

/// Stages the attachments of a message that becomes a dead letter. Returns its JSON, or `None` if the
/// attachments must stay in the message because the staging store is full or the message is damaged.
///
/// # Errors
/// If the broker cannot be reached.
pub(super) async fn stage_attachments(
    core: &Arc<Core>,
    headers: &HeaderMap,
    payload: &Bytes,
) -> Result<Option<Bytes>, BusError> {
    let Ok((json, files)) = unpack(headers, payload) else { return Ok(None) };
    for (key, content) in files {
        match staging::put_in_memory(core, key, content).await {
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

    fn file(bytes: usize, consumer_only: bool) -> Attachment {
        let content = HashedBytes::of(vec![7; bytes].into());
        Attachment { upload: UploadId::generate(), content, consumer_only }
    }

    fn unpacked(file: &Attachment) -> Unpacked {
        (file.key(), file.content.clone())
    }

    #[test]
    fn attachments_that_fit_are_packed_and_the_others_are_staged() {
        let files = [file(100, true), file(0, true), file(10, false), file(901, true), file(890, true)];
        let mut headers = HeaderMap::new();
        let (payload, to_stage) =
            pack(1_000, &mut headers, Bytes::from_static(b"0123456789"), files.to_vec());
        assert_eq!(payload.len(), 1_000);
        assert_eq!(to_stage, [files[2].clone(), files[3].clone()]);
        let (json, found) = unpack(&headers, &payload).unwrap();
        assert_eq!(json, "0123456789");
        assert_eq!(found, [unpacked(&files[0]), unpacked(&files[1]), unpacked(&files[4])]);
    }

    #[test]
    fn number_of_attachments_is_limited_so_that_the_header_stays_short() {
        let mut headers = HeaderMap::new();
        let files = (0..40).map(|_| file(1, true)).collect();
        let (payload, to_stage) = pack(1_000, &mut headers, Bytes::from_static(b"{}"), files);
        assert_eq!((payload.len(), to_stage.len()), (2 + MAX_ATTACHMENTS, 40 - MAX_ATTACHMENTS));
        let list = text(&headers, names::ATTACHMENTS).unwrap();
        assert!(list.len() < staging::MESSAGE_OVERHEAD - 1_024);
    }

    #[test]
    fn message_that_does_not_match_its_list_is_refused() {
        let mut headers = HeaderMap::new();
        let (payload, _) = pack(1_000, &mut headers, Bytes::from_static(b"{}"), vec![file(20, true)]);
        assert!(unpack(&headers, &payload.slice(..19)).is_err());
        assert!(unpack(&headers, &payload.slice(1..)).is_ok_and(|(json, _)| json == "}"));
        let mut other = payload.to_vec();
        other[10] = 0;
        assert!(unpack(&headers, &other.into()).is_err());
        for wrong in ["", "x", "x:1", "a.b:c"] {
            headers.insert(names::ATTACHMENTS, wrong);
            assert!(unpack(&headers, &payload).is_err(), "{wrong}");
        }
    }
}
