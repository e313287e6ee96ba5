//! Slow start: an instance that is new, or was away, has cold caches and no connections, and gets less at first.

use std::time::{Duration, Instant};

/// An instance that got nothing at all could not warm up (`min_weight_percent` of Envoy's `SlowStartConfig`).
const LEAST: f64 = 0.1;

/// The part of its weight that an instance has which came at `since`: it grows evenly over `window`.
#[must_use]
pub fn share(since: Option<Instant>, window: Option<Duration>, now: Instant) -> f64 {
    let (Some(since), Some(window)) = (since, window) else { return 1.0 };
    let here = now.saturating_duration_since(since);
    if here >= window {
        return 1.0;
    }
    (here.as_secs_f64() / window.as_secs_f64()).max(LEAST)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_evenly_from_a_tenth_to_the_whole() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let at = |seconds: u32| share(Some(start), Some(20 * second), start + seconds * second);
        let shares = [at(0), at(1), at(5), at(10), at(20), at(1000)];
        let expected = [0.1, 0.1, 0.25, 0.5, 1.0, 1.0];
        let is_near = |(one, two): (&f64, &f64)| (one - two).abs() < 1e-9;
        assert!(shares.iter().zip(&expected).all(is_near), "{shares:?}");
    }

    #[test]
    fn nothing_is_slow_that_was_there_from_the_start_or_where_nobody_asked_for_it() {
        let now = Instant::now();
        assert!(share(None, Some(Duration::from_secs(9)), now) >= 1.0);
        assert!(share(Some(now), None, now) >= 1.0);
        assert!(share(Some(now), Some(Duration::ZERO), now) >= 1.0);
    }
}
