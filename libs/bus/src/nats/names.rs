//! Names of streams, subjects and headers.

use proto_json::{Mrn, Queue, StreamId};

use crate::{StagingKey, WaveGroup};

/// Stream of dead letters.
pub(super) const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// Stream of attempt counts, for messages that were delivered more than once.
pub(super) const ATTEMPTS: &str = "ATTEMPTS";
/// Stream of staged files.
pub(super) const BLOBS: &str = "BLOBS";

/// Stream of live waveforms.
pub(super) const WAVES: &str = "WAVES";

/// Header: address of the reply inbox for the receipt.
pub(super) const REPLY_TO: &str = "Bedside-Reply-To";
/// Header: W3C trace context.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// Header of a dead letter: why the message was dead-lettered.
pub(super) const REASON: &str = "Bedside-Reason";
/// Header of a dead letter: number of attempts.
pub(super) const DEAD_ATTEMPTS: &str = "Bedside-Attempts";
/// Header: keys and lengths of the attachments that follow the JSON of a message:
/// `<upload>.<sha256>:<bytes>`, separated by spaces.
pub(super) const ATTACHMENTS: &str = "Bedside-Attachments";
/// Header of a staged file: name of its chunks, which are separate messages.
pub(super) const CHUNKS: &str = "Bedside-Chunks";
/// Header of a staged file: number of its chunks.
pub(super) const CHUNK_COUNT: &str = "Bedside-Chunk-Count";
/// Header of a staged file: its length, if it has chunks.
pub(super) const BYTES: &str = "Bedside-Bytes";
/// Header: message id. The broker stores a message once, however often it is published within the duplicate
/// window.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Header: the broker stores a message only if the last message of the subject has this sequence number.
pub(super) const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

/// Headers of a message of a waveform stream: its kind, its sequence number, and its server time in microseconds.
pub(super) const WAVE_KIND: &str = "Bedside-Kind";
pub(super) const WAVE_SEQUENCE: &str = "Bedside-Sequence";
pub(super) const WAVE_TIME: &str = "Bedside-Time";
/// Header of a delivery: identifies the pinned client, to which alone the broker delivers.
pub(super) const PIN_ID: &str = "Nats-Pin-Id";

/// Name of the durable consumer that all processes share; it is the name of the queue.
pub(super) fn consumer(queue: Queue) -> &'static str {
    queue.name()
}

/// Name of the durable consumer of a partition of the waveforms.
pub(super) fn wave_consumer(group: WaveGroup, partition: u16) -> String {
    format!("{}-{partition}", group.name())
}

/// Subject of all streams of a partition.
pub(super) fn waves_of(partition: u16) -> String {
    format!("wave.{partition}.*.*")
}

/// Parses the patient and the stream from the subject of a message of a waveform stream.
pub(super) fn parse_wave(subject: &str) -> Option<(Mrn, StreamId)> {
    let (_, rest) = subject.strip_prefix("wave.")?.split_once('.')?;
    let (mrn, stream) = rest.split_once('.')?;
    Some((mrn.parse().ok()?, stream.parse().ok()?))
}

/// Subject of a dead letter.
pub(super) fn dead_letter(queue: Queue, mrn: Mrn) -> String {
    format!("dead.{queue}.{mrn}")
}

/// Subject of the attempt count of a message.
pub(super) fn attempts(queue: Queue, sequence: u64) -> String {
    format!("attempt.{queue}.{sequence}")
}

/// Parses the subject of a dead letter.
pub(super) fn parse_dead_letter(subject: &str) -> Option<(Queue, Mrn)> {
    let (queue, mrn) = subject.strip_prefix("dead.")?.split_once('.')?;
    let queue = Queue::ALL.into_iter().find(|known| known.name() == queue)?;
    Some((queue, mrn.parse().ok()?))
}

/// Parses the patient from the subject of a queued message.
pub(super) fn mrn_of(subject: &str) -> Option<Mrn> {
    subject.rsplit('.').next()?.parse().ok()
}

/// Subject of a staged file: its content if it is small, else a manifest of its chunks.
pub(super) fn staged_file(key: StagingKey) -> String {
    format!("blob.{key}.file")
}

/// Subject of one chunk of a staged file.
pub(super) fn chunk(key: StagingKey, chunks: &str, number: u64) -> String {
    format!("blob.{key}.{chunks}.{number}")
}

/// Subjects of all chunks of one `put`.
pub(super) fn chunks_of(key: StagingKey, chunks: &str) -> String {
    format!("blob.{key}.{chunks}.*")
}

/// All subjects of a staged file.
pub(super) fn all_of_staged_file(key: StagingKey) -> String {
    format!("blob.{key}.>")
}

/// Parses the key from a subject of a staged file.
pub(super) fn staging_key(subject: &str) -> Option<StagingKey> {
    let mut tokens = subject.strip_prefix("blob.")?.split('.');
    Some(StagingKey { upload: tokens.next()?.parse().ok()?, sha256: tokens.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proto_json::{BlobHash, UploadId};

    use super::*;

    #[test]
    fn subjects_parse_to_the_values_they_were_built_from() {
        let key = StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(b"x") };
        assert_eq!(staging_key(&staged_file(key)), Some(key));
        assert_eq!(staging_key(&chunk(key, "name", 3)), Some(key));
        assert_eq!(staging_key("upload.received.7"), None);
        let mrn = Mrn::new(7).unwrap();
        assert_eq!(mrn_of("upload.received.7"), Some(mrn));
        let stream = StreamId::generate();
        let wave = proto_json::waveform::wave_subject(mrn, Some(stream));
        assert_eq!(parse_wave(&wave), Some((mrn, stream)));
        assert_eq!(parse_wave("wave.3.7"), None);
        assert_eq!(parse_dead_letter(&dead_letter(Queue::EcgJobs, mrn)), Some((Queue::EcgJobs, mrn)));
    }
}
