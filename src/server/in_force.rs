//! Where the services of a node are looked for, what operators see of that, and the node's own entry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::metrics::Metrics;
use super::options::reachable;
use crate::discovery::consul::register::{Entry, Registrar};
use crate::discovery::{Discovery, Sources, Spec};

/// The sources in force, and what the metrics and `/readyz` show of them.
pub(super) struct InForce {
    sources: Arc<ArcSwap<Sources>>,
    /// Whether each of them has answered: from then on the node is ready, whatever a reload adds.
    have_answered: AtomicBool,
    /// The node's own entry in Consul, where the configuration asks for one.
    registrar: OnceLock<Registrar>,
}

impl InForce {
    pub(super) fn new(specs: BTreeMap<String, Spec>, metrics: &Metrics) -> Self {
        let sources = Arc::new(ArcSwap::from_pointee(Sources::new(specs, None)));
        let shown = sources.clone();
        metrics.watch_discovery(move || shown.load().statuses());
        let have_answered = AtomicBool::new(false);
        Self { sources, have_answered, registrar: OnceLock::new() }
    }

    pub(super) fn discovery(&self) -> Arc<dyn Discovery> {
        self.sources.load_full()
    }

    /// The services that the node waits for before it is ready, with what is wrong with each; none once it was.
    pub(super) fn missing(&self) -> Vec<String> {
        if self.have_answered.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let missing = self.sources.load().missing();
        self.have_answered.fetch_or(missing.is_empty(), Ordering::Relaxed);
        missing
    }

    /// The sources of another configuration: those that are the same go on.
    pub(super) fn next(&self, specs: BTreeMap<String, Spec>) -> Arc<Sources> {
        Arc::new(Sources::new(specs, Some(&self.sources.load())))
    }

    /// Takes over what [`Self::next`] gave.
    pub(super) fn replace(&self, sources: Arc<Sources>) {
        self.sources.store(sources);
    }

    /// Begins to keep the entry of a node that is advertised as `advertised` and answers operators at `admin`.
    pub(super) fn register(&self, entry: Option<Entry>, advertised: &str, admin: SocketAddr) {
        let readyz = format!("http://{}/readyz", reachable(admin));
        let registration = entry.map(|entry| entry.of_node(advertised, readyz, env!("CARGO_PKG_VERSION")));
        if let Some(registration) = registration {
            // A node registers once.
            let _ = self.registrar.set(Registrar::start(registration));
        }
    }

    /// Nobody should be sent here any more.
    pub(super) async fn drain(&self) {
        if let Some(registrar) = self.registrar.get() {
            registrar.drain().await;
        }
    }

    /// Nobody is sent here any more.
    pub(super) async fn leave(&self) {
        if let Some(registrar) = self.registrar.get() {
            registrar.leave().await;
        }
    }
}
