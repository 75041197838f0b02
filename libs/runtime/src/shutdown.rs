//! One signal that ends everything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells every part of a process that it is time to end. Clones share one signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that only [`Shutdown::begin`] gives.
    #[must_use]
    pub fn new() -> Self {
        Shutdown::default()
    }

    /// A signal that SIGTERM and SIGINT give, too. A second one ends the process at once.
    #[must_use]
    pub fn on_signal() -> Self {
        let shutdown = Shutdown::new();
        let begun = shutdown.clone();
        tokio::spawn(async move {
            for last in [false, true] {
                let name = signal().await;
                if last {
                    tracing::warn!(signal = name, "second signal, ending at once");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "shutting down");
                begun.begin();
            }
        });
        shutdown
    }

    /// A signal that this one gives, too, but not the other way round.
    #[must_use]
    pub fn child(&self) -> Self {
        Shutdown(self.0.child_token())
    }

    /// A signal that follows this one after a time.
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

    /// Gives the signal.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Waits for the signal.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Runs `work` until it is done or the signal is given; then drops it and returns `None`.
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
    async fn a_later_signal_follows_the_first_one() {
        let shutdown = Shutdown::new();
        let (later, at_once) = (shutdown.later(Duration::from_secs(4)), shutdown.later(Duration::ZERO));
        let begun = tokio::time::Instant::now();
        shutdown.begin();
        assert!(at_once.has_begun() && !later.has_begun());
        later.begun().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
    }
}
