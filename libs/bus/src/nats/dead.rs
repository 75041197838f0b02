//! Messages that were given up.

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use proto_json::Timestamp;
use serde_json::{Value, json};

use super::pull::text;
use super::{Core, enclosed, names};
use crate::{BusError, DeadLetter, EnqueueError};

/// A page of dead letters.
pub(super) async fn list(core: &Core, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
    let mut found = Vec::new();
    let mut next = after.unwrap_or(0) + 1;
    while found.len() < limit {
        let wanted = json!({ "seq": next, "next_by_subj": "dead.*.*" });
        let Some(message) = get(core, &wanted).await? else { break };
        let Some((id, letter)) = read(&message) else {
            return Err(BusError::refused("a dead letter came without its number"));
        };
        found.extend(letter);
        next = id + 1;
    }
    Ok(found)
}

/// Puts a dead letter back on its queue. If this is cut off in between, doing it again within two minutes adds no second
/// one, unless it went to another lane the first time.
pub(super) async fn retry(core: &Core, id: u64) -> Result<bool, EnqueueError> {
    let Some(message) = get(core, &json!({ "seq": id })).await? else { return Ok(false) };
    let Some((_, Some(letter))) = read(&message) else { return Ok(false) };
    let mut headers = HeaderMap::new();
    headers.insert(names::MESSAGE_ID, format!("dead-{id}"));
    for name in [names::TRACE_PARENT, names::ENCLOSED] {
        if let Some(value) = message.headers.as_ref().and_then(|of| text(of, name)) {
            headers.insert(name, value);
        }
    }
    let (order, subject) = (core.lanes.of(&letter.mrn), letter.queue.subject(letter.mrn));
    core.store(order, &subject, Some(headers), message.payload).await?.done()?;
    Ok(forget(core, id).await?)
}

/// Forgets a dead letter.
pub(super) async fn forget(core: &Core, id: u64) -> Result<bool, BusError> {
    let call = format!("STREAM.MSG.DELETE.{}", names::DEAD_LETTERS);
    // Its bytes are overwritten, too: they name a patient.
    match core.link.api::<Value>(&call, &json!({ "seq": id })).await? {
        Ok(_) => Ok(true),
        // The broker has no error of its own for a number it does not have.
        Err(_) if get(core, &json!({ "seq": id })).await?.is_none() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn get(core: &Core, wanted: &Value) -> Result<Option<Message>, BusError> {
    let subject = format!("$JS.API.DIRECT.GET.{}", names::DEAD_LETTERS);
    let message = core.link.ask(subject, None, Bytes::from(wanted.to_string())).await?;
    match message.status {
        None => Ok(Some(message)),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => {
            let said = message.description.unwrap_or_else(|| status.to_string());
            Err(BusError::refused(said))
        }
    }
}

/// Number of a dead letter, and the letter itself unless it is none of ours.
fn read(message: &Message) -> Option<(u64, Option<DeadLetter>)> {
    let headers = message.headers.as_ref()?;
    let id = text(headers, "Nats-Sequence")?.parse().ok()?;
    let letter = || {
        let (queue, mrn) = names::of_dead_letter(&text(headers, "Nats-Subject")?)?;
        Some(DeadLetter {
            id,
            queue,
            mrn,
            payload: enclosed::json(headers, &message.payload).unwrap_or_else(|_| message.payload.clone()),
            reason: text(headers, names::REASON).unwrap_or_default(),
            attempts: text(headers, names::DEAD_ATTEMPTS)?.parse().ok()?,
            died_at: text(headers, "Nats-Time-Stamp")?.parse().unwrap_or_else(|_| Timestamp::now()),
            // JetStream has checksums of its own and delivers nothing that does not match.
            damaged: false,
        })
    };
    Some((id, letter()))
}
