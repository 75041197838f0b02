//! Limits the memory that the bodies and files of uploads take together.

use std::sync::Arc;

use runtime::Turns;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes that all uploads share.
///
/// Invariant: nothing that is reserved with [`MemoryBudget::reserve`] waits for a client, so that a slow client cannot keep
/// memory from others.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    bytes: usize,
    /// One permit for each byte.
    free: Arc<Semaphore>,
    /// Reservations of one client at the same time.
    per_client: Arc<Turns>,
}

impl MemoryBudget {
    /// `bytes` in all. [`MemoryBudget::reserve`] gives one client `per_client` reservations at a time.
    pub(crate) fn new(bytes: u64, per_client: usize) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize);
        MemoryBudget {
            bytes,
            free: Arc::new(Semaphore::new(bytes)),
            per_client: Arc::new(Turns::new(per_client)),
        }
    }

    /// Reserves memory if there is some now. Does not wait.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let bytes = u32::try_from(bytes).ok()?;
        let memory = self.free.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Reservation { memory, _turn: None })
    }

    /// Reserves memory in the order of the calls: first among those of the same client, then among those of all
    /// clients. Whatever is larger than the budget gets all of it.
    pub(crate) async fn reserve(&self, client: &Arc<str>, bytes: usize) -> Option<Reservation> {
        // Neither semaphore is ever closed.
        let turn = self.per_client.of(client).acquire_owned().await.ok()?;
        let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        let memory = self.free.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Reservation { memory, _turn: Some(turn) })
    }

    #[cfg(test)]
    pub(crate) fn available(&self) -> usize {
        self.free.available_permits()
    }
}

/// Reserved memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: OwnedSemaphorePermit,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Adds a reservation of the same budget.
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
    async fn reservations_are_made_in_order_of_the_calls_however_large_they_are() {
        let budget = MemoryBudget::new(100, 10);
        let client: Arc<str> = "ann".into();
        let first = budget.reserve(&client, 60).await.unwrap();
        let mut large = pin!(budget.reserve(&client, 90));
        assert!(poll!(&mut large).is_pending());
        let mut small = pin!(budget.reserve(&client, 10));
        assert!(poll!(&mut small).is_pending(), "it does not overtake the large one");
        drop(first);
        let large = large.await.unwrap();
        drop(small.await.unwrap());
        drop(large);
        assert_eq!(budget.available(), 100);
    }

    #[tokio::test]
    async fn a_client_with_many_reservations_does_not_keep_others_waiting() {
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
    async fn what_is_larger_than_the_budget_gets_all_of_it() {
        let budget = MemoryBudget::new(100, 1);
        let all = budget.reserve(&"ann".into(), 1_000).await.unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        let mut some = budget.try_reserve(40).unwrap();
        some.merge(budget.try_reserve(60).unwrap());
        assert_eq!(budget.available(), 0);
    }
}
