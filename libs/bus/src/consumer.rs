//! The loop of every consumer: takes deliveries, works on several at a time, settles each, drains at the end.
//!
//! Work that fails because the infrastructure failed is deferred without counting, and pauses the consumer: it takes
//! nothing until what the work needs is ready again, then tries one message, and goes on with all of them once that one
//! was worked on. So an outage of any length costs a try per [`PAUSE_MOST`], and makes no dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use proto_json::{Queue, Timestamp};
use tokio::task::JoinSet;

use crate::{BusError, Delivery, EnqueueError, EventBus};

/// What became of a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: the message can go.
    Done,
    /// It failed for this reason, and the message may be to blame: it is tried again as often as the policy says.
    Retry(String),
    /// It failed for this reason, and the message is not to blame: the store, the broker or a disk is unavailable. It is
    /// tried again without end, and the consumer pauses.
    Defer(String),
    /// It can never be done, for this reason: a dead letter.
    Never(String),
}

impl From<BusError> for Outcome {
    fn from(error: BusError) -> Self {
        if error.is_outage() { Outcome::Defer(error.to_string()) } else { Outcome::Retry(error.to_string()) }
    }
}

impl From<EnqueueError> for Outcome {
    fn from(error: EnqueueError) -> Self {
        if error.is_outage() { Outcome::Defer(error.to_string()) } else { Outcome::Retry(error.to_string()) }
    }
}

/// Asks whether everything that work of a kind needs is ready; `Err` says what is not.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Work under way has this long to end once the consumer is told to stop; then it is given back.
const DRAIN: Duration = Duration::from_secs(10);

/// First wait before a broker that cannot be reached is asked again.
const RECONNECT: Duration = Duration::from_millis(200);

/// First and longest wait before a paused consumer asks whether it can go on.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// A part that does not answer in this time is not ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Takes deliveries of `queue` until `stop` resolves, works on up to `concurrency` of them at a time, and settles each by
/// its [`Outcome`]. Work that panics is given back like work whose process died. While the infrastructure fails the
/// consumer pauses, see the module; `ready` is asked before it goes on.
///
/// When it returns, everything taken is settled or given back.
pub async fn run_consumer<F, Fut>(
    bus: &dyn EventBus,
    queue: Queue,
    concurrency: usize,
    stop: impl Future<Output = ()>,
    ready: Readiness,
    work: F,
) where
    F: Fn(Arc<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let work = Arc::new(work);
    let mut under_way = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut pace = Pace::new(queue);

    'connect: loop {
        if pace.is_paused() {
            tokio::select! {
                () = pace.until_ready(&ready) => {}
                () = &mut stop => break,
            }
        }
        let at_once = if pace.is_probing() { 1 } else { concurrency };
        let consuming = tokio::select! {
            consuming = bus.consume(queue, at_once) => consuming,
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
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                    let (begun, ended) = ended.unwrap_or((pace.pauses, Ended::Worked));
                    // A stream of another size is needed, or none. What is in this one is given back with it.
                    if pace.changes_with(begun, ended) {
                        continue 'connect;
                    }
                    continue;
                }
                delivery = deliveries.next(), if under_way.len() < concurrency => delivery,
            };
            let Some(delivery) = delivery else { continue 'connect };
            let work = work.clone();
            let begun = pace.pauses;
            under_way.spawn(async move { (begun, one(delivery, &*work).await) });
        }
    }

    // The stream is dropped by now, and with it what was fetched ahead.
    let drained = tokio::time::timeout(DRAIN, async { while under_way.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(queue = %queue, left = under_way.len(), "work still under way is given back");
        under_way.shutdown().await;
    }
}

/// How a delivery ended, as far as the consumer's pace depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The infrastructure did its part, whatever became of the message.
    Worked,
    /// The infrastructure failed.
    Deferred,
}

/// How much a consumer takes: everything, nothing, or one message to try.
#[derive(Debug)]
struct Pace {
    queue: Queue,
    state: State,
    /// How many pauses there were. Work that began before the last one says nothing about how things are now.
    pauses: u64,
    /// The wait of the next pause.
    wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Probing,
}

impl Pace {
    fn new(queue: Queue) -> Self {
        let pace = Pace { queue, state: State::Running, pauses: 0, wait: PAUSE_FIRST };
        pace.show();
        pace
    }

    fn is_paused(&self) -> bool {
        self.state == State::Paused
    }

    fn is_probing(&self) -> bool {
        self.state == State::Probing
    }

    /// Takes note of how a delivery ended that began after so many pauses. Returns whether the consumer now takes more or less
    /// than before.
    fn changes_with(&mut self, begun: u64, ended: Ended) -> bool {
        if begun != self.pauses {
            return false;
        }
        match (self.state, ended) {
            (State::Running, Ended::Worked) | (State::Paused, _) => return false,
            (State::Running, Ended::Deferred) => {
                tracing::warn!(queue = %self.queue, "the consumer pauses until the infrastructure works again");
                self.state = State::Paused;
            }
            (State::Probing, Ended::Deferred) => self.state = State::Paused,
            (State::Probing, Ended::Worked) => {
                tracing::info!(queue = %self.queue, "the consumer goes on");
                self.state = State::Running;
                self.wait = PAUSE_FIRST;
            }
        }
        self.show();
        true
    }

    /// Waits until everything is ready, and at least for the time of this pause.
    async fn until_ready(&mut self, ready: &Readiness) {
        loop {
            tokio::time::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(PAUSE_MOST);
            match tokio::time::timeout(READY_WITHIN, ready()).await {
                Ok(Ok(())) => break,
                Ok(Err(cause)) => tracing::debug!(queue = %self.queue, cause, "not ready yet"),
                Err(_) => tracing::debug!(queue = %self.queue, "what the work needs does not answer"),
            }
        }
        self.state = State::Probing;
        self.pauses += 1;
    }

