//! Which message is delivered when: an index in memory over the messages in the file.
//!
//! A message is ready, waits for its next attempt, or is with a consumer. Consumers sleep until one becomes ready or the
//! earliest deadline passes; nothing polls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto_json::{Queue, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::QueueStatus;

/// Payloads kept in memory until they are delivered; what is beyond is read from the file.
const REMEMBERED_BYTES: usize = 4 << 20;

/// The content of a message.
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
    /// How often the message was delivered, this time included.
    pub(super) delivery: u64,
    pub(super) enqueued_at: Timestamp,
    /// What it holds, unless it has to be read from the file.
    pub(super) content: Option<Arc<Content>>,
    /// It was in the file when the bus was opened: consumers before this process may have died over it.
    pub(super) from_before: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Waiting(Instant),
    Delivered(Instant),
}

#[derive(Debug)]
struct Entry {
    /// Which delivery is the current one.
    deliveries: u64,
    /// Attempts that count.
    attempts: u64,
    enqueued_at: Timestamp,
    from_before: bool,
    place: Place,
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
    /// Moves a message; it is in exactly one place.
    fn place(&mut self, id: i64, place: Place) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.place, place);
        self.leave(id, before);
        match place {
            Place::Ready => {
                self.ready.insert(id);
            }
            Place::Waiting(until) => {
                self.deadlines.insert((until, id));
            }
            Place::Delivered(until) => {
                self.deadlines.insert((until, id));
                self.delivered += 1;
            }
        }
    }

    fn leave(&mut self, id: i64, place: Place) {
        match place {
            Place::Ready => {
                self.ready.remove(&id);
            }
            Place::Waiting(until) => {
                self.deadlines.remove(&(until, id));
            }
            Place::Delivered(until) => {
                self.deadlines.remove(&(until, id));
                self.delivered -= 1;
            }
        }
    }

    /// Makes ready whatever has waited long enough or whose consumer is lost.
    fn pass_deadlines(&mut self, queue: Queue, now: Instant) {
        while let Some(&(until, id)) = self.deadlines.first().filter(|(until, _)| *until <= now) {
            if self.entries.get(&id).is_some_and(|entry| entry.place == Place::Delivered(until)) {
                tracing::warn!(%queue, message = id, "nobody settled a delivery in time; it is delivered again");
            }
            self.place(id, Place::Ready);
        }
    }

    /// Hands out the oldest message that is ready.
    fn take_first(&mut self, until: Instant) -> Option<Taken> {
        let id = self.ready.first().copied()?;
        self.place(id, Place::Delivered(until));
        let entry = self.entries.get_mut(&id)?;
        entry.deliveries += 1;
        Some(Taken {
            id,
            delivery: entry.deliveries,
            enqueued_at: entry.enqueued_at,
            content: entry.content.clone(),
            from_before: entry.from_before,
        })
    }

    /// Whether this delivery is still the current one of its message.
    fn is_current(&self, id: i64, delivery: u64) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.deliveries == delivery && matches!(entry.place, Place::Delivered(_)))
    }
}

/// One queue's part of the schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    queue: Queue,
    index: Mutex<Index>,
    changed: Notify,
    /// Messages in the queue and on their way into it.
    occupied: AtomicU64,
    remembered: AtomicUsize,
}

impl Schedule {
    pub(super) fn new(queue: Queue) -> Self {
        Schedule {
            queue,
            index: Mutex::default(),
            changed: Notify::new(),
            occupied: AtomicU64::new(0),
            remembered: AtomicUsize::new(0),
        }
    }

    /// Takes a place in the queue for a message on its way; `false` when there is none.
    pub(super) fn reserve(&self, most: u64) -> bool {
        self.occupied
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |occupied| {
                (occupied < most).then_some(occupied + 1)
            })
            .is_ok()
    }

    /// Gives a place back that was reserved in vain.
    pub(super) fn release(&self) {
        self.occupied.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds a message that was in the file when the bus was opened. Takes its own place.
    pub(super) fn add_from_before(&self, id: i64, attempts: u64, enqueued_at: Timestamp) {
        self.occupied.fetch_add(1, Ordering::Relaxed);
        self.insert(
            id,
            Entry {
                deliveries: attempts,
                attempts,
                enqueued_at,
                from_before: true,
                place: Place::Ready,
                content: None,
            },
        );
    }

    /// Adds a message in the place reserved for it, with its content if that was remembered. A message that is not in the
    /// file yet has to come with it; if it then cannot be written, it is to be removed.
    pub(super) fn add(&self, id: i64, enqueued_at: Timestamp, content: Option<Arc<Content>>) {
        self.insert(
            id,
            Entry {
                deliveries: 0,
                attempts: 0,
                enqueued_at,
                from_before: false,
                place: Place::Ready,
                content,
            },
        );
    }

    /// Takes room in memory for the content of a message, to be handed to [`Schedule::add`]; false when there is none.
    pub(super) fn remember(&self, content: &Content) -> bool {
        let bytes = content.payload.len();
        self.remembered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remembered| {
                (remembered + bytes <= REMEMBERED_BYTES).then_some(remembered + bytes)
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

    /// Removes a message that is no longer in the file, and frees its place.
    pub(super) fn remove(&self, id: i64) {
        let mut index = self.index();
        if let Some(entry) = index.entries.remove(&id) {
            index.leave(id, entry.place);
            drop(index);
            self.release();
            if let Some(content) = entry.content {
                self.remembered.fetch_sub(content.payload.len(), Ordering::Relaxed);
            }
        }
    }

    /// Waits for a message and takes the oldest one that is ready; `None` when the bus is closed.
    pub(super) async fn take(&self, ack_wait: Duration) -> Option<Taken> {
        // Each change wakes one sleeper, who then watches over the earliest deadline. When it leaves, for whatever reason,
        // the next one has to.
        let _next = WakeNext(&self.changed);
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

    /// Counts an attempt of a message. Returns its number, from 1.
    pub(super) fn begin(&self, id: i64) -> u64 {
        let mut index = self.index();
        let Some(entry) = index.entries.get_mut(&id) else { return 1 };
        entry.attempts += 1;
        entry.attempts
    }

    /// Takes an attempt back. Returns how many count now.
    pub(super) fn uncount(&self, id: i64) -> u64 {
        let mut index = self.index();
        let Some(entry) = index.entries.get_mut(&id) else { return 0 };
        entry.attempts = entry.attempts.saturating_sub(1);
        entry.attempts
    }

    /// Gives a delivery back, to be delivered again after `wait`. One that is no longer the current one of its message
    /// changes nothing.
    pub(super) fn give_back(&self, id: i64, delivery: u64, wait: Duration) {
        let mut index = self.index();
        if index.is_current(id, delivery) {
            let place = if wait.is_zero() { Place::Ready } else { Place::Waiting(Instant::now() + wait) };
            index.place(id, place);
            drop(index);
            self.changed.notify_one();
        }
    }

    /// The consumer is alive: counts `ack_wait` from now.
    pub(super) fn extend(&self, id: i64, delivery: u64, ack_wait: Duration) {
        let mut index = self.index();
        if index.is_current(id, delivery) {
            index.place(id, Place::Delivered(Instant::now() + ack_wait));
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
struct WakeNext<'a>(&'a Notify);

impl Drop for WakeNext<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
