//! The schedule: an index in memory that decides which message is delivered when.
//!
//! A message is ready, waits for redelivery, or is delivered and unsettled. Consumers sleep until a message
//! becomes ready or the earliest deadline passes; nothing polls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto_json::{Queue, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::QueueStatus;

/// Payloads that are kept in memory until they are delivered; the others are read from the file.
const MAX_IN_MEMORY: usize = 4 << 20;

/// The parts of a message that a delivery contains.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) payload: Bytes,
    pub(super) reply_to: Option<String>,
    pub(super) trace_parent: Option<String>,
}

/// A message that was just taken for delivery.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: i64,
    /// Number of deliveries, including this one.
    pub(super) delivery: u64,
    pub(super) enqueued_at: Timestamp,
    /// `None` if the content must be read from the file.
    pub(super) content: Option<Arc<Content>>,
    /// The message was in the file when it was opened: it may have killed consumers of an earlier process.
    pub(super) is_recovered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Instant),
    Delivered(Instant),
}

#[derive(Debug)]
struct Entry {
    /// Number of deliveries; the number of the current one.
    deliveries: u64,
    /// Number of attempts that count.
    attempts: u64,
    enqueued_at: Timestamp,
    is_recovered: bool,
    state: State,
    content: Option<Arc<Content>>,
}

#[derive(Debug, Default)]
struct Index {
    entries: BTreeMap<i64, Entry>,
    ready: BTreeSet<i64>,
    deadlines: BTreeSet<(Instant, i64)>,
    delivered: u64,
    closed: bool,
}

impl Index {
    /// Changes the state of a message.
    fn set_state(&mut self, id: i64, state: State) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.state, state);
        self.leave(id, before);
        match state {
            State::Ready => {
                self.ready.insert(id);
            }
            State::Waiting(until) => {
                self.deadlines.insert((until, id));
            }
            State::Delivered(until) => {
                self.deadlines.insert((until, id));
                self.delivered += 1;
            }
        }
    }

    /// Removes a message from the index of its state.
    fn leave(&mut self, id: i64, state: State) {
        match state {
            State::Ready => {
                self.ready.remove(&id);
            }
            State::Waiting(until) => {
                self.deadlines.remove(&(until, id));
            }
            State::Delivered(until) => {
                self.deadlines.remove(&(until, id));
                self.delivered -= 1;
            }
        }
    }

    /// Makes messages ready whose wait is over or whose delivery counts as lost.
    fn pass_deadlines(&mut self, queue: Queue, now: Instant) {
        while let Some(&(until, id)) = self.deadlines.first().filter(|(until, _)| *until <= now) {
            if self.entries.get(&id).is_some_and(|entry| entry.state == State::Delivered(until)) {
                tracing::warn!(%queue, message = id, "a delivery was not settled within the ack wait; the message is redelivered");
            }
            self.set_state(id, State::Ready);
        }
    }

    /// Takes the oldest message that is ready.
    fn take_first(&mut self, until: Instant) -> Option<Taken> {
        let id = self.ready.first().copied()?;
        self.set_state(id, State::Delivered(until));
        let entry = self.entries.get_mut(&id)?;
        entry.deliveries += 1;
        Some(Taken {
            id,
            delivery: entry.deliveries,
            enqueued_at: entry.enqueued_at,
            content: entry.content.clone(),
            is_recovered: entry.is_recovered,
        })
    }

    /// Whether this is the current delivery of the message, and unsettled.
    fn is_current(&self, id: i64, delivery: u64) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.deliveries == delivery && matches!(entry.state, State::Delivered(_)))
    }
}

/// The schedule of one queue.
#[derive(Debug)]
pub(super) struct Schedule {
    queue: Queue,
    index: Mutex<Index>,
    changed: Notify,
    /// Messages in the queue, including messages being written.
    occupied: AtomicU64,
    in_memory: AtomicUsize,
}

impl Schedule {
    pub(super) fn new(queue: Queue) -> Self {
        Schedule {
            queue,
            index: Mutex::default(),
            changed: Notify::new(),
            occupied: AtomicU64::new(0),
            in_memory: AtomicUsize::new(0),
        }
    }

