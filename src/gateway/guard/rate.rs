//! How often a route may be asked: GCRA, the leaky bucket as a meter (ITU-T I.371), by `governor`.
//!
//! What is counted is counted on this node: with three nodes behind a balancer a client gets up to three times the rate.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Guards;
use crate::gateway::caller::Caller;

/// So many clients are told from each other in one limit. Each costs some hundred bytes, and anybody can be many.
const KEYS_MAX: usize = 100_000;

/// After so many questions, those that have their whole room again are forgotten.
const TIDY_EVERY: usize = 1 << 14;

/// How often may somebody ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// So many requests ..
    pub requests: NonZeroU32,
    /// .. in this time, evenly.
    pub per: Duration,
    /// So many may come at once. Default: `requests`.
    pub burst: NonZeroU32,
    /// Who has a limit of their own.
    pub by: By,
}

/// Who has a limit of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Each client, by address; of IPv6 by the 64 bits that one customer mostly gets.
    Client,
    /// Each value of this field; those who do not have it share one.
    Header(HeaderName),
    /// Nobody: all requests to the route share it.
    Route,
}

/// All limits of a node. What was counted outlives a reload that leaves a limit as it is.
#[derive(Default)]
pub struct Limiters(Mutex<HashMap<Place, (Rate, Arc<Limiter>)>>);

/// A route, and which of its limits.
type Place = (String, usize);

/// One limit, and what was counted.
pub(super) struct Limiter {
    counted: RateLimiter<Key, DefaultKeyedStateStore<Key>, DefaultClock, StateInformationMiddleware>,
    /// How long one request takes to be forgotten.
    every: Duration,
    burst: u32,
    questions: AtomicUsize,
    hasher: RandomState,
}

/// Whose limit, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Some {
        /// So many more could come at once.
        left: u32,
        /// Until it is as much as ever.
        whole: Duration,
    },
    None {
        /// Until one more may come.
        wait: Duration,
    },
}

impl Rate {
    /// Whose limit a request counts in.
    pub(super) fn asker<'a>(&self, client: &Caller, headers: &'a HeaderMap) -> Asker<'a> {
        match &self.by {
            By::Client => Asker::Address(client.address),
            By::Header(name) => Asker::Value(headers.get(name).map(HeaderValue::as_bytes)),
            By::Route => Asker::Anybody,
        }
    }

    /// An item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub(super) fn policy(&self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.requests, seconds(self.per))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker<'a> {
    Address(IpAddr),
    Value(Option<&'a [u8]>),
    Anybody,
}

impl Limiters {
    /// The limit of a route with this number.
    pub(super) fn of(&self, route: &str, number: usize, rate: &Rate) -> Arc<Limiter> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (route.to_owned(), number);
        match known.get(&place) {
            Some((same, limiter)) if same == rate => limiter.clone(),
            Some(_) | None => {
                let limiter = Arc::new(Limiter::new(rate));
                known.insert(place, (rate.clone(), limiter.clone()));
                limiter
            }
        }
    }

    /// Forgets the limits that this configuration does not have.
    pub(super) fn keep(&self, guards: &BTreeMap<String, Guards>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(route, number), _| {
            guards.get(route).is_some_and(|guards| *number < guards.rates.len())
        });
    }
}

impl Limiter {
    fn new(rate: &Rate) -> Self {
        let every = (rate.per / rate.requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(every).expect("it is more than nothing").allow_burst(rate.burst);
        Self {
            counted: RateLimiter::dashmap(quota).with_middleware(),
            every,
            burst: rate.burst.get(),
            questions: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    /// Counts one request, unless there is no room for it.
    pub(super) fn ask(&self, asker: Asker<'_>) -> Room {
        if self.questions.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.counted.retain_recent();
            self.counted.shrink_to_fit();
        }
        match self.counted.check_key(&self.key(asker)) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                Room::Some { left, whole: self.every * self.burst.saturating_sub(left) }
            }
            Err(not_until) => Room::None { wait: not_until.wait_time_from(DefaultClock::default().now()) },
        }
    }

