//! Writes the settings and the log of the station to disk.
//!
//! A thread of its own writes, so that a slow disk does not block the UI thread. If several versions wait, only the newest is
//! written. Dropping [`Persistence`] waits until everything is written. A failed write is reported in the window.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use ui::{SettingsFile, UiSender};

use crate::alarms::StationLog;
use crate::app_settings::AppSettings;
use crate::backend::BackendEvent;

enum Job {
    SaveLog(Box<StationLog>),
    SaveSettings(Box<AppSettings>),
    /// Drops the sender when all jobs before it are done.
    Flush(Sender<()>),
}

/// The thread that writes settings and log.
#[derive(Debug)]
pub(crate) struct Persistence {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Persistence {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system does not provide threads.
    pub(crate) fn start(
        settings: SettingsFile,
        log: PathBuf,
        events: UiSender<BackendEvent>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("persistence".to_owned())
            .spawn(move || run(&queue, &settings, &log, &events))?;
        Ok(Persistence { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(crate) fn save_log(&self, log: &StationLog) {
        self.enqueue(Job::SaveLog(Box::new(log.clone())));
    }

    pub(crate) fn save_settings(&self, settings: &AppSettings) {
        self.enqueue(Job::SaveSettings(Box::new(settings.clone())));
    }

    /// Waits until everything before this call is written or has failed.
    pub(crate) fn flush(&self) {
        let (done, is_done) = mpsc::channel();
        self.enqueue(Job::Flush(done));
        // Nothing is sent. The call returns when the other side is dropped.
        let _ = is_done.recv();
    }

    fn enqueue(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            tracing::error!("settings and log are no longer saved: the thread that writes them has ended");
        }
    }
}

impl Drop for Persistence {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that saves settings and log has panicked");
        }
    }
}

fn run(queue: &Receiver<Job>, file: &SettingsFile, path: &Path, events: &UiSender<BackendEvent>) {
    while let Ok(first) = queue.recv() {
        let (mut log, mut settings, mut flushes) = (None, None, Vec::new());
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::SaveLog(newest) => log = Some(newest),
                Job::SaveSettings(newest) => settings = Some(newest),
                Job::Flush(done) => flushes.push(done),
            }
        }
        let log = log.map(|log| log.save(path).map_err(|error| error.to_string()));
        let settings = settings.map(|settings| file.save(&*settings).map_err(|error| error.to_string()));
        for error in log.into_iter().chain(settings).filter_map(Result::err) {
            tracing::error!(error, "cannot save");
            events.send(BackendEvent::SaveFailed(error));
        }
        drop(flushes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_is_on_disk_after_a_flush_and_after_a_drop() {
        let folder = tempfile::tempdir().unwrap();
        let file = SettingsFile::at(folder.path().join("monitor.json"));
        let (events, _receiver) = ui::channel(|| {});
        let log = folder.path().join("monitor.station.json");
        let persistence = Persistence::start(file.clone(), log.clone(), events).unwrap();
        for pause_s in 1..=300 {
            persistence.save_settings(&AppSettings { pause_s, ..AppSettings::default() });
            persistence.save_log(&StationLog::default());
            if pause_s % 100 == 0 {
                persistence.flush();
                assert_eq!(file.load::<AppSettings>().unwrap().pause_s, pause_s);
                assert!(log.is_file());
            }
        }
        persistence.save_settings(&AppSettings { pause_s: 7, ..AppSettings::default() });
        drop(persistence);
        assert_eq!(file.load::<AppSettings>().unwrap().pause_s, 7);
    }

    #[test]
    fn failed_write_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        // There is a file in the place of the folder.
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let (events, receiver) = ui::channel(|| {});
        let file = SettingsFile::at(blocked.join("monitor.json"));
        let persistence = Persistence::start(file, blocked.join("station.json"), events).unwrap();
        persistence.save_settings(&AppSettings::default());
        persistence.flush();
        let Some(BackendEvent::SaveFailed(reason)) = receiver.try_recv() else {
            panic!("nothing is reported")
        };
        assert!(reason.contains("cannot be written"), "{reason}");
    }
}
