//! Whether a try that failed may be made again.
//!
//! | class | it is known that | again |
//! |---|---|---|
//! | never sent | no connection came about | always, at another instance |
//! | maybe processed | the service may have done it | where the route asks for it, and twice is as good as once |
//! | answered | the service said what it thinks of it | for the statuses that the route lists, and as above |
//!
//! Twice is as good as once for GET, HEAD, OPTIONS, PUT and DELETE (RFC 9110, 9.2.2), and for any request with an
//! `Idempotency-Key` to a service that is declared idempotent. A try counts in a budget as soon as it may have reached
//! the service, so that retries cannot make an overload out of an outage (Finagle's `RetryBudget`, and linkerd's).

use std::time::{Duration, Instant};

use http::Method;

use super::policy::RetryBudgetPolicy;
use super::window::Window;

/// Retries that a route asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRule {
    /// Where the connection broke, or what came was no HTTP.
    pub broken: bool,
    /// Where a try took longer than it may.
    pub late: bool,
    /// Where this was answered.
    pub statuses: Vec<u16>,
    /// Tries in all, at least 2.
    pub tries: u8,
}

/// How a try ended that is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// No connection came about.
    NeverSent,
    /// The connection broke after the request may have been sent.
    Broken,
    /// No answer came in time.
    Late,
    /// This status was answered.
    Answered(u16),
}

/// Why something is tried again, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It was never sent.
    NeverSent,
    /// The connection broke.
    Broken,
    /// No answer came in time.
    Late,
    /// A status that is listed.
    Status,
}

/// A request that may be asked to go out once more.
#[derive(Debug, Clone, Copy)]
pub struct Repeat<'a> {
    /// What its route asks for.
    pub rule: Option<&'a RetryRule>,
    /// Its method.
    pub method: &'a Method,
    /// Whether it has an `Idempotency-Key` and the service is declared idempotent.
    pub is_keyed: bool,
    /// Whether its body is still there, whole.
    pub has_body_still: bool,
    /// Tries so far that may have reached the service.
    pub tries: u8,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::NeverSent, Self::Broken, Self::Late, Self::Status];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverSent => "never_sent",
            Self::Broken => "broken",
            Self::Late => "late",
            Self::Status => "status",
        }
    }
}

impl Repeat<'_> {
    /// Why it may be tried again, if it may. What [`Reason::NeverSent`] is not needs the budget too.
    #[must_use]
    pub fn after(&self, ended: Ended) -> Option<Reason> {
        if !self.has_body_still {
            return None;
        }
        let may_be_again =
            |rule: &&RetryRule| self.tries < rule.tries && is_harmless(self.method, self.is_keyed);
        match (ended, self.rule.filter(may_be_again)) {
            (Ended::NeverSent, _) => Some(Reason::NeverSent),
            (Ended::Broken, Some(rule)) if rule.broken => Some(Reason::Broken),
            (Ended::Late, Some(rule)) if rule.late => Some(Reason::Late),
            (Ended::Answered(status), Some(rule)) if rule.statuses.contains(&status) => Some(Reason::Status),
            (Ended::Broken | Ended::Late | Ended::Answered(_), _) => None,
        }
    }
}

/// Whether doing it twice is as good as once. `is_keyed`: it has an `Idempotency-Key`, and the service heeds it.
#[must_use]
pub fn is_harmless(method: &Method, is_keyed: bool) -> bool {
    let harmless = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    is_keyed || harmless.contains(method)
}

/// How many retries a service may still get: a share of its requests.
#[derive(Debug, Clone, Default)]
pub struct RetryBudget(Window);

/// How far back requests earn retries (`ttl` of Finagle's budget).
const EARNED: Duration = Duration::from_secs(10);

impl RetryBudget {
    /// A request came; its first try costs nothing.
    pub fn earn(&mut self, now: Instant) {
        self.0.add(now, EARNED, false);
    }

