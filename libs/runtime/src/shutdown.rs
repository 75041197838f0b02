//! The shutdown signal of a process.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Signals all tasks of a process to stop. Clones share one signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Returns a signal that only [`Shutdown::begin`] triggers.
    #[must_use]
    pub fn new() -> Self {
        Shutdown::default()
    }

    /// Returns a signal that SIGTERM and SIGINT trigger. A second SIGTERM or SIGINT ends the process
    /// immediately.
    #[must_use]
    pub fn on_signal() -> Self {
        let shutdown = Shutdown::new();
        let begun = shutdown.clone();
        tokio::spawn(async move {
            for last in [false, true] {
                let name = signal().await;
                if last {
                    tracing::warn!(signal = name, "second signal received; exiting immediately");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "shutting down");
                begun.begin();
            }
        });
        shutdown
    }

    /// Returns a signal that this one triggers. Triggering the child does not affect the parent.
    #[must_use]
    pub fn child(&self) -> Self {
        Shutdown(self.0.child_token())
    }

    /// Returns a signal that is triggered `wait` after this one.
    #[must_use]
    pub fn later(&self, wait: Duration) -> Self {
        if wait.is_zero() {
            return self.child();
        }
        let (this, later) = (self.clone(), Shutdown::new());
        let begun = later.clone();
        tokio::spawn(async move {
            this.begun().await;
            tokio::time::sleep(wait).await;
            begun.begin();
        });
        later
    }

    /// Triggers the signal.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Waits until the signal is triggered.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Returns whether the signal has been triggered.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Runs `work` to completion and returns its result, or drops it and returns `None` when the signal is
    /// triggered.
    pub async fn unless_begun<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }
}

#[cfg(unix)]
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signal() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "Ctrl-C",
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delayed_signal_follows_after_its_wait() {
        let shutdown = Shutdown::new();
        let (later, at_once) = (shutdown.later(Duration::from_secs(4)), shutdown.later(Duration::ZERO));
        let begun = tokio::time::Instant::now();
        shutdown.begin();
        assert!(at_once.has_begun() && !later.has_begun());
        later.begun().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
    }
}
