//! Which instance of a service is asked, whether it is asked at all, and whether again: as values and functions.
//!
//! ```text
//!  request ─► breaker ─► limit ─► choose ─► a try at one instance ─► its outcome ─┬─► ewma, outlier, health
//!                                   ▲                                             │
//!                                   └────────────── retry, within its budget ◄────┘
//! ```
//!
//! It has no clock and no chance of its own, and does no I/O: the time comes in as `now`, chance as a
//! function that gives a number from 0 to 1. `gateway` keeps these values and makes the calls.
//!
//! It is *not* for transactions: a prepare, a commit or an abort has to reach its service whatever is
//! thought of it here, and has a policy of its own (`participant`). `tests/tidy.rs` holds that neither
//! `participant` nor `coordinator` knows of this module.

mod breaker;
mod choose;
mod ewma;
mod health;
mod limit;
mod outlier;
mod policy;
mod rendezvous;
mod retry;
mod slow_start;
mod window;

pub use breaker::{Breaker, BreakerState};
pub use choose::{Candidate, choose};
pub use ewma::PeakEwma;
pub use health::Health;
pub use limit::Limit;
pub use outlier::Outlier;
pub use policy::{
    BreakerPolicy, Choice, HashOn, HealthPolicy, LimitPolicy, OutlierPolicy, Policy, RetryBudgetPolicy,
};
pub use rendezvous::hash;
pub use retry::{Ended, Reason, Repeat, RetryBudget, RetryRule, is_harmless};
pub use slow_start::share;
