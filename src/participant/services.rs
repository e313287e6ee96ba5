//! What is known of each service: where it is, how many calls are in flight, whether it answers.
//!
//! A new configuration replaces what is said of a service and keeps what was learned of it. A service that is in the
//! configuration no longer is kept for as long as somebody says that it is needed: transactions that are open with it
//! are finished where they began.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::options::TransactionOptions;
use super::{Call, Outcome};
use crate::discovery::{Discovery, Endpoint};
use crate::txn::Operation;

/// Every service that takes part in transactions, by name.
pub struct Services {
    known: RwLock<HashMap<String, Arc<Service>>>,
}

/// One service.
pub struct Service {
    /// What the configuration says of it.
    pub options: TransactionOptions,
    discovery: Arc<dyn Discovery>,
    /// Work and prepare calls in flight.
    asking: Arc<Semaphore>,
    /// Commit and abort calls in flight: apart, so that new work never holds up what is decided.
    telling: Arc<Semaphore>,
    learned: Arc<Learned>,
    /// Ends the task that wakes those who wait for it, where it may be found somewhere else.
    _waking: Option<DropGuard>,
}

/// What is known of a service, whatever is said of it.
struct Learned {
    /// Work and prepare calls that wait to be in flight.
    waiting_to_ask: AtomicUsize,
    next_endpoint: AtomicUsize,
    is_silent: AtomicBool,
    recoveries: watch::Sender<u64>,
}

impl Services {
    /// The services of the configuration, with their instances from `discovery`.
    pub fn new(
        services: impl IntoIterator<Item = (String, TransactionOptions)>,
        discovery: &Arc<dyn Discovery>,
    ) -> Self {
        let known = Self { known: RwLock::default() };
        known.replace(services, discovery, |_| false);
        known
    }

    /// The service of this name; `None` where neither the configuration has it nor an open transaction needs it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes over another configuration. Those that it does not have stay as they are where they are `needed`.
    pub fn replace(
        &self,
        services: impl IntoIterator<Item = (String, TransactionOptions)>,
        discovery: &Arc<dyn Discovery>,
        needed: impl Fn(&str) -> bool,
    ) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for (name, options) in services {
            let before = before.remove(&name);
            let service = Service::after(&name, before.as_deref(), options, discovery.clone());
            if before.is_some_and(|before| before.discovery.instances(&name) != discovery.instances(&name)) {
                service.learned.moved();
            }
            known.insert(name, Arc::new(service));
        }
        known.extend(before.into_iter().filter(|(name, _)| needed(name)));
    }

    /// Adds services that the configuration does not have, but an open transaction.
    pub fn add(
        &self,
        services: impl IntoIterator<Item = (String, TransactionOptions)>,
        discovery: &Arc<dyn Discovery>,
    ) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (name, options) in services {
            let service = Service::after(&name, None, options, discovery.clone());
            known.entry(name).or_insert_with(|| Arc::new(service));
        }
    }
}

/// One that waits for its place, until this is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn in_line(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// A service of which `before` was known.
    fn after(
        name: &str,
        before: Option<&Self>,
        options: TransactionOptions,
        discovery: Arc<dyn Discovery>,
    ) -> Self {
        let limit = |before: fn(&Self) -> &Arc<Semaphore>, service: Option<&Self>| {
            let same = service.filter(|service| service.options.calls_max == options.calls_max);
            // Those who are in flight under another limit do not count in this one: for their while there may be more.
            same.map_or_else(
                || Arc::new(Semaphore::new(options.calls_max)),
                |service| before(service).clone(),
            )
        };
        let learned = before.map_or_else(Arc::default, |service| service.learned.clone());
        let waking = discovery.changes(name).map(|changes| {
            let token = CancellationToken::new();
            let waking = wake(learned.clone(), changes);
            TaskTracker::new().spawn(token.clone().run_until_cancelled_owned(waking));
            token.drop_guard()
        });
        Self {
            asking: limit(|service| &service.asking, before),
            telling: limit(|service| &service.telling, before),
            learned,
            _waking: waking,
            discovery,
            options,
        }
    }

    /// The endpoints to try for one attempt at `call`, in order. Work goes to each in turn. What follows goes to the one
    /// that was asked to work, and from attempt to attempt to another, so that one that is gone for good is not
    /// asked for ever.
    #[must_use]
    pub fn endpoints(&self, call: &Call) -> Vec<Endpoint> {
        let instances = self.discovery.instances(call.service());
        let mut endpoints: Vec<_> = instances.iter().map(|instance| instance.endpoint.clone()).collect();
        let count = endpoints.len().max(1);
        let later = usize::try_from(call.attempt.saturating_sub(1)).unwrap_or_default();
        let place =
            call.endpoint.as_ref().and_then(|first| endpoints.iter().position(|other| other == first));
        let turn = match (call.operation, place) {
            (Operation::Work, _) => self.learned.next_endpoint.fetch_add(1, Ordering::Relaxed),
            (Operation::Prepare | Operation::Commit | Operation::Abort, place) => {
                place.unwrap_or_default() + later
            }
        };
        endpoints.rotate_left(turn % count);
        endpoints
    }

    /// Waits until one more call may be in flight.
    pub async fn permit(&self, operation: Operation) -> OwnedSemaphorePermit {
        let (limit, _waits) = match operation {
            Operation::Work | Operation::Prepare => {
                (&self.asking, Some(Waits::in_line(&self.learned.waiting_to_ask)))
            }
            Operation::Commit | Operation::Abort => (&self.telling, None),
        };
        limit.clone().acquire_owned().await.expect("nothing closes the limits of a service")
    }

    /// Whether so many calls wait to be made that new work had better not be begun: twice those that may be in flight. Each
    /// round of calls then waits for two others at most; in a longer line the service would do work, as fast as it can, whose
    /// deadline has passed by the time it is to vote.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.learned.waiting_to_ask.load(Ordering::Relaxed) >= 2 * self.options.calls_max
    }

    /// What came of one attempt: an answer, or something that says that it does not answer now.
    pub fn heard(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered { reply, .. } if reply.status < 500 => self.answers(),
            Outcome::Answered { .. } | Outcome::NeverSent | Outcome::Broken(_) | Outcome::Late => {
                self.learned.is_silent.store(true, Ordering::Relaxed);
            }
        }
    }

    /// A call was answered; whoever waits for that is woken.
    pub fn answers(&self) {
        if self.learned.is_silent.swap(false, Ordering::Relaxed) {
            self.learned.recoveries.send_modify(|count| *count += 1);
        }
    }

    /// A counter that moves when the service answers again after it did not, or is somewhere else.
    #[must_use]
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.learned.recoveries.subscribe()
    }
}

impl Learned {
    /// It is somewhere else now. Whoever waits for it is woken, and also who is just asking, in vain, where it was: a commit
    /// that nobody could be told of is not to wait for its next turn.
    fn moved(&self) {
        self.recoveries.send_modify(|count| *count += 1);
    }
}

async fn wake(learned: Arc<Learned>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        learned.moved();
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            waiting_to_ask: AtomicUsize::new(0),
            next_endpoint: AtomicUsize::new(0),
            is_silent: AtomicBool::new(false),
            recoveries: watch::Sender::new(0),
        }
    }
}
