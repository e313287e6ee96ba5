//! What is known of the services that requests are forwarded to. It outlives any one configuration.
//!
//! ```text
//!  Pools ─┬─ Pool "accounts" ─┬─ Members ─┬─ Peer http://10.0.0.1:80   latency, failures, health, requests in flight
//!         │                   │           └─ Peer http://10.0.0.2:80
//!         │                   └─ breaker, limit, budget of retries
//!         ├─ Pool "ledger" ..
//!         └─ Checks: one task an instance that is to be checked
//! ```
//!
//! A node makes it once. Each configuration has a gateway of its own, and all of them use these; `configure` says
//! what is to hold from now on. A service goes by its name and an instance by its address: what is known of those
//! that remain stays (Kong#7835).

mod checks;
mod members;
mod peer;
mod pool;
mod reading;
mod round;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

pub use peer::Standing;
pub(super) use peer::{Busy, Went};
pub(super) use pool::{Pool, Shed, Slot};
pub use reading::{InstanceReading, Reading};
pub(super) use round::Round;

use crate::balance::Policy;
use crate::clients::Forwarders;
use crate::discovery::Discovery;
use checks::Checks;

/// All services.
#[derive(Debug)]
pub struct Pools {
    pools: RwLock<BTreeMap<String, Arc<Pool>>>,
    checks: Checks,
}

impl Pools {
    /// Services of which nothing is known. Calls and health checks go out by `clients`.
    #[must_use]
    pub fn new(clients: Forwarders) -> Arc<Self> {
        Arc::new(Self { pools: RwLock::default(), checks: Checks::new(clients) })
    }

    /// From now on there are these services, called so, with these instances. What is known of those that were there
    /// before stays; the others are forgotten. Has to be called within a runtime, where checks can run.
    pub fn configure(
        self: &Arc<Self>,
        policies: impl IntoIterator<Item = (String, Policy)>,
        discovery: Arc<dyn Discovery>,
    ) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *pools);
        for (service, policy) in policies {
            let policy = Arc::new(policy);
            let pool = match old.remove(&service) {
                Some(pool) => {
                    pool.configure(&policy);
                    pool
                }
                None => Arc::new(Pool::new(&service, policy)),
            };
            pools.insert(service, pool);
        }
        drop(pools);
        self.checks.follow(self, discovery);
    }

    /// The clients that calls go out by.
    pub(super) fn clients(&self) -> &Forwarders {
        self.checks.clients()
    }

    /// One service. One that nobody has configured is asked in turn and nothing else.
    pub(super) fn pool(&self, service: &str) -> Arc<Pool> {
        let known = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        known.unwrap_or_else(|| Arc::new(Pool::new(service, Arc::default())))
    }

    /// What is to be seen of each service, in the order of their names.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let now = now();
        self.all().iter().map(|pool| pool.reading(now)).collect()
    }

    /// How many instances are being checked.
    #[must_use]
    pub fn checks_running(&self) -> usize {
        self.checks.running()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The time, as the runtime has it: a test can stop it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
