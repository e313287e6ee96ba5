//! How long to wait between two tries of a call that may be repeated.

use std::time::Duration;

use crate::participant::options::Retry;

/// The wait after the `failed`th failure in a row, from 1: exponential with a cap, and with jitter
/// drawn from its upper half, so that the waits of many do not line up and none is near zero.
pub fn wait(failed: u32, retry: Retry, random: &mut fastrand::Rng) -> Duration {
    let doublings = failed.saturating_sub(1).min(31);
    let full = retry.initial.saturating_mul(1 << doublings).min(retry.max);
    if retry.jitter { full.mul_f64(0.5 + random.f64() / 2.0) } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Retry =
        Retry { initial: Duration::from_millis(50), max: Duration::from_secs(30), jitter: false };

    #[test]
    fn the_wait_doubles_up_to_the_cap() {
        let mut random = fastrand::Rng::with_seed(1);
        let waits = [1, 2, 3, 10, 11, 1_000].map(|failed| wait(failed, PLAIN, &mut random).as_millis());
        assert_eq!(waits, [50, 100, 200, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let mut random = fastrand::Rng::with_seed(1);
        let retry = Retry { jitter: true, ..PLAIN };
        let waits: Vec<_> = (0..100).map(|_| wait(3, retry, &mut random).as_millis()).collect();
        assert!(waits.iter().all(|wait| (100..=200).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 130) && waits.iter().any(|wait| *wait > 170), "{waits:?}");
    }
}
