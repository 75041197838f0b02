//! The consumer loop of every service: takes deliveries, processes several at a time, settles each, and
//! drains on shutdown.
//!
//! Work that fails because the infrastructure failed is deferred, and a circuit breaker pauses the consumer.
//! A paused consumer takes no messages until its dependencies are ready. It then probes with one message, and
//! resumes once that message was processed, or if no message arrives for [`PROBE_TIMEOUT`]. An outage of any
//! length costs one attempt per [`MAX_PAUSE`] and produces no dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use proto_json::{Queue, Timestamp};
use tokio::task::JoinSet;

use crate::{BusError, Delivery, EnqueueError, WorkQueue};

/// The outcome of processing one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The work is done; the message is removed.
    Done,
    /// The work failed for this reason, and the message may be the cause. It is retried as often as the
    /// policy allows.
    Retry(String),
    /// The work failed for this reason, and the message is not the cause: the store, the broker or a disk is
    /// unavailable. It is retried without limit, and the consumer pauses.
    Defer(String),
    /// The work can never succeed for this reason. The message becomes a dead letter.
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

/// Checks whether everything that the work depends on is ready; `Err` names what is not.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Time for unfinished work to end after a stop request; then its messages are given back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait before consuming is retried after a failure.
const RECONNECT_WAIT: Duration = Duration::from_millis(200);

/// First and longest wait between two readiness checks of a paused consumer.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A readiness check that takes longer counts as failed.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// A probing consumer resumes if no message arrives in this time. It is longer than the longest deferral, so
/// that a deferred message arrives first if there is one. Unit tests use a short one.
const PROBE_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 20_000 });

/// Consumes `queue` until `stop` resolves. Processes up to `concurrency` deliveries at a time and settles
/// each by its [`Outcome`]. If the work panics, its message is given back. While the infrastructure fails the
/// consumer pauses; `ready` is checked before it resumes.
///
/// When this returns, every delivery is settled or given back.
pub async fn run_consumer<F, Fut>(
    source: &dyn WorkQueue,
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
    let mut tasks = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut breaker = CircuitBreaker::new(queue);

    'connect: loop {
        if breaker.is_paused() {
            tokio::select! {
                () = breaker.until_ready(&ready) => {}
                () = &mut stop => break,
            }
        }
        let max_in_flight = if breaker.is_probing() { 1 } else { concurrency };
        let consuming = tokio::select! {
            consuming = source.consume(queue, max_in_flight) => consuming,
            () = &mut stop => break,
        };
        let mut deliveries = match consuming {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::warn!(queue = %queue, error = %error, "the queue cannot be consumed; retrying");
                tokio::select! {
                    () = tokio::time::sleep(RECONNECT_WAIT) => continue,
                    () = &mut stop => break,
                }
            }
        };
        let mut probe_timeout = std::pin::pin!(tokio::time::sleep(PROBE_TIMEOUT));
        let mut probe_started = false;
        loop {
            let delivery = tokio::select! {
                biased;
                () = &mut stop => break 'connect,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    let (pauses, ended) = ended.unwrap_or((breaker.pauses, Ended::Worked));
                    // The state has changed: consume with another limit, or pause. Dropping the stream gives
                    // back what it has prefetched.
                    if breaker.record(pauses, ended) {
                        continue 'connect;
                    }
                    continue;
                }
                delivery = deliveries.next(), if tasks.len() < concurrency => delivery,
                () = &mut probe_timeout, if breaker.is_probing() && !probe_started => {
                    breaker.resume();
                    continue 'connect;
                }
            };
            let Some(delivery) = delivery else { continue 'connect };
            probe_started = true;
            let work = work.clone();
            let pauses = breaker.pauses;
            tasks.spawn(async move { (pauses, process(delivery, &*work).await) });
        }
    }

    // The stream is dropped at this point, and with it everything it has prefetched.
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while tasks.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(queue = %queue, left = tasks.len(), "unfinished work is given back");
        tasks.shutdown().await;
    }
}

/// How a delivery ended, as far as it matters to the circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The infrastructure worked, whatever the outcome.
    Worked,
    /// The infrastructure failed.
    Deferred,
}

