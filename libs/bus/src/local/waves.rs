//! The log of live waveforms in the queue file, its consumers, live subscriptions, and vitals.
//!
//! Messages are rows of the table `waves` in the order of their ids; the last [`WAVE_RETENTION`] is kept. Appends share
//! transactions (group commit). After the commit, the writer thread passes a message to live subscribers and to the
//! newest part of its partition in memory, from which consumers read; consumers that are further behind read
//! the file.
//!
//! Invariants: ids are assigned and submitted under one lock, so rows are committed in the order of their ids. All consumers are in
//! this process, so the active consumer of a partition is the first that joined and was not dropped. What
//! a group has acknowledged is written to the file at most once per second; after a crash, the acknowledged messages of the last
//! second can be delivered again.
//!
//! Failure modes: if the disk is full, appends fail and nothing else changes. Messages that expire before a group
//! consumes them are lost for it; this is logged.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::waveform::{PARTITIONS, StreamId, Vitals, partition_of};
use proto_json::{Mrn, Timestamp};
use rusqlite::{Connection, Row, params};
use sqlite::Priority;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::core::Core;
use super::file::WAVES;
use super::hub::Hub;
use super::{LocalBus, LocalError};
use crate::waves::VitalsFilter;
use crate::{
    BusError, EnqueueError, PartitionEvent, VitalsEvent, WAVE_DUPLICATE_WINDOW, WAVE_RETENTION, WaveAcker,
    WaveDelivery, WaveEvent, WaveGroup, WaveKind, WaveLag, WaveLog, WaveMessage,
};

/// Appends that wait for their commit.
const MAX_APPENDS: usize = 1_024;
/// Messages and bytes of a partition that are kept in memory.
const MAX_RECENT_MESSAGES: usize = 512;
const MAX_RECENT_BYTES: usize = 256 << 10;
/// Rows of one read.
const READ_ROWS: usize = 256;
/// Expired rows are deleted after this many appends, at most twice as many at once.
const CLEAN_UP_AFTER: u64 = 256;
/// Shortest time between two writes of the acknowledgements.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Approximate size of a row without its payload.
const ROW_BYTES: u64 = 160;
/// Wait after a failed read.
const RETRY_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Waves {
    state: Mutex<State>,
    appends: Semaphore,
    live: Hub<WaveMessage>,
    vitals: Hub<Arc<Vitals>>,
    next_member: AtomicU64,
}

#[derive(Debug)]
struct State {
    is_closed: bool,
    next_id: i64,
    /// The last id that is durable.
    durable: i64,
    /// Bytes in the log, approximately.
    bytes: u64,
    /// Identities of the messages of the last [`WAVE_DUPLICATE_WINDOW`].
    known: HashMap<Identity, Known>,
    known_order: VecDeque<(Instant, Identity)>,
    /// The last message of each stream since the file was opened.
    last_of_stream: HashMap<StreamId, (Timestamp, WaveMessage)>,
    partitions: Vec<Partition>,
    appends_since_clean_up: u64,
    saved_at: Instant,
}

/// See [`WaveMessage::id`]. The time is 0 except for descriptions.
type Identity = (StreamId, WaveKind, u64, i64);

#[derive(Debug)]
enum Known {
    Durable,
    /// The write is not committed; the senders that have sent the message again wait for its outcome.
    Pending(Vec<oneshot::Sender<()>>),
}

#[derive(Debug, Default)]
struct Partition {
    /// The newest messages with their ids.
    recent: VecDeque<(i64, WaveMessage)>,
    recent_bytes: usize,
    /// All later messages are in `recent`.
    evicted: i64,
    groups: [Group; WaveGroup::ALL.len()],
}

/// State of a group in a partition.
#[derive(Debug, Default)]
struct Group {
    /// The last message that is acknowledged with all before it.
    floor: i64,
    /// The last message that was delivered.
    delivered: i64,
    undelivered: u64,
    in_flight: VecDeque<i64>,
    /// Consumers; the first is the active one.
    members: VecDeque<u64>,
    /// Notifies consumers of messages, acknowledgements and changes of the members.
    changed: Arc<Notify>,
}

