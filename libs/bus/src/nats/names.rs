//! Streams, subjects and headers on the broker.

use proto_json::{Mrn, Queue};

use crate::StageKey;

/// Messages that were given up.
pub(super) const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// Which content an upload id is tied to.
pub(super) const CLAIMS: &str = "CLAIMS";
/// Staged files.
pub(super) const BLOBS: &str = "BLOBS";

/// Where the receipt of a message goes.
pub(super) const REPLY_TO: &str = "Bedside-Reply-To";
/// W3C trace context.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// Why a message was given up.
pub(super) const REASON: &str = "Bedside-Reason";
/// How often a message was tried before.
pub(super) const ATTEMPTS: &str = "Bedside-Attempts";
/// Names the chunks of a staged file, which are stored apart from it.
pub(super) const CHUNKS: &str = "Bedside-Chunks";
/// Number of these chunks.
pub(super) const CHUNK_COUNT: &str = "Bedside-Chunk-Count";
/// Length of a staged file whose chunks are stored apart.
pub(super) const BYTES: &str = "Bedside-Bytes";
/// Makes the broker take a message once, however often it is sent within two minutes.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Makes the broker take a message only if the subject's last one has this number.
pub(super) const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

/// All consumers of a queue share one cursor; it has the name of the stream.
pub(super) fn consumer(queue: Queue) -> &'static str {
    queue.name()
}

pub(super) fn dead_letter(queue: Queue, mrn: Mrn) -> String {
    format!("dead.{queue}.{mrn}")
}

/// Reads the subject of a dead letter.
pub(super) fn of_dead_letter(subject: &str) -> Option<(Queue, Mrn)> {
    let (queue, mrn) = subject.strip_prefix("dead.")?.split_once('.')?;
    let queue = Queue::ALL.into_iter().find(|known| known.name() == queue)?;
    Some((queue, mrn.parse().ok()?))
}

/// The patient of a message on a queue.
pub(super) fn mrn_of(subject: &str) -> Option<Mrn> {
    subject.rsplit('.').next()?.parse().ok()
}

/// A staged file: all of a small one, else the name of its chunks.
pub(super) fn blob(key: StageKey) -> String {
    format!("blob.{key}.file")
}

/// One chunk of a staged file.
pub(super) fn chunk(key: StageKey, chunks: &str, number: u64) -> String {
    format!("blob.{key}.{chunks}.{number}")
}

/// All chunks of one put.
pub(super) fn chunks_of(key: StageKey, chunks: &str) -> String {
    format!("blob.{key}.{chunks}.*")
}

/// Everything about a staged file.
pub(super) fn all_of_blob(key: StageKey) -> String {
    format!("blob.{key}.>")
}

/// The file a subject belongs to.
pub(super) fn key_of(subject: &str) -> Option<StageKey> {
    let mut words = subject.strip_prefix("blob.")?.split('.');
    let (upload, sha256) = (words.next()?, words.next()?);
    Some(StageKey { upload: upload.parse().ok()?, sha256: sha256.parse().ok()? })
}
