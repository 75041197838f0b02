//! In-flight limits: a total, and a share of it for each client. A client that floods the server or keeps
//! connections open leaves permits for the others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why no permit is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// All permits are in use.
    Total,
    /// The share of this client is in use.
    Client,
}

/// State of a client that holds permits.
#[derive(Debug)]
struct Holding {
    permits: usize,
    queue: Arc<Semaphore>,
}

type Holdings = Mutex<HashMap<Arc<str>, Holding>>;

/// Limits the requests in flight of one kind.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimiter {
    total: Arc<Semaphore>,
    per_client: usize,
    active_per_client: usize,
    held: Arc<Holdings>,
}

impl ConcurrencyLimiter {
    /// `total` permits, at most `per_client` of them for one client. Of these, `active_per_client` requests
    /// are processed at the same time.
    pub(crate) fn new(total: usize, per_client: usize, active_per_client: usize) -> Self {
        ConcurrencyLimiter {
            total: Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS))),
            per_client: per_client.max(1),
            active_per_client: active_per_client.clamp(1, Semaphore::MAX_PERMITS),
            held: Arc::default(),
        }
    }

    /// Takes a permit if one is available. Does not wait.
    pub(crate) fn try_acquire(&self, client: &Arc<str>) -> Result<Permit, NoPermit> {
        let permit = self.total.clone().try_acquire_owned().map_err(|_| NoPermit::Total)?;
        let mut held = self.held.lock();
        let holding = held.entry(client.clone()).or_insert_with(|| Holding {
            permits: 0,
            queue: Arc::new(Semaphore::new(self.active_per_client)),
        });
        if holding.permits >= self.per_client {
            return Err(NoPermit::Client);
        }
        holding.permits += 1;
        let queue = holding.queue.clone();
        Ok(Permit { client: client.clone(), queue, held: self.held.clone(), _permit: permit })
    }
}

/// Permits one request to be in flight. Dropping it returns the permit.
#[derive(Debug)]
pub(crate) struct Permit {
    client: Arc<str>,
    queue: Arc<Semaphore>,
    held: Arc<Holdings>,
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    /// Waits in the client's queue (FIFO) until the request may be processed. Dropping the result lets the
    /// next request proceed.
    pub(crate) async fn queue(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.queue.clone().acquire_owned().await.ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(holding) = held.get_mut(&self.client) {
            holding.permits -= 1;
            if holding.permits == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn client_is_limited_to_its_share_and_others_get_the_rest() {
        let limiter = ConcurrencyLimiter::new(5, 2, 1);
        let (ann, bob, cyd): (Arc<str>, Arc<str>, Arc<str>) = ("ann".into(), "bob".into(), "cyd".into());
        let first = limiter.try_acquire(&ann).unwrap();
        let _second = limiter.try_acquire(&ann).unwrap();
        assert_eq!(limiter.try_acquire(&ann).unwrap_err(), NoPermit::Client);
        let _bobs = (limiter.try_acquire(&bob).unwrap(), limiter.try_acquire(&bob).unwrap());
        let _cyds = limiter.try_acquire(&cyd).unwrap();
        assert_eq!(limiter.try_acquire(&cyd).unwrap_err(), NoPermit::Total);
        drop(first);
        limiter.try_acquire(&ann).unwrap();
    }

    #[test]
    fn clients_without_permits_are_removed() {
        let limiter = ConcurrencyLimiter::new(5, 2, 1);
        for number in 0..1_000 {
            limiter.try_acquire(&number.to_string().into()).unwrap();
        }
        assert!(limiter.held.lock().is_empty());
        assert_eq!(limiter.total.available_permits(), 5);
    }

    #[tokio::test]
    async fn requests_queue_per_client() {
        let limiter = ConcurrencyLimiter::new(5, 5, 1);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let (first, second) = (limiter.try_acquire(&ann).unwrap(), limiter.try_acquire(&ann).unwrap());
        let active = first.queue().await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(20), second.queue()).await;
        assert!(waits.is_err());
        drop(limiter.try_acquire(&bob).unwrap().queue().await.unwrap());
        drop(active);
        drop(second.queue().await.unwrap());
    }
}
