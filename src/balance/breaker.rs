//! The circuit breaker of one service: where most of its requests fail, it is left alone for a while.
//!
//! ```text
//!            enough failed              `open` is over             `ramp` is over
//!  closed ───────────────────► open ───────────────────► ramping ─────────────────► closed
//!                               ▲                            │ enough failed: twice as long
//!                               └────────────────────────────┘
//! ```
//!
//! Nygard, "Release It!" (2007). While it ramps, the share of requests that pass grows evenly from nothing to all, as
//! in Traefik (`middlewares/http/circuitbreaker`): a service that has just come back is not hit by everything at once.

use std::time::{Duration, Instant};

use super::policy::BreakerPolicy;
use super::window::Window;

/// While it ramps so many outcomes say enough: there may not be more of them, and each is a request of somebody.
const PROBES: u32 = 3;

/// While it ramps at least so many requests pass, however few its share would be.
const PROBES_A_RAMP: u32 = 20;

/// Whether a service is asked; closed at first.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    outcomes: Window,
    /// How often it opened without having closed since.
    times: u32,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    Ramping {
        since: Instant,
        next_probe: Instant,
    },
}

/// What it does, for those who look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Every request passes.
    Closed,
    /// None does.
    Open,
    /// A growing share does, from the next request on.
    Ramping,
}

impl Breaker {
    /// Whether a request may pass now, or after which time to ask again. `chance` is from 0 to 1.
    pub fn pass(&mut self, now: Instant, chance: f64, policy: &BreakerPolicy) -> Result<(), Duration> {
        match &mut self.state {
            State::Closed => Ok(()),
            State::Open { until } if now < *until => Err(*until - now),
            State::Open { .. } => {
                // The ramp begins with the first request after the wait, so that it is not over before anybody came. What
                // was answered before says nothing of what is answered now.
                self.state = State::Ramping { since: now, next_probe: now + policy.ramp / PROBES_A_RAMP };
                self.outcomes = Window::default();
                Ok(())
            }
            State::Ramping { since, next_probe } => {
                let share = (now - *since).as_secs_f64() / policy.ramp.as_secs_f64();
                if now >= *next_probe {
                    *next_probe = now + policy.ramp / PROBES_A_RAMP;
                    return Ok(());
                }
                if chance < share { Ok(()) } else { Err(policy.ramp.saturating_sub(now - *since)) }
            }
        }
    }

