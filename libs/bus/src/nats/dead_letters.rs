//! Dead letters: messages of the stream `DEAD_LETTERS`.

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::Timestamp;
use serde_json::{Value, json};

use super::pull_consumer::text;
use super::{Core, inline, names, staging};
use crate::{BusError, DeadLetter, EnqueueError};

/// Status of the message that follows the last one of a batch.
const END_OF_BATCH: u16 = 204;

/// Dead letters that the broker sends for one request, and the bytes after which it sends no more.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

pub(super) async fn list(core: &Core, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
    let mut found = Vec::new();
    let mut next = after.unwrap_or(0) + 1;
    while found.len() < limit {
        let messages = get_batch(core, next, (limit - found.len()).min(BATCH)).await?;
        if messages.is_empty() {
            break;
        }
        for message in messages {
            let Some((id, letter)) = parse(&message) else {
                return Err(BusError::refused("a dead letter has no sequence number"));
            };
            found.extend(letter);
            next = id + 1;
        }
    }
    Ok(found)
}

/// Reads up to `count` dead letters, from the sequence number `first` on. Empty if there are none.
async fn get_batch(core: &Core, first: u64, count: usize) -> Result<Vec<Message>, BusError> {
    let client = &core.connection.client;
    let inbox = client.new_inbox();
    let mut replies = core.connection.subscribe(inbox.clone()).await?;
    let subject = format!("$JS.API.DIRECT.GET.{}", names::DEAD_LETTERS);
    let wanted =
        json!({ "seq": first, "next_by_subj": "dead.*.*", "batch": count, "max_bytes": BATCH_BYTES });
    client
        .publish_with_reply(subject, inbox, Bytes::from(wanted.to_string()))
        .await
        .map_err(BusError::unavailable)?;
    let mut messages = Vec::new();
    loop {
        // A reply that was lost with its connection never arrives.
        let reply = tokio::time::timeout(core.config.request_timeout, replies.next()).await;
        let reply = reply.map_err(BusError::unavailable)?;
        let reply = reply.ok_or_else(|| BusError::unavailable("the connection is closed"))?;
        // The end of the batch.
        if reply.status.is_some_and(|status| status.as_u16() == END_OF_BATCH) {
            return Ok(messages);
        }
        match staging::direct_reply(reply)? {
            Some(message) => messages.push(message),
            None => return Ok(messages),
        }
    }
}

/// Moves a dead letter back to its queue. If this is interrupted, a repetition within the duplicate window
/// does not enqueue the message twice.
pub(super) async fn retry(core: &Core, id: u64) -> Result<bool, EnqueueError> {
    let Some(message) = get(core, &json!({ "seq": id })).await? else { return Ok(false) };
    let Some((_, Some(letter))) = parse(&message) else { return Ok(false) };
    let mut headers = HeaderMap::new();
    headers.insert(names::MESSAGE_ID, format!("dead-{id}"));
    for name in [names::TRACE_PARENT, names::ATTACHMENTS] {
        if let Some(value) = message.headers.as_ref().and_then(|of_message| text(of_message, name)) {
            headers.insert(name, value);
        }
    }
    let subject = letter.queue.subject(letter.mrn);
    core.connection.publish(subject, headers, message.payload).await??;
    Ok(delete(core, id).await?)
}

pub(super) async fn delete(core: &Core, id: u64) -> Result<bool, BusError> {
    let call = format!("STREAM.MSG.DELETE.{}", names::DEAD_LETTERS);
    // The broker also overwrites the bytes, which identify a patient.
    match core.connection.api::<Value>(&call, &json!({ "seq": id })).await? {
        Ok(_) => Ok(true),
        // The broker has no specific error for an unknown sequence number.
        Err(_) if get(core, &json!({ "seq": id })).await?.is_none() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn get(core: &Core, wanted: &Value) -> Result<Option<Message>, BusError> {
    let subject = format!("$JS.API.DIRECT.GET.{}", names::DEAD_LETTERS);
    staging::direct_reply(core.connection.request(subject, Bytes::from(wanted.to_string())).await?)
}

/// Parses the id of a dead letter, and the letter if all its headers are valid.
fn parse(message: &Message) -> Option<(u64, Option<DeadLetter>)> {
    let headers = message.headers.as_ref()?;
    let id = text(headers, "Nats-Sequence")?.parse().ok()?;
    let letter = || {
        let (queue, mrn) = names::parse_dead_letter(&text(headers, "Nats-Subject")?)?;
        Some(DeadLetter {
            id,
            queue,
            mrn,
            payload: inline::json(headers, &message.payload).unwrap_or_else(|_| message.payload.clone()),
            reason: text(headers, names::REASON).unwrap_or_default(),
            attempts: text(headers, names::DEAD_ATTEMPTS)?.parse().ok()?,
            died_at: text(headers, "Nats-Time-Stamp")?.parse().unwrap_or_else(|_| Timestamp::now()),
            // JetStream verifies its own checksums and does not deliver damaged messages.
            damaged: false,
        })
    };
    Some((id, letter()))
}
