//! What the sources of instances tell the rest of the node: metrics, and that it is worth calling again.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::options::reachable;
use crate::discovery::consul::register::{Entry, Registrar};
use crate::discovery::{Discovery, FirstAnswers, Sources, Spec, Status};
use crate::participant::services::Services;

/// The sources in force: what the metrics show of them, and whom they wake. Whoever waits for a service is woken when its
/// instances change: a commit that nobody could be told of is not to wait for its next turn.
pub(super) struct InForce {
    sources: Arc<ArcSwap<Sources>>,
    /// Ends the tasks that wake.
    waking: Mutex<Option<DropGuard>>,
    /// The node's own entry in Consul, where the configuration asks for one.
    registrar: OnceLock<Registrar>,
}

impl InForce {
    pub(super) fn new(specs: BTreeMap<String, Spec>, metrics: &Metrics) -> Self {
        let sources = Arc::new(ArcSwap::from_pointee(Sources::new(specs, None)));
        let shown = sources.clone();
        metrics.watch_discovery(move || shown.load().statuses());
        Self { sources, waking: Mutex::default(), registrar: OnceLock::new() }
    }

    pub(super) fn discovery(&self) -> Arc<dyn Discovery> {
        self.sources.load_full()
    }

    /// The services that the node waits for before it is ready.
    pub(super) fn first_answers(&self) -> FirstAnswers {
        self.sources.load().first_answers()
    }

    /// The sources of another configuration: those that are the same go on.
    pub(super) fn next(&self, specs: BTreeMap<String, Spec>) -> Arc<Sources> {
        Arc::new(Sources::new(specs, Some(&self.sources.load())))
    }

    /// Takes over what [`Self::next`] gave.
    pub(super) fn replace(&self, sources: Arc<Sources>, services: &Arc<Services>) {
        self.sources.store(sources);
        self.wake(services);
    }

    /// Wakes those who wait for one of `services` whenever it is found somewhere else.
    pub(super) fn wake(&self, services: &Arc<Services>) {
        let (token, tasks, sources) = (CancellationToken::new(), TaskTracker::new(), self.sources.load());
        for name in services.names() {
            if let Some(changes) = sources.changes(&name) {
                let waking = wake(name, Arc::downgrade(services), changes);
                tasks.spawn(token.clone().run_until_cancelled_owned(waking));
            }
        }
        // Those before end only now, so that no change falls in between.
        *self.waking.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.drop_guard());
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

/// Ends with the source.
async fn wake(name: String, services: Weak<Services>, mut changes: watch::Receiver<u64>) {
    // What was found before this began counts too.
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        let Some(services) = services.upgrade() else { return };
        services.get(&name).into_iter().for_each(|service| service.answers());
    }
}

type Statuses = Box<dyn Fn() -> Vec<Status> + Send + Sync>;

/// How the sources do, read when `/metrics` is asked.
#[derive(Clone, Default)]
pub(super) struct Discovered(Arc<OnceLock<Statuses>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    service: String,
    source: &'static str,
}

impl Discovered {
    pub(super) fn watch(&self, statuses: impl Fn() -> Vec<Status> + Send + Sync + 'static) {
        // A node sets this once; a second time would change nothing.
        let _ = self.0.set(Box::new(statuses));
    }
}

impl Collector for Discovered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let statuses = self.0.get().map(|statuses| statuses()).unwrap_or_default();
        let mut gauge = |name: &str, help: &str, read: &dyn Fn(&Status) -> f64| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            statuses.iter().try_for_each(|status| {
                ConstGauge::new(read(status)).encode(metric.encode_family(&Labels::of(status))?)
            })
        };
        gauge("discovery_up", "1 while the source of a service answers", &|status| status.is_up.into())?;
        gauge("discovery_instances", "Instances of a service that are known", &|status| {
            u32::try_from(status.instances).unwrap_or(u32::MAX).into()
        })?;
        gauge(
            "discovery_last_success_timestamp_seconds",
            "When the source of a service last answered; 0 before the first time",
            &|status| seconds(status),
        )?;
        let help = "How often the source of a service did not answer";
        let mut metric = encoder.encode_descriptor("discovery_failures", help, None, MetricType::Counter)?;
        statuses.iter().try_for_each(|status| {
            ConstCounter::new(status.failures).encode(metric.encode_family(&Labels::of(status))?)
        })
    }
}

impl Labels {
    fn of(status: &Status) -> Self {
        Self { service: status.service.clone(), source: status.source }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no time of day in milliseconds comes near 2^52")]
fn seconds(status: &Status) -> f64 {
    status.last_success.map_or(0.0, |time| time.0 as f64 / 1000.0)
}

impl Debug for Discovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered").finish_non_exhaustive()
    }
}
