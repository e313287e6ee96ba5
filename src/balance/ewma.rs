//! How long an instance takes to answer: a moving average that believes bad news at once and good news slowly.
//!
//! The method is Finagle's `PeakEwma` (`com.twitter.finagle.loadbalancer.p2c`), which linkerd uses too. Alone it
//! would send everything to an instance that fails fast. So a failure counts as if it had taken a second or more.

use std::time::{Duration, Instant};

/// What is remembered fades by 1/e in this time (linkerd's default).
const DECAY: Duration = Duration::from_secs(10);

/// The time that a failure counts at least, in seconds: far beyond what a service that works takes, and yet forgotten in
/// half a minute, in which others have answered.
const PENALTY: f64 = 1.0;

/// The time that one instance takes, in seconds.
#[derive(Debug, Clone, Default)]
pub struct PeakEwma(Option<Measured>);

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// An answer came after `took`.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        self.measured(took.as_secs_f64(), now);
    }

    /// A call failed after `took`, or was answered in a way that says that it is not done.
    pub fn failed(&mut self, took: Duration, now: Instant) {
        self.measured(took.as_secs_f64().max(PENALTY), now);
    }

    /// The time that one more request will probably take where `busy` are in flight: the less the better. An instance of
    /// which nothing is known gets one request, and until that is answered no other.
    #[must_use]
    pub fn cost(&self, busy: usize, weight: f64, now: Instant) -> f64 {
        let busy = u32::try_from(busy).map_or(f64::from(u32::MAX), f64::from);
        match self.0 {
            None => busy * PENALTY / weight,
            Some(measured) => measured.seconds * measured.kept(now) * (busy + 1.0) / weight,
        }
    }

    fn measured(&mut self, seconds: f64, now: Instant) {
        let averaged = self.0.map_or(seconds, |before| {
            let kept = before.kept(now);
            seconds.max(before.seconds * kept + seconds * (1.0 - kept))
        });
        self.0 = Some(Measured { seconds: averaged, at: now });
    }
}

impl Measured {
    /// The part of it that still counts.
    fn kept(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn near(one: f64, two: f64) -> bool {
        (one - two).abs() < 1e-6
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let (mut ewma, start) = (PeakEwma::default(), Instant::now());
        ewma.answered(10 * MS, start);
        ewma.answered(200 * MS, start);
        assert!(near(ewma.cost(0, 1.0, start), 0.2));
        ewma.answered(10 * MS, start + SECOND);
        let after = ewma.cost(0, 1.0, start + SECOND);
        assert!(after > 0.15 && after < 0.2, "{after}");
        assert!(near(ewma.cost(0, 1.0, start + 11 * SECOND), after / std::f64::consts::E));
    }

    #[test]
    fn a_fast_failure_costs_more_than_a_slow_answer() {
        let (mut fails, mut slow, now) = (PeakEwma::default(), PeakEwma::default(), Instant::now());
        fails.failed(MS, now);
        slow.answered(500 * MS, now);
        assert!(fails.cost(0, 1.0, now) > slow.cost(0, 1.0, now));
        assert!(fails.cost(0, 1.0, now + 30 * SECOND) < 0.05, "and is tried again before long");
    }

    #[test]
    fn what_is_in_flight_counts_and_what_has_more_weight_costs_less() {
        let (mut ewma, now) = (PeakEwma::default(), Instant::now());
        ewma.answered(10 * MS, now);
        assert!(near(ewma.cost(4, 1.0, now), 0.05));
        assert!(near(ewma.cost(4, 5.0, now), 0.01));
    }

    #[test]
    fn an_instance_of_which_nothing_is_known_gets_one_request() {
        let (new, mut known, now) = (PeakEwma::default(), PeakEwma::default(), Instant::now());
        known.answered(10 * MS, now);
        assert!(new.cost(0, 1.0, now) < known.cost(0, 1.0, now));
        assert!(new.cost(1, 1.0, now) > known.cost(9, 1.0, now));
    }
}
