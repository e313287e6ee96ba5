//! What is known of each service: where it is, how many calls are in flight, whether it answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::options::TransactionOptions;
use super::{Call, Outcome};
use crate::discovery::{Discovery, Endpoint};
use crate::txn::Operation;

/// Every service that takes part in transactions, by name.
pub struct Services {
    known: HashMap<String, Service>,
    discovery: Arc<dyn Discovery>,
}

/// One service.
pub struct Service {
    /// What the configuration says of it.
    pub options: TransactionOptions,
    /// Work and prepare calls in flight.
    asking: Arc<Semaphore>,
    /// Those that wait to be.
    waiting_to_ask: AtomicUsize,
    /// Commit and abort calls in flight: apart, so that new work never holds up what is decided.
    telling: Arc<Semaphore>,
    next_endpoint: AtomicUsize,
    is_silent: AtomicBool,
    recoveries: watch::Sender<u64>,
}

impl Services {
    /// The services of the configuration, with their endpoints from `discovery`.
    pub fn new(
        services: impl IntoIterator<Item = (String, TransactionOptions)>,
        discovery: Arc<dyn Discovery>,
    ) -> Self {
        let known = services.into_iter().map(|(name, options)| (name, Service::new(options))).collect();
        Self { known, discovery }
    }

    /// The service of this name; `None` where the configuration no longer has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.known.get(name)
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
            (Operation::Work, _) => self
                .get(call.service())
                .map_or(0, |service| service.next_endpoint.fetch_add(1, Ordering::Relaxed)),
            (Operation::Prepare | Operation::Commit | Operation::Abort, place) => {
                place.unwrap_or_default() + later
            }
        };
        endpoints.rotate_left(turn % count);
        endpoints
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
    fn new(options: TransactionOptions) -> Self {
        Self {
            asking: Arc::new(Semaphore::new(options.calls_max)),
            waiting_to_ask: AtomicUsize::new(0),
            telling: Arc::new(Semaphore::new(options.calls_max)),
            next_endpoint: AtomicUsize::new(0),
            is_silent: AtomicBool::new(false),
            recoveries: watch::Sender::new(0),
            options,
        }
    }

    /// Waits until one more call may be in flight.
    pub async fn permit(&self, operation: Operation) -> OwnedSemaphorePermit {
        let (limit, _waits) = match operation {
            Operation::Work | Operation::Prepare => {
                (&self.asking, Some(Waits::in_line(&self.waiting_to_ask)))
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
        self.waiting_to_ask.load(Ordering::Relaxed) >= 2 * self.options.calls_max
    }

    /// What came of one attempt: an answer, or something that says that it does not answer now.
    pub fn heard(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered { reply, .. } if reply.status < 500 => self.answers(),
            Outcome::Answered { .. } | Outcome::NeverSent | Outcome::Broken(_) | Outcome::Late => {
                self.is_silent.store(true, Ordering::Relaxed);
            }
        }
    }

    /// A call was answered; whoever waits for that is woken.
    pub fn answers(&self) {
        if self.is_silent.swap(false, Ordering::Relaxed) {
            self.recoveries.send_modify(|count| *count += 1);
        }
    }

    /// A counter that moves when the service answers again after it did not.
    #[must_use]
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }
}
