//! The memory budget of upload bodies and files.

use std::sync::Arc;

use http_server::FairScheduler;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes that all uploads share.
///
/// Invariant: no memory from [`MemoryBudget::reserve`] is held while waiting for a client, so a slow client
/// cannot keep memory from others.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    bytes: usize,
    /// One permit per byte.
    free: Arc<Semaphore>,
    /// Limits the simultaneous reservations of each client.
    per_client: Arc<FairScheduler>,
}

impl MemoryBudget {
    /// `bytes` in total. [`MemoryBudget::reserve`] gives a client `per_client` reservations at the same time.
    pub(crate) fn new(bytes: u64, per_client: usize) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize);
        MemoryBudget {
            bytes,
            free: Arc::new(Semaphore::new(bytes)),
            per_client: Arc::new(FairScheduler::new(per_client)),
        }
    }

    /// Reserves memory if it is available. Does not wait.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let bytes = u32::try_from(bytes).ok()?;
        let memory = self.free.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Reservation { memory, _position: None })
    }

    /// Waits for memory. Reservations are made in the order of the calls, first per client and then among all
    /// clients. A request larger than the budget reserves all of it.
    pub(crate) async fn reserve(&self, client: &Arc<str>, bytes: usize) -> Option<Reservation> {
        // The semaphores are never closed.
        let position = self.per_client.client(client).acquire_owned().await.ok()?;
        let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        let memory = self.free.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Reservation { memory, _position: Some(position) })
    }

    #[cfg(test)]
    pub(crate) fn available(&self) -> usize {
        self.free.available_permits()
    }
}

/// Reserved memory. Dropping it returns the memory.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: OwnedSemaphorePermit,
    _position: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Adds another reservation of the same budget.
    pub(crate) fn merge(&mut self, more: Reservation) {
        self.memory.merge(more.memory);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn reservations_are_made_in_call_order_regardless_of_size() {
        let budget = MemoryBudget::new(100, 10);
        let client: Arc<str> = "ann".into();
        let first = budget.reserve(&client, 60).await.unwrap();
        let mut large = pin!(budget.reserve(&client, 90));
        assert!(poll!(&mut large).is_pending());
        let mut small = pin!(budget.reserve(&client, 10));
        assert!(poll!(&mut small).is_pending(), "a small reservation does not overtake a large one");
        drop(first);
        let large = large.await.unwrap();
        drop(small.await.unwrap());
        drop(large);
        assert_eq!(budget.available(), 100);
    }

    #[tokio::test]
    async fn waiting_reservations_of_a_client_do_not_block_others() {
        let budget = MemoryBudget::new(100, 1);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let _first = budget.reserve(&ann, 50).await.unwrap();
        let mut anns = [(); 5].map(|()| Box::pin(budget.reserve(&ann, 50)));
        for waiting in &mut anns {
            assert!(poll!(waiting).is_pending());
        }
        budget.reserve(&bob, 50).await.unwrap();
    }

    #[tokio::test]
    async fn reservation_larger_than_the_budget_gets_all_of_it() {
        let budget = MemoryBudget::new(100, 1);
        let all = budget.reserve(&"ann".into(), 1_000).await.unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        let mut some = budget.try_reserve(40).unwrap();
        some.merge(budget.try_reserve(60).unwrap());
        assert_eq!(budget.available(), 0);
    }
}
