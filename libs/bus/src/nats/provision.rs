//! Makes the streams and consumers.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use proto_json::Queue;

use super::link::Link;
use super::{NatsConfig, names};
use crate::BusError;

/// Claims are kept for a day at least.
const CLAIMS_KEPT: Duration = Duration::from_secs(26 * 3600);

/// Dead letters are kept until somebody has dealt with them, but the disk is not theirs.
const DEAD_LETTERS_MOST: i64 = 100_000;

/// How often, and with which growing wait, a stream is tried to be made.
const MAKE_ATTEMPTS: u32 = 6;
const MAKE_WAIT: Duration = Duration::from_millis(100);

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
    for queue in Queue::ALL {
        make_queue(&jetstream, config, queue).await?;
    }
    let dead_letters = Config {
        max_messages: DEAD_LETTERS_MOST,
        discard: DiscardPolicy::New,
        ..stream(config, names::DEAD_LETTERS, "dead.*.*")
    };
    let claims = Config {
        max_messages_per_subject: 1,
        max_age: CLAIMS_KEPT,
        ..stream(config, names::CLAIMS, "claim.*")
    };
    let blobs = Config {
        max_messages_per_subject: 1,
        max_bytes: whole(config.limits.max_staged_bytes),
        discard: DiscardPolicy::New,
        ..stream(config, names::BLOBS, "blob.>")
    };
    for stream in [dead_letters, claims, blobs] {
        make_stream(&jetstream, stream).await?;
    }
    Ok(())
}

/// Makes or adapts one stream. While several processes make the same one, the broker counts its reserved space once for
/// each of them, and may refuse all but one: the others try again, and find it made.
async fn make_stream(jetstream: &Context, stream: Config) -> Result<(), BusError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
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

async fn make_queue(jetstream: &Context, config: &NatsConfig, queue: Queue) -> Result<(), BusError> {
    let queue_stream = Config {
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: whole(config.limits.max_messages),
        ..stream(config, queue.name(), &queue.subject_pattern())
    };
    make_stream(jetstream, queue_stream).await?;
    let consumer = pull::Config {
        durable_name: Some(names::consumer(queue).to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.retry.ack_wait,
        // Attempts are counted here, not there: the broker would leave an exhausted message in the queue for ever.
        max_deliver: -1,
        // Shared by all consumers, and counts what waits for its next attempt: a limit would stall the queue silently.
        max_ack_pending: -1,
        ..pull::Config::default()
    };
    jetstream.create_consumer_on_stream(consumer, queue.name()).await.map_err(BusError::refused)?;
    Ok(())
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

fn whole(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