/// Controls how much a consumer takes: everything, nothing, or one message as a probe.
#[derive(Debug)]
struct CircuitBreaker {
    queue: Queue,
    state: State,
    /// Number of pauses so far. Work that started before the last pause says nothing about the present.
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

impl CircuitBreaker {
    fn new(queue: Queue) -> Self {
        let breaker = CircuitBreaker { queue, state: State::Running, pauses: 0, wait: MIN_PAUSE };
        breaker.update_metric();
        breaker
    }

    fn is_paused(&self) -> bool {
        self.state == State::Paused
    }

    fn is_probing(&self) -> bool {
        self.state == State::Probing
    }

    /// Records the end of a delivery that started after `pauses` pauses. Returns whether the state has
    /// changed.
    fn record(&mut self, pauses: u64, ended: Ended) -> bool {
        if pauses != self.pauses {
            return false;
        }
        match (self.state, ended) {
            (State::Running, Ended::Worked) | (State::Paused, _) => return false,
            (State::Running, Ended::Deferred) => {
                tracing::warn!(queue = %self.queue, "the consumer pauses until its dependencies recover");
                self.state = State::Paused;
            }
            (State::Probing, Ended::Deferred) => self.state = State::Paused,
            (State::Probing, Ended::Worked) => self.resume(),
        }
        self.update_metric();
        true
    }

    fn resume(&mut self) {
        tracing::info!(queue = %self.queue, "the consumer resumes");
        self.state = State::Running;
        self.wait = MIN_PAUSE;
        self.update_metric();
    }

    /// Waits until everything is ready, and at least for the current wait.
    async fn until_ready(&mut self, ready: &Readiness) {
        loop {
            tokio::time::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(MAX_PAUSE);
            match tokio::time::timeout(READY_TIMEOUT, ready()).await {
                Ok(Ok(())) => break,
                Ok(Err(cause)) => tracing::debug!(queue = %self.queue, cause, "not ready yet"),
                Err(_) => tracing::debug!(queue = %self.queue, "the readiness check timed out"),
            }
        }
        self.state = State::Probing;
        self.pauses += 1;
    }

    fn update_metric(&self) {
        let paused = if self.state == State::Running { 0.0 } else { 1.0 };
        metrics::gauge!("bedside_consumer_paused", "queue" => self.queue.name()).set(paused);
    }
}

async fn process<F, Fut>(mut delivery: Delivery, work: &F) -> Ended
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
        // The message is given back when the last reference is dropped.
        tracing::error!(queue = %queue, "the work kept a reference to its delivery");
        return Ended::Worked;
    };
    settle(delivery, outcome).await
}

async fn settle(delivery: Delivery, outcome: Outcome) -> Ended {
    let (queue, attempt, deliveries) = (delivery.queue, delivery.attempt, delivery.deliveries);
    let (settled, ended) = match &outcome {
        Outcome::Done => {
            count(queue, "done");
            (delivery.ack().await, Ended::Worked)
        }
        Outcome::Retry(reason) => {
            tracing::warn!(queue = %queue, attempt, reason, "work failed; retrying");
            let settled = delivery.fail(reason).await.map(|dead_lettered| {
                count(queue, if dead_lettered { "dead_letter" } else { "retry" });
                if dead_lettered {
                    tracing::error!(queue = %queue, attempt, reason, "no attempts left; message dead-lettered");
                }
            });
            (settled, Ended::Worked)
        }
        Outcome::Defer(reason) => {
            count(queue, "deferred");
            tracing::warn!(queue = %queue, deliveries, reason, "a dependency failed; work deferred");
            (delivery.defer().await, Ended::Deferred)
        }
        Outcome::Never(reason) => {
            tracing::error!(queue = %queue, attempt, reason, "work cannot succeed; message dead-lettered");
            let settled = delivery.dead_letter(reason).await.map(|()| count(queue, "dead_letter"));
            (settled, Ended::Worked)
        }
    };
    match settled {
        Ok(()) => ended,
        Err(error) => {
            tracing::warn!(queue = %queue, error = %error, "delivery not settled; it will be redelivered");
            if error.is_outage() { Ended::Deferred } else { ended }
        }
    }
}

fn count(queue: Queue, outcome: &'static str) {
    metrics::counter!("bedside_work_total", "queue" => queue.name(), "outcome" => outcome).increment(1);
}