    fn show(&self) {
        let paused = if self.state == State::Running { 0.0 } else { 1.0 };
        metrics::gauge!("bedside_consumer_paused", "queue" => self.queue.name()).set(paused);
    }
}

async fn one<F, Fut>(mut delivery: Delivery, work: &F) -> Ended
where
    F: Fn(Arc<Delivery>) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let queue = delivery.queue;
    if delivery.deliveries > 1 {
        metrics::counter!("bedside_redeliveries_total", "queue" => queue.name()).increment(1);
    } else {
        let waited = Timestamp::now().millis_since(delivery.enqueued_at).max(0);
        metrics::histogram!("bedside_queue_wait_seconds", "queue" => queue.name())
            .record(waited as f64 / 1_000.0);
    }
    if let Err(error) = delivery.begin().await {
        return settle(delivery, Outcome::from(error)).await;
    }
    if delivery.is_exhausted() {
        return settle(
            delivery,
            Outcome::Never("every attempt ended with the death of its consumer".to_owned()),
        )
        .await;
    }
    let delivery = Arc::new(delivery);
    let started = Instant::now();
    let outcome = delivery.while_working(work(delivery.clone())).await;
    metrics::histogram!("bedside_work_duration_seconds", "queue" => queue.name())
        .record(started.elapsed().as_secs_f64());
    let Ok(delivery) = Arc::try_unwrap(delivery) else {
        // Somebody keeps a handle on it: when that is dropped, the delivery gives itself back.
        tracing::error!(queue = %queue, "a delivery was kept by its work");
        return Ended::Worked;
    };
    settle(delivery, outcome).await
}

async fn settle(delivery: Delivery, outcome: Outcome) -> Ended {
    let (queue, attempt, deliveries) = (delivery.queue, delivery.attempt, delivery.deliveries);
    let (settled, ended) = match &outcome {
        Outcome::Done => {
            worked(queue, "done");
            (delivery.ack().await, Ended::Worked)
        }
        Outcome::Retry(reason) => {
            tracing::warn!(queue = %queue, attempt, reason, "work failed; trying again");
            let settled = delivery.fail(reason).await.map(|given_up| {
                worked(queue, if given_up { "dead_letter" } else { "retry" });
                if given_up {
                    tracing::error!(queue = %queue, attempt, reason, "given up: dead letter");
                }
            });
            (settled, Ended::Worked)
        }
        Outcome::Defer(reason) => {
            worked(queue, "deferred");
            tracing::warn!(queue = %queue, deliveries, reason, "the infrastructure failed; trying again later");
            (delivery.defer().await, Ended::Deferred)
        }
        Outcome::Never(reason) => {
            tracing::error!(queue = %queue, attempt, reason, "cannot be done: dead letter");
            let settled = delivery.dead_letter(reason).await.map(|()| worked(queue, "dead_letter"));
            (settled, Ended::Worked)
        }
    };
    match settled {
        Ok(()) => ended,
        Err(error) => {
            tracing::warn!(queue = %queue, error = %error, "a delivery was not settled; it will come again");
            if error.is_outage() { Ended::Deferred } else { ended }
        }
    }
}

fn worked(queue: Queue, outcome: &'static str) {
    metrics::counter!("bedside_work_total", "queue" => queue.name(), "outcome" => outcome).increment(1);
}

/// Describes the metrics of [`run_consumer`], and shows them from the start, before there was work.
pub fn describe_consumer(queues: &[Queue]) {
    use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
    describe_counter!("bedside_work_total", "Deliveries that were worked off, by outcome");
    describe_counter!("bedside_redeliveries_total", "Deliveries of a message that was delivered before");
    describe_histogram!("bedside_work_duration_seconds", Unit::Seconds, "Time that work on a delivery took");
    describe_histogram!(
        "bedside_queue_wait_seconds",
        Unit::Seconds,
        "Time that a message waited for its first delivery"
    );
    describe_gauge!(
        "bedside_consumer_paused",
        "1 while a consumer takes nothing because the store, the broker or a disk is unavailable, else 0"
    );
    for queue in queues {
        for outcome in ["done", "retry", "deferred", "dead_letter"] {
            counter!("bedside_work_total", "queue" => queue.name(), "outcome" => outcome).increment(0);
        }
        counter!("bedside_redeliveries_total", "queue" => queue.name()).increment(0);
        let _ = histogram!("bedside_work_duration_seconds", "queue" => queue.name());
        let _ = histogram!("bedside_queue_wait_seconds", "queue" => queue.name());
        gauge!("bedside_consumer_paused", "queue" => queue.name()).increment(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_began_before_a_pause_does_not_pause_the_consumer_again() {
        let mut pace = Pace::new(Queue::Uploads);
        assert!(pace.changes_with(0, Ended::Deferred) && pace.is_paused());
        let ready: Readiness = Arc::new(|| Box::pin(async { Ok(()) }));
        pace.until_ready(&ready).await;
        assert!(pace.is_probing());
        // As many as were in flight when the outage began.
        for _ in 0..32 {
            assert!(!pace.changes_with(0, Ended::Deferred));
        }
        assert!(pace.is_probing(), "the message that is tried decides");
        assert!(pace.changes_with(1, Ended::Worked));
        assert!(!pace.is_probing() && !pace.is_paused());
        assert!(pace.changes_with(1, Ended::Deferred), "the next outage");
    }
}
