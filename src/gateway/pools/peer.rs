//! What is known of one instance. It goes by its address and stays for as long as that is known, whatever else is
//! configured or discovered meanwhile.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::balance::{Health, Outlier, OutlierPolicy, PeakEwma, Policy, hash, share};
use crate::discovery::Endpoint;

/// One instance.
#[derive(Debug)]
pub(in crate::gateway) struct Peer {
    pub(in crate::gateway) endpoint: Endpoint,
    pub(super) identity: u64,
    /// See `Candidate::turn`.
    pub(super) turn: AtomicI64,
    busy: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ewma: PeakEwma,
    health: Health,
    outlier: Outlier,
    /// When it came, or came back; `None`: it was there from the start.
    since: Option<Instant>,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It gets its share.
    Usable,
    /// Checks say that it is not well.
    Unhealthy,
    /// It failed too often and is left out for a while.
    Ejected,
}

/// How a try at an instance went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Went {
    /// It did what it is there for.
    Well,
    /// It said that it has too much to do (429). That is no failure, but no work either.
    Refused,
    /// It failed, or never answered.
    Failed,
}

/// A request is with an instance, until this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Busy(Arc<Peer>);

impl Peer {
    pub(super) fn new(endpoint: Endpoint, since: Option<Instant>) -> Self {
        let identity = hash(endpoint.as_str().as_bytes());
        let known = Known { since, ..Known::default() };
        Self {
            endpoint,
            identity,
            turn: AtomicI64::new(0),
            busy: AtomicUsize::new(0),
            known: Mutex::new(known),
        }
    }

    /// A request goes to it.
    pub(super) fn engage(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Requests that are with it.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// See [`PeakEwma::cost`].
    pub(super) fn latency_cost(&self, weight: f64, now: Instant) -> f64 {
        let busy = self.busy();
        self.with(|known| known.ewma.cost(busy, weight, now))
    }

    /// How it stands, and the part of its weight that it has.
    pub(super) fn standing(&self, policy: &Policy, now: Instant) -> (Standing, f64) {
        if policy.health.is_none() && policy.outlier.is_none() && policy.slow_start.is_none() {
            return (Standing::Usable, 1.0);
        }
        self.with(|known| (known.standing(policy, now), share(known.since, policy.slow_start, now)))
    }

    /// Whether it is ejected, whatever its checks say.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.with(|known| known.outlier.is_out(now))
    }

    /// It was away and is back.
    pub(super) fn came(&self, now: Instant) {
        self.with(|known| known.since = Some(now));
    }

    /// A try at it took so long and went so.
    pub(super) fn answered(&self, went: Went, took: Duration, now: Instant) {
        self.with(|known| match went {
            Went::Well => known.ewma.answered(took, now),
            Went::Refused | Went::Failed => known.ewma.failed(took, now),
        });
    }

    /// It failed or not. Says until when it is ejected, where this is the moment.
    pub(super) fn judged(
        &self,
        is_failure: bool,
        policy: &OutlierPolicy,
        now: Instant,
        may_be: impl FnOnce() -> bool,
    ) -> Option<Instant> {
        self.with(|known| {
            let until = known.outlier.answered(is_failure, now, policy, may_be)?;
            // It comes back slowly.
            known.since = Some(until);
            Some(until)
        })
    }

    /// A check of it was good or not. Says whether it is now taken for another than before.
    pub(super) fn checked(&self, is_good: bool, policy: &Policy, now: Instant) -> bool {
        self.with(|known| {
            let is_back = is_good && known.outlier.take_back(now);
            let health = policy.health.as_ref();
            let is_turned = health.is_some_and(|health| known.health.checked(is_good, health));
            if is_good && (is_back || is_turned) {
                known.since = Some(now);
            }
            is_back || is_turned
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// What nobody asks for any more does not count: checks or ejection that the configuration has given up.
    fn standing(&self, policy: &Policy, now: Instant) -> Standing {
        if policy.health.is_some() && self.health.is_ill() {
            Standing::Unhealthy
        } else if policy.outlier.is_some() && self.outlier.is_out(now) {
            Standing::Ejected
        } else {
            Standing::Usable
        }
    }
}

impl Busy {
    /// The instance.
    pub(in crate::gateway) fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
