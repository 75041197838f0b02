//! A history of which only the pages that were looked at are here, newest first.

use std::collections::HashSet;

use proto_json::{Cursor, EcgRecord, ImageRecord, Page, RecordId, Timestamp};

/// Entries fetched at a time.
pub const PAGE: u32 = 100;

/// One entry of a history.
pub trait Entry {
    /// Which record it is.
    fn id(&self) -> RecordId;
    /// Its place in the order.
    fn at(&self) -> Timestamp;
}

impl Entry for EcgRecord {
    fn id(&self) -> RecordId {
        self.id
    }
    fn at(&self) -> Timestamp {
        self.at
    }
}

impl Entry for ImageRecord {
    fn id(&self) -> RecordId {
        self.id
    }
    fn at(&self) -> Timestamp {
        self.at
    }
}

/// Which page to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The newest entries, again: something has changed among them.
    Newest,
    /// The entries after the last one that is here.
    After(Cursor),
}

/// The part of a history that is here.
#[derive(Debug)]
pub struct Pages<T> {
    entries: Vec<T>,
    next: Option<Cursor>,
    /// Whether any page has come.
    begun: bool,
    /// A page of older entries is on its way.
    asked_older: bool,
    /// The newest page is on its way; and whether it must be fetched once more when it is here.
    asked_newest: bool,
    again: bool,
}

impl<T: Entry> Default for Pages<T> {
    fn default() -> Self {
        Pages {
            entries: Vec::new(),
            next: None,
            begun: false,
            asked_older: false,
            asked_newest: false,
            again: false,
        }
    }
}

