//! Streams, subjects and headers on the broker.

use proto_json::{Mrn, Queue};

use crate::StagingKey;

/// Messages that were given up.
pub(super) const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// How many attempts of messages count that were delivered more than once.
pub(super) const ATTEMPTS: &str = "ATTEMPTS";
/// Which content an upload id is tied to.
pub(super) const CLAIMS: &str = "CLAIMS";
/// Staged files.
pub(super) const BLOBS: &str = "BLOBS";

/// First word of all subjects of a lane, but the first lane.
const LANE: &str = "lane";

/// Where the receipt of a message goes.
pub(super) const REPLY_TO: &str = "Bedside-Reply-To";
/// W3C trace context.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// Why a message was given up.
pub(super) const REASON: &str = "Bedside-Reason";
/// How often a dead letter was tried.
pub(super) const DEAD_ATTEMPTS: &str = "Bedside-Attempts";
/// Names and lengths of the files behind the JSON of a message: `<upload>.<sha256>:<bytes>`, with a space between them.
pub(super) const ENCLOSED: &str = "Bedside-Enclosed";
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

/// Name of a stream in one of the lanes. In the first it has no number: where there is one lane only, nothing tells of any.
pub(super) fn stream(kind: &str, lane: usize) -> String {
    if lane == 0 { kind.to_owned() } else { format!("{kind}_{}", lane + 1) }
}

/// A subject as it is in one of the lanes.
pub(super) fn in_lane(lane: usize, subject: &str) -> String {
    if lane == 0 { subject.to_owned() } else { format!("{LANE}.{}.{subject}", lane + 1) }
}

/// All consumers of a queue share one cursor in each lane; it has the name of the queue.
pub(super) fn consumer(queue: Queue) -> &'static str {
    queue.name()
}

pub(super) fn dead_letter(queue: Queue, mrn: Mrn) -> String {
    format!("dead.{queue}.{mrn}")
}

/// The count of attempts of a message.
pub(super) fn attempts(stream: &str, sequence: u64) -> String {
    format!("attempt.{stream}.{sequence}")
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
pub(super) fn blob(key: StagingKey) -> String {
    format!("blob.{key}.file")
}

/// One chunk of a staged file.
pub(super) fn chunk(key: StagingKey, chunks: &str, number: u64) -> String {
    format!("blob.{key}.{chunks}.{number}")
}

/// All chunks of one put.
pub(super) fn chunks_of(key: StagingKey, chunks: &str) -> String {
    format!("blob.{key}.{chunks}.*")
}

/// Everything about a staged file.
pub(super) fn all_of_blob(key: StagingKey) -> String {
    format!("blob.{key}.>")
}

/// The file a subject belongs to, in whichever lane.
pub(super) fn key_of(subject: &str) -> Option<StagingKey> {
    let mut words = subject.split('.');
    let first = words.next()?;
    let kind = if first == LANE { words.nth(1)? } else { first };
    if kind != "blob" {
        return None;
    }
    Some(StagingKey { upload: words.next()?.parse().ok()?, sha256: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proto_json::{BlobHash, UploadId};

    use super::*;

    #[test]
    fn names_of_the_first_lane_are_those_without_lanes() {
        assert_eq!((stream(BLOBS, 0), stream(BLOBS, 2)), ("BLOBS".to_owned(), "BLOBS_3".to_owned()));
        let key = StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(b"x") };
        for lane in 0..3 {
            assert_eq!(key_of(&in_lane(lane, &blob(key))), Some(key));
            assert_eq!(mrn_of(&in_lane(lane, "upload.received.7")).map(Mrn::get), Some(7));
            assert_eq!(key_of(&in_lane(lane, "upload.received.7")), None);
        }
    }
}
