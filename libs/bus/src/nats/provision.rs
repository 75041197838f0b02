//! Creates and updates the streams and consumers.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use futures::{FutureExt, StreamExt, TryStreamExt};
use proto_json::Queue;
use proto_json::waveform::PARTITIONS;

use super::connection::{Connection, PUBLISH_DEADLINE};
use super::{NatsConfig, names};
use crate::{BusError, WAVE_DUPLICATE_WINDOW, WAVE_RETENTION, WaveGroup};

/// A message id is remembered for this time: a publish that is retried is stored once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const _: () = assert!(DUPLICATE_WINDOW.as_secs() > PUBLISH_DEADLINE.as_secs());
const _: () = assert!(WAVE_DUPLICATE_WINDOW.as_secs() > PUBLISH_DEADLINE.as_secs());

/// Each attempt rewrites its count, and attempts are minutes apart at most.
const ATTEMPTS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Enough for more than 100,000 counts. The oldest are discarded first.
const ATTEMPTS_MAX_BYTES: i64 = 16 << 20;

/// Dead letters are kept until an operator deletes them, but they must not fill the disk.
const MAX_DEAD_LETTERS: i64 = 100_000;

/// Shares of [`QueueLimits::max_staged_bytes`](crate::QueueLimits::max_staged_bytes), in percent: staged
/// files, and messages with their attachments.
const PERCENT_STAGED: u64 = 60;
const PERCENT_UPLOADS: u64 = 30;
const PERCENT_RESULTS: u64 = 10;
const _: () = assert!(PERCENT_STAGED + PERCENT_UPLOADS + PERCENT_RESULTS == 100);

/// The active consumer of a partition loses it if it sends no pull request for this time.
pub(super) const PIN_TTL: Duration = Duration::from_secs(2);
/// Unacknowledged waveforms are delivered again after this time. The consumer recognizes those that it has.
const WAVE_ACK_WAIT: Duration = Duration::from_secs(2);
/// Unacknowledged messages of a partition. Consumers have their own, lower limits.
pub(super) const MAX_WAVES_IN_FLIGHT: usize = 4_096;

/// Attempts to create a stream, and the first wait between two.
const CREATE_ATTEMPTS: u32 = 6;
const CREATE_WAIT: Duration = Duration::from_millis(100);
/// Streams that are created concurrently: in a cluster, creation is mostly waiting.
const CREATE_CONCURRENCY: usize = 5;

/// Creates missing streams and consumers, and adapts existing ones to `config`. Run it once as a user with
/// that permission if the users of the services do not have it.
///
/// # Errors
/// If the broker cannot be reached or refuses, for example because the limits exceed its storage.
pub async fn provision(config: &NatsConfig) -> Result<(), BusError> {
    create_all(&Connection::open(config).await?, config).await
}

pub(super) async fn create_all(connection: &Connection, config: &NatsConfig) -> Result<(), BusError> {
    let jetstream = jetstream::new(connection.client.clone());
    let staged_files = Config {
        max_messages_per_subject: 1,
        max_bytes: percent(config.limits.max_staged_bytes, PERCENT_STAGED),
        discard: DiscardPolicy::New,
        ..stream(config, names::BLOBS, "blob.>")
    };
    let dead_letters = Config {
        max_messages: MAX_DEAD_LETTERS,
        discard: DiscardPolicy::New,
        ..stream(config, names::DEAD_LETTERS, "dead.*.*")
    };
    let attempts = Config {
        max_messages_per_subject: 1,
        max_age: ATTEMPTS_MAX_AGE,
        max_bytes: ATTEMPTS_MAX_BYTES,
        ..stream(config, names::ATTEMPTS, "attempt.*.*")
    };
    let streams = [staged_files, dead_letters, attempts];
    let mut tasks: Vec<_> = streams.map(|stream| create_stream(&jetstream, stream).boxed()).into();
    tasks.push(create_waves(&jetstream, config).boxed());
    tasks.extend(Queue::ALL.map(|queue| create_queue(&jetstream, config, queue).boxed()));
    futures::stream::iter(tasks).buffered(CREATE_CONCURRENCY).try_collect().await
}

/// Creates or updates one stream. If several processes create the same stream, the broker counts its reserved
/// space once for each of them and may refuse all but one. The others retry and find the stream.
async fn create_stream(jetstream: &Context, stream: Config) -> Result<(), BusError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        // In a cluster, an update needs consensus; reading the configuration does not.
        if let Ok(existing) = jetstream.get_stream(&stream.name).await
            && is_up_to_date(&existing.cached_info().config, &stream)
        {
            return Ok(());
        }
        match jetstream.create_or_update_stream(stream.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if attempts == CREATE_ATTEMPTS => return Err(BusError::refused(error)),
            Err(error) => {
                tracing::debug!(stream = stream.name, %error, "a stream could not be created; retrying");
                tokio::time::sleep(CREATE_WAIT * attempts).await;
            }
        }
    }
}