    /// Where there are too many to tell apart, whole networks count as one.
    fn key(&self, asker: Asker<'_>) -> Key {
        let is_crowded = self.counted.len() >= KEYS_MAX;
        Key(match asker {
            Asker::Anybody => 0,
            Asker::Address(IpAddr::V4(address)) => {
                let bits = u128::from(address.to_bits());
                if is_crowded { 1 << 96 | bits >> 16 } else { 2 << 96 | bits }
            }
            Asker::Address(IpAddr::V6(address)) => {
                let bits = address.to_bits();
                if is_crowded { 3 << 96 | bits >> 112 } else { bits >> 64 | 4 << 96 }
            }
            Asker::Value(None) => 5 << 96,
            Asker::Value(Some(value)) => {
                let hash = u128::from(self.hasher.hash_one(value));
                6 << 96 | if is_crowded { hash & 0xffff } else { hash }
            }
        })
    }
}

impl Room {
    /// An item of `RateLimit`.
    pub(super) fn field(self, name: &str) -> String {
        match self {
            Self::Some { left, whole } => format!("\"{name}\";r={left};t={}", seconds(whole)),
            Self::None { wait } => format!("\"{name}\";r=0;t={}", seconds(wait)),
        }
    }
}

/// Whole seconds, and not too few of them.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, per: u64, burst: u32) -> Rate {
        let number = |number| NonZeroU32::new(number).unwrap();
        let (requests, burst) = (number(requests), number(burst));
        Rate { requests, per: Duration::from_secs(per), burst, by: By::Client }
    }

    fn from(address: &str) -> Asker<'static> {
        Asker::Address(address.parse().unwrap())
    }

    #[test]
    fn each_client_has_a_limit_of_its_own_and_those_of_one_network_of_ipv6_share_one() {
        let limiter = Limiter::new(&rate(2, 60, 2));
        assert_eq!(limiter.ask(from("192.0.2.1")), Room::Some { left: 1, whole: Duration::from_secs(30) });
        assert!(matches!(limiter.ask(from("192.0.2.1")), Room::Some { left: 0, .. }));
        let Room::None { wait } = limiter.ask(from("192.0.2.1")) else { panic!("it had its two") };
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
        assert!(matches!(limiter.ask(from("192.0.2.2")), Room::Some { left: 1, .. }));
        assert!(matches!(limiter.ask(from("2001:db8::1")), Room::Some { left: 1, .. }));
        assert!(matches!(limiter.ask(from("2001:db8::2")), Room::Some { left: 0, .. }));
        assert!(matches!(limiter.ask(from("2001:db8:0:1::1")), Room::Some { left: 1, .. }));
    }

    #[test]
    fn however_many_come_no_more_are_remembered_than_there_is_room_for() {
        let limiter = Limiter::new(&rate(1, 3_600, 1));
        for number in 0..250_000_u32 {
            limiter.ask(Asker::Address(IpAddr::V4(number.reverse_bits().into())));
        }
        assert!(limiter.counted.len() <= KEYS_MAX + (1 << 16), "{}", limiter.counted.len());
    }

    #[test]
    fn what_was_counted_outlives_a_configuration_that_leaves_the_limit_as_it_is() {
        let limiters = Limiters::default();
        let (same, other) = (rate(1, 60, 1), rate(2, 60, 2));
        let first = limiters.of("r", 0, &same);
        assert!(Arc::ptr_eq(&first, &limiters.of("r", 0, &same)));
        assert!(!Arc::ptr_eq(&first, &limiters.of("r", 0, &other)));
        limiters.keep(&BTreeMap::new());
        assert!(limiters.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_fields_are_those_of_the_draft() {
        assert_eq!(rate(100, 60, 20).policy("default"), "\"default\";q=100;w=60");
        let room = Room::Some { left: 50, whole: Duration::from_millis(29_100) };
        assert_eq!(room.field("default"), "\"default\";r=50;t=30");
        assert_eq!(Room::None { wait: Duration::from_secs(3) }.field("x"), "\"x\";r=0;t=3");
    }
}
