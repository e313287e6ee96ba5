//! Ejection of an instance that fails: for a time that grows with how often it had to be.
//!
//! The rules are Envoy's (`intro/arch_overview/upstream/outlier`): base time times the number of ejections, and a
//! cap on how many may be out at once. What the cap allows the caller knows, for it knows the others.

use std::time::{Duration, Instant};

use super::policy::OutlierPolicy;
use super::window::Window;

/// How one instance has answered.
#[derive(Debug, Clone, Default)]
pub struct Outlier {
    /// Failures since the last success.
    failures: u32,
    answers: Window,
    /// How often it was ejected, less once for every base time that it has been in since.
    times: u32,
    until: Option<Instant>,
}

impl Outlier {
    /// It answered or failed. Says until when it is ejected, where this is the moment and `may_be` allows it.
    pub fn answered(
        &mut self,
        is_failure: bool,
        now: Instant,
        policy: &OutlierPolicy,
        may_be: impl FnOnce() -> bool,
    ) -> Option<Instant> {
        self.answers.add(now, policy.window, is_failure);
        self.failures = if is_failure { self.failures.saturating_add(1) } else { 0 };
        if self.is_out(now) || !is_failure || !self.is_outlier(now, policy) || !may_be() {
            return None;
        }
        self.forgive(now, policy);
        self.times = self.times.saturating_add(1);
        let time = policy.base_time.saturating_mul(self.times).min(policy.max_time);
        self.until = Some(now + time);
        // What it has done is paid for: it begins anew when it is back.
        self.failures = 0;
        self.answers = Window::default();
        self.until
    }

    /// Takes it back before its time. Says whether it was out.
    pub fn take_back(&mut self, now: Instant) -> bool {
        let was_out = self.is_out(now);
        if was_out {
            self.until = Some(now);
        }
        was_out
    }

    /// Whether it is left out now.
    #[must_use]
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn is_outlier(&mut self, now: Instant, policy: &OutlierPolicy) -> bool {
        let of_window =
            |percent: u8| self.answers.counts(now, policy.window).reach(percent, policy.requests_min);
        self.failures >= policy.consecutive || policy.error_percent.is_some_and(of_window)
    }

    fn forgive(&mut self, now: Instant, policy: &OutlierPolicy) {
        let been_in = self.until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        let times = been_in.as_nanos() / policy.base_time.as_nanos().max(1);
        self.times = self.times.saturating_sub(u32::try_from(times).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Five failures in a row at one moment, and for how long it is out then.
    fn out_for(outlier: &mut Outlier, now: Instant, policy: &OutlierPolicy) -> Option<u64> {
        let last = (0..5).filter_map(|_| outlier.answered(true, now, policy, || true)).last();
        last.map(|until| (until - now).as_secs())
    }

    #[test]
    fn each_ejection_is_longer_than_the_last_up_to_the_longest() {
        let (policy, mut now) = (OutlierPolicy::default(), Instant::now());
        let mut outlier = Outlier::default();
        let mut times = Vec::new();
        for _ in 0..12 {
            let time = out_for(&mut outlier, now, &policy).unwrap();
            times.push(time);
            now += u32::try_from(time).unwrap() * SECOND;
        }
        assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    }

    #[test]
    fn whoever_behaves_is_forgiven() {
        let (policy, now) = (OutlierPolicy::default(), Instant::now());
        let mut outlier = Outlier::default();
        assert_eq!(out_for(&mut outlier, now, &policy), Some(30));
        assert_eq!(out_for(&mut outlier, now + 30 * SECOND, &policy), Some(60));
        assert_eq!(out_for(&mut outlier, now + 1000 * SECOND, &policy), Some(30));
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let (policy, now) = (OutlierPolicy::default(), Instant::now());
        let mut outlier = Outlier::default();
        for is_failure in [true, true, true, true, false, true, true, true, true] {
            assert_eq!(outlier.answered(is_failure, now, &policy, || true), None);
        }
        assert!(outlier.answered(true, now, &policy, || true).is_some());
    }

    #[test]
    fn a_share_of_failures_ejects_without_a_row() {
        let policy = OutlierPolicy { error_percent: Some(40), requests_min: 10, ..OutlierPolicy::default() };
        let (mut outlier, now) = (Outlier::default(), Instant::now());
        let answers = [true, false, true, false, true, false, false, false, false];
        assert!(answers.iter().all(|failed| outlier.answered(*failed, now, &policy, || true).is_none()));
        assert!(outlier.answered(true, now, &policy, || true).is_some(), "4 of 10");
    }

    #[test]
    fn another_window_holds_at_once() {
        let policy = OutlierPolicy { error_percent: Some(100), requests_min: 3, ..OutlierPolicy::default() };
        let shorter = OutlierPolicy { window: SECOND, ..policy.clone() };
        for (policy, is_ejected) in [(&policy, true), (&shorter, false)] {
            let (mut outlier, now) = (Outlier::default(), Instant::now());
            let answers = (0..3).map(|at| outlier.answered(true, now + at * 2 * SECOND, policy, || true));
            assert_eq!(answers.last().flatten().is_some(), is_ejected);
        }
    }

    #[test]
    fn a_good_check_takes_it_back_and_the_cap_keeps_it_in() {
        let (policy, now) = (OutlierPolicy::default(), Instant::now());
        let mut outlier = Outlier::default();
        for _ in 0..100 {
            assert_eq!(outlier.answered(true, now, &policy, || false), None);
        }
        assert!(!outlier.is_out(now));
        assert!(outlier.answered(true, now, &policy, || true).is_some());
        assert!(outlier.is_out(now) && outlier.take_back(now));
        assert!(!outlier.is_out(now) && !outlier.take_back(now));
    }

    proptest! {
        #[test]
        fn nothing_is_out_longer_than_the_longest(steps in prop::collection::vec((any::<bool>(), 0u32..90), 200)) {
            let (policy, mut now) = (OutlierPolicy::default(), Instant::now());
            let mut outlier = Outlier::default();
            for (is_failure, seconds) in steps {
                if let Some(until) = outlier.answered(is_failure, now, &policy, || true) {
                    prop_assert!(until - now >= policy.base_time && until - now <= policy.max_time);
                }
                now += seconds * SECOND;
            }
            prop_assert!(!outlier.is_out(now + policy.max_time));
        }
    }
}
