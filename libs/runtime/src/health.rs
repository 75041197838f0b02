//! Health of a service: whether it is in service, and checks of its dependencies. The health endpoints report both.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bus::WorkQueue;
use futures::future::{BoxFuture, join_all};
use proto_json::Timestamp;
use store::PatientReader;
use tokio::task::AbortHandle;

use crate::shutdown::Shutdown;

/// A check that does not answer within this time fails.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit for the highest time of the store. Shorter than [`CHECK_TIMEOUT`]: a store that does not answer is no
/// problem of the clock.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A check of a dependency.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    /// The service is not ready while this check fails.
    is_required: bool,
    check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// Returns a check that readiness depends on.
    pub fn new<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Check { name, is_required: true, check: Arc::new(move || Box::pin(check())) }
    }

    /// Returns a check of a condition that needs attention but does not prevent service. It has a line in
    /// `/readyz` and does not affect the status.
    pub fn advisory<F, Fut>(name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Check { is_required: false, ..Check::new(name, check) }
    }

    /// Checks that the system clock is not behind the highest time recorded in the store.
    #[must_use]
    pub fn clock(store: &Arc<dyn PatientReader>) -> Self {
        let store = store.clone();
        Check::advisory("clock", move || {
            let store = store.clone();
            async move {
                // An unreachable store is reported by the store check.
                let highest = tokio::time::timeout(CLOCK_TIMEOUT, store.highest_time()).await;
                let highest = highest.ok().and_then(Result::ok).flatten();
                match highest.filter(|highest| highest.is_in_future_of(Timestamp::now())) {
                    Some(highest) => Err(format!("the clock is behind {highest}, which was recorded before")),
                    None => Ok(()),
                }
            }
        })
    }

    /// Checks the message broker with a round trip.
    #[must_use]
    pub fn bus(queue: &Arc<dyn WorkQueue>) -> Self {
        let queue = queue.clone();
        Check::new("bus", move || {
            let queue = queue.clone();
            async move { queue.check().await.map_err(|error| error.to_string()) }
        })
    }

    /// Checks that a task of the same process has not ended.
    #[must_use]
    pub fn task(name: &'static str, task: AbortHandle) -> Self {
        Check::new(name, move || {
            let has_ended = task.is_finished();
            async move { if has_ended { Err("its task has ended".to_owned()) } else { Ok(()) } }
        })
    }

    /// Checks the patient store with a round trip.
    #[must_use]
    pub fn store(store: &Arc<dyn PatientReader>) -> Self {
        let store = store.clone();
        Check::new("store", move || {
            let store = store.clone();
            async move { store.check().await.map_err(|error| error.to_string()) }
        })
    }
}

/// Health of a service. Clones share one state.
#[derive(Debug, Clone)]
pub struct Health {
    /// Set when the service is in service.
    checks: Arc<OnceLock<Vec<Check>>>,
    /// What the service waits for while it starts.
    awaited: &'static [&'static str],
    shutdown: Shutdown,
}

/// Phase of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The service waits for its dependencies.
    Starting,
    /// The service works.
    InService,
    /// The shutdown has begun.
    ShuttingDown,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Name of the dependency.
    pub name: &'static str,
    /// The service is not ready while this check fails.
    pub is_required: bool,
    /// The cause of a failure. It may contain addresses.
    pub result: Result<(), String>,
}

impl CheckResult {
    /// Whether this check prevents readiness.
    #[must_use]
    pub fn prevents_readiness(&self) -> bool {
        self.is_required && self.result.is_err()
    }
}

impl Health {
    /// The health of a service that waits for these dependencies. They are unavailable until [`Health::begin_service`].
    #[must_use]
    pub fn starting(awaited: &'static [&'static str], shutdown: &Shutdown) -> Self {
        Health { checks: Arc::default(), awaited, shutdown: shutdown.clone() }
    }

    /// The health of a service that works without waiting.
    #[must_use]
    pub fn of(checks: Vec<Check>, shutdown: &Shutdown) -> Self {
        let health = Health::starting(&[], shutdown);
        health.begin_service(checks);
        health
    }

    /// Ends the start. Calls after the first one have no effect.
    pub fn begin_service(&self, checks: Vec<Check>) {
        let _ = self.checks.set(checks);
    }

    /// Returns the phase of the service.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.shutdown.has_begun() {
            Phase::ShuttingDown
        } else if self.checks.get().is_none() {
            Phase::Starting
        } else {
            Phase::InService
        }
    }

    /// Runs all checks concurrently.
    pub async fn check(&self) -> Vec<CheckResult> {
        let Some(checks) = self.checks.get() else {
            let result = Err("the service is starting and waits for it".to_owned());
            let awaited =
                |name: &&'static str| CheckResult { name, is_required: true, result: result.clone() };
            return self.awaited.iter().map(awaited).collect();
        };
        join_all(checks.iter().map(async |check| {
            let result = tokio::time::timeout(CHECK_TIMEOUT, (check.check)()).await;
            let result = result.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
            CheckResult { name: check.name, is_required: check.is_required, result }
        }))
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn check_that_does_not_answer_fails() {
        let checks = vec![Check::new("store", std::future::pending), Check::new("bus", async || Ok(()))];
        let results = Health::of(checks, &Shutdown::new()).check().await;
        assert_eq!(results[0].result, Err("did not answer in time".to_owned()));
        assert!(results[0].prevents_readiness() && !results[1].prevents_readiness());
    }

    #[tokio::test]
    async fn task_check_fails_after_the_task_has_ended() {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move { ended.await.unwrap_or_default() });
        let health = Health::of(vec![Check::task("ingest", task.abort_handle())], &Shutdown::new());
        assert_eq!(health.check().await[0].result, Ok(()));
        end.send(()).unwrap();
        task.await.unwrap();
        assert!(health.check().await[0].prevents_readiness());
    }
}
