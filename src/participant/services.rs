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
        let mut endpoints = self.discovery.endpoints(call.service()).to_vec();
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

impl Service {
    fn new(options: TransactionOptions) -> Self {
        Self {
            asking: Arc::new(Semaphore::new(options.calls_max)),
            telling: Arc::new(Semaphore::new(options.calls_max)),
            next_endpoint: AtomicUsize::new(0),
            is_silent: AtomicBool::new(false),
            recoveries: watch::Sender::new(0),
            options,
        }
    }

    /// Waits until one more call may be in flight.
    pub async fn permit(&self, operation: Operation) -> OwnedSemaphorePermit {
        let limit = match operation {
            Operation::Work | Operation::Prepare => &self.asking,
            Operation::Commit | Operation::Abort => &self.telling,
        };
        limit.clone().acquire_owned().await.expect("nothing closes the limits of a service")
    }

    /// What came of one attempt: an answer, or something that says that it does not answer now.
    pub fn heard(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered { reply, .. } if reply.status < 500 => self.answers(),
            Outcome::Answered { .. } | Outcome::NeverSent | Outcome::Broken | Outcome::Late => {
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
