//! The threads for work that may take time: requests to the gateway, reading files, analysis.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A tokio runtime next to the UI thread. Dropping it aborts its tasks.
#[derive(Debug)]
pub struct BackgroundRuntime(Option<Runtime>);

impl BackgroundRuntime {
    /// Starts the runtime.
    ///
    /// # Errors
    /// The operating system does not provide threads.
    pub fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("background").enable_all().build()?;
        Ok(BackgroundRuntime(Some(runtime)))
    }

    /// Spawns a future that runs until it completes or the returned [`Task`] is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.0.as_ref().map(|runtime| runtime.spawn(future)))
    }

    /// Spawns a future that runs until it completes or the runtime is dropped.
    pub fn spawn_detached(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn(future));
        }
    }

    /// Runs a function that computes or blocks on a thread of its own. It cannot be aborted.
    pub fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn_blocking(work));
        }
    }
}

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        // Does not wait: a slow read must not keep a closed window open.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A spawned future. Dropping the task aborts it.
#[derive(Debug, Default)]
pub struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Whether the future has completed or was never spawned.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
