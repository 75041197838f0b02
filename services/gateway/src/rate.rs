//! How often somebody may ask: a bucket of tokens for each, which fills at a constant rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Above this number of buckets, full ones are forgotten: whoever had them has been quiet.
const SWEEP_ABOVE: usize = 4_096;
/// Above this number of buckets, all are: somebody makes up addresses.
const FORGET_ABOVE: usize = 65_536;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// The holder of a token.
    Holder(Arc<str>),
    /// Whoever comes from this network without a token that is known.
    Network(IpAddr),
}

impl Whose {
    /// IPv6 gives everybody 2^64 addresses: they count as one.
    pub(crate) fn network(address: IpAddr) -> Self {
        Whose::Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            address => address,
        })
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A rate that nobody may exceed for long.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    of: HashMap<Whose, Bucket>,
    /// Number of buckets at which full ones are forgotten next; doubled each time, so that it is rare.
    sweep_at: usize,
}

impl Rate {
    /// This many each second, and at most `burst` at once. 0: no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Rate {
            per_second: per_second.into(),
            burst: burst.max(1).into(),
            buckets: Mutex::new(Buckets { of: HashMap::new(), sweep_at: SWEEP_ABOVE }),
        }
    }

    /// Takes one; or tells how long to wait for it.
    pub(crate) fn take(&self, whose: Whose, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.of.len() > buckets.sweep_at {
            buckets.of.retain(|_, bucket| self.level(bucket, now) < self.burst);
            if buckets.of.len() > FORGET_ABOVE {
                buckets.of.clear();
            }
            buckets.sweep_at = (buckets.of.len() * 2).clamp(SWEEP_ABOVE, FORGET_ABOVE);
        }
        let bucket = buckets.of.entry(whose).or_insert(Bucket { tokens: self.burst, at: now });
        let level = self.level(bucket, now);
        *bucket = Bucket { tokens: level, at: now };
        if level >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - level) / self.per_second))
        }
    }

    fn level(&self, bucket: &Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        passed.mul_add(self.per_second, bucket.tokens).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str) -> Whose {
        Whose::Holder(name.into())
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_for_each_on_its_own() {
        let rate = Rate::new(2, 3);
        let start = Instant::now();
        for _ in 0..3 {
            rate.take(holder("a"), start).unwrap();
        }
        assert_eq!(rate.take(holder("a"), start), Err(Duration::from_millis(500)));
        rate.take(holder("b"), start).unwrap();
        let later = start + Duration::from_millis(500);
        rate.take(holder("a"), later).unwrap();
        assert!(rate.take(holder("a"), later).is_err());
        let much_later = later + Duration::from_secs(3600);
        for _ in 0..3 {
            rate.take(holder("a"), much_later).unwrap();
        }
        assert!(rate.take(holder("a"), much_later).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_those_of_ipv4_do_not() {
        let of = |text: &str| Whose::network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn made_up_addresses_take_no_memory_without_bound() {
        let rate = Rate::new(1, 1);
        let now = Instant::now();
        for number in 0..200_000_u32 {
            let _ = rate.take(Whose::network(IpAddr::from(number.to_be_bytes())), now);
        }
        assert!(rate.buckets.lock().unwrap().of.len() <= FORGET_ABOVE + 1);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let rate = Rate::new(0, 0);
        for _ in 0..1_000 {
            rate.take(holder("a"), Instant::now()).unwrap();
        }
    }
}
