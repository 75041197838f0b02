//! A history that is loaded page by page, newest first.

use std::collections::HashSet;

use proto_json::{Cursor, EcgRecord, ImageRecord, Page, RecordId, Timestamp};

/// The number of entries in a page.
pub const PAGE_SIZE: u32 = 100;

/// An entry of a history.
pub trait Entry {
    /// The id of the record.
    fn id(&self) -> RecordId;
    /// The time by which entries are ordered.
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

/// A page to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRequest {
    /// The newest entries.
    Newest,
    /// The entries after this cursor.
    After(Cursor),
}

/// The part of a history that has been loaded.
#[derive(Debug)]
pub struct PagedList<T> {
    entries: Vec<T>,
    next: Option<Cursor>,
    /// At least one page has been loaded.
    has_loaded: bool,
    /// A page of older entries is being loaded.
    is_loading_older: bool,
    /// The newest page is being loaded.
    is_loading_newest: bool,
    /// The newest page has to be loaded once more when it arrives.
    reload_newest: bool,
}

impl<T: Entry> Default for PagedList<T> {
    fn default() -> Self {
        PagedList {
            entries: Vec::new(),
            next: None,
            has_loaded: false,
            is_loading_older: false,
            is_loading_newest: false,
            reload_newest: false,
        }
    }
}

impl<T: Entry> PagedList<T> {
    /// The loaded entries, newest first.
    #[must_use]
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Whether the whole history has been loaded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.has_loaded && self.next.is_none()
    }

    /// An entry, if it has been loaded.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<&T> {
        self.entries.iter().find(|entry| entry.id() == id)
    }

    /// Requests the newest page because something has changed in it. `None` if it is already being loaded; it is then requested
    /// once more when it arrives.
    pub fn refresh(&mut self) -> Option<PageRequest> {
        if self.is_loading_newest {
            // The page that is being loaded may not contain the change.
            self.reload_newest = true;
            return None;
        }
        self.is_loading_newest = true;
        Some(PageRequest::Newest)
    }

    /// Requests the next page of older entries. `None` if there is none or it is already being loaded.
    pub fn more(&mut self) -> Option<PageRequest> {
        let next = self.next.filter(|_| !self.is_loading_older)?;
        self.is_loading_older = true;
        Some(PageRequest::After(next))
    }

    /// Adds a page. Returns the page to request next, if any.
    pub fn add(&mut self, request: PageRequest, page: Page<T>) -> Option<PageRequest> {
        match request {
            PageRequest::Newest => self.add_newest(page),
            PageRequest::After(_) => {
                self.is_loading_older = false;
                if self.next.map(PageRequest::After) == Some(request) {
                    let known: HashSet<RecordId> = self.entries.iter().map(Entry::id).collect();
                    self.entries.extend(page.items.into_iter().filter(|entry| !known.contains(&entry.id())));
                    self.next = page.next;
                }
                None
            }
        }
    }

    /// A page could not be loaded.
    pub fn failed(&mut self, request: PageRequest) {
        match request {
            PageRequest::Newest => (self.is_loading_newest, self.reload_newest) = (false, false),
            PageRequest::After(_) => self.is_loading_older = false,
        }
    }

    fn add_newest(&mut self, page: Page<T>) -> Option<PageRequest> {
        self.is_loading_newest = false;
        let reaches_known =
            page.items.last().is_some_and(|last| self.entries.iter().any(|known| known.id() == last.id()));
        if page.next.is_none() || !self.has_loaded || !reaches_known {
            // The page is the whole history, or there are more new entries than fit into it: start over with this page.
            self.entries = page.items;
            self.next = page.next;
            self.is_loading_older = false;
        } else {
            let fresh: HashSet<RecordId> = page.items.iter().map(Entry::id).collect();
            let mut entries = page.items;
            entries.extend(self.entries.drain(..).filter(|known| !fresh.contains(&known.id())));
            entries.sort_by_key(|entry| std::cmp::Reverse((entry.at(), entry.id())));
            self.entries = entries;
        }
        self.has_loaded = true;
        if std::mem::take(&mut self.reload_newest) { self.refresh() } else { None }
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

    fn numbers(list: &PagedList<Note>) -> Vec<i64> {
        list.entries().iter().map(|entry| entry.1.as_millis() / 1000).collect()
    }

    #[test]
    fn older_pages_are_requested_once_each_until_the_end() {
        let mut list = PagedList::default();
        assert_eq!(list.more(), None, "nothing is loaded yet");
        let newest = list.refresh().unwrap();
        assert_eq!(list.add(newest, page([9, 8, 7], true)), None);
        let older = list.more().unwrap();
        assert_eq!(list.more(), None, "it is being loaded");
        list.add(older, page([6, 5], false));
        assert_eq!(numbers(&list), [9, 8, 7, 6, 5]);
        assert!(list.is_complete());
        assert_eq!(list.more(), None);
    }

    #[test]
    fn new_entries_are_added_in_front_of_loaded_ones() {
        let mut list = PagedList::default();
        let newest = list.refresh().unwrap();
        list.add(newest, page([9, 8, 7], true));
        let older = list.more().unwrap();
        list.add(older, page([6, 5, 4], true));
        let newest = list.refresh().unwrap();
        list.add(newest, page([10, 9, 8], true));
        assert_eq!(numbers(&list), [10, 9, 8, 7, 6, 5, 4]);
        assert!(list.more().is_some());
    }

    #[test]
    fn list_starts_over_if_a_page_does_not_reach_the_loaded_entries() {
        let mut list = PagedList::default();
        let newest = list.refresh().unwrap();
        list.add(newest, page([3, 2, 1], true));
        let outdated = list.more().unwrap();
        let newest = list.refresh().unwrap();
        list.add(newest, page([90, 89, 88], true));
        list.add(outdated, page([0], false));
        assert_eq!(numbers(&list), [90, 89, 88], "a page of the old list is ignored");
        assert!(!list.is_complete());
    }

    #[test]
    fn change_while_the_newest_page_is_loading_requests_it_again() {
        let mut list = PagedList::<Note>::default();
        let newest = list.refresh().unwrap();
        assert_eq!(list.refresh(), None);
        assert_eq!(list.refresh(), None);
        assert_eq!(list.add(newest, page([1], false)), Some(PageRequest::Newest));
        assert_eq!(list.add(newest, page([2, 1], false)), None);
        assert_eq!(numbers(&list), [2, 1]);
    }

    #[test]
    fn failed_page_can_be_requested_again() {
        let mut list = PagedList::default();
        let newest = list.refresh().unwrap();
        list.failed(newest);
        assert_eq!(list.refresh(), Some(PageRequest::Newest));
        list.add(newest, page([2], true));
        let older = list.more().unwrap();
        list.failed(older);
        assert!(list.more().is_some());
    }
}