impl Partition {
    fn add(&mut self, id: i64, message: &WaveMessage) {
        self.recent_bytes += message.payload.len();
        self.recent.push_back((id, message.clone()));
        while self.recent.len() > MAX_RECENT_MESSAGES || self.recent_bytes > MAX_RECENT_BYTES {
            let Some((evicted, message)) = self.recent.pop_front() else { break };
            self.recent_bytes -= message.payload.len();
            self.evicted = evicted;
        }
        for group in &mut self.groups {
            group.undelivered += 1;
            group.changed.notify_waiters();
        }
    }
}

fn index_of(group: WaveGroup) -> usize {
    match group {
        WaveGroup::Storage => 0,
        WaveGroup::Analysis => 1,
    }
}

fn identity(message: &WaveMessage) -> Identity {
    let time_us = if message.kind == WaveKind::Open { message.time_us } else { 0 };
    (message.stream, message.kind, message.sequence, time_us)
}

/// The time before which messages have expired.
fn expiry() -> i64 {
    Timestamp::now().as_millis() - WAVE_RETENTION.as_millis() as i64
}

impl Waves {
    /// Loads the state from the file.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let newest = "SELECT coalesce(max(id), 0), coalesce((SELECT stored_at FROM waves ORDER BY id DESC LIMIT 1), 0) FROM waves";
        let (mut last, newest_at): (i64, i64) =
            db.query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if newest_at < expiry() {
            db.execute("DELETE FROM waves", [])?;
        }
        let first: i64 = db.query_row("SELECT coalesce(min(id), 0) FROM waves", [], |row| row.get(0))?;
        let sample = "SELECT coalesce(avg(length(payload)), 0.0) FROM (SELECT payload FROM waves ORDER BY id DESC LIMIT 1000)";
        let mean: f64 = db.query_row(sample, [], |row| row.get(0))?;
        let rows = if first == 0 { 0 } else { (last - first + 1).unsigned_abs() };
        let mut partitions: Vec<Partition> = (0..PARTITIONS).map(|_| Partition::default()).collect();
        let mut floors = db.prepare("SELECT consumer, partition, acked FROM wave_floors")?;
        let mut saved = floors.query([])?;
        while let Some(row) = saved.next()? {
            let (group, partition, acked): (usize, usize, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if let Some(group) = partitions.get_mut(partition).and_then(|found| found.groups.get_mut(group)) {
                group.floor = acked;
                // An id must not be used again.
                last = last.max(acked);
            }
        }
        let oldest_floor =
            partitions.iter().flat_map(|p| &p.groups).map(|group| group.floor).min().unwrap_or(0);
        let mut state = State {
            is_closed: false,
            next_id: last + 1,
            durable: last,
            bytes: rows * (mean as u64 + ROW_BYTES),
            known: HashMap::new(),
            known_order: VecDeque::new(),
            last_of_stream: HashMap::new(),
            partitions,
            appends_since_clean_up: 0,
            saved_at: Instant::now(),
        };
        let since = Timestamp::now().as_millis() - WAVE_DUPLICATE_WINDOW.as_millis() as i64;
        let mut statement = db.prepare(
            "SELECT id, stored_at, partition, stream, kind, sequence, time_us FROM waves ORDER BY id DESC",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (id, stored_at): (i64, i64) = (row.get(0)?, row.get(1)?);
            if id <= oldest_floor && stored_at < since {
                break;
            }
            for group in
                state.partitions.get_mut(row.get::<_, usize>(2)?).iter_mut().flat_map(|p| &mut p.groups)
            {
                group.undelivered += u64::from(id > group.floor);
            }
            let kind = row.get::<_, usize>(4).ok().and_then(|kind| WaveKind::ALL.get(kind).copied());
            if let (Ok(stream), Some(kind), true) =
                (row.get::<_, String>(3)?.parse(), kind, stored_at >= since)
            {
                let time_us = if kind == WaveKind::Open { row.get(6)? } else { 0 };
                let identity = (stream, kind, row.get::<_, i64>(5)?.unsigned_abs(), time_us);
                state.known.insert(identity, Known::Durable);
                state.known_order.push_back((Instant::now(), identity));
            }
        }
        for partition in &mut state.partitions {
            partition.evicted = last;
            for group in &mut partition.groups {
                group.delivered = group.floor;
            }
        }
        Ok(Waves {
            state: Mutex::new(state),
            appends: Semaphore::new(MAX_APPENDS),
            live: Hub::default(),
            vitals: Hub::default(),
            next_member: AtomicU64::new(1),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the streams of all consumers.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        for group in state.partitions.iter().flat_map(|partition| &partition.groups) {
            group.changed.notify_waiters();
        }
    }

    /// Outcome of the write of a message, on the writer thread.
    fn written(&self, id: i64, message: &WaveMessage, stored_at: Timestamp, is_durable: bool) {
        let mut state = self.state();
        let identity = identity(message);
        let known = if is_durable {
            state.durable = id;
            let partition = usize::from(partition_of(&message.mrn));
            state.partitions[partition].add(id, message);
            state.last_of_stream.insert(message.stream, (stored_at, message.clone()));
            state.known.insert(identity, Known::Durable)
        } else {
            state.bytes = state.bytes.saturating_sub(size(message));
            state.known.remove(&identity)
        };
        if let Some(Known::Pending(waiting)) = known {
            for sender in waiting {
                // The send fails only if the sender was cancelled.
                let _ = sender.send(());
            }
        }
        drop(state);
        if is_durable {
            self.live.publish(message.mrn, message);
        }
    }
}

fn size(message: &WaveMessage) -> u64 {
    message.payload.len() as u64 + ROW_BYTES
}

impl State {
    fn forget_old_identities(&mut self) {
        while let Some((since, identity)) = self.known_order.front() {
            if since.elapsed() < WAVE_DUPLICATE_WINDOW {
                return;
            }
            self.known.remove(identity);
            self.known_order.pop_front();
        }
    }

    /// What the groups have acknowledged. A group that is up to date has acknowledged everything, so that after a restart
    /// no old rows are read for partitions without patients.
    fn floors(&self) -> Vec<(usize, usize, i64)> {
        let mut floors = Vec::new();
        for (partition, state) in self.partitions.iter().enumerate() {
            for (index, group) in state.groups.iter().enumerate() {
                let is_up_to_date = group.undelivered == 0 && group.in_flight.is_empty();
                floors.push((index, partition, if is_up_to_date { self.durable } else { group.floor }));
            }
        }
        floors
    }
}

/// Writes what the groups have acknowledged.
pub(super) fn save_floors(core: &Core) {
    let floors = core.waves.state().floors();
    let write = move |db: &Connection| {
        let mut save = db.prepare_cached(
            "INSERT INTO wave_floors (consumer, partition, acked) VALUES (?1, ?2, ?3)
             ON CONFLICT (consumer, partition) DO UPDATE SET acked = excluded.acked",
        )?;
        floors.iter().try_for_each(|floor| save.execute(*floor).map(drop))
    };
    // Not awaited: after a failure, messages are delivered again.
    drop(core.submit(Priority::Deferred, 0, write, |_| {}));
}

/// Deletes the messages of a patient, also from memory.
pub(super) async fn erase(core: &Arc<Core>, mrn: Mrn) -> Result<(), LocalError> {
    let number = mrn.get();
    let delete = move |db: &Connection| {
        let mut delete = db.prepare_cached("DELETE FROM waves WHERE mrn = ?1 RETURNING length(payload)")?;
        let deleted = delete.query_map([number], |row| row.get::<_, u64>(0))?;
        deleted.map(|bytes| bytes.map(|bytes| bytes + ROW_BYTES)).sum::<rusqlite::Result<u64>>()
    };
    let deleted = core.write(delete).await?;
    let mut state = core.waves.state();
    state.bytes = state.bytes.saturating_sub(deleted);
    state.last_of_stream.retain(|_, (_, message)| message.mrn != mrn);
    Ok(())
}

/// Deletes expired rows.
fn clean_up(core: &Core) {
    let waves = Arc::clone(&core.waves);
    let expiry = expiry();
    let limit = 2 * CLEAN_UP_AFTER;
    let delete = move |db: &Connection| {
        // Rows are in the order of their times, and reading starts with the oldest ones.
        let mut last = db.prepare_cached(
            "SELECT max(id) FROM (SELECT id, stored_at FROM waves ORDER BY id LIMIT ?1) WHERE stored_at < ?2",
        )?;
        let last: Option<i64> = last.query_row(params![limit, expiry], |row| row.get(0))?;
        let Some(last) = last else { return Ok(0) };
        let mut delete = db.prepare_cached("DELETE FROM waves WHERE id <= ?1 RETURNING length(payload)")?;
        let deleted = delete.query_map([last], |row| row.get::<_, u64>(0))?;
        deleted.map(|bytes| bytes.map(|bytes| bytes + ROW_BYTES)).sum()
    };
    drop(core.submit(Priority::Deferred, 0, delete, move |deleted| {
        let mut state = waves.state();
        state.bytes = state.bytes.saturating_sub(*deleted.as_ref().unwrap_or(&0));
        state.last_of_stream.retain(|_, (stored_at, _)| stored_at.as_millis() >= expiry);
    }));
}

#[async_trait]
impl WaveLog for LocalBus {
    async fn append(&self, message: WaveMessage) -> Result<(), EnqueueError> {
        let core = &self.core;
        let _permit = core.waves.appends.acquire().await.map_err(|_| BusError::from(LocalError::Closed))?;
        let identity = identity(&message);
        let written = loop {
            let repeated = {
                let mut state = core.waves.state();
                state.forget_old_identities();
                match state.known.get_mut(&identity) {
                    Some(Known::Durable) => return Ok(()),
                    Some(Known::Pending(waiting)) => {
                        let (sender, outcome) = oneshot::channel();
                        waiting.push(sender);
                        outcome
                    }
                    None => {
                        if state.bytes + size(&message) > core.limits.max_wave_bytes {
                            drop(state);
                            clean_up(core);
                            return Err(EnqueueError::Full);
                        }
                        break submit(core, &mut state, message);
                    }
                }
            };
            // Tries again if that write failed.
            let _ = repeated.await;
        };
        written.await?;
        let is_due = {
            let mut state = core.waves.state();
            state.appends_since_clean_up += 1;
            let is_due = state.appends_since_clean_up >= CLEAN_UP_AFTER;
            if is_due {
                state.appends_since_clean_up = 0;
            }
            is_due
        };
        if is_due {
            clean_up(core);
        }
        Ok(())
    }

    async fn last_wave(&self, mrn: Mrn, stream: StreamId) -> Result<Option<WaveMessage>, BusError> {
        if let Some((_, message)) = self.core.waves.state().last_of_stream.get(&stream) {
            return Ok(Some(message.clone()).filter(|message| message.mrn == mrn));
        }
        // From before the file was opened.
        let sql = format!(
            "{} WHERE stream = ?1 AND mrn = ?2 AND stored_at >= ?3 ORDER BY id DESC LIMIT 1",
            WAVES.select()
        );
        let found = self.core.read(move |db| {
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query(params![stream.to_string(), mrn.get(), expiry()])?;
            rows.next()?.map(stored).transpose()
        });
        Ok(found.await?.and_then(|stored| stored.message))
    }

    async fn subscribe_waves(&self, of: Option<Mrn>) -> Result<BoxStream<'static, WaveEvent>, BusError> {
        let messages = self.core.waves.live.subscribe(of);
        Ok(messages.map(|message| message.map_or(WaveEvent::Lagged, WaveEvent::Message)).boxed())
    }

    async fn consume_waves(
        &self,
        group: WaveGroup,
        partition: u16,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, PartitionEvent>, BusError> {
        let member = Member::join(Arc::clone(&self.core), group, partition, max_in_flight.max(1));
        let events = futures::stream::unfold(member, |mut member| async move {
            member.next().await.map(|event| (event, member))
        });
        Ok(events.boxed())
    }

    async fn wave_lag(&self, group: WaveGroup) -> Result<WaveLag, BusError> {
        let state = self.core.waves.state();
        let groups = state.partitions.iter().map(|partition| &partition.groups[index_of(group)]);
        Ok(groups.fold(WaveLag::default(), |lag, group| WaveLag {
            pending: lag.pending + group.undelivered,
            unacknowledged: lag.unacknowledged + group.in_flight.len() as u64,
        }))
    }

    async fn publish_vitals(&self, vitals: &Vitals) -> Result<(), BusError> {
        self.core.waves.vitals.publish(vitals.mrn, &Arc::new(vitals.clone()));
        Ok(())
    }

    async fn subscribe_vitals(&self, of: Option<Mrn>) -> Result<BoxStream<'static, VitalsEvent>, BusError> {
        let mut filter = VitalsFilter::default();
        let events = self.core.waves.vitals.subscribe(of).filter_map(move |vitals| {
            std::future::ready(match vitals {
                Some(vitals) => {
                    filter.admits(&vitals).then(|| VitalsEvent::Vitals(Box::new(Vitals::clone(&vitals))))
                }
                None => Some(VitalsEvent::Lagged),
            })
        });
        Ok(events.boxed())
    }
}

/// Submits the write of a message under the lock of the state, so that rows are committed in the order of their ids.
fn submit(
    core: &Core,
    state: &mut State,
    message: WaveMessage,
) -> impl Future<Output = Result<(), LocalError>> + use<> {
    let (id, stored_at) = (state.next_id, Timestamp::now());
    state.next_id += 1;
    state.bytes += size(&message);
    let identity = identity(&message);
    state.known.insert(identity, Known::Pending(Vec::new()));
    state.known_order.push_back((Instant::now(), identity));
    let waves = Arc::clone(&core.waves);
    let bytes = message.payload.len();
    let row = message.clone();
    core.submit(
        Priority::Normal,
        bytes,
        move |db| {
            let kind = WaveKind::ALL.iter().position(|kind| *kind == row.kind).unwrap_or(0);
            WAVES.insert(
                db,
                params![
                    id,
                    stored_at.as_millis(),
                    partition_of(&row.mrn),
                    row.mrn.get(),
                    row.stream.to_string(),
                    kind,
                    row.sequence,
                    row.time_us,
                    &row.payload[..]
                ],
            )
        },
        move |outcome| waves.written(id, &message, stored_at, outcome.is_ok()),
    )
}

/// A row of the log.
struct Stored {
    id: i64,
    /// `None` if the row is damaged.
    message: Option<WaveMessage>,
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let id: i64 = row.get("id")?;
    let message = if WAVES.verify(row)?.row {
        let kind = WaveKind::ALL.get(row.get::<_, usize>("kind")?).copied();
        let (mrn, stream) = (Mrn::new(row.get("mrn")?).ok(), row.get::<_, String>("stream")?.parse().ok());
        match (mrn, stream, kind) {
            (Some(mrn), Some(stream), Some(kind)) => Some(WaveMessage {
                mrn,
                stream,
                kind,
                sequence: row.get("sequence")?,
                time_us: row.get("time_us")?,
                payload: row.get::<_, Vec<u8>>("payload")?.into(),
            }),
            _ => None,
        }
    } else {
        None
    };
    if message.is_none() {
        tracing::error!(message = id, "a message of a waveform stream is damaged; it is skipped");
    }
    Ok(Stored { id, message })
}

/// A consumer of a partition.
struct Member {
    core: Arc<Core>,
    group: WaveGroup,
    partition: u16,
    max_in_flight: usize,
    id: u64,
    changed: Arc<Notify>,
    stage: Stage,
    /// Rows that were read from the file.
    read: VecDeque<Stored>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Another consumer is the active one.
    Standby,
    /// Rows after `after` up to `until` are passed on as replayed.
    WarmUp {
        after: i64,
        until: i64,
    },
    Live,
}

/// What a consumer does next.
enum Next {
    Closed,
    Wait,
    Event(Box<PartitionEvent>),
    /// Find the start of the warm-up, which ends with this row.
    StartWarmUp {
        floor: i64,
    },
    /// Read rows after `after`, up to `until`.
    Read {
        after: i64,
        until: i64,
    },
}

impl Member {
    fn join(core: Arc<Core>, group: WaveGroup, partition: u16, max_in_flight: usize) -> Self {
        let id = core.waves.next_member.fetch_add(1, Ordering::Relaxed);
        let changed = {
            let mut state = core.waves.state();
            let state = state.of(group, partition);
            state.members.push_back(id);
            Arc::clone(&state.changed)
        };
        Member {
            core,
            group,
            partition,
            max_in_flight,
            id,
            changed,
            stage: Stage::Standby,
            read: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Option<PartitionEvent> {
        let changed = Arc::clone(&self.changed);
        loop {
            let mut notified = std::pin::pin!(changed.notified());
            // Registered before the state is checked, so that no change is missed.
            notified.as_mut().enable();
            match self.decide() {
                Next::Closed => return None,
                Next::Event(event) => return Some(*event),
                Next::Wait => notified.await,
                Next::StartWarmUp { floor } => {
                    let after = self.warm_up_start(floor).await;
                    self.stage = Stage::WarmUp { after, until: floor };
                    return Some(PartitionEvent::Acquired);
                }
                Next::Read { after, until } => self.read(after, until).await,
            }
        }
    }

    fn decide(&mut self) -> Next {
        let waves = Arc::clone(&self.core.waves);
        let mut state = waves.state();
        if state.is_closed {
            return Next::Closed;
        }
        let partition = &mut state.partitions[usize::from(self.partition)];
        let evicted = partition.evicted;
        let group = &mut partition.groups[index_of(self.group)];
        if group.members.front() != Some(&self.id) {
            return Next::Wait;
        }
        match self.stage {
            Stage::Standby => {
                group.undelivered += group.in_flight.len() as u64;
                group.in_flight.clear();
                group.delivered = group.floor;
                Next::StartWarmUp { floor: group.floor }
            }
            Stage::WarmUp { after, until } => {
                while let Some(row) = self.read.pop_front() {
                    self.stage = Stage::WarmUp { after: row.id, until };
                    if let Some(message) = row.message {
                        return Next::Event(Box::new(PartitionEvent::Replayed(message)));
                    }
                }
                if after < until {
                    return Next::Read { after, until };
                }
                self.stage = Stage::Live;
                drop(state);
                self.decide()
            }
            Stage::Live => {
                if group.in_flight.len() >= self.max_in_flight {
                    return Next::Wait;
                }
                while let Some(row) = self.read.pop_front() {
                    group.delivered = row.id;
                    group.undelivered = group.undelivered.saturating_sub(1);
                    if let Some(message) = row.message {
                        return self.deliver(group, row.id, message);
                    }
                }
                if group.delivered < evicted {
                    return Next::Read { after: group.delivered, until: evicted };
                }
                let at = partition.recent.partition_point(|(id, _)| *id <= group.delivered);
                match partition.recent.get(at) {
                    Some((id, message)) => {
                        group.delivered = *id;
                        group.undelivered = group.undelivered.saturating_sub(1);
                        self.deliver(group, *id, message.clone())
                    }
                    None => {
                        if group.undelivered > 0 {
                            let lost = std::mem::take(&mut group.undelivered);
                            tracing::error!(
                                partition = self.partition,
                                lost,
                                group = self.group.name(),
                                "messages of waveform streams expired before they were consumed"
                            );
                        }
                        Next::Wait
                    }
                }
            }
        }
    }

    fn deliver(&self, group: &mut Group, id: i64, message: WaveMessage) -> Next {
        group.in_flight.push_back(id);
        let acker = Acker {
            core: Arc::clone(&self.core),
            group: self.group,
            partition: self.partition,
            member: self.id,
            id,
        };
        let delivery = WaveDelivery::new(message, group.undelivered, Box::new(acker));
        Next::Event(Box::new(PartitionEvent::Delivery(delivery)))
    }

    /// Returns the id after which the warm-up begins.
    async fn warm_up_start(&self, floor: i64) -> i64 {
        let warm_up = self.group.warm_up();
        if warm_up.is_zero() {
            return floor;
        }
        let partition = self.partition;
        let found = self.core.read(move |db| {
            // Counted back from the last acknowledged message of the partition: the next one can be minutes later, after an outage
            // of the gateway.
            let mut last = db.prepare_cached(
                "SELECT stored_at FROM waves WHERE id <= ?1 AND partition = ?2 ORDER BY id DESC LIMIT 1",
            )?;
            let mut last = last.query(params![floor, partition])?;
            let last = last.next()?.map(|row| row.get::<_, i64>(0)).transpose()?;
            let since = last.unwrap_or_else(|| Timestamp::now().as_millis()) - warm_up.as_millis() as i64;
            let mut before = db.prepare_cached(
                "SELECT id FROM waves WHERE id <= ?1 AND stored_at < ?2 ORDER BY id DESC LIMIT 1",
            )?;
            let mut before = before.query(params![floor, since])?;
            Ok(before.next()?.map(|row| row.get::<_, i64>(0)).transpose()?.unwrap_or(0))
        });
        found.await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "the log of waveforms cannot be read; a consumer starts without warm-up");
            floor
        })
    }

