//! A limit on the calls in flight to one service that learns how many it can do at once.
//!
//! The algorithm is Netflix's Gradient2 (`com.netflix.concurrency.limits.limit.Gradient2Limit`, release 0.5.3, under
//! `WindowedLimit`): where answers take longer than they did over the long run, calls wait in a queue somewhere, and the
//! limit falls by the ratio of the two; where they do not, it grows by a small queue. No crate that is kept up has it,
//! and it is thirty lines.
//!
//! A call is in flight to the head of its answer and measured to there, so that a download of an hour or an open
//! stream is neither slow nor in the way.

use std::time::{Duration, Instant};

use super::policy::LimitPolicy;

/// How much longer than over the long run answers may take before the limit falls (`rttTolerance`).
const TOLERANCE: f64 = 1.5;
/// What the limit grows by where nothing is slow (`queueSize`).
const QUEUE: f64 = 4.0;
/// How much of a new limit counts at once (`smoothing`).
const SMOOTHING: f64 = 0.2;
/// The long run, in windows (`longWindow`), and how many make its first average.
const LONG: f64 = 600.0;
const WARMUP: f64 = 10.0;
/// One window has at least this many answers and takes at least this long: a single slow answer says nothing.
const SAMPLES: u32 = 10;
const SPAN: Duration = Duration::from_millis(100);

/// How many calls a service may have in flight.
#[derive(Debug, Clone)]
pub struct Limit {
    estimate: f64,
    in_flight: u32,
    /// Seconds that an answer takes over the long run, and of how many windows that is the average.
    long: f64,
    windows: f64,
    window: Sample,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    begun: Option<Instant>,
    answers: u32,
    seconds: f64,
    in_flight_max: u32,
}

impl Limit {
    /// A limit that has learned nothing yet.
    #[must_use]
    pub fn new(policy: &LimitPolicy) -> Self {
        let window = Sample::default();
        Self { estimate: policy.initial.into(), in_flight: 0, long: 0.0, windows: 0.0, window }
    }

    /// Takes a place; `false` where there is none.
    #[must_use]
    pub fn take(&mut self, policy: &LimitPolicy) -> bool {
        let takes = self.in_flight < self.now(policy);
        if takes {
            self.in_flight += 1;
            self.window.in_flight_max = self.window.in_flight_max.max(self.in_flight);
        }
        takes
    }

