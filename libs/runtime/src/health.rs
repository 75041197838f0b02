//! Checks of a service's dependencies. The health endpoints run them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bus::WorkQueue;
use futures::future::{BoxFuture, join_all};
use proto_json::Timestamp;
use store::PatientReader;

/// A check that does not answer within this time fails.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

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
    /// Name of the dependency.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the service is not ready while the check fails.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.is_required
    }

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
                let highest = store.highest_time().await.ok().flatten();
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

/// Runs all checks concurrently.
pub async fn run(checks: &[Check]) -> Vec<(&Check, Result<(), String>)> {
    join_all(checks.iter().map(|check| async move {
        let result = tokio::time::timeout(CHECK_TIMEOUT, (check.check)()).await;
        (check, result.unwrap_or_else(|_| Err("did not answer in time".to_owned())))
    }))
    .await
}
