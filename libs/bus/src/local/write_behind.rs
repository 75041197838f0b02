//! Write-behind cache: attachments in memory, from the moment they are enqueued.
//!
//! Most files are read within milliseconds by a consumer of the same process. A cached file is not read from
//! the SQLite file, and it can be read before it is written. That allows a message to be delivered while its
//! write is in progress.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto_json::HashedBytes;

use crate::{Attachment, StagingKey};

/// Capacity in bytes. Beyond it, the files that were written first are evicted.
const CAPACITY: usize = 32 << 20;

#[derive(Debug)]
struct Entry {
    content: HashedBytes,
    /// Writes of the file that are in progress.
    writes: u32,
    /// A write has succeeded.
    is_written: bool,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<StagingKey, Entry>,
    /// Keys in the order of insertion; may contain removed keys.
    order: VecDeque<StagingKey>,
    bytes: usize,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct WriteBehindCache(Mutex<State>);

impl WriteBehindCache {
    /// Adds files whose write is about to start. They stay at least until the write ends. Adds all files or,
    /// if there is no room, none; returns whether they were added.
    pub(super) fn insert(&self, files: &[Attachment]) -> bool {
        let wanted: usize = files.iter().map(|file| file.content.len()).sum();
        let mut state = self.state();
        if !state.evict_for(wanted) {
            return false;
        }
        for file in files {
            let key = file.key();
            match state.entries.get_mut(&key) {
                Some(entry) => entry.writes += 1,
                None => {
                    let content = file.content.clone();
                    state.bytes += content.len();
                    state.order.push_back(key);
                    state.entries.insert(key, Entry { content, writes: 1, is_written: false });
                }
            }
        }
        true
    }

    /// Records the end of a write of cached files.
    pub(super) fn write_ended(&self, keys: &[StagingKey], is_ok: bool) {
        let mut state = self.state();
        for key in keys {
            let Some(entry) = state.entries.get_mut(key) else { continue };
            entry.writes = entry.writes.saturating_sub(1);
            entry.is_written |= is_ok;
            if entry.writes == 0 && !entry.is_written {
                state.remove(*key);
            }
        }
    }

    pub(super) fn get(&self, key: StagingKey) -> Option<HashedBytes> {
        self.state().entries.get(&key).map(|entry| entry.content.clone())
    }

    pub(super) fn remove(&self, key: StagingKey) {
        self.state().remove(key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: StagingKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.content.len();
        }
        // Eviction skips removed keys, but they must not accumulate.
        if self.order.len() > 2 * self.entries.len() + 64 {
            self.order.retain(|key| self.entries.contains_key(key));
        }
    }

    /// Evicts written files until `wanted` bytes fit. Returns whether they fit.
    fn evict_for(&mut self, wanted: usize) -> bool {
        while self.bytes + wanted > CAPACITY {
            let Some(first) = self.order.front().copied() else { return false };
            if self.entries.get(&first).is_some_and(|entry| entry.writes > 0 || !entry.is_written) {
                return false;
            }
            self.order.pop_front();
            self.remove(first);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proto_json::UploadId;

    use super::*;

    fn file(length: usize) -> Attachment {
        Attachment {
            upload: UploadId::generate(),
            content: HashedBytes::of(vec![1; length].into()),
            consumer_only: true,
        }
    }

    #[test]
    fn only_written_files_are_evicted() {
        let cache = WriteBehindCache::default();
        let (first, second, third) = (file(CAPACITY / 2), file(CAPACITY / 2), file(CAPACITY / 2));
        assert!(cache.insert(std::slice::from_ref(&first)));
        assert!(cache.insert(std::slice::from_ref(&second)));
        assert!(!cache.insert(std::slice::from_ref(&third)), "both writes are in progress");
        cache.write_ended(&[first.key()], true);
        assert!(cache.get(first.key()).is_some(), "there is room until more is inserted");
        assert!(cache.insert(std::slice::from_ref(&third)));
        assert!(cache.get(first.key()).is_none());
        assert_eq!(cache.get(second.key()), Some(second.content));
        assert!(!cache.insert(&[file(CAPACITY + 1)]));
    }

    #[test]
    fn failed_write_removes_the_file_unless_another_write_is_in_progress() {
        let cache = WriteBehindCache::default();
        let one = file(10);
        assert!(cache.insert(std::slice::from_ref(&one)));
        assert!(cache.insert(std::slice::from_ref(&one)));
        cache.write_ended(&[one.key()], false);
        assert!(cache.get(one.key()).is_some());
        cache.write_ended(&[one.key()], false);
        assert!(cache.get(one.key()).is_none());
        assert_eq!(cache.state().bytes, 0);
    }

    #[test]
    fn removed_keys_do_not_accumulate() {
        let cache = WriteBehindCache::default();
        for _ in 0..10_000 {
            let one = file(1);
            assert!(cache.insert(std::slice::from_ref(&one)));
            cache.write_ended(&[one.key()], true);
            cache.remove(one.key());
        }
        assert!(cache.state().order.len() < 100);
    }
}
