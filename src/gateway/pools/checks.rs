//! Active health checks: one task an instance, for as long as discovery knows the instance and its service wants checks.
//!
//! One task more follows discovery. It ends when the pools are dropped, and all checks with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::body::Body;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Uri};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::peer::Peer;
use super::pool::{Pool, lock};
use super::{Pools, now};
use crate::balance::HealthPolicy;
use crate::clients::{Forwarder, Forwarders, Speaks};
use crate::discovery::{Discovery, Endpoint};

/// How often discovery is looked at. It answers from memory, and requests look at it too.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The first checks of all instances are spread over this time, or over one interval where that is shorter: not all at
/// once, and yet soon, because until then every instance is taken to be well.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// What a backend's log shows of who asks.
const WHO: HeaderValue = HeaderValue::from_static("unanimous-health-check");

/// The checks that run.
pub(super) struct Checks {
    clients: Forwarders,
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    discovery: Option<Arc<dyn Discovery>>,
    follows: bool,
    of: HashMap<(String, Endpoint), Check>,
}

struct Check {
    policy: HealthPolicy,
    speaks: Speaks,
    /// Two checks of one address are not the same where the instance was forgotten in between.
    peer: Arc<Peer>,
    task: AbortHandle,
}

impl Checks {
    pub(super) fn new(clients: Forwarders) -> Self {
        Self { clients, tracker: TaskTracker::new(), running: Mutex::default() }
    }

    pub(super) fn clients(&self) -> &Forwarders {
        &self.clients
    }

    /// From now on the instances are those that `discovery` says.
    pub(super) fn follow(&self, pools: &Arc<Pools>, discovery: Arc<dyn Discovery>) {
        let mut running = lock(&self.running);
        running.discovery = Some(discovery);
        if !std::mem::replace(&mut running.follows, true) {
            let pools = Arc::downgrade(pools);
            self.tracker.spawn(look_after(pools));
        }
    }

    pub(super) fn running(&self) -> usize {
        lock(&self.running).of.values().filter(|check| !check.task.is_finished()).count()
    }

    /// Begins the checks that are wanted and ends those that are not.
    fn match_to(&self, pools: &[Arc<Pool>]) {
        let mut running = lock(&self.running);
        let Some(discovery) = running.discovery.clone() else { return };
        let mut old = std::mem::take(&mut running.of);
        for pool in pools {
            // Also without checks: so instances that come and go are noticed while nobody asks for them.
            let members = pool.members(discovery.instances(pool.service()), now());
            let Some(policy) = pool.policy().health.clone() else { continue };
            for peer in members.list.iter().map(|member| &member.peer) {
                let key = (pool.service().to_owned(), peer.endpoint.clone());
                let speaks = pool.policy().speaks;
                let is_same = |check: &Check| {
                    check.policy == policy && check.speaks == speaks && Arc::ptr_eq(&check.peer, peer)
                };
                let check = match old.remove(&key) {
                    Some(check) if is_same(&check) => check,
                    Some(_) | None => self.begin(pool, peer, &policy),
                };
                running.of.insert(key, check);
            }
        }
    }

    fn begin(&self, pool: &Arc<Pool>, peer: &Arc<Peer>, policy: &HealthPolicy) -> Check {
        let (policy, peer) = (policy.clone(), peer.clone());
        let speaks = pool.policy().speaks;
        let client = self.clients.of(speaks).clone();
        let task = check(client, pool.clone(), peer.clone(), policy.clone());
        let task = self.tracker.spawn(task).abort_handle();
        Check { policy, speaks, peer, task }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks").field("running", &self.running()).finish_non_exhaustive()
    }
}

/// Follows discovery until the pools are gone.
async fn look_after(pools: Weak<Pools>) {
    while let Some(pools) = pools.upgrade() {
        pools.checks.match_to(&pools.all());
        drop(pools);
        sleep(LOOK_EVERY).await;
    }
}

/// Checks one instance until it is aborted.
async fn check(client: Forwarder, pool: Arc<Pool>, peer: Arc<Peer>, policy: HealthPolicy) {
    let Ok(url) = Uri::try_from(format!("{}{}", peer.endpoint, policy.path)) else {
        // The configuration has checked both parts.
        return;
    };
    sleep(policy.interval.min(FIRST_WITHIN).mul_f64(fastrand::f64())).await;
    loop {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = url.clone();
        request.headers_mut().insert(USER_AGENT, WHO);
        let answer = timeout(policy.timeout, client.request(request)).await;
        let status = answer.ok().and_then(Result::ok).map(|answer| answer.status().as_u16());
        let is_good = status.is_some_and(|status| policy.expect.iter().any(|fine| fine.contains(&status)));
        pool.checked(&peer, is_good, now());
        // Many gateways that were started together do not go on checking together.
        sleep(policy.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}
