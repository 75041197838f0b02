//! Limits how many requests per second are answered for each client or network.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use runtime::http::Network;

/// Above this number of keys, those that have used nothing lately are forgotten.
const SWEEP_ABOVE: usize = 4_096;
/// Above this number of keys in use, all are forgotten: somebody makes up addresses.
const FORGET_ABOVE: usize = 65_536;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RateKey {
    /// The client that a token belongs to.
    Client(Arc<str>),
    /// Everybody without a known token in this network.
    Network(Network),
}

type Keyed<C> =
    governor::RateLimiter<RateKey, HashMapStateStore<RateKey>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate with a burst, for each key on its own.
#[derive(Debug)]
pub(crate) struct RateLimiter<C: Clock = DefaultClock> {
    /// `None` is no limit.
    quota: Option<Quota>,
    clock: C,
    keyed: RwLock<Keyed<C>>,
    /// Number of keys at which idle ones are forgotten next; doubled each time, so that it is rare.
    sweep_at: AtomicUsize,
}

impl RateLimiter {
    /// So many requests per second, and `burst` at once. A rate of 0 is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        RateLimiter::with_clock(per_second, burst, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RateLimiter<C> {
    fn with_clock(per_second: u32, burst: u32, clock: C) -> Self {
        let quota = NonZeroU32::new(per_second)
            .map(|rate| Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)));
        let keyed = keyed(quota, &clock);
        RateLimiter { quota, clock, keyed: RwLock::new(keyed), sweep_at: AtomicUsize::new(SWEEP_ABOVE) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The time after which the next request of this key is allowed.
    pub(crate) fn check(&self, key: &RateKey) -> Result<(), Duration> {
        if self.quota.is_none() {
            return Ok(());
        }
        let keyed = self.keyed.read().unwrap_or_else(PoisonError::into_inner);
        let checked = keyed.check_key(key).map_err(|early| early.wait_time_from(self.clock.now()));
        let keys = keyed.len();
        drop(keyed);
        if keys > self.sweep_at.load(Ordering::Relaxed) {
            self.sweep();
        }
        checked
    }

    fn sweep(&self) {
        let mut keyed_now = self.keyed.write().unwrap_or_else(PoisonError::into_inner);
        keyed_now.retain_recent();
        if keyed_now.len() > FORGET_ABOVE {
            *keyed_now = keyed(self.quota, &self.clock);
        }
        self.sweep_at.store((keyed_now.len() * 2).clamp(SWEEP_ABOVE, FORGET_ABOVE), Ordering::Relaxed);
    }
}

fn keyed<C: Clock + Clone>(quota: Option<Quota>, clock: &C) -> Keyed<C> {
    // Without a limit it is never asked.
    let quota = quota.unwrap_or(Quota::per_second(NonZeroU32::MIN));
    governor::RateLimiter::new(quota, HashMapStateStore::default(), clock.clone())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn client(name: &str) -> RateKey {
        RateKey::Client(name.into())
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_for_each_key_on_its_own() {
        let clock = FakeRelativeClock::default();
        let rate = RateLimiter::with_clock(2, 3, clock.clone());
        for _ in 0..3 {
            rate.check(&client("a")).unwrap();
        }
        assert_eq!(rate.check(&client("a")), Err(Duration::from_millis(500)));
        rate.check(&client("b")).unwrap();
        clock.advance(Duration::from_millis(500));
        rate.check(&client("a")).unwrap();
        assert!(rate.check(&client("a")).is_err());
        clock.advance(Duration::from_secs(3600));
        for _ in 0..3 {
            rate.check(&client("a")).unwrap();
        }
        assert!(rate.check(&client("a")).is_err());
    }

    #[test]
    fn made_up_addresses_do_not_take_memory_without_a_limit() {
        let rate = RateLimiter::with_clock(1, 1, FakeRelativeClock::default());
        for number in 0..200_000_u32 {
            let network = Network::from(IpAddr::from(number.to_be_bytes()));
            let _ = rate.check(&RateKey::Network(network));
        }
        assert!(rate.keyed.read().unwrap().len() <= FORGET_ABOVE + 1);
    }

    #[test]
    fn idle_keys_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let rate = RateLimiter::with_clock(1, 1, clock.clone());
        for number in 0..=SWEEP_ABOVE {
            clock.advance(Duration::from_secs(2));
            rate.check(&client(&number.to_string())).unwrap();
        }
        assert_eq!(rate.keyed.read().unwrap().len(), 1);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let rate = RateLimiter::new(0, 0);
        for _ in 0..1_000 {
            rate.check(&client("a")).unwrap();
        }
    }
}
