//! All that is known of one service: its instances, whether it is asked at all, and how much more it may get.
//!
//! Each lock here is of one service or one instance, and held for some tens of nanoseconds, never across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::members::{Member, Members};
use super::now;
use super::peer::{Peer, Standing, Went};
use super::reading::{InstanceReading, Reading};
use super::round::Round;
use crate::balance::{Breaker, BreakerState, Limit, LimitPolicy, OutlierPolicy, Policy, Reason, RetryBudget};
use crate::discovery::Instance;
use crate::gateway::Seldom;

/// One service.
#[derive(Debug)]
pub(in crate::gateway) struct Pool {
    service: String,
    policy: RwLock<Arc<Policy>>,
    members: RwLock<Arc<Members>>,
    /// Held while somebody's turn is found.
    pub(super) turns: Mutex<()>,
    /// Held while an instance may be ejected, so that two do not each see room under the cap.
    ejecting: Mutex<()>,
    breaker: Mutex<Breaker>,
    limit: Mutex<Option<Arc<Mutex<Limit>>>>,
    budget: Mutex<RetryBudget>,
    retries: [AtomicU64; Reason::ALL.len()],
    shed_by_breaker: AtomicU64,
    shed_by_limit: AtomicU64,
    /// What the log was told of it.
    pub(in crate::gateway) seldom: Seldom,
}

/// Why a service is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Shed {
    /// Its breaker is open, and worth a new attempt after this time.
    Breaker(Duration),
    /// It has as many calls as it can do.
    Limit,
}

/// A place among the calls that a service has; given back when this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Slot {
    /// The limit that it was taken from, and its bounds; a reload may have put another in its place.
    limited: Option<(Arc<Mutex<Limit>>, LimitPolicy)>,
    took: Option<Duration>,
}

impl Pool {
    pub(super) fn new(service: &str, policy: Arc<Policy>) -> Self {
        Self {
            service: service.to_owned(),
            policy: RwLock::new(policy),
            members: RwLock::default(),
            turns: Mutex::default(),
            ejecting: Mutex::default(),
            breaker: Mutex::default(),
            limit: Mutex::default(),
            budget: Mutex::default(),
            retries: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            shed_by_breaker: AtomicU64::new(0),
            shed_by_limit: AtomicU64::new(0),
            seldom: Seldom::default(),
        }
    }

    pub(in crate::gateway) fn service(&self) -> &str {
        &self.service
    }