/// Compares the properties that this module sets.
fn is_up_to_date(existing: &Config, wanted: &Config) -> bool {
    // The broker reports -1 for no limit.
    let equal = |existing: i64, wanted: i64| existing.max(0) == wanted.max(0);
    existing.subjects == wanted.subjects
        && existing.num_replicas == wanted.num_replicas
        && equal(existing.max_messages, wanted.max_messages)
        && equal(existing.max_bytes, wanted.max_bytes)
        && equal(existing.max_messages_per_subject, wanted.max_messages_per_subject)
        && existing.max_age == wanted.max_age
        && existing.duplicate_window == wanted.duplicate_window
        && existing.discard == wanted.discard
        && existing.retention == wanted.retention
        && existing.storage == wanted.storage
        && existing.allow_direct == wanted.allow_direct
}

async fn create_queue(jetstream: &Context, config: &NatsConfig, queue: Queue) -> Result<(), BusError> {
    let queue_stream = Config {
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: i64::try_from(config.limits.max_messages).unwrap_or(i64::MAX),
        max_bytes: percent_of(queue).map_or(-1, |share| percent(config.limits.max_staged_bytes, share)),
        ..stream(config, queue.name(), &queue.subject_pattern())
    };
    let name = queue_stream.name.clone();
    create_stream(jetstream, queue_stream).await?;
    let consumer = pull::Config {
        durable_name: Some(names::consumer(queue).to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.retry.ack_wait,
        // Consumers count attempts themselves. The broker counts deliveries, including those caused by
        // outages, and would leave an exhausted message in the stream forever.
        max_deliver: -1,
        // This limit would be shared by all consumers and would include messages that wait for a retry: the
        // queue could stall.
        max_ack_pending: -1,
        ..pull::Config::default()
    };
    let stream = jetstream.get_stream_no_info(&name).await.map_err(BusError::refused)?;
    if let Ok(existing) = stream.consumer_info(names::consumer(queue)).await
        && existing.config.ack_policy == consumer.ack_policy
        && existing.config.ack_wait == consumer.ack_wait
        && existing.config.max_deliver == consumer.max_deliver
        && existing.config.max_ack_pending == consumer.max_ack_pending
    {
        return Ok(());
    }
    jetstream.create_consumer_on_stream(consumer, name).await.map_err(BusError::refused)?;
    Ok(())
}

/// Creates the log of live waveforms, with one consumer per group and partition. A consumer per patient would be slow: the
/// broker matches each message against each filter.
async fn create_waves(jetstream: &Context, config: &NatsConfig) -> Result<(), BusError> {
    let log = Config {
        max_age: WAVE_RETENTION,
        duplicate_window: WAVE_DUPLICATE_WINDOW,
        max_bytes: i64::try_from(config.limits.max_wave_bytes).unwrap_or(i64::MAX),
        // Unacknowledged messages must not be deleted to make room for others.
        discard: DiscardPolicy::New,
        ..stream(config, names::WAVES, "wave.*.*.*")
    };
    create_stream(jetstream, log).await?;
    let stream = jetstream.get_stream_no_info(names::WAVES).await.map_err(BusError::refused)?;
    let stream = &stream;
    let consumers = WaveGroup::ALL.into_iter().flat_map(|group| (0..PARTITIONS).map(move |p| (group, p)));
    futures::stream::iter(consumers.map(|(group, partition)| async move {
        let consumer = pull::Config {
            durable_name: Some(names::wave_consumer(group, partition)),
            filter_subject: names::waves_of(partition),
            // Cumulative: one acknowledgement per batch.
            ack_policy: AckPolicy::All,
            ack_wait: WAVE_ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: MAX_WAVES_IN_FLIGHT as i64,
            priority_policy: PriorityPolicy::PinnedClient,
            priority_groups: vec![group.name().to_owned()],
            priority_timeout: PIN_TTL,
            ..pull::Config::default()
        };
        let name = names::wave_consumer(group, partition);
        if let Ok(existing) = stream.consumer_info(&name).await
            && existing.config.filter_subject == consumer.filter_subject
            && existing.config.ack_policy == consumer.ack_policy
            && existing.config.ack_wait == consumer.ack_wait
            && existing.config.max_ack_pending == consumer.max_ack_pending
            && existing.config.priority_groups == consumer.priority_groups
            && existing.config.priority_timeout == consumer.priority_timeout
        {
            return Ok(());
        }
        jetstream.create_consumer_on_stream(consumer, names::WAVES).await.map_err(BusError::refused).map(drop)
    }))
    .buffer_unordered(CREATE_CONCURRENCY)
    .try_collect()
    .await
}

/// The configuration that all streams share.
fn stream(config: &NatsConfig, name: &str, subjects: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        storage: StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        ..Config::default()
    }
}

/// Share of the space for files that a queue may use; `None` if its messages have no attachments.
fn percent_of(queue: Queue) -> Option<u64> {
    match queue {
        Queue::Uploads => Some(PERCENT_UPLOADS),
        Queue::EcgResults => Some(PERCENT_RESULTS),
        Queue::EcgJobs => None,
    }
}

fn percent(limit: u64, share: u64) -> i64 {
    i64::try_from(limit / 100 * share).unwrap_or(i64::MAX)
}