impl<T: Entry> Pages<T> {
    /// What is here, newest first.
    #[must_use]
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Whether all there is is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.begun && self.next.is_none()
    }

    /// One entry, if it is here.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<&T> {
        self.entries.iter().find(|entry| entry.id() == id)
    }

    /// Something has changed among the newest entries.
    pub fn refresh(&mut self) -> Option<Wanted> {
        if self.asked_newest {
            // The page on its way may have been read before the change.
            self.again = true;
            return None;
        }
        self.asked_newest = true;
        Some(Wanted::Newest)
    }

    /// Somebody looks at the end of what is here.
    pub fn more(&mut self) -> Option<Wanted> {
        let next = self.next.filter(|_| !self.asked_older)?;
        self.asked_older = true;
        Some(Wanted::After(next))
    }

    /// Takes a page; gives what to fetch next, if anything.
    pub fn take(&mut self, wanted: Wanted, page: Page<T>) -> Option<Wanted> {
        match wanted {
            Wanted::Newest => self.take_newest(page),
            Wanted::After(_) => {
                self.asked_older = false;
                if self.next.map(Wanted::After) == Some(wanted) {
                    let known: HashSet<RecordId> = self.entries.iter().map(Entry::id).collect();
                    self.entries.extend(page.items.into_iter().filter(|entry| !known.contains(&entry.id())));
                    self.next = page.next;
                }
                None
            }
        }
    }

    /// A page did not come.
    pub fn failed(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Newest => (self.asked_newest, self.again) = (false, false),
            Wanted::After(_) => self.asked_older = false,
        }
    }

    fn take_newest(&mut self, page: Page<T>) -> Option<Wanted> {
        self.asked_newest = false;
        let reaches_known =
            page.items.last().is_some_and(|last| self.entries.iter().any(|known| known.id() == last.id()));
        if page.next.is_none() || !self.begun || !reaches_known {
            // All there is, or too many new ones to close up with what was here: begin anew with this page.
            self.entries = page.items;
            self.next = page.next;
            self.asked_older = false;
        } else {
            let fresh: HashSet<RecordId> = page.items.iter().map(Entry::id).collect();
            let mut entries = page.items;
            entries.extend(self.entries.drain(..).filter(|known| !fresh.contains(&known.id())));
            entries.sort_by_key(|entry| std::cmp::Reverse((entry.at(), entry.id())));
            self.entries = entries;
        }
        self.begun = true;
        if std::mem::take(&mut self.again) { self.refresh() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_json::UploadId;

    #[derive(Debug, Clone, PartialEq)]
    struct Note(RecordId, Timestamp);

    impl Entry for Note {
        fn id(&self) -> RecordId {
            self.0
        }
        fn at(&self) -> Timestamp {
            self.1
        }
    }

    fn note(number: i64) -> Note {
        let upload = UploadId::from_idempotency_key("", &number.to_string());
        Note(upload.record("note", 0), Timestamp::from_millis(number * 1000).unwrap())
    }

    fn page(numbers: impl IntoIterator<Item = i64>, more: bool) -> Page<Note> {
        let items: Vec<Note> = numbers.into_iter().map(note).collect();
        let next = items.last().filter(|_| more).map(|last| Cursor::Record(last.1, last.0));
        Page { items, next, damaged: Vec::new() }
    }

    fn numbers(pages: &Pages<Note>) -> Vec<i64> {
        pages.entries().iter().map(|entry| entry.1.as_millis() / 1000).collect()
    }

    #[test]
    fn older_pages_are_fetched_once_each_until_there_is_no_more() {
        let mut pages = Pages::default();
        assert_eq!(pages.more(), None, "nothing is known yet");
        let newest = pages.refresh().unwrap();
        assert_eq!(pages.take(newest, page([9, 8, 7], true)), None);
        let older = pages.more().unwrap();
        assert_eq!(pages.more(), None, "it is on its way");
        pages.take(older, page([6, 5], false));
        assert_eq!(numbers(&pages), [9, 8, 7, 6, 5]);
        assert!(pages.is_complete());
        assert_eq!(pages.more(), None);
    }

    #[test]
    fn new_entries_come_in_front_and_what_was_here_stays() {
        let mut pages = Pages::default();
        let newest = pages.refresh().unwrap();
        pages.take(newest, page([9, 8, 7], true));
        let older = pages.more().unwrap();
        pages.take(older, page([6, 5, 4], true));
        let newest = pages.refresh().unwrap();
        pages.take(newest, page([10, 9, 8], true));
        assert_eq!(numbers(&pages), [10, 9, 8, 7, 6, 5, 4]);
        assert!(pages.more().is_some());
    }

    #[test]
    fn after_many_new_entries_the_list_begins_anew_without_a_hole() {
        let mut pages = Pages::default();
        let newest = pages.refresh().unwrap();
        pages.take(newest, page([3, 2, 1], true));
        let stray = pages.more().unwrap();
        let newest = pages.refresh().unwrap();
        pages.take(newest, page([90, 89, 88], true));
        pages.take(stray, page([0], false));
        assert_eq!(
            numbers(&pages),
            [90, 89, 88],
            "an answer that belongs to the old list does not fit any more"
        );
        assert!(!pages.is_complete());
    }

    #[test]
    fn a_change_while_the_newest_page_is_on_its_way_fetches_it_again() {
        let mut pages = Pages::<Note>::default();
        let newest = pages.refresh().unwrap();
        assert_eq!(pages.refresh(), None);
        assert_eq!(pages.refresh(), None);
        assert_eq!(pages.take(newest, page([1], false)), Some(Wanted::Newest));
        assert_eq!(pages.take(newest, page([2, 1], false)), None);
        assert_eq!(numbers(&pages), [2, 1]);
    }

    #[test]
    fn a_page_that_did_not_come_can_be_asked_for_again() {
        let mut pages = Pages::default();
        let newest = pages.refresh().unwrap();
        pages.failed(newest);
        assert_eq!(pages.refresh(), Some(Wanted::Newest));
        pages.take(newest, page([2], true));
        let older = pages.more().unwrap();
        pages.failed(older);
        assert!(pages.more().is_some());
    }
}
