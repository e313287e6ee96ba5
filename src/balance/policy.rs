//! What the configuration says of the calls to one service.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::clients::Speaks;

/// How one service is called. The default asks its instances in turn and does nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// What it speaks.
    pub speaks: Speaks,
    /// How an instance is chosen.
    pub choice: Choice,
    /// How long an instance that is new, or was away, gets less than its share.
    pub slow_start: Option<Duration>,
    /// Where less than this percent of the instances are usable, all of them are used. Default: 0, only where none is.
    pub panic_percent: u8,
    /// Whether the service does a request once however often it comes with the same `Idempotency-Key`.
    pub idempotent: bool,
    /// How instances are asked whether they are well.
    pub health: Option<HealthPolicy>,
    /// When an instance that fails is left out for a while.
    pub outlier: Option<OutlierPolicy>,
    /// When a service that fails is not asked for a while.
    pub breaker: Option<BreakerPolicy>,
    /// How many calls it may have before it, as learned from how long they take.
    pub limit: Option<LimitPolicy>,
    /// How many retries it may get.
    pub retries: RetryBudgetPolicy,
}

/// How an instance is chosen among those that are usable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// In turn, each as often as its weight says.
    #[default]
    RoundRobin,
    /// Of two that chance names, the one with fewer requests in flight.
    LeastRequest,
    /// Of two that chance names, the one that will probably answer first.
    Latency,
    /// Always the same for the same value, as long as it is usable.
    Hash(HashOn),
}

/// The value of a request that says where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A header field, by its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the route's path.
    Path(String),
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Path and query that are asked for with GET.
    pub path: String,
    /// From one check to the next. Default: 10 s.
    pub interval: Duration,
    /// The longest one may take. Default: 2 s.
    pub timeout: Duration,
    /// So many good ones in a row, and the instance is well. Default: 2.
    pub healthy: u16,
    /// So many bad ones in a row, and it is not. Default: 3.
    pub unhealthy: u16,
    /// Statuses of a good one. Default: 200 to 399.
    pub expect: Vec<RangeInclusive<u16>>,
}

/// When an instance is ejected: left out because of how it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// After so many failures in a row. Default: 5.
    pub consecutive: u32,
    /// Where this percent of its answers of a window are failures. Default: none.
    pub error_percent: Option<u8>,
    /// But only from so many answers in the window on. Default: 20.
    pub requests_min: u32,
    /// How far back is looked. Default: 10 s.
    pub window: Duration,
    /// How long it is left out the first time; each further time that much longer. Default: 30 s.
    pub base_time: Duration,
    /// And at most. Default: 5 min.
    pub max_time: Duration,
    /// The most instances, in percent, that may be left out so at once. Default: 50, so never the only one.
    pub max_percent: u8,
}

/// When a service as a whole is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Where this percent of the requests of a window failed. Default: 50.
    pub error_percent: u8,
    /// But only from so many requests in the window on. Default: 20.
    pub requests_min: u32,
    /// How far back is looked. Default: 10 s.
    pub window: Duration,
    /// How long nothing is sent; doubled where it has not recovered by then. Default: 5 s.
    pub open: Duration,
    /// And at most. Default: 1 min.
    pub open_max: Duration,
    /// Over how long a time the share of requests that are sent grows again from nothing to all. Default: 10 s.
    pub ramp: Duration,
}

/// The bounds of a limit that learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Calls in flight before anything is learned. Default: 20.
    pub initial: u32,
    /// It never falls below. Default: 4.
    pub min: u32,
    /// It never rises above. Default: 1000.
    pub max: u32,
}

/// How many retries a service may get, as a share of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryBudgetPolicy {
    /// In percent of the requests of the last 10 s. Default: 20.
    pub percent: u8,
    /// And so many a second on top, so that a service with few requests has some. Default: 10.
    pub per_second: u32,
}

impl Default for RetryBudgetPolicy {
    fn default() -> Self {
        Self { percent: 20, per_second: 10 }
    }
}

impl HealthPolicy {
    /// Checks of `path`.
    #[must_use]
    pub fn of(path: String) -> Self {
        Self {
            path,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
            expect: vec![200..=399],
        }
    }
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive: 5,
            error_percent: None,
            requests_min: 20,
            window: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_mins(5),
            max_percent: 50,
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            error_percent: 50,
            requests_min: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
            ramp: Duration::from_secs(10),
        }
    }
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { initial: 20, min: 4, max: 1000 }
    }
}
