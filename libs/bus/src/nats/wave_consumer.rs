//! Membership of this process in the consumers of one partition of the live waveforms.
//!
//! Each partition and group has one durable consumer with the priority policy `pinned_client` (ADR-42 of NATS; server 2.11
//! or later): the broker delivers to one client alone, the pinned one, and pins another when that one sends no pull
//! request for [`PIN_TTL`]. A task sends the requests, so a service that is busy keeps its partition.
//!
//! The pull consumer of async-nats is not used: it does not tell when the pin was granted or lost, and the steps below
//! depend on that.
//!
//! 1. Standby: one request without pin is open. The first message carries a new pin.
//! 2. A request with the pin is answered, and the broker confirms that the client was still pinned after that. From then on
//!    there is a **lease**: [`PIN_TTL`] from the time at which the last answered request was sent, measured by the monotonic
//!    clock. While the lease lasts, the broker pins no other client. A process that was stopped finds its lease expired.
//! 3. Catching up: the warm-up of the group and everything that was delivered but not acknowledged are read from the log.
//!    The broker would deliver the latter only after its ack wait, after newer messages; and since acknowledgements
//!    are cumulative, those newer ones would acknowledge them. The warm-up is counted back from the last acknowledged message:
//!    the next one can be minutes later, or missing.
//! 4. Live: deliveries are passed on in the order of their sequence numbers; those that were passed on before are dropped.
//!
//! The lease ends early if the connection is lost or the broker refuses the pin.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Message, StatusCode, Subject, Subscriber};
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use proto_json::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::History;
use super::provision::{MAX_WAVES_IN_FLIGHT, PIN_TTL};
use super::wave_shares::{self, Share};
use super::waves::{self, ConsumerState, From, Logged};
use super::{Core, names, provision};
use crate::{BusError, PartitionEvent, WaveAcker, WaveDelivery, WaveGroup, WaveMessage};

/// Lifetime of a request without pin, of one with pin, and of one that only keeps the pin because no more
/// deliveries are wanted.
const STANDBY_EXPIRES: Duration = Duration::from_secs(2);
const PINNED_EXPIRES: Duration = Duration::from_millis(400);
const KEEP_ALIVE_EXPIRES: Duration = Duration::from_millis(100);
/// A request that is not answered for this long after its end is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// The lease ends this much before the broker may pin another client.
const LEASE_MARGIN: Duration = Duration::from_millis(200);
/// After a release, other processes have this time to take the partition.
const STAND_DOWN: Duration = Duration::from_secs(3);
/// Largest number of messages of a request.
const MAX_BATCH: usize = 256;
/// Events that wait for the service outside of the limits of deliveries.
const EVENTS: usize = 64;
/// First and longest wait after a failed request.
const MIN_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Joins the consumers of a partition.
pub(super) async fn consume(
    core: &Arc<Core>,
    group: WaveGroup,
    partition: u16,
    max_in_flight: usize,
) -> Result<BoxStream<'static, PartitionEvent>, BusError> {
    let inbox = core.connection.client.new_inbox();
    let replies = core.connection.subscribe(inbox.clone()).await?;
    let (events, receiver) = mpsc::channel(EVENTS);
    let member = Member {
        group,
        partition,
        max_in_flight: max_in_flight.clamp(1, MAX_WAVES_IN_FLIGHT),
        events,
        share: wave_shares::join(core, group, partition),
        shared: Arc::default(),
        inbox,
        replies,
        connects: core.connection.history().borrow().connects,
        history: core.connection.history(),
        request: None,
        next_request: Instant::now(),
        wait: MIN_WAIT,
        pin: None,
        stage: Stage::Standby,
        lease: None,
        is_announced: false,
        passed_on: 0,
        in_flight: VecDeque::new(),
        ack_subjects: BTreeMap::new(),
        incoming: VecDeque::new(),
        out: VecDeque::new(),
        reading: None,
        core: Arc::clone(core),
    };
    core.runtime.spawn(member.run());
    Ok(ReceiverStream::new(receiver).boxed())
}

