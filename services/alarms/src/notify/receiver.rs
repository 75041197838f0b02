//! What a receiver of webhooks has got, as it is stored.

use std::collections::{BTreeMap, VecDeque};

use proto_json::alarms::Alarm;
use proto_json::{BlobHash, RecordId, Timestamp};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use store::alarms::ReceiverState;

/// Dead letters of a receiver; the oldest of further ones are dropped.
const MAX_LETTERS: usize = 1_000;
/// Alarms that ended this long ago are not compared any more; see [`super::ENDED_MS`].
const FORGET_MS: i64 = 2 * super::ENDED_MS;

/// The last state of an alarm that a receiver has got, or that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Delivered {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

/// A state that was given up. Without content: the alarm is in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) alarm: RecordId,
    pub(super) version: u64,
    pub(super) attempts: u32,
    pub(super) reason: String,
    pub(super) given_up_at: Timestamp,
}

/// What a receiver has got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Receiver {
    /// Without user, password and query, which can be secret.
    pub(super) url: String,
    /// A receiver gets no alarms that ended before it was configured.
    since: Timestamp,
    delivered: BTreeMap<RecordId, Delivered>,
    /// Newest first.
    pub(super) letters: VecDeque<Letter>,
}

/// Identifies a receiver in the store.
pub(super) fn key(url: &Url) -> String {
    BlobHash::of(url.as_str().as_bytes()).to_string()
}

impl Receiver {
    pub(super) fn new(url: &Url, now: Timestamp) -> Self {
        Receiver {
            url: format!("{}{}", url.origin().ascii_serialization(), url.path()),
            since: now,
            delivered: BTreeMap::new(),
            letters: VecDeque::new(),
        }
    }

    /// Reads a stored state. `None` if another version has written it in another form.
    pub(super) fn parse(state: &str) -> Option<Self> {
        serde_json::from_str(state)
            .inspect_err(|error| tracing::error!(%error, "the state of a receiver cannot be read"))
            .ok()
    }

    pub(super) fn stored(&self, url: &Url) -> Option<ReceiverState> {
        let state = serde_json::to_string(self).ok()?;
        Some(ReceiverState { receiver: key(url), state })
    }

    /// Whether a state of an alarm is to be delivered.
    pub(super) fn wants(&self, alarm: &Alarm) -> bool {
        let is_newer = self.delivered.get(&alarm.id).is_none_or(|known| known.version < alarm.version);
        let is_known = self.delivered.contains_key(&alarm.id);
        is_newer && (is_known || alarm.ended_at.is_none_or(|at| at >= self.since))
    }

    /// A state was delivered, or given up.
    pub(super) fn settle(&mut self, alarm: &Alarm, letter: Option<Letter>) {
        let now = Timestamp::now();
        let is_needed = |known: &Delivered| known.ended_at.is_none_or(|at| now.millis_since(at) < FORGET_MS);
        self.delivered.retain(|_, known| is_needed(known));
        self.delivered.insert(alarm.id, Delivered { version: alarm.version, ended_at: alarm.ended_at });
        if let Some(letter) = letter {
            self.letters.truncate(MAX_LETTERS - 1);
            self.letters.push_front(letter);
        }
    }

    /// Alarms whose end was not delivered.
    pub(super) fn open(&self) -> Vec<RecordId> {
        let open = self.delivered.iter().filter(|(_, known)| known.ended_at.is_none());
        open.map(|(id, _)| *id).collect()
    }

    /// The alarm does not exist any more.
    pub(super) fn forget(&mut self, id: RecordId) {
        self.delivered.remove(&id);
    }
}