    /// Reads rows after `after` up to `until`. Without any, the stage goes on after `until`.
    async fn read(&mut self, after: i64, until: i64) {
        let (partition, sql) = (
            self.partition,
            format!(
                "{} WHERE id > ?1 AND id <= ?2 AND partition = ?3 AND stored_at >= ?4 ORDER BY id LIMIT {READ_ROWS}",
                WAVES.select()
            ),
        );
        let rows = self.core.read(move |db| {
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query(params![after, until, partition, expiry()])?;
            let mut found = VecDeque::new();
            while let Some(row) = rows.next()? {
                found.push_back(stored(row)?);
            }
            Ok(found)
        });
        match rows.await {
            Ok(rows) if rows.is_empty() => match self.stage {
                Stage::WarmUp { .. } => self.stage = Stage::WarmUp { after: until, until },
                _ => {
                    let mut state = self.core.waves.state();
                    let group = state.of(self.group, self.partition);
                    group.delivered = group.delivered.max(until);
                }
            },
            Ok(rows) => self.read = rows,
            Err(error) => {
                tracing::error!(error = %error, "the log of waveforms cannot be read; retrying");
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

impl State {
    fn of(&mut self, group: WaveGroup, partition: u16) -> &mut Group {
        &mut self.partitions[usize::from(partition)].groups[index_of(group)]
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.core.waves.state();
        let group = state.of(self.group, self.partition);
        group.members.retain(|member| *member != self.id);
        group.changed.notify_waiters();
    }
}

struct Acker {
    core: Arc<Core>,
    group: WaveGroup,
    partition: u16,
    member: u64,
    id: i64,
}

#[async_trait]
impl WaveAcker for Acker {
    async fn ack_through(&self) -> Result<(), BusError> {
        let is_due = {
            let mut state = self.core.waves.state();
            let group = state.of(self.group, self.partition);
            if group.members.front() != Some(&self.member) {
                return Ok(());
            }
            group.floor = group.floor.max(self.id);
            while group.in_flight.front().is_some_and(|id| *id <= self.id) {
                group.in_flight.pop_front();
            }
            group.changed.notify_waiters();
            let is_due = state.saved_at.elapsed() >= SAVE_INTERVAL;
            if is_due {
                state.saved_at = Instant::now();
            }
            is_due
        };
        if is_due {
            save_floors(&self.core);
        }
        Ok(())
    }

    fn is_active(&self) -> bool {
        let mut state = self.core.waves.state();
        !state.is_closed && state.of(self.group, self.partition).members.front() == Some(&self.member)
    }
}