/// Describes the metrics of [`run_consumer`] and registers them at zero, so that alerts can tell zero from
/// missing.
pub fn describe_consumer(queues: &[Queue]) {
    use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
    describe_counter!("bedside_work_total", "Processed deliveries, by outcome");
    describe_counter!("bedside_redeliveries_total", "Deliveries of a message that was delivered before");
    describe_histogram!("bedside_work_duration_seconds", Unit::Seconds, "Time to process a delivery");
    describe_histogram!(
        "bedside_queue_wait_seconds",
        Unit::Seconds,
        "Time that a message waited for its first delivery"
    );
    describe_gauge!(
        "bedside_consumer_paused",
        "1 while a consumer is paused because the store, the broker or a disk is unavailable, else 0"
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
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::stream::{self, BoxStream};

    use super::*;
    use crate::{Acker, Outgoing, QueueStatus, RetryPolicy, StagedFile, StagingKey};

    /// A queue with one message, which can be deferred once.
    #[derive(Debug, Default)]
    struct OneMessage {
        /// The limit of each call of `consume`.
        limits: Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl WorkQueue for OneMessage {
        async fn enqueue(&self, _message: Outgoing) -> Result<(), EnqueueError> {
            Ok(())
        }

        async fn consume(
            &self,
            queue: Queue,
            max_in_flight: usize,
        ) -> Result<BoxStream<'static, Delivery>, BusError> {
            let mut limits = self.limits.lock().unwrap();
            limits.push(max_in_flight);
            let policy = RetryPolicy::default();
            let delivery = (limits.len() == 1)
                .then(|| Delivery::new(queue, Bytes::new(), 1, Timestamp::now(), policy, Box::new(NoBroker)));
            Ok(stream::iter(delivery).chain(stream::pending()).boxed())
        }

        async fn queue_status(&self, _queue: Queue) -> Result<QueueStatus, BusError> {
            Ok(QueueStatus::default())
        }

        async fn erase(&self, _mrn: proto_json::Mrn) -> Result<(), BusError> {
            Ok(())
        }

        async fn check(&self) -> Result<(), BusError> {
            Ok(())
        }
    }

    struct NoBroker;

    #[async_trait]
    impl Acker for NoBroker {
        async fn begin(&self) -> Result<u64, BusError> {
            Ok(1)
        }

        async fn ack(&self) -> Result<(), BusError> {
            Ok(())
        }

        async fn retry_after(&self, _wait: Duration) -> Result<(), BusError> {
            Ok(())
        }

        async fn defer(&self, _wait: Duration) -> Result<(), BusError> {
            Ok(())
        }

        async fn in_progress(&self) -> Result<(), BusError> {
            Ok(())
        }

        async fn dead_letter(&self, _reason: &str, _attempts: u64) -> Result<(), BusError> {
            Ok(())
        }

        async fn open(&self, _key: StagingKey) -> Result<Option<StagedFile>, BusError> {
            Ok(None)
        }

        async fn remove(&self, _key: StagingKey) -> Result<(), BusError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn consumer_resumes_if_no_message_arrives_to_probe_with() {
        let source = OneMessage::default();
        let ready: Readiness = Arc::new(|| Box::pin(async { Ok(()) }));
        let consuming = run_consumer(&source, Queue::Uploads, 2, std::future::pending(), ready, |_| async {
            Outcome::Defer("the store is unavailable".to_owned())
        });
        let _ = tokio::time::timeout(Duration::from_secs(2), consuming).await;
        assert_eq!(*source.limits.lock().unwrap(), [2, 1, 2]);
    }

    #[tokio::test]
    async fn work_started_before_a_pause_does_not_pause_the_consumer_again() {
        let mut breaker = CircuitBreaker::new(Queue::Uploads);
        assert!(breaker.record(0, Ended::Deferred) && breaker.is_paused());
        let ready: Readiness = Arc::new(|| Box::pin(async { Ok(()) }));
        breaker.until_ready(&ready).await;
        assert!(breaker.is_probing());
        // Deliveries that were in flight when the outage started.
        for _ in 0..32 {
            assert!(!breaker.record(0, Ended::Deferred));
        }
        assert!(breaker.is_probing(), "only the probe counts");
        assert!(breaker.record(1, Ended::Worked));
        assert!(!breaker.is_probing() && !breaker.is_paused());
        assert!(breaker.record(1, Ended::Deferred), "the next outage");
    }
}