    /// How the service is called.
    pub(in crate::gateway) fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is called so. What is known stays, but for a breaker that counted by other measures.
    pub(super) fn configure(&self, policy: &Arc<Policy>) {
        let mut held = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *held, policy.clone());
        drop(held);
        if before.breaker != policy.breaker {
            *lock(&self.breaker) = Breaker::default();
        }
        if policy.limit.is_none() {
            *lock(&self.limit) = None;
        }
    }

    /// The instances as discovered, with what is known of each.
    pub(in crate::gateway) fn members(&self, instances: Arc<[Instance]>, now: Instant) -> Arc<Members> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).clone();
        if members.are(&instances) {
            return members;
        }
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        *members = Arc::new(members.become_these(instances, now));
        members.clone()
    }

    /// Whether one of these instances, at least, is well.
    pub(in crate::gateway) fn can_be_called(&self, instances: Arc<[Instance]>, now: Instant) -> bool {
        let (members, policy) = (self.members(instances, now), self.policy());
        members.list.iter().any(|member| member.peer.standing(&policy, now).0 == Standing::Usable)
    }

    /// Lets a request in, or says why not. `chance` is from 0 to 1.
    pub(in crate::gateway) fn enter(&self, now: Instant, chance: f64) -> Result<Slot, Shed> {
        let policy = self.policy();
        if let Some(policy) = &policy.breaker
            && let Err(after) = lock(&self.breaker).pass(now, chance, policy)
        {
            self.shed_by_breaker.fetch_add(1, Ordering::Relaxed);
            return Err(Shed::Breaker(after));
        }
        let limited = policy.limit.clone().map(|policy| (self.limit(&policy), policy));
        if let Some((limit, policy)) = &limited
            && !lock(limit).take(policy)
        {
            self.shed_by_limit.fetch_add(1, Ordering::Relaxed);
            return Err(Shed::Limit);
        }
        lock(&self.budget).earn(now);
        Ok(Slot { limited, took: None })
    }

    /// A request that was let in is over; `is_failure`: whether the service is to blame.
    pub(in crate::gateway) fn outcome(&self, is_failure: bool, now: Instant) {
        if let Some(policy) = &self.policy().breaker
            && lock(&self.breaker).outcome(is_failure, now, policy)
        {
            let service = &self.service;
            tracing::warn!(service, "too many requests to this service fail: it is not asked for a while");
        }
    }

    /// One try at one of its instances took so long and went so. One that went well is judged when its answer is whole.
    pub(in crate::gateway) fn tried(&self, peer: &Arc<Peer>, went: Went, took: Duration, now: Instant) {
        peer.answered(went, took, now);
        match went {
            Went::Well => {}
            Went::Refused | Went::Failed => self.judged(peer, went == Went::Failed, now),
        }
    }

    /// One of its instances failed or not.
    pub(in crate::gateway) fn judged(&self, peer: &Arc<Peer>, is_failure: bool, now: Instant) {
        let policy = self.policy();
        let Some(watched) = &policy.outlier else { return };
        let _ejecting = is_failure.then(|| lock(&self.ejecting));
        // Before the lock of the instance, which whoever changes the members takes last.
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).clone();
        let may_be = || has_room_beside(peer, &members, watched, now);
        if let Some(until) = peer.judged(is_failure, watched, now, may_be) {
            let (service, seconds) = (&self.service, (until - now).as_secs());
            let (usable, instances) = self.usable(now);
            tracing::warn!(
                service,
                usable,
                instances,
                seconds,
                "an instance fails too often and is left out"
            );
            tracing::debug!(service, endpoint = %peer.endpoint, "it is this one");
        }
    }

    /// An instance was checked.
    pub(super) fn checked(&self, peer: &Peer, is_good: bool, now: Instant) {
        if peer.checked(is_good, &self.policy(), now) {
            let (service, (usable, instances)) = (&self.service, self.usable(now));
            if is_good {
                tracing::info!(service, usable, instances, "an instance is well again");
            } else {
                tracing::warn!(service, usable, instances, "an instance is not well, as its checks say");
            }
            tracing::debug!(service, endpoint = %peer.endpoint, "it is this one");
        }
    }

    /// How many of its instances are usable, and how many there are. The log says that in place of an address.
    fn usable(&self, now: Instant) -> (usize, usize) {
        let (members, policy) =
            (self.members.read().unwrap_or_else(PoisonError::into_inner).clone(), self.policy());
        let is_usable = |member: &&Member| member.peer.standing(&policy, now).0 == Standing::Usable;
        (members.list.iter().filter(is_usable).count(), members.list.len())
    }

    /// Whether there is budget for one more retry; what was never sent needs none.
    pub(in crate::gateway) fn may_retry(&self, reason: Reason, now: Instant) -> bool {
        match reason {
            Reason::NeverSent => true,
            Reason::Broken | Reason::Late | Reason::Status => {
                lock(&self.budget).spend(now, &self.policy().retries)
            }
        }
    }

    /// Another try is made.
    pub(in crate::gateway) fn retried(&self, reason: Reason) {
        if let Some(count) = self.retries.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is to be seen of it now.
    pub(super) fn reading(&self, now: Instant) -> Reading {
        let policy = self.policy();
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner).clone();
        let instances: Vec<InstanceReading> = members
            .list
            .iter()
            .map(|member| InstanceReading {
                endpoint: member.peer.endpoint.clone(),
                standing: member.peer.standing(&policy, now).0,
                busy: member.peer.busy(),
            })
            .collect();
        let of_breaker = |policy| lock(&self.breaker).state(now, policy);
        let limit = policy.limit.as_ref().map(|policy| lock(&self.limit(policy)).now(policy));
        Reading {
            service: self.service.clone(),
            is_panic: Round::is_panic(&members, &policy, now),
            instances,
            breaker: policy.breaker.as_ref().map_or(BreakerState::Closed, of_breaker),
            limit,
            retries: self.retries.each_ref().map(|count| count.load(Ordering::Relaxed)),
            shed_by_breaker: self.shed_by_breaker.load(Ordering::Relaxed),
            shed_by_limit: self.shed_by_limit.load(Ordering::Relaxed),
        }
    }

    fn limit(&self, policy: &LimitPolicy) -> Arc<Mutex<Limit>> {
        let new = || Arc::new(Mutex::new(Limit::new(policy)));
        lock(&self.limit).get_or_insert_with(new).clone()
    }
}

impl Slot {
    /// The answer took this long.
    pub(in crate::gateway) fn took(&mut self, took: Duration) {
        self.took = Some(took);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((limit, policy)) = &self.limited {
            lock(limit).give(self.took, now(), policy);
        }
    }
}

/// Whether one more may be ejected, `peer` being looked at. Its own lock is held meanwhile; `ejecting` sees to it that
/// nobody else holds one lock and waits for another.
fn has_room_beside(peer: &Arc<Peer>, members: &Members, policy: &OutlierPolicy, now: Instant) -> bool {
    let others = members.list.iter().filter(|member| !Arc::ptr_eq(&member.peer, peer));
    let out = others.filter(|member| member.peer.is_ejected(now)).count();
    (out + 1) * 100 <= members.list.len() * usize::from(policy.max_percent)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