struct Member {
    core: Arc<Core>,
    group: WaveGroup,
    partition: u16,
    max_in_flight: usize,
    events: mpsc::Sender<PartitionEvent>,
    share: Arc<Share>,
    shared: Arc<Shared>,
    inbox: String,
    replies: Subscriber,
    history: watch::Receiver<History>,
    /// Number of connections so far, at the last check.
    connects: u64,
    /// The open request. All earlier ones have ended.
    request: Option<Request>,
    /// Earliest time of the next request.
    next_request: Instant,
    /// Wait after the next failure.
    wait: Duration,
    pin: Option<String>,
    stage: Stage,
    /// End of the lease. Before the stage `CatchingUp`, it is not in effect.
    lease: Option<Instant>,
    /// The service knows that its consumer is the active one.
    is_announced: bool,
    /// Sequence number of the last message passed on.
    passed_on: u64,
    /// Sequence numbers of deliveries that are not acknowledged.
    in_flight: VecDeque<u64>,
    /// Addresses for acknowledgements by sequence number.
    ack_subjects: BTreeMap<u64, Subject>,
    /// Deliveries that wait until the consumer has caught up.
    incoming: VecDeque<Incoming>,
    /// Events that wait for a place in the channel.
    out: VecDeque<PartitionEvent>,
    /// A call of the broker for the present stage.
    reading: Option<BoxFuture<'static, Read>>,
}

/// Progress towards deliveries.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Standby,
    /// The first request with the new pin is open, or the state of the consumer is being read.
    Confirming,
    /// `floor` is the last acknowledged sequence number, `delivered` the last one that was delivered to any client.
    CatchingUp {
        floor: u64,
        delivered: u64,
    },
    Live,
}

struct Request {
    sent: Instant,
    expires: Duration,
    /// Messages that are still wanted.
    left: usize,
    has_pin: bool,
}

struct Incoming {
    sequence: u64,
    pending: u64,
    message: Result<WaveMessage, String>,
}

/// Result of a call of the broker.
enum Read {
    State(Result<ConsumerState, BusError>),
    /// The last acknowledged message.
    Last(Result<Vec<Logged>, BusError>),
    Batch(Result<Vec<Logged>, BusError>),
}

/// State shared with the deliveries.
#[derive(Debug, Default)]
struct Shared {
    /// All messages up to this sequence number are acknowledged.
    acked: AtomicU64,
    has_acked: Notify,
    /// End of the lease, and how many leases there were.
    lease: Mutex<(u64, Option<Instant>)>,
}

impl Shared {
    fn lease(&self) -> std::sync::MutexGuard<'_, (u64, Option<Instant>)> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Acker {
    shared: Arc<Shared>,
    sequence: u64,
    /// Number of the lease under which the message was delivered.
    lease: u64,
}

#[async_trait]
impl WaveAcker for Acker {
    async fn ack_through(&self) -> Result<(), BusError> {
        self.shared.acked.fetch_max(self.sequence, Ordering::AcqRel);
        self.shared.has_acked.notify_one();
        Ok(())
    }

    fn is_active(&self) -> bool {
        let lease = self.shared.lease();
        lease.0 == self.lease && lease.1.is_some_and(|end| Instant::now() < end)
    }
}

/// What happened next.
enum Step {
    Closed,
    Reply(Option<Message>),
    Read(Read),
    History(bool),
    Acked,
    Release,
    Timer,
    Sent,
}