    /// A request that passed has failed or not. Says whether that opened it.
    pub fn outcome(&mut self, is_failure: bool, now: Instant, policy: &BreakerPolicy) -> bool {
        let min = match self.state {
            State::Closed => policy.requests_min,
            State::Ramping { since, .. } if now.saturating_duration_since(since) >= policy.ramp => {
                (self.state, self.times) = (State::Closed, 0);
                policy.requests_min
            }
            State::Ramping { .. } => policy.requests_min.min(PROBES),
            // It passed before the others failed; they have said it all.
            State::Open { .. } => return false,
        };
        self.outcomes.add(now, policy.window, is_failure);
        let opens = is_failure && self.outcomes.counts(now, policy.window).reach(policy.error_percent, min);
        if opens {
            let doubled = policy.open.saturating_mul(1 << self.times.min(16));
            self.state = State::Open { until: now + doubled.min(policy.open_max.max(policy.open)) };
            self.times = self.times.saturating_add(1);
        }
        opens
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self, now: Instant, policy: &BreakerPolicy) -> BreakerState {
        match self.state {
            State::Open { until } if now < until => BreakerState::Open,
            State::Ramping { since, .. } if now.saturating_duration_since(since) >= policy.ramp => {
                BreakerState::Closed
            }
            State::Open { .. } | State::Ramping { .. } => BreakerState::Ramping,
            State::Closed => BreakerState::Closed,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn open(policy: &BreakerPolicy, now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened = (0..policy.requests_min).filter(|_| breaker.outcome(true, now, policy)).count();
        assert_eq!(opened, 1);
        breaker
    }

    #[test]
    fn it_opens_where_enough_of_enough_requests_failed() {
        let (policy, now) = (BreakerPolicy::default(), Instant::now());
        let mut breaker = Breaker::default();
        for number in 0..19 {
            assert!(!breaker.outcome(number % 2 == 0, now, &policy));
        }
        assert_eq!(breaker.pass(now, 0.9, &policy), Ok(()));
        assert!(breaker.outcome(true, now, &policy), "11 of 20");
        assert_eq!(breaker.pass(now, 0.0, &policy), Err(5 * SECOND));
        assert_eq!(breaker.pass(now + 4 * SECOND, 0.0, &policy), Err(SECOND));
    }

    #[test]
    fn old_failures_do_not_open_it() {
        let (policy, now) = (BreakerPolicy::default(), Instant::now());
        let mut breaker = Breaker::default();
        for number in 0..100 {
            assert!(!breaker.outcome(true, now + number * SECOND, &policy), "ten in a window");
        }
    }

    #[test]
    fn it_closes_over_a_ramp() {
        let (policy, start) = (BreakerPolicy::default(), Instant::now());
        let mut breaker = open(&policy, start);
        let back = start + 60 * SECOND;
        assert_eq!(breaker.pass(back, 0.99, &policy), Ok(()), "the first one is a probe");
        assert!(breaker.pass(back, 0.0, &policy).is_err());
        let mut is_let_in = |seconds: u32, chance: f64| {
            let now = back + seconds * SECOND;
            // The probe that is due goes first.
            let _ = breaker.pass(now, 0.0, &policy);
            breaker.pass(now, chance, &policy).is_ok()
        };
        let passed = [(2, 0.1), (2, 0.3), (5, 0.4), (5, 0.6), (9, 0.89), (10, 0.99)];
        assert_eq!(passed.map(|(at, chance)| is_let_in(at, chance)), [true, false, true, false, true, true]);
        assert_eq!(breaker.state(back + 10 * SECOND, &policy), BreakerState::Closed);
    }

    #[test]
    fn where_the_service_has_not_recovered_it_is_open_for_twice_as_long() {
        let (policy, mut now) = (BreakerPolicy::default(), Instant::now());
        let mut breaker = open(&policy, now);
        let mut times = Vec::new();
        for _ in 0..6 {
            let open = breaker.pass(now, 0.0, &policy).unwrap_err();
            times.push(open.as_secs());
            now += open;
            assert_eq!(breaker.pass(now, 0.0, &policy), Ok(()));
            assert_eq!(breaker.state(now, &policy), BreakerState::Ramping);
            let opened = (0..PROBES).filter(|_| breaker.outcome(true, now, &policy)).count();
            assert_eq!((opened, breaker.state(now, &policy)), (1, BreakerState::Open));
        }
        assert_eq!(times, [5, 10, 20, 40, 60, 60]);
        now += 60 * SECOND;
        assert_eq!(breaker.pass(now, 0.0, &policy), Ok(()));
        assert_eq!(breaker.state(now + 10 * SECOND, &policy), BreakerState::Closed);
        assert!((0..20).any(|_| breaker.outcome(true, now + 10 * SECOND, &policy)));
        assert_eq!(breaker.pass(now + 10 * SECOND, 0.0, &policy), Err(5 * SECOND), "it had closed");
    }

    #[test]
    fn only_a_request_begins_the_ramp_and_neither_a_look_nor_an_answer_that_comes_late() {
        let (policy, start) = (BreakerPolicy::default(), Instant::now());
        let mut breaker = open(&policy, start);
        let back = start + 5 * SECOND;
        assert_eq!(breaker.state(back, &policy), BreakerState::Ramping);
        assert!(
            (0..PROBES).all(|_| !breaker.outcome(true, back, &policy)),
            "these were sent before it opened"
        );
        let later = back + 60 * SECOND;
        assert_eq!(breaker.pass(later, 0.99, &policy), Ok(()), "the first one is a probe");
        assert!(breaker.pass(later, 0.5, &policy).is_err(), "and not all are let in at once");
    }

    proptest! {
        #[test]
        fn whatever_happens_it_lets_something_pass_again(steps in prop::collection::vec((any::<bool>(), 0u32..20), 100)) {
            let (policy, mut now) = (BreakerPolicy::default(), Instant::now());
            let mut breaker = Breaker::default();
            for (is_failure, seconds) in steps {
                if breaker.pass(now, 0.999, &policy).is_ok() {
                    breaker.outcome(is_failure, now, &policy);
                }
                now += seconds * SECOND;
            }
            prop_assert!(breaker.pass(now + policy.open_max, 0.999, &policy).is_ok());
        }
    }
}
