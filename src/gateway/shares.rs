//! One service gets at most half of the connections: no more clients than that wait for it at once, so that one which
//! does not answer leaves places for the clients of the others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many more clients may wait for each service. Clones share them.
#[derive(Debug, Clone)]
pub struct Shares {
    of_each: usize,
    /// One for each service that was ever asked for. Their names come from configurations, so that they are few.
    of_service: Arc<RwLock<HashMap<String, Arc<Semaphore>>>>,
}

/// A client waits, until this is dropped.
pub type Share = OwnedSemaphorePermit;

impl Shares {
    /// Shares of `connections_max`.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Self { of_each: connections_max.div_ceil(2), of_service: Arc::default() }
    }

    /// One place among those who wait for `service`; `None` where there is none.
    #[must_use]
    pub fn take(&self, service: &str) -> Option<Share> {
        let known = self.of_service.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        let places = known.unwrap_or_else(|| {
            let mut of_service = self.of_service.write().unwrap_or_else(PoisonError::into_inner);
            let places = || Arc::new(Semaphore::new(self.of_each));
            of_service.entry(service.to_owned()).or_insert_with(places).clone()
        });
        places.try_acquire_owned().ok()
    }
}
