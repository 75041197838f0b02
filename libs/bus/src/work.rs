//! The loop of every consumer: take deliveries, work on several at a time, settle each, drain at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use proto_json::{Queue, Timestamp};
use tokio::task::JoinSet;

use crate::{Delivery, EventBus};

/// What became of a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: the message can go.
    Done,
    /// It could not be done now, for this reason.
    Retry(String),
    /// It can never be done, for this reason: a dead letter.
    Never(String),
}

/// Work under way has this long to end once the consumer is told to stop; then it is given back.
const DRAIN: Duration = Duration::from_secs(10);

/// First wait before a broker that cannot be reached is asked again.
const RECONNECT: Duration = Duration::from_millis(200);

/// Takes deliveries of `queue` until `stop` resolves, works on up to `concurrency` of them at a time, and settles each by
/// its [`Outcome`]. Work that panics is given back like work whose process died.
///
/// When it returns, everything taken is settled or given back.
pub async fn work_off<F, Fut>(
    bus: &dyn EventBus,
    queue: Queue,
    concurrency: usize,
    stop: impl Future<Output = ()>,
    work: F,
) where
    F: Fn(Arc<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let work = Arc::new(work);
    let mut under_way = JoinSet::new();
    let mut stop = std::pin::pin!(stop);

    'connect: loop {
        let consuming = tokio::select! {
            consuming = bus.consume(queue, concurrency) => consuming,
            () = &mut stop => break,
        };
        let mut deliveries = match consuming {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::warn!(queue = %queue, error = %error, "cannot take work; trying again");
                tokio::select! {
                    () = tokio::time::sleep(RECONNECT) => continue,
                    () = &mut stop => break,
                }
            }
        };
        loop {
            let delivery = tokio::select! {
                biased;
                () = &mut stop => break 'connect,
                Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
                delivery = deliveries.next(), if under_way.len() < concurrency => delivery,
            };
            let Some(delivery) = delivery else { continue 'connect };
            let work = work.clone();
            under_way.spawn(async move { one(delivery, &*work).await });
        }
    }

    // The stream is dropped by now, and with it what was fetched ahead.
    let drained = tokio::time::timeout(DRAIN, async { while under_way.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(queue = %queue, left = under_way.len(), "work still under way is given back");
        under_way.shutdown().await;
    }
}

async fn one<F, Fut>(delivery: Delivery, work: &F)
where
    F: Fn(Arc<Delivery>) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let queue = delivery.queue;
    let attempt = delivery.attempt;
    if attempt > 1 {
        metrics::counter!("bedside_redeliveries_total", "queue" => queue.name()).increment(1);
    } else {
        let waited = Timestamp::now().millis_since(delivery.enqueued_at).max(0);
        metrics::histogram!("bedside_queue_wait_seconds", "queue" => queue.name())
            .record(waited as f64 / 1_000.0);
    }
    if delivery.is_exhausted() {
        worked(queue, "dead_letter");
        let reason = "every attempt ended with the death of its consumer";
        tracing::error!(queue = %queue, attempt, reason, "given up: dead letter");
        if let Err(error) = delivery.dead_letter(reason).await {
            tracing::warn!(queue = %queue, error = %error, "could not be made a dead letter; it will be delivered again");
        }
        return;
    }
    let delivery = Arc::new(delivery);
    let started = Instant::now();
    let outcome = delivery.while_working(work(delivery.clone())).await;
    metrics::histogram!("bedside_work_duration_seconds", "queue" => queue.name())
        .record(started.elapsed().as_secs_f64());
    let Ok(delivery) = Arc::try_unwrap(delivery) else {
        // Somebody keeps a handle on it: when that is dropped, the delivery gives itself back.
        tracing::error!(queue = %queue, "a delivery was kept by its work");
        return;
    };
    let settled = match &outcome {
        Outcome::Done => {
            worked(queue, "done");
            delivery.ack().await
        }
        Outcome::Retry(reason) => {
            tracing::warn!(queue = %queue, attempt, reason, "work failed; trying again");
            match delivery.fail(reason).await {
                Ok(true) => {
                    worked(queue, "dead_letter");
                    tracing::error!(queue = %queue, attempt, reason, "given up: dead letter");
                    Ok(())
                }
                Ok(false) => {
                    worked(queue, "retry");
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
        Outcome::Never(reason) => {
            worked(queue, "dead_letter");
            tracing::error!(queue = %queue, attempt, reason, "cannot be done: dead letter");
            delivery.dead_letter(reason).await
        }
    };
    if let Err(error) = settled {
        tracing::warn!(queue = %queue, error = %error, "work is done, but not settled; it may be delivered again");
    }
}

fn worked(queue: Queue, outcome: &'static str) {
    metrics::counter!("bedside_work_total", "queue" => queue.name(), "outcome" => outcome).increment(1);
}

/// Says what the metrics of [`work_off`] mean, and shows them from the start, before there was work.
pub fn describe_work(queues: &[Queue]) {
    use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
    describe_counter!("bedside_work_total", "Deliveries that were worked off, by outcome");
    describe_counter!("bedside_redeliveries_total", "Deliveries of a message that was delivered before");
    describe_histogram!("bedside_work_duration_seconds", Unit::Seconds, "Time that work on a delivery took");
    describe_histogram!(
        "bedside_queue_wait_seconds",
        Unit::Seconds,
        "Time that a message waited for its first delivery"
    );
    for queue in queues {
        for outcome in ["done", "retry", "dead_letter"] {
            counter!("bedside_work_total", "queue" => queue.name(), "outcome" => outcome).increment(0);
        }
        counter!("bedside_redeliveries_total", "queue" => queue.name()).increment(0);
        let _ = histogram!("bedside_work_duration_seconds", "queue" => queue.name());
        let _ = histogram!("bedside_queue_wait_seconds", "queue" => queue.name());
    }
}
