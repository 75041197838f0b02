//! When a value is too old to be taken for the present. All times are by the clock of the server.

use std::time::Duration;

use proto_json::Timestamp;

/// Whether a value of this time is past the limit; one from the future is not: it is for the caller to say that it is wrong.
#[must_use]
pub fn is_stale(at: Timestamp, now: Timestamp, limit: Duration) -> bool {
    u128::try_from(now.millis_since(at)).is_ok_and(|age| age > limit.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_stale_only_past_the_limit_and_never_from_the_future() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let limit = Duration::from_secs(60);
        assert!(!is_stale(at(0), at(60_000), limit));
        assert!(is_stale(at(0), at(60_001), limit));
        assert!(!is_stale(at(5000), at(0), limit));
    }
}