    /// Takes one retry; `false` where there is none left.
    #[must_use]
    pub fn spend(&mut self, now: Instant, policy: &RetryBudgetPolicy) -> bool {
        let counts = self.0.counts(now, EARNED);
        let requests = u64::from(counts.all - counts.special);
        let floor = u64::from(policy.per_second) * EARNED.as_secs();
        let allowed = requests * u64::from(policy.percent) / 100 + floor;
        let is_left = u64::from(counts.special) < allowed;
        if is_left {
            self.0.add(now, EARNED, true);
        }
        is_left
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: fn() -> RetryRule = || RetryRule { broken: true, late: false, statuses: vec![503], tries: 3 };

    fn repeat<'a>(rule: Option<&'a RetryRule>, method: &'a Method) -> Repeat<'a> {
        Repeat { rule, method, is_keyed: false, has_body_still: true, tries: 1 }
    }

    #[test]
    fn what_was_never_sent_is_always_tried_again_while_its_body_is_there() {
        let never = |repeat: Repeat<'_>| repeat.after(Ended::NeverSent);
        assert_eq!(never(repeat(None, &Method::POST)), Some(Reason::NeverSent));
        assert_eq!(
            never(Repeat { tries: 99, ..repeat(Some(&RULE()), &Method::POST) }),
            Some(Reason::NeverSent)
        );
        assert_eq!(never(Repeat { has_body_still: false, ..repeat(None, &Method::GET) }), None);
    }

    #[test]
    fn what_may_have_been_done_is_tried_again_only_where_the_route_says_so_and_twice_does_no_harm() {
        let rule = RULE();
        for ended in [Ended::Broken, Ended::Answered(503)] {
            assert_eq!(repeat(None, &Method::GET).after(ended), None, "{ended:?}");
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
                assert!(repeat(Some(&rule), &method).after(ended).is_some(), "{method} {ended:?}");
            }
            for method in [Method::POST, Method::PATCH, Method::CONNECT] {
                assert_eq!(repeat(Some(&rule), &method).after(ended), None, "{method} {ended:?}");
                let keyed = Repeat { is_keyed: true, ..repeat(Some(&rule), &method) };
                assert!(keyed.after(ended).is_some(), "{method} {ended:?}");
            }
        }
    }

    #[test]
    fn only_what_is_listed_is_tried_again_and_only_so_often() {
        let rule = RULE();
        let get = repeat(Some(&rule), &Method::GET);
        assert_eq!(get.after(Ended::Late), None);
        assert_eq!(get.after(Ended::Answered(500)), None);
        assert_eq!(get.after(Ended::Answered(503)), Some(Reason::Status));
        assert_eq!(Repeat { tries: 2, ..get }.after(Ended::Broken), Some(Reason::Broken));
        assert_eq!(Repeat { tries: 3, ..get }.after(Ended::Broken), None);
        assert_eq!(Repeat { has_body_still: false, ..get }.after(Ended::Broken), None);
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_and_some_a_second() {
        let (policy, now) = (RetryBudgetPolicy { percent: 20, per_second: 1 }, Instant::now());
        let mut budget = RetryBudget::default();
        assert_eq!((0..50).filter(|_| budget.spend(now, &policy)).count(), 10, "what is free in 10 s");
        for _ in 0..100 {
            budget.earn(now);
        }
        assert_eq!((0..50).filter(|_| budget.spend(now, &policy)).count(), 20);
        let later = now + Duration::from_secs(20);
        assert_eq!((0..50).filter(|_| budget.spend(later, &policy)).count(), 10, "what is old earns nothing");
    }

    proptest! {
        #[test]
        fn there_are_never_more_retries_than_the_share_and_the_floor(steps in prop::collection::vec(any::<bool>(), 0..500)) {
            let (policy, now) = (RetryBudgetPolicy::default(), Instant::now());
            let (mut budget, mut requests, mut retries) = (RetryBudget::default(), 0, 0);
            for is_request in steps {
                if is_request {
                    budget.earn(now);
                    requests += 1;
                } else if budget.spend(now, &policy) {
                    retries += 1;
                }
                prop_assert!(retries <= requests / 5 + 100);
            }
        }
    }
}
