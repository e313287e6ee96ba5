//! What is to be seen of a service: for metrics, and for nothing that decides.

use super::peer::Standing;
use crate::balance::{BreakerState, Reason};
use crate::discovery::Endpoint;

/// One service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub service: String,
    /// Its instances, in the order of discovery.
    pub instances: Vec<InstanceReading>,
    /// Whether so few of them are usable that all are used.
    pub is_panic: bool,
    /// What its breaker does; closed where it has none.
    pub breaker: BreakerState,
    /// How many calls it may have, where that is limited.
    pub limit: Option<u32>,
    /// Retries so far, in the order of [`Reason::ALL`].
    pub retries: [u64; Reason::ALL.len()],
    /// Requests that its breaker refused.
    pub shed_by_breaker: u64,
    /// Requests that its limit refused.
    pub shed_by_limit: u64,
}

/// One instance as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReading {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether it gets requests.
    pub standing: Standing,
    /// Requests that are with it.
    pub busy: usize,
}