    /// Gives a place back. `took` is how long the answer took; `None` where that says nothing of the service.
    pub fn give(&mut self, took: Option<Duration>, now: Instant, policy: &LimitPolicy) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(took) = took else { return };
        let window = &mut self.window;
        let begun = *window.begun.get_or_insert(now);
        window.answers += 1;
        window.seconds += took.as_secs_f64();
        if window.answers >= SAMPLES && now.saturating_duration_since(begun) >= SPAN {
            let window = std::mem::take(&mut self.window);
            self.window.in_flight_max = self.in_flight;
            self.learn(window, policy);
        }
    }

    /// The limit as it is now, within the bounds.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the bounds are whole numbers that fit"
    )]
    pub fn now(&self, policy: &LimitPolicy) -> u32 {
        (self.estimate as u32).clamp(policy.min, policy.max)
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn learn(&mut self, window: Sample, policy: &LimitPolicy) {
        // What took no time at all is nothing to divide by.
        let short = (window.seconds / f64::from(window.answers)).max(f64::EPSILON);
        self.add_to_long_run(short);
        // After a long time of overload the long run is slow too, and has to come down faster than it went up.
        if self.long / short > 2.0 {
            self.long *= 0.95;
        }
        // Another configuration may have had other bounds.
        let bounded = |estimate: f64| estimate.clamp(policy.min.into(), policy.max.into());
        let before = bounded(self.estimate);
        // Whoever does not use the half of it learns nothing about the whole.
        if f64::from(window.in_flight_max) < before / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.long / short).clamp(0.5, 1.0);
        let new = before * gradient + QUEUE;
        self.estimate = bounded(before * (1.0 - SMOOTHING) + new * SMOOTHING);
    }

    fn add_to_long_run(&mut self, short: f64) {
        self.windows += 1.0;
        let part = if self.windows <= WARMUP { 1.0 / self.windows } else { 2.0 / (LONG + 1.0) };
        self.long += (short - self.long) * part;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A service that does `width` calls at once in 10 ms each and lets the others wait; as many as may are sent.
    fn play(limit: &mut Limit, policy: &LimitPolicy, width: f64, rounds: usize, now: &mut Instant) {
        for _ in 0..rounds {
            let mut taken = 0_u32;
            while limit.take(policy) {
                taken += 1;
            }
            let took = Duration::from_secs_f64(0.01 * (f64::from(taken) / width).max(1.0));
            *now += took.max(SPAN / 2);
            for _ in 0..taken {
                limit.give(Some(took), *now, policy);
            }
        }
    }

    #[test]
    fn it_finds_how_many_the_service_can_do_and_notices_that_it_can_do_less() {
        let (policy, mut now) = (LimitPolicy::default(), Instant::now());
        let mut limit = Limit::new(&policy);
        play(&mut limit, &policy, 100.0, 400, &mut now);
        let wide = limit.now(&policy);
        assert!(wide >= 100, "{wide}: it grows to what the service can do");
        assert!(wide < 250, "{wide}: and not much beyond");
        play(&mut limit, &policy, 20.0, 100, &mut now);
        let narrow = limit.now(&policy);
        assert!(narrow < wide / 2, "{narrow} after {wide}");
        play(&mut limit, &policy, 100.0, 400, &mut now);
        assert!(limit.now(&policy) > 80, "{}: and it recovers", limit.now(&policy));
    }

    #[test]
    fn nothing_beyond_the_limit_is_taken_and_what_is_given_back_can_be_taken() {
        let policy = LimitPolicy { initial: 2, min: 2, max: 2 };
        let mut limit = Limit::new(&policy);
        assert!(limit.take(&policy) && limit.take(&policy) && !limit.take(&policy));
        limit.give(None, Instant::now(), &policy);
        assert_eq!(limit.in_flight(), 1);
        assert!(limit.take(&policy) && !limit.take(&policy));
    }

    #[test]
    fn a_service_with_little_to_do_keeps_its_limit() {
        let (policy, mut now) = (LimitPolicy::default(), Instant::now());
        let mut limit = Limit::new(&policy);
        for took in 1..200 {
            assert!(limit.take(&policy));
            now += SPAN;
            limit.give(Some(took * MS), now, &policy);
        }
        assert_eq!(limit.now(&policy), 20);
    }

    #[test]
    fn new_bounds_hold_at_once() {
        let limit = Limit::new(&LimitPolicy { initial: 500, min: 4, max: 1000 });
        assert_eq!(limit.now(&LimitPolicy { initial: 20, min: 4, max: 50 }), 50);
    }

    #[test]
    fn under_new_bounds_it_goes_on_learning() {
        let (policy, mut now) = (LimitPolicy { initial: 20, min: 4, max: 50 }, Instant::now());
        let mut limit = Limit::new(&LimitPolicy { initial: 500, min: 4, max: 1000 });
        play(&mut limit, &policy, 100.0, 20, &mut now);
        play(&mut limit, &policy, 10.0, 20, &mut now);
        assert!(limit.now(&policy) < 40, "{}", limit.now(&policy));
    }

    #[test]
    fn answers_that_take_no_time_at_all_are_learned_from_too() {
        let (policy, mut now) = (LimitPolicy::default(), Instant::now());
        let mut limit = Limit::new(&policy);
        for _ in 0..10 {
            let taken = std::iter::from_fn(|| limit.take(&policy).then_some(())).count();
            now += SPAN;
            (0..taken).for_each(|_| limit.give(Some(Duration::ZERO), now, &policy));
            now += SPAN;
        }
        assert!(limit.now(&policy) > 20, "{}", limit.now(&policy));
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(times in prop::collection::vec(0u32..5000, 500)) {
            let (policy, mut now) = (LimitPolicy { initial: 5, min: 3, max: 12 }, Instant::now());
            let mut limit = Limit::new(&policy);
            for took in times {
                while limit.take(&policy) {}
                prop_assert!(limit.in_flight() <= 12);
                now += 20 * MS;
                limit.give(Some(took * MS), now, &policy);
                prop_assert!((3..=12).contains(&limit.now(&policy)));
            }
        }
    }
}