impl Member {
    async fn run(mut self) {
        loop {
            self.send_due_request().await;
            let timer = self.timer();
            let step = tokio::select! {
                biased;
                () = self.events.closed() => Step::Closed,
                reply = self.replies.next() => Step::Reply(reply),
                read = async {
                    match &mut self.reading {
                        Some(reading) => reading.await,
                        None => std::future::pending().await,
                    }
                }, if self.out.len() < EVENTS => Step::Read(read),
                changed = self.history.changed() => Step::History(changed.is_ok()),
                () = self.shared.has_acked.notified() => Step::Acked,
                () = self.share.release.notified() => Step::Release,
                () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Step::Timer,
                permit = self.events.reserve(), if !self.out.is_empty() => {
                    if let (Ok(permit), Some(event)) = (permit, self.out.pop_front()) {
                        match event {
                            PartitionEvent::Acquired => self.is_announced = true,
                            PartitionEvent::Released => self.is_announced = false,
                            PartitionEvent::Replayed(_) | PartitionEvent::Delivery(_) => {}
                        }
                        permit.send(event);
                    }
                    Step::Sent
                }
            };
            match step {
                Step::Closed => return self.leave().await,
                Step::Reply(Some(reply)) => self.take(reply).await,
                Step::Reply(None) => self.fail("the connection is closed").await,
                Step::Read(read) => {
                    self.reading = None;
                    self.take_read(read).await;
                }
                Step::History(false) => return,
                Step::History(true) => self.check_connection().await,
                Step::Acked => self.acknowledge().await,
                Step::Release => {
                    if self.pin.is_some() {
                        self.acknowledge().await;
                        self.unpin().await;
                        self.lose("released").await;
                        self.next_request = Instant::now() + STAND_DOWN;
                    }
                }
                Step::Timer => self.check_time().await,
                Step::Sent => {}
            }
        }
    }

    /// Gives the partition up; the service has dropped its stream.
    async fn leave(mut self) {
        self.acknowledge().await;
        if self.pin.is_some() {
            self.unpin().await;
        }
        self.set_lease(None);
    }

    /// The next time at which something is due.
    fn timer(&self) -> Option<Instant> {
        let lost = self.request.as_ref().map(|request| request.sent + request.expires + LOST_AFTER);
        let due = (self.request.is_none() && self.history.borrow().is_connected).then_some(self.next_request);
        [lost, due, self.lease].into_iter().flatten().min()
    }

    async fn check_time(&mut self) {
        let now = Instant::now();
        if self.lease.is_some_and(|end| end <= now) {
            self.lose("the lease has expired").await;
        } else if self
            .request
            .as_ref()
            .is_some_and(|request| request.sent + request.expires + LOST_AFTER <= now)
        {
            self.fail("a request was lost").await;
        }
    }

    async fn check_connection(&mut self) {
        let now = *self.history.borrow_and_update();
        if now.is_connected && now.connects == self.connects {
            return;
        }
        self.connects = now.connects;
        // The broker may have forgotten the pin, and the open request is void.
        if self.pin.is_some() || self.request.is_some() {
            self.lose("the connection was interrupted").await;
        }
        self.next_request = Instant::now();
    }

    /// Sends a request if none is open.
    async fn send_due_request(&mut self) {
        if self.request.is_some() || Instant::now() < self.next_request || !self.history.borrow().is_connected
        {
            return;
        }
        let free = self.max_in_flight.saturating_sub(self.in_flight.len() + self.incoming.len());
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut request = serde_json::json!({ "group": self.group.name() });
        let (batch, expires) = match &self.pin {
            None => (1, STANDBY_EXPIRES),
            Some(pin) => {
                request["id"] = pin.as_str().into();
                if free == 0 {
                    // Larger than no message: the broker answers without delivering, and keeps the pin.
                    request["max_bytes"] = 1.into();
                    (1, KEEP_ALIVE_EXPIRES)
                } else if self.lease.is_none() {
                    // Answered at once.
                    request["no_wait"] = true.into();
                    (1, Duration::ZERO)
                } else {
                    (free.min(MAX_BATCH), PINNED_EXPIRES)
                }
            }
        };
        request["batch"] = batch.into();
        if expires > Duration::ZERO {
            request["expires"] = nanos(expires).into();
        }
        let sent = Instant::now();
        let consumer = names::wave_consumer(self.group, self.partition);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", names::WAVES);
        let client = &self.core.connection.client;
        match client.publish_with_reply(subject, self.inbox.clone(), request.to_string().into()).await {
            Ok(()) => {
                let has_pin = self.pin.is_some();
                self.request = Some(Request { sent, expires, left: batch, has_pin });
            }
            Err(error) => self.fail(&error.to_string()).await,
        }
    }

