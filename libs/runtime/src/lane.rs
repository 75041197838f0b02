//! Connections that take turns.
//!
//! An async runtime works on its tasks in the order in which they are woken, whoever they are for. Somebody with thousands
//! of connections that all have something to do at the same moment, or with a few that always have, makes everybody else
//! wait behind them. So the connections of one holder take turns at the threads of the runtime: one thread, where there
//! are more, is always left to others.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// The turns of each holder: so many at a time.
#[derive(Debug)]
pub struct Turns {
    each: usize,
    of: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

impl Turns {
    /// `each` turns at a time for everybody.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Turns { each: each.clamp(1, Semaphore::MAX_PERMITS), of: Mutex::default() }
    }

    /// For [`Lane::keep_to`]: all threads of this runtime but one, and one where there is no other.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn at_threads() -> Self {
        Turns::new(tokio::runtime::Handle::current().metrics().num_workers().saturating_sub(1))
    }

    /// Those of one holder; a permit is a turn.
    #[must_use]
    pub fn of(&self, holder: &Arc<str>) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = of.get(holder).and_then(Weak::upgrade) {
            return turns;
        }
        let turns = Arc::new(Semaphore::new(self.each));
        // Whoever has gone is forgotten.
        of.retain(|_, turns| turns.strong_count() > 0);
        of.insert(holder.clone(), Arc::downgrade(&turns));
        turns
    }
}

/// Where a connection takes its turns; in the extensions of each of its requests. Nowhere, until it is known whose it is.
#[derive(Debug, Clone, Default)]
pub struct Lane(Arc<Mutex<Option<Arc<Semaphore>>>>);

impl Lane {
    /// From now on the connection is worked on when it is its turn among these.
    pub fn keep_to(&self, turns: Arc<Semaphore>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(turns);
    }

    fn turns(&self) -> Option<Arc<Semaphore>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Works on a connection whenever it is its turn. A turn lasts until the connection has to wait for something.
pub(crate) async fn in_lane<F: Future>(lane: &Lane, connection: F) -> F::Output {
    let mut connection = pin!(connection);
    let mut place = Place::default();
    std::future::poll_fn(|context| {
        let _turn = ready!(place.poll_turn(lane, context));
        connection.as_mut().poll(context)
    })
    .await
}

/// The place of a connection in its lane.
#[derive(Debug, Default)]
struct Place(Option<(Arc<Semaphore>, PollSemaphore)>);

impl Place {
    /// A turn, or none where none is needed.
    fn poll_turn(&mut self, lane: &Lane, context: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        let Some(turns) = lane.turns() else { return Poll::Ready(None) };
        let waiting = match &mut self.0 {
            Some((of, waiting)) if Arc::ptr_eq(of, &turns) => waiting,
            place => &mut place.insert((turns.clone(), PollSemaphore::new(turns))).1,
        };
        waiting.poll_acquire(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A connection that is always ready to go on, and counts how many are worked on at the same time.
    async fn busy(at_once: Arc<(AtomicUsize, AtomicUsize)>) {
        for _ in 0..50 {
            let (now, most) = &*at_once;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_connections_of_a_holder_are_worked_on_than_it_has_turns() {
        let turns = Turns::new(2);
        let holder: Arc<str> = "ann".into();
        let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let connections: Vec<_> = (0..100)
            .map(|_| {
                let lane = Lane::default();
                lane.keep_to(turns.of(&holder));
                let connection = busy(at_once.clone());
                tokio::spawn(async move { in_lane(&lane, connection).await })
            })
            .collect();
        for connection in connections {
            connection.await.unwrap();
        }
        assert!((1..=2).contains(&at_once.1.load(Ordering::SeqCst)), "{at_once:?}");
        assert!(turns.of(&holder).available_permits() == 2, "every turn is given back");
    }

    #[tokio::test]
    async fn a_connection_waits_for_its_turn_and_others_do_not_wait_with_it() {
        let turns = Turns::new(1);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let taken = turns.of(&ann).acquire_owned().await.unwrap();
        let (anns, bobs, nobodys) = (Lane::default(), Lane::default(), Lane::default());
        anns.keep_to(turns.of(&ann));
        bobs.keep_to(turns.of(&bob));
        let mut waiting = pin!(in_lane(&anns, async { 1 }));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(in_lane(&bobs, async { 2 }).await, 2);
        assert_eq!(in_lane(&nobodys, async { 3 }).await, 3);
        drop(taken);
        assert_eq!(waiting.await, 1);
    }

    #[tokio::test]
    async fn a_connection_that_waits_for_its_client_holds_nobody_up() {
        let turns = Turns::new(1);
        let holder: Arc<str> = "ann".into();
        let (lane, other) = (Lane::default(), Lane::default());
        lane.keep_to(turns.of(&holder));
        other.keep_to(turns.of(&holder));
        let mut silent = pin!(in_lane(&lane, std::future::pending::<()>()));
        assert!(futures::poll!(&mut silent).is_pending());
        assert_eq!(in_lane(&other, async { 1 }).await, 1);
    }

    #[test]
    fn holders_that_have_gone_are_forgotten() {
        let turns = Turns::new(1);
        for number in 0..1_000 {
            let _ = turns.of(&number.to_string().into());
        }
        assert!(turns.of.lock().unwrap().len() <= 1);
    }
}
