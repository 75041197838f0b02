//! Makes the streams and consumers.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use futures::{FutureExt, StreamExt, TryStreamExt};
use proto_json::Queue;

use super::link::Link;
use super::{NatsConfig, names};
use crate::BusError;

/// Claims are kept for a day at least.
const CLAIMS_KEPT: Duration = Duration::from_secs(26 * 3600);

/// A message that waits for its next attempt gets it within seconds or minutes, which writes its count anew.
const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Room set aside for them: for 100,000 and more. The oldest go first.
const ATTEMPTS_BYTES: i64 = 16 << 20;

/// Dead letters are kept until somebody has dealt with them, but the disk is not theirs.
const DEAD_LETTERS_MOST: i64 = 100_000;

/// Percents of the room for files: of those on the stage, and of those inside of messages, with the messages.
const PERCENT_STAGED: u64 = 60;
const PERCENT_IN_UPLOADS: u64 = 30;
const PERCENT_IN_RESULTS: u64 = 10;
const _: () = assert!(PERCENT_STAGED + PERCENT_IN_UPLOADS + PERCENT_IN_RESULTS == 100);

/// How often, and with which growing wait, a stream is tried to be made.
const MAKE_ATTEMPTS: u32 = 6;
const MAKE_WAIT: Duration = Duration::from_millis(100);
/// Streams that are made at the same time: in a cluster, each takes a while and little work.
const MADE_AT_ONCE: usize = 5;

/// Makes what is missing of streams and consumers, and adapts what is there to `config`. Run it once by a user who may,
/// where the services' users may not.
///
/// # Errors
/// When the broker cannot be reached or refuses, as when the limits exceed its storage.
pub async fn provision(config: &NatsConfig) -> Result<(), BusError> {
    make_all(&Link::connect(config).await?, config).await
}

pub(super) async fn make_all(link: &Link, config: &NatsConfig) -> Result<(), BusError> {
    let jetstream = jetstream::new(link.client.clone());
    let mut makes = Vec::new();
    for lane in 0..config.lanes {
        makes.extend(Queue::ALL.map(|queue| make_queue(&jetstream, config, queue, lane).boxed()));
        let claims = Config {
            max_messages_per_subject: 1,
            max_age: CLAIMS_KEPT,
            ..in_lane(config, lane, names::CLAIMS, "claim.*")
        };
        let blobs = Config {
            max_messages_per_subject: 1,
            max_bytes: share(config, percent(config.limits.max_staged_bytes, PERCENT_STAGED)),
            discard: DiscardPolicy::New,
            ..in_lane(config, lane, names::BLOBS, "blob.>")
        };
        makes.extend([claims, blobs].map(|stream| make_stream(&jetstream, stream).boxed()));
    }
    let dead_letters = Config {
        max_messages: DEAD_LETTERS_MOST,
        discard: DiscardPolicy::New,
        ..stream(config, names::DEAD_LETTERS, "dead.*.*")
    };
    let attempts = Config {
        max_messages_per_subject: 1,
        max_age: ATTEMPTS_KEPT,
        max_bytes: ATTEMPTS_BYTES,
        ..stream(config, names::ATTEMPTS, "attempt.*.*")
    };
    makes.extend([dead_letters, attempts].map(|stream| make_stream(&jetstream, stream).boxed()));
    futures::stream::iter(makes).buffered(MADE_AT_ONCE).try_collect().await
}

/// Makes or adapts one stream. While several processes make the same one, the broker counts its reserved space once for
/// each of them, and may refuse all but one: the others try again, and find it made.
async fn make_stream(jetstream: &Context, stream: Config) -> Result<(), BusError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        // Each change is a vote of the cluster; to look is none.
        if let Ok(there) = jetstream.get_stream(&stream.name).await
            && is_stream(&there.cached_info().config, &stream)
        {
            return Ok(());
        }
        match jetstream.create_or_update_stream(stream.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if attempts == MAKE_ATTEMPTS => return Err(BusError::refused(error)),
            Err(error) => {
                tracing::debug!(stream = stream.name, %error, "a stream could not be made; trying again");
                tokio::time::sleep(MAKE_WAIT * attempts).await;
            }
        }
    }
}

/// Whether a stream is as it shall be, in all that is ever set here.
fn is_stream(there: &Config, wanted: &Config) -> bool {
    // Without a limit, the broker says -1.
    let alike = |there: i64, wanted: i64| there.max(0) == wanted.max(0);
    there.subjects == wanted.subjects
        && there.num_replicas == wanted.num_replicas
        && alike(there.max_messages, wanted.max_messages)
        && alike(there.max_bytes, wanted.max_bytes)
        && alike(there.max_messages_per_subject, wanted.max_messages_per_subject)
        && there.max_age == wanted.max_age
        && there.discard == wanted.discard
        && there.retention == wanted.retention
        && there.storage == wanted.storage
        && there.allow_direct == wanted.allow_direct
}

async fn make_queue(
    jetstream: &Context,
    config: &NatsConfig,
    queue: Queue,
    lane: usize,
) -> Result<(), BusError> {
    let queue_stream = Config {
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: share(config, config.limits.max_messages),
        max_bytes: percent_inside(queue)
            .map_or(-1, |part| share(config, percent(config.limits.max_staged_bytes, part))),
        ..in_lane(config, lane, queue.name(), &queue.subject_pattern())
    };
    let name = queue_stream.name.clone();
    make_stream(jetstream, queue_stream).await?;
    let consumer = pull::Config {
        durable_name: Some(names::consumer(queue).to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.retry.ack_wait,
        // Attempts are counted by the consumers: the broker counts deliveries, also those that an outage made necessary, and
        // would leave an exhausted message in the queue for ever.
        max_deliver: -1,
        // Shared by all consumers, and counts what waits for its next attempt: a limit would stall the queue silently.
        max_ack_pending: -1,
        ..pull::Config::default()
    };
    let stream = jetstream.get_stream_no_info(&name).await.map_err(BusError::refused)?;
    if let Ok(there) = stream.consumer_info(names::consumer(queue)).await
        && there.config.ack_policy == consumer.ack_policy
        && there.config.ack_wait == consumer.ack_wait
        && there.config.max_deliver == consumer.max_deliver
        && there.config.max_ack_pending == consumer.max_ack_pending
    {
        return Ok(());
    }
    jetstream.create_consumer_on_stream(consumer, name).await.map_err(BusError::refused)?;
    Ok(())
}

/// A stream of one lane.
fn in_lane(config: &NatsConfig, lane: usize, kind: &str, subjects: &str) -> Config {
    stream(config, &names::stream(kind, lane), &names::in_lane(lane, subjects))
}

/// What all our streams have in common.
fn stream(config: &NatsConfig, name: &str, subjects: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        storage: StorageType::File,
        num_replicas: config.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// What the messages of a queue may take of the room for files; without a limit where they enclose nothing.
fn percent_inside(queue: Queue) -> Option<u64> {
    match queue {
        Queue::Uploads => Some(PERCENT_IN_UPLOADS),
        Queue::EcgResults => Some(PERCENT_IN_RESULTS),
        Queue::EcgJobs => None,
    }
}

fn percent(limit: u64, part: u64) -> u64 {
    limit / 100 * part
}

/// What one lane takes of the whole.
fn share(config: &NatsConfig, limit: u64) -> i64 {
    i64::try_from(limit.div_ceil(config.lanes.max(1) as u64)).unwrap_or(i64::MAX)
}
