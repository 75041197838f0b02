//! Places for what is under way at the same time: so many in all, and a share of them for the holder of each token, so that
//! one who floods the server, or holds connections open without an end, leaves room for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    AnyMore,
    /// The share of this holder is.
    OfTheirs,
}

/// What one holder has.
#[derive(Debug)]
struct Holding {
    places: usize,
    turns: Arc<Semaphore>,
}

type Holdings = Mutex<HashMap<Arc<str>, Holding>>;

/// Places for one kind of request.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    turns: usize,
    held: Arc<Holdings>,
}

impl Places {
    /// `all` places, of which the holder of one token gets `each` at most; of these, `turns` are worked on at a time.
    pub(crate) fn new(all: usize, each: usize, turns: usize) -> Self {
        Places {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            each: each.max(1),
            turns: turns.clamp(1, Semaphore::MAX_PERMITS),
            held: Arc::default(),
        }
    }

    /// A place, if there is one.
    pub(crate) fn take(&self, holder: &Arc<str>) -> Result<Place, NoPlace> {
        let permit = self.all.clone().try_acquire_owned().map_err(|_| NoPlace::AnyMore)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let holding = held
            .entry(holder.clone())
            .or_insert_with(|| Holding { places: 0, turns: Arc::new(Semaphore::new(self.turns)) });
        if holding.places >= self.each {
            return Err(NoPlace::OfTheirs);
        }
        holding.places += 1;
        let turns = holding.turns.clone();
        Ok(Place { holder: holder.clone(), turns, held: self.held.clone(), _permit: permit })
    }
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    holder: Arc<str>,
    turns: Arc<Semaphore>,
    held: Arc<Holdings>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until it is the turn of this one among those of its holder. Given back when dropped.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // An error says that the semaphore is closed, which it never is.
        self.turns.clone().acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holding) = held.get_mut(&self.holder) {
            holding.places -= 1;
            if holding.places == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_holder_gets_a_share_and_leaves_the_rest_to_others() {
        let places = Places::new(5, 2, 1);
        let (ann, bob, cyd): (Arc<str>, Arc<str>, Arc<str>) = ("ann".into(), "bob".into(), "cyd".into());
        let first = places.take(&ann).unwrap();
        let _second = places.take(&ann).unwrap();
        assert_eq!(places.take(&ann).unwrap_err(), NoPlace::OfTheirs);
        let _bobs = (places.take(&bob).unwrap(), places.take(&bob).unwrap());
        let _cyds = places.take(&cyd).unwrap();
        assert_eq!(places.take(&cyd).unwrap_err(), NoPlace::AnyMore);
        drop(first);
        places.take(&ann).unwrap();
    }

    #[test]
    fn holders_that_have_gone_are_forgotten() {
        let places = Places::new(5, 2, 1);
        for number in 0..1_000 {
            places.take(&number.to_string().into()).unwrap();
        }
        assert!(places.held.lock().unwrap().is_empty());
        assert_eq!(places.all.available_permits(), 5);
    }

    #[tokio::test]
    async fn those_of_one_holder_take_turns_and_do_not_wait_for_others() {
        let places = Places::new(5, 5, 1);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let (first, second) = (places.take(&ann).unwrap(), places.take(&ann).unwrap());
        let turn = first.turn().await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(20), second.turn()).await;
        assert!(waits.is_err());
        drop(places.take(&bob).unwrap().turn().await.unwrap());
        drop(turn);
        drop(second.turn().await.unwrap());
    }
}
