//! Writes what the app remembers, on a thread of its own: one after the other, and all of it before the app ends.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use ui::SettingsFile;

use crate::alarms::{self, Alarms};
use crate::kept::Kept;
use crate::link::{Message, Outbox};

enum Given {
    Alarms(Box<Alarms>),
    Settings(Box<Kept>),
    /// Everything before it is to be written; the receiver is told by its end.
    Until(Sender<()>),
}

/// See the module. Dropping it waits until everything is written.
#[derive(Debug)]
pub(crate) struct Keeper {
    give: Option<Sender<Given>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which says in the window what it cannot write.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(crate) fn start(settings: SettingsFile, alarms: PathBuf, outbox: Outbox) -> std::io::Result<Self> {
        let (give, given) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || write(&given, &settings, &alarms, &outbox))?;
        Ok(Keeper { give: Some(give), thread: Some(thread) })
    }

    pub(crate) fn alarms(&self, alarms: &Alarms) {
        self.give(Given::Alarms(Box::new(alarms.clone())));
    }

    pub(crate) fn settings(&self, kept: &Kept) {
        self.give(Given::Settings(Box::new(kept.clone())));
    }

    /// Waits until everything given before is written, or could not be.
    pub(crate) fn finish(&self) {
        let (told, done) = mpsc::channel();
        self.give(Given::Until(told));
        // Nothing is ever sent: it ends when the other side is dropped.
        let _ = done.recv();
    }

    fn give(&self, given: Given) {
        if let Some(give) = &self.give
            && give.send(given).is_err()
        {
            tracing::error!("what the app remembers is not written any more");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.give = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("writing what the app remembers has panicked");
        }
    }
}

/// Writes what is given; of several that wait, the last.
fn write(given: &Receiver<Given>, file: &SettingsFile, path: &Path, outbox: &Outbox) {
    while let Ok(first) = given.recv() {
        let (mut alarms, mut settings, mut told) = (None, None, Vec::new());
        for next in std::iter::once(first).chain(given.try_iter()) {
            match next {
                Given::Alarms(last) => alarms = Some(last),
                Given::Settings(last) => settings = Some(last),
                Given::Until(who) => told.push(who),
            }
        }
        let alarms = alarms.map(|alarms| alarms::save(path, &alarms).map_err(|error| error.to_string()));
        let settings = settings.map(|kept| file.save(&*kept).map_err(|error| error.to_string()));
        for error in alarms.into_iter().chain(settings).filter_map(Result::err) {
            tracing::error!(error, "something is not remembered");
            outbox.post(Message::NotKept(error));
        }
        drop(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link;

    #[test]
    fn the_last_of_many_is_on_disk_when_it_has_finished() {
        let folder = tempfile::tempdir().unwrap();
        let file = SettingsFile::at(folder.path().join("monitor.json"));
        let (outbox, _inbox) = link::channel(|| {});
        let alarms = folder.path().join("monitor.alarms.json");
        let keeper = Keeper::start(file.clone(), alarms.clone(), outbox).unwrap();
        for silence_s in 1..=300 {
            keeper.settings(&Kept { silence_s, ..Kept::default() });
            keeper.alarms(&Alarms::default());
            if silence_s % 100 == 0 {
                keeper.finish();
                assert_eq!(file.load::<Kept>().unwrap().silence_s, silence_s);
                assert!(alarms.is_file());
            }
        }
        keeper.settings(&Kept { silence_s: 7, ..Kept::default() });
        drop(keeper);
        assert_eq!(file.load::<Kept>().unwrap().silence_s, 7);
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        // A file where a folder would have to be.
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let (outbox, inbox) = link::channel(|| {});
        let keeper =
            Keeper::start(SettingsFile::at(blocked.join("monitor.json")), blocked.join("a.json"), outbox)
                .unwrap();
        keeper.settings(&Kept::default());
        keeper.finish();
        let Some(Message::NotKept(reason)) = inbox.next() else { panic!("nothing is said") };
        assert!(reason.contains("cannot be written"), "{reason}");
    }
}
