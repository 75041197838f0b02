//! Rate limits per client or network, with the `governor` crate.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use http_server::Network;
use parking_lot::RwLock;

/// Number of keys above which idle keys are removed.
const SWEEP_ABOVE: usize = 4_096;
/// Number of keys in use above which all keys are removed. Bounds the memory if requests come from very many
/// addresses.
const FORGET_ABOVE: usize = 65_536;

/// The key under which requests are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RateKey {
    /// A client with a valid token.
    Client(Arc<str>),
    /// All clients without a valid token in this network.
    Network(Network),
}

type Keyed<C> =
    governor::RateLimiter<RateKey, HashMapStateStore<RateKey>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate limit with a burst for each key.
#[derive(Debug)]
pub(crate) struct RateLimiter<C: Clock = DefaultClock> {
    /// `None` means no limit.
    quota: Option<Quota>,
    clock: C,
    keyed: RwLock<Keyed<C>>,
    /// Number of keys at which idle keys are removed next. It doubles each time, so that sweeps are rare.
    sweep_at: AtomicUsize,
}

impl RateLimiter {
    /// Requests per second and burst size. A rate of 0 means no limit.
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
    /// The time until the next request of this key is allowed.
    pub(crate) fn check(&self, key: &RateKey) -> Result<(), Duration> {
        if self.quota.is_none() {
            return Ok(());
        }
        let keyed = self.keyed.read();
        let checked = keyed.check_key(key).map_err(|early| early.wait_time_from(self.clock.now()));
        let keys = keyed.len();
        drop(keyed);
        if keys > self.sweep_at.load(Ordering::Relaxed) {
            self.sweep();
        }
        checked
    }

    fn sweep(&self) {
        let mut keyed_now = self.keyed.write();
        keyed_now.retain_recent();
        if keyed_now.len() > FORGET_ABOVE {
            *keyed_now = keyed(self.quota, &self.clock);
        }
        self.sweep_at.store((keyed_now.len() * 2).clamp(SWEEP_ABOVE, FORGET_ABOVE), Ordering::Relaxed);
    }
}

fn keyed<C: Clock + Clone>(quota: Option<Quota>, clock: &C) -> Keyed<C> {
    // Without a limit the quota is not used.
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
    fn burst_passes_and_then_the_rate_applies_per_key() {
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
    fn memory_is_bounded_for_any_number_of_addresses() {
        let rate = RateLimiter::with_clock(1, 1, FakeRelativeClock::default());
        for number in 0..200_000_u32 {
            let network = Network::from(IpAddr::from(number.to_be_bytes()));
            let _ = rate.check(&RateKey::Network(network));
        }
        assert!(rate.keyed.read().len() <= FORGET_ABOVE + 1);
    }

    #[test]
    fn idle_keys_are_removed() {
        let clock = FakeRelativeClock::default();
        let rate = RateLimiter::with_clock(1, 1, clock.clone());
        for number in 0..=SWEEP_ABOVE {
            clock.advance(Duration::from_secs(2));
            rate.check(&client(&number.to_string())).unwrap();
        }
        assert_eq!(rate.keyed.read().len(), 1);
    }

    #[test]
    fn zero_rate_is_unlimited() {
        let rate = RateLimiter::new(0, 0);
        for _ in 0..1_000 {
            rate.check(&client("a")).unwrap();
        }
    }
}
