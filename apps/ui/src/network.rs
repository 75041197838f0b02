//! The threads on which everything runs that may take time: calls to the gateway, reading files, analysis.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// A tokio runtime of its own, beside the thread of the window. Dropping it ends what runs on it.
#[derive(Debug)]
pub struct Network(Option<Runtime>);

impl Network {
    /// Starts it.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("network").enable_all().build()?;
        Ok(Network(Some(runtime)))
    }

    /// To spawn from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Runs this until it ends or the task is dropped. Results go to the window with `upgrade_in_event_loop`.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.0.as_ref().map(|runtime| runtime.spawn(future)))
    }

    /// Runs this to its end, whatever becomes of who started it.
    pub fn spawn_detached(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn(future));
        }
    }

    /// Runs this, which computes or blocks, on a thread of its own. It cannot be cut off from outside.
    pub fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn_blocking(work));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A window that is closed does not wait for a slow file.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Something that runs on the network; dropping it cuts it off.
#[derive(Debug, Default)]
pub struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Whether it has come to its end, or never was.
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
