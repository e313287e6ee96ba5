//! One service gets at most half of the connections: no more clients than that wait for it at once, so that one which
//! does not answer leaves places for the clients of the others.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many more clients may wait for each service. Clones share them.
#[derive(Debug, Clone)]
pub struct Shares {
    of_service: Arc<HashMap<String, Arc<Semaphore>>>,
}

/// A client waits, until this is dropped.
pub type Share = OwnedSemaphorePermit;

impl Shares {
    /// Shares of `connections_max` for each of `services`.
    pub fn new<'a>(services: impl Iterator<Item = &'a str>, connections_max: usize) -> Self {
        let share =
            |service: &'a str| (service.to_owned(), Arc::new(Semaphore::new(connections_max.div_ceil(2))));
        Self { of_service: Arc::new(services.map(share).collect()) }
    }

    /// One place among those who wait for `service`; `None` where there is none.
    #[must_use]
    pub fn take(&self, service: &str) -> Option<Share> {
        self.of_service.get(service)?.clone().try_acquire_owned().ok()
    }
}