    /// Reserves room for a message; `false` if the queue is full.
    pub(super) fn reserve(&self, most: u64) -> bool {
        self.occupied
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |occupied| {
                (occupied < most).then_some(occupied + 1)
            })
            .is_ok()
    }

    /// Releases a reservation.
    pub(super) fn release(&self) {
        self.occupied.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds a message that was in the file when it was opened. Needs no reservation.
    pub(super) fn add_stored(&self, id: i64, attempts: u64, enqueued_at: Timestamp) {
        self.occupied.fetch_add(1, Ordering::Relaxed);
        self.insert(
            id,
            Entry {
                deliveries: attempts,
                attempts,
                enqueued_at,
                is_recovered: true,
                state: State::Ready,
                content: None,
            },
        );
    }

    /// Adds a message with a reservation, and its content if memory was reserved for it. A message that is
    /// not in the file yet must be added with its content, and removed if its write fails.
    pub(super) fn add(&self, id: i64, enqueued_at: Timestamp, content: Option<Arc<Content>>) {
        self.insert(
            id,
            Entry {
                deliveries: 0,
                attempts: 0,
                enqueued_at,
                is_recovered: false,
                state: State::Ready,
                content,
            },
        );
    }

    /// Reserves memory for the content of a message, which must then be passed to [`Schedule::add`]; `false`
    /// if there is none.
    pub(super) fn reserve_memory(&self, content: &Content) -> bool {
        let bytes = content.payload.len();
        self.in_memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_memory| {
                (in_memory + bytes <= MAX_IN_MEMORY).then_some(in_memory + bytes)
            })
            .is_ok()
    }

    fn insert(&self, id: i64, entry: Entry) {
        let mut index = self.index();
        index.entries.insert(id, entry);
        index.ready.insert(id);
        drop(index);
        self.changed.notify_one();
    }

    /// Removes a message that is no longer in the file, and releases its reservation.
    pub(super) fn remove(&self, id: i64) {
        let mut index = self.index();
        if let Some(entry) = index.entries.remove(&id) {
            index.leave(id, entry.state);
            drop(index);
            self.release();
            if let Some(content) = entry.content {
                self.in_memory.fetch_sub(content.payload.len(), Ordering::Relaxed);
            }
        }
    }

    /// Waits until a message is ready and takes the oldest one; `None` if the adapter is closed.
    pub(super) async fn take(&self, ack_wait: Duration) -> Option<Taken> {
        // Each change wakes one sleeper, which then waits for the earliest deadline. When it returns or is
        // cancelled, another sleeper must take over.
        let _next = NotifyOnDrop(&self.changed);
        loop {
            let earliest = {
                let mut index = self.index();
                if index.closed {
                    return None;
                }
                let now = Instant::now();
                index.pass_deadlines(self.queue, now);
                if let Some(taken) = index.take_first(now + ack_wait) {
                    return Some(taken);
                }
                index.deadlines.first().map(|(until, _)| *until)
            };
            let changed = self.changed.notified();
            match earliest {
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Counts an attempt. Returns its number, from 1.
    pub(super) fn begin(&self, id: i64) -> u64 {
        let mut index = self.index();
        let Some(entry) = index.entries.get_mut(&id) else { return 1 };
        entry.attempts += 1;
        entry.attempts
    }

    /// Uncounts an attempt. Returns the new count.
    pub(super) fn uncount(&self, id: i64) -> u64 {
        let mut index = self.index();
        let Some(entry) = index.entries.get_mut(&id) else { return 0 };
        entry.attempts = entry.attempts.saturating_sub(1);
        entry.attempts
    }

    /// Gives a message back for redelivery after `wait`. Ignored unless `delivery` is the current delivery.
    pub(super) fn give_back(&self, id: i64, delivery: u64, wait: Duration) {
        let mut index = self.index();
        if index.is_current(id, delivery) {
            let state = if wait.is_zero() { State::Ready } else { State::Waiting(Instant::now() + wait) };
            index.set_state(id, state);
            drop(index);
            self.changed.notify_one();
        }
    }

    /// Restarts the ack wait of a delivery.
    pub(super) fn extend(&self, id: i64, delivery: u64, ack_wait: Duration) {
        let mut index = self.index();
        if index.is_current(id, delivery) {
            index.set_state(id, State::Delivered(Instant::now() + ack_wait));
        }
    }

    /// Ends the streams of all consumers.
    pub(super) fn close(&self) {
        self.index().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn status(&self) -> QueueStatus {
        let index = self.index();
        QueueStatus {
            messages: index.entries.len() as u64,
            in_flight: index.delivered,
            oldest: index.entries.first_key_value().map(|(_, entry)| entry.enqueued_at),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one sleeper when dropped.
struct NotifyOnDrop<'a>(&'a Notify);

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
