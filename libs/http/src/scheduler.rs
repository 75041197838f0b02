//! Fair scheduling of connections.
//!
//! tokio polls tasks in the order in which they are woken, regardless of the client. A client with thousands
//! of connections that become ready at the same time, or with a few that are always ready, delays all other
//! clients. Therefore each client has a semaphore, and a connection is polled only while it holds a permit of
//! its client. With as many permits as worker threads minus one, one thread always remains for other clients.
//!
//! A connection returns its permit whenever it waits for I/O, so idle connections hold none.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A semaphore for each client.
#[derive(Debug)]
pub struct FairScheduler {
    permits_per_client: usize,
    clients: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

impl FairScheduler {
    /// Gives each client this number of permits, at least 1.
    #[must_use]
    pub fn new(permits_per_client: usize) -> Self {
        FairScheduler {
            permits_per_client: permits_per_client.clamp(1, Semaphore::MAX_PERMITS),
            clients: Mutex::default(),
        }
    }

    /// Gives each client one permit less than the current runtime has worker threads, at least 1.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn per_worker_thread() -> Self {
        FairScheduler::new(tokio::runtime::Handle::current().metrics().num_workers().saturating_sub(1))
    }

    /// Returns the semaphore of a client.
    #[must_use]
    pub fn client(&self, client: &Arc<str>) -> Arc<Semaphore> {
        let mut clients = self.clients.lock();
        if let Some(semaphore) = clients.get(client).and_then(Weak::upgrade) {
            return semaphore;
        }
        let semaphore = Arc::new(Semaphore::new(self.permits_per_client));
        // Remove clients without connections, so that the map stays bounded.
        clients.retain(|_, semaphore| semaphore.strong_count() > 0);
        clients.insert(client.clone(), Arc::downgrade(&semaphore));
        semaphore
    }
}

/// The semaphore that schedules a connection. Stored in the extensions of each request of the connection, so
/// that a handler can set it when the client is known. Until then the connection is not limited.
#[derive(Debug, Clone, Default)]
pub struct SchedulingGroup(Arc<Mutex<Option<Arc<Semaphore>>>>);

impl SchedulingGroup {
    /// Schedules the connection with this semaphore from now on.
    pub fn join(&self, semaphore: Arc<Semaphore>) {
        *self.0.lock() = Some(semaphore);
    }

    fn semaphore(&self) -> Option<Arc<Semaphore>> {
        self.0.lock().clone()
    }
}

/// Polls a connection only while it holds a permit of its group.
pub async fn run_scheduled<F: Future>(group: &SchedulingGroup, connection: F) -> F::Output {
    let mut connection = pin!(connection);
    let mut pending = PendingPermit::default();
    std::future::poll_fn(|context| {
        let _permit = ready!(pending.poll_permit(group, context));
        connection.as_mut().poll(context)
    })
    .await
}

/// The pending acquisition of a permit. Kept between polls, so that the connection keeps its position in the
/// queue.
#[derive(Debug, Default)]
struct PendingPermit(Option<(Arc<Semaphore>, PollSemaphore)>);

impl PendingPermit {
    /// Resolves to a permit, or to `None` if the connection is not limited.
    fn poll_permit(
        &mut self,
        group: &SchedulingGroup,
        context: &mut Context<'_>,
    ) -> Poll<Option<OwnedSemaphorePermit>> {
        let Some(semaphore) = group.semaphore() else { return Poll::Ready(None) };
        let acquire = match &mut self.0 {
            Some((current, acquire)) if Arc::ptr_eq(current, &semaphore) => acquire,
            pending => &mut pending.insert((semaphore.clone(), PollSemaphore::new(semaphore))).1,
        };
        acquire.poll_acquire(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A connection that is always ready. Counts how many of them are polled at the same time, and the
    /// maximum.
    async fn busy(polled: Arc<(AtomicUsize, AtomicUsize)>) {
        for _ in 0..50 {
            let (now, max) = &*polled;
            max.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn connections_of_a_client_are_polled_within_its_permits() {
        let scheduler = FairScheduler::new(2);
        let client: Arc<str> = "ann".into();
        let polled = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let connections: Vec<_> = (0..100)
            .map(|_| {
                let group = SchedulingGroup::default();
                group.join(scheduler.client(&client));
                let connection = busy(polled.clone());
                tokio::spawn(async move { run_scheduled(&group, connection).await })
            })
            .collect();
        for connection in connections {
            connection.await.unwrap();
        }
        assert!((1..=2).contains(&polled.1.load(Ordering::SeqCst)), "{polled:?}");
        assert!(scheduler.client(&client).available_permits() == 2, "every permit is returned");
    }

    #[tokio::test]
    async fn connection_waits_for_its_client_and_not_for_others() {
        let scheduler = FairScheduler::new(1);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let taken = scheduler.client(&ann).acquire_owned().await.unwrap();
        let (of_ann, of_bob, unlimited) =
            (SchedulingGroup::default(), SchedulingGroup::default(), SchedulingGroup::default());
        of_ann.join(scheduler.client(&ann));
        of_bob.join(scheduler.client(&bob));
        let mut waiting = pin!(run_scheduled(&of_ann, async { 1 }));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(run_scheduled(&of_bob, async { 2 }).await, 2);
        assert_eq!(run_scheduled(&unlimited, async { 3 }).await, 3);
        drop(taken);
        assert_eq!(waiting.await, 1);
    }

    #[tokio::test]
    async fn idle_connection_holds_no_permit() {
        let scheduler = FairScheduler::new(1);
        let client: Arc<str> = "ann".into();
        let (idle, other) = (SchedulingGroup::default(), SchedulingGroup::default());
        idle.join(scheduler.client(&client));
        other.join(scheduler.client(&client));
        let mut idle = pin!(run_scheduled(&idle, std::future::pending::<()>()));
        assert!(futures::poll!(&mut idle).is_pending());
        assert_eq!(run_scheduled(&other, async { 1 }).await, 1);
    }

    #[test]
    fn clients_without_connections_are_removed() {
        let scheduler = FairScheduler::new(1);
        for number in 0..1_000 {
            let _ = scheduler.client(&number.to_string().into());
        }
        assert!(scheduler.clients.lock().len() <= 1);
    }
}