    /// Handles an answer of the broker.
    async fn take(&mut self, reply: Message) {
        match reply.status {
            None => self.take_message(reply).await,
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                self.renew_lease();
                self.request = None;
                self.wait = MIN_WAIT;
            }
            Some(status) if status.as_u16() == 423 => self.lose("the broker pinned another client").await,
            Some(StatusCode::NO_RESPONDERS) => {
                self.fail("the consumer does not exist or has no leader").await;
                self.create_missing().await;
            }
            Some(status) => {
                let reason = reply.description.unwrap_or_else(|| status.to_string());
                if reason.contains("Exceeds MaxBytes") {
                    // The answer to a request that only keeps the pin.
                    self.renew_lease();
                    self.request = None;
                    self.next_request = Instant::now() + KEEP_ALIVE_EXPIRES;
                } else {
                    // A change of the leader, for example: the pin is void.
                    self.fail(&reason).await;
                }
            }
        }
    }

    async fn take_message(&mut self, message: Message) {
        // The broker appends its header, so that of a stored message does not count.
        let pin = message.headers.as_ref().and_then(|headers| headers.get_last(names::PIN_ID));
        let pin = pin.map(|pin| pin.as_str().to_owned());
        match (&self.pin, pin) {
            (None, Some(pin)) => {
                self.pin = Some(pin);
                self.stage = Stage::Confirming;
                self.passed_on = 0;
                self.shared.acked.store(0, Ordering::Release);
            }
            (Some(known), Some(pin)) if *known == pin => self.renew_lease(),
            _ => return self.lose("a message has another pin").await,
        }
        self.wait = MIN_WAIT;
        if let Some(request) = &mut self.request {
            request.left = request.left.saturating_sub(1);
            if request.left == 0 {
                self.request = None;
                self.next_request = Instant::now();
            }
        }
        let context = jetstream::new(self.core.connection.client.clone());
        let message = jetstream::Message { message, context };
        let (sequence, pending) = match message.info() {
            Ok(info) => (info.stream_sequence, info.pending),
            Err(error) => {
                tracing::error!(error = %error, "a reply is not a message of the waveforms");
                return;
            }
        };
        let message = message.message;
        if let Some(subject) = message.reply.clone() {
            self.ack_subjects.insert(sequence, subject);
        }
        let is_known = sequence <= self.passed_on;
        if is_known {
            // Delivered again because its acknowledgement is missing, late or was lost.
            self.acknowledge().await;
        } else {
            let incoming = Incoming { sequence, pending, message: waves::parse(&message.subject, &message) };
            match self.stage {
                Stage::Live => self.pass_on(incoming),
                _ => self.incoming.push_back(incoming),
            }
        }
    }

    /// Extends the lease after an answer to the open request, and begins the next step after the first answer.
    fn renew_lease(&mut self) {
        let Some(request) = self.request.as_ref().filter(|request| request.has_pin) else { return };
        let end = request.sent + PIN_TTL - LEASE_MARGIN;
        match self.lease {
            None => {
                self.lease = Some(end);
                self.read_state();
            }
            // An expired lease is not extended: the answer may be too late. The timer handles it.
            Some(now) if Instant::now() < now => {
                self.lease = Some(now.max(end));
                if self.is_active() {
                    self.shared.lease().1 = self.lease;
                }
            }
            Some(_) => {}
        }
    }

    fn is_active(&self) -> bool {
        matches!(self.stage, Stage::CatchingUp { .. } | Stage::Live)
    }

    fn set_lease(&mut self, end: Option<Instant>) {
        self.lease = end;
        let mut lease = self.shared.lease();
        if lease.1.is_none() && end.is_some() {
            lease.0 += 1;
        }
        lease.1 = end;
    }

    fn read_state(&mut self) {
        let (core, group, partition) = (Arc::clone(&self.core), self.group, self.partition);
        self.reading =
            Some(async move { Read::State(waves::consumer_state(&core, group, partition).await) }.boxed());
    }

    /// Reads the log from `from` on.
    fn read_log(&mut self, from: From, limit: usize) {
        let (core, partition) = (Arc::clone(&self.core), self.partition);
        self.reading = Some(
            async move {
                let found = waves::read(&core, partition, from, limit).await;
                if limit == 1 { Read::Last(found) } else { Read::Batch(found) }
            }
            .boxed(),
        );
    }

    /// Handles the result of a call.
    async fn take_read(&mut self, read: Read) {
        let failed = match (read, self.stage) {
            (Read::State(Ok(state)), Stage::Confirming) => {
                if self.pin.as_ref().is_some_and(|pin| state.is_pinned(pin)) {
                    self.activate(&state);
                } else {
                    self.lose("the pin was lost before it was confirmed").await;
                }
                None
            }
            (Read::Last(Ok(found)), Stage::CatchingUp { floor, .. }) => {
                // Without a message from the floor on, everything is acknowledged.
                let last = found.first().map_or_else(|| Some(Timestamp::now()), |last| last.stored_at);
                let from = last.map(|last| last.plus_millis(-(self.group.warm_up().as_millis() as i64)));
                self.read_log(from.map_or(From::Sequence(floor + 1), From::Time), MAX_BATCH);
                None
            }
            (Read::Batch(Ok(batch)), Stage::CatchingUp { floor, delivered }) => {
                self.take_batch(batch, floor, delivered);
                None
            }
            (Read::State(Err(error)), Stage::Confirming) => {
                self.read_state();
                Some(error)
            }
            (Read::Last(Err(error)), Stage::CatchingUp { floor, .. }) => {
                self.start_reading(floor);
                Some(error)
            }
            (Read::Batch(Err(error)), Stage::CatchingUp { floor, .. }) => {
                if self.passed_on > 0 {
                    self.read_log(From::Sequence(self.passed_on + 1), MAX_BATCH);
                } else {
                    self.start_reading(floor);
                }
                Some(error)
            }
            _ => None,
        };
        if let Some(error) = failed {
            tracing::debug!(partition = self.partition, %error, "the log cannot be read; retrying");
            if let Some(reading) = self.reading.take() {
                self.reading = Some(
                    async move {
                        tokio::time::sleep(MIN_WAIT).await;
                        reading.await
                    }
                    .boxed(),
                );
            }
        }
    }

    /// The lease takes effect.
    fn activate(&mut self, state: &ConsumerState) {
        // The timer handles an expired lease.
        let Some(end) = self.lease.filter(|end| Instant::now() < *end) else { return };
        let floor = state.ack_floor();
        self.stage = Stage::CatchingUp { floor, delivered: state.delivered() };
        self.set_lease(Some(end));
        self.share.is_held.store(true, Ordering::Relaxed);
        self.passed_on = 0;
        self.out.push_back(PartitionEvent::Acquired);
        self.start_reading(floor);
    }

    /// Reads the log from the first message that is not acknowledged; with a warm-up, reads only the time of the message before
    /// it at first.
    fn start_reading(&mut self, floor: u64) {
        if self.group.warm_up().is_zero() {
            self.read_log(From::Sequence(floor + 1), MAX_BATCH);
        } else {
            self.read_log(From::Sequence(floor.max(1)), 1);
        }
    }

    /// Passes on a part of the log, up to `delivered`. The broker delivers what follows in order.
    fn take_batch(&mut self, batch: Vec<Logged>, floor: u64, delivered: u64) {
        let mut is_complete = batch.last().is_none_or(|last| last.pending == 0);
        for Logged { sequence, pending, message, .. } in batch {
            if sequence > delivered {
                is_complete = true;
                break;
            }
            if sequence <= self.passed_on {
                continue;
            }
            if sequence > floor {
                self.pass_on(Incoming { sequence, pending, message });
            } else {
                self.passed_on = sequence;
                if let Ok(message) = message {
                    self.out.push_back(PartitionEvent::Replayed(message));
                }
            }
        }
        if !is_complete {
            return self.read_log(From::Sequence(self.passed_on + 1), MAX_BATCH);
        }
        self.stage = Stage::Live;
        self.passed_on = self.passed_on.max(delivered);
        for incoming in std::mem::take(&mut self.incoming) {
            self.pass_on(incoming);
        }
    }

    fn pass_on(&mut self, incoming: Incoming) {
        let Incoming { sequence, pending, message } = incoming;
        if sequence <= self.passed_on {
            return;
        }
        self.passed_on = sequence;
        match message {
            Ok(message) => {
                let lease = self.shared.lease().0;
                let acker = Acker { shared: Arc::clone(&self.shared), sequence, lease };
                self.in_flight.push_back(sequence);
                let delivery = WaveDelivery::new(message, pending, Box::new(acker));
                self.out.push_back(PartitionEvent::Delivery(delivery));
            }
            // Acknowledged together with the next one.
            Err(error) => tracing::error!(error, "a message of a waveform stream could not be parsed"),
        }
    }

    /// Sends the latest acknowledgement of the service.
    async fn acknowledge(&mut self) {
        let acked = self.shared.acked.load(Ordering::Acquire);
        let was_full = self.in_flight.len() >= self.max_in_flight;
        while self.in_flight.front().is_some_and(|sequence| *sequence <= acked) {
            self.in_flight.pop_front();
        }
        if was_full {
            self.next_request = Instant::now();
        }
        let later = self.ack_subjects.split_off(&(acked + 1));
        let Some((_, subject)) = std::mem::replace(&mut self.ack_subjects, later).pop_last() else { return };
        if let Err(error) = self.core.connection.client.publish(subject, "+ACK".into()).await {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
    }

    /// Lets the broker pin another client.
    async fn unpin(&mut self) {
        let consumer = names::wave_consumer(self.group, self.partition);
        let subject = format!("$JS.API.CONSUMER.UNPIN.{}.{consumer}", names::WAVES);
        let group = serde_json::json!({ "group": self.group.name() });
        if let Err(error) = self.core.connection.client.publish(subject, group.to_string().into()).await {
            tracing::debug!(%error, "a partition was not released");
        }
    }

    /// The consumer is not the active one any more.
    async fn lose(&mut self, reason: &str) {
        tracing::debug!(group = self.group.name(), partition = self.partition, reason, "partition lost");
        self.set_lease(None);
        self.share.is_held.store(false, Ordering::Relaxed);
        self.pin = None;
        self.stage = Stage::Standby;
        self.reading = None;
        self.incoming.clear();
        self.in_flight.clear();
        self.ack_subjects.clear();
        self.out.clear();
        if self.is_announced {
            self.out.push_back(PartitionEvent::Released);
        }
        self.request = None;
        self.next_request = Instant::now();
        // Replies to earlier requests must not be taken for a new pin.
        self.inbox = self.core.connection.client.new_inbox();
        match self.core.connection.client.subscribe(self.inbox.clone()).await {
            Ok(replies) => self.replies = replies,
            Err(error) => tracing::debug!(%error, "an inbox could not be opened"),
        }
    }

    /// Handles a failed request.
    async fn fail(&mut self, reason: &str) {
        self.lose(reason).await;
        self.next_request = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(MAX_WAIT);
    }

    /// Creates streams and consumers that were deleted.
    async fn create_missing(&mut self) {
        if self.core.config.create
            && self.wait == MAX_WAIT
            && let Err(error) = provision::create_all(&self.core.connection, &self.core.config).await
        {
            tracing::debug!(partition = self.partition, %error, "consumers could not be created");
        }
    }
}
