//! Files at hand: what was staged a moment ago, in memory.
//!
//! Most files are read within milliseconds of being staged, by a consumer of the same process. What is here need not be
//! read from the file, and it can be read before it is in the file at all: that is what lets a message be worked on while
//! its write is under way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto_json::HashedBytes;

use crate::{SmallFile, StagingKey};

/// Most bytes at hand. Beyond it, those longest in the file make room.
const ROOM: usize = 32 << 20;

#[derive(Debug)]
struct Entry {
    content: HashedBytes,
    /// Writes of it that are under way.
    writes: u32,
    /// One of them has ended well.
    in_file: bool,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<StagingKey, Entry>,
    /// In the order they came; may name some that are gone.
    order: VecDeque<StagingKey>,
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fresh(Mutex<Held>);

impl Fresh {
    /// Keeps these files while they are being written, and afterwards as long as there is room. All of them, or none:
    /// false then.
    pub(super) fn hold(&self, files: &[SmallFile]) -> bool {
        let wanted: usize = files.iter().map(|file| file.content.len()).sum();
        let mut held = self.held();
        if !held.make_room(wanted) {
            return false;
        }
        for file in files {
            let key = file.key();
            match held.entries.get_mut(&key) {
                Some(entry) => entry.writes += 1,
                None => {
                    let content = file.content.clone();
                    held.bytes += content.len();
                    held.order.push_back(key);
                    held.entries.insert(key, Entry { content, writes: 1, in_file: false });
                }
            }
        }
        true
    }

    /// A write of files that are held has ended, well or not.
    pub(super) fn written(&self, keys: &[StagingKey], well: bool) {
        let mut held = self.held();
        for key in keys {
            let Some(entry) = held.entries.get_mut(key) else { continue };
            entry.writes = entry.writes.saturating_sub(1);
            entry.in_file |= well;
            if entry.writes == 0 && !entry.in_file {
                held.remove(*key);
            }
        }
    }

    pub(super) fn get(&self, key: StagingKey) -> Option<HashedBytes> {
        self.held().entries.get(&key).map(|entry| entry.content.clone())
    }

    pub(super) fn forget(&self, key: StagingKey) {
        self.held().remove(key);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn remove(&mut self, key: StagingKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.content.len();
        }
        // What is gone is passed over later, but must not gather.
        if self.order.len() > 2 * self.entries.len() + 64 {
            self.order.retain(|key| self.entries.contains_key(key));
        }
    }

    fn make_room(&mut self, wanted: usize) -> bool {
        while self.bytes + wanted > ROOM {
            let Some(first) = self.order.front().copied() else { return false };
            if self.entries.get(&first).is_some_and(|entry| entry.writes > 0 || !entry.in_file) {
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

    fn file(length: usize) -> SmallFile {
        SmallFile {
            upload: UploadId::generate(),
            content: HashedBytes::of(vec![1; length].into()),
            may_enclose: true,
        }
    }

    #[test]
    fn what_is_being_written_stays_and_what_is_in_the_file_makes_room() {
        let fresh = Fresh::default();
        let (first, second, third) = (file(ROOM / 2), file(ROOM / 2), file(ROOM / 2));
        assert!(fresh.hold(std::slice::from_ref(&first)));
        assert!(fresh.hold(std::slice::from_ref(&second)));
        assert!(!fresh.hold(std::slice::from_ref(&third)), "both are being written");
        fresh.written(&[first.key()], true);
        assert!(fresh.get(first.key()).is_some(), "there is no need to go yet");
        assert!(fresh.hold(std::slice::from_ref(&third)));
        assert!(fresh.get(first.key()).is_none());
        assert_eq!(fresh.get(second.key()), Some(second.content));
        assert!(!fresh.hold(&[file(ROOM + 1)]));
    }

    #[test]
    fn what_could_not_be_written_is_gone_unless_another_write_has_it() {
        let fresh = Fresh::default();
        let one = file(10);
        assert!(fresh.hold(std::slice::from_ref(&one)));
        assert!(fresh.hold(std::slice::from_ref(&one)));
        fresh.written(&[one.key()], false);
        assert!(fresh.get(one.key()).is_some());
        fresh.written(&[one.key()], false);
        assert!(fresh.get(one.key()).is_none());
        assert_eq!(fresh.held().bytes, 0);
    }

    #[test]
    fn keys_that_are_gone_do_not_gather() {
        let fresh = Fresh::default();
        for _ in 0..10_000 {
            let one = file(1);
            assert!(fresh.hold(std::slice::from_ref(&one)));
            fresh.written(&[one.key()], true);
            fresh.forget(one.key());
        }
        assert!(fresh.held().order.len() < 100);
    }
}
