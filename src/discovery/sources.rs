//! All services, each with its snapshot and the task that keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::consul::ConsulFeed;
use super::dns::{DnsFeed, SrvFeed};
use super::file::FileFeed;
use super::follow::follow;
use super::state::{State, Status};
use super::{Discovery, Instance, Source, Spec};

/// The sources of all services. A reload makes new ones out of the old: what has not changed goes on as it was.
pub struct Sources(BTreeMap<String, Service>);

struct Service {
    watched: Arc<Watched>,
    is_optional: bool,
    stand_ins: Arc<[String]>,
}

/// A source that is followed for as long as anybody has this.
struct Watched {
    spec: Spec,
    state: Arc<State>,
    /// Ends the task.
    _task: Option<DropGuard>,
}

/// The services whose first answer the start of a node waits for. What a reload adds later does not count, so that a node
/// that is ready stays so.
#[derive(Clone, Default)]
pub struct FirstAnswers(Vec<(String, Weak<Watched>)>);

impl Sources {
    /// Sources of these services. Where `previous` follows the same source, both share its task; where a service has another
    /// source now, its last instances are kept until the first answer of that.
    ///
    /// Has to be called inside a runtime if anything but [`Source::Fixed`] is among them.
    pub fn new(services: impl IntoIterator<Item = (String, Spec)>, previous: Option<&Self>) -> Self {
        let service = |(name, spec): (String, Spec)| {
            let before = previous.and_then(|previous| previous.0.get(&name)).map(|service| &service.watched);
            let (is_optional, stand_ins) = (spec.is_optional, spec.stand_ins.clone());
            let watched = match before {
                Some(watched) if watched.spec.looks_as(&spec) => watched.clone(),
                Some(watched) => Arc::new(Watched::start(&name, spec, watched.state.instances())),
                None => Arc::new(Watched::start(&name, spec, Arc::default())),
            };
            (name, Service { watched, is_optional, stand_ins })
        };
        Self(services.into_iter().map(service).collect())
    }

    /// What is known of every service that is looked for: for a file that outlives the process.
    #[must_use]
    pub fn snapshots(&self) -> BTreeMap<String, Arc<[Instance]>> {
        self.looked_for().map(|(name, watched)| (name.to_owned(), watched.state.instances())).collect()
    }

    /// Gives a service the instances that an earlier run of the node knew. An answer that came already counts more; one that
    /// comes later replaces them. Without effect on a service that is not looked for.
    pub fn seed(&self, service: &str, instances: Vec<Instance>) {
        if let Some((_, watched)) = self.looked_for().find(|(name, _)| *name == service) {
            watched.state.seed(instances.into());
        }
    }

    /// How the source of each service that is looked for does.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.looked_for().map(|(_, watched)| watched.state.status()).collect()
    }

    /// A counter that moves whenever the instances of `service` change; `None` where they cannot.
    #[must_use]
    pub fn changes(&self, service: &str) -> Option<watch::Receiver<u64>> {
        self.looked_for().find(|(name, _)| *name == service).map(|(_, watched)| watched.state.changes())
    }

    /// Those that a start has to wait for.
    #[must_use]
    pub fn first_answers(&self) -> FirstAnswers {
        let required = self.0.iter().filter(|(_, service)| !service.is_optional);
        let waited_for =
            |(name, service): (&String, &Service)| (name.clone(), Arc::downgrade(&service.watched));
        FirstAnswers(required.map(waited_for).collect())
    }

    /// Waits until every source that is not optional has answered, or was seeded.
    pub async fn answered(&self) {
        for service in self.0.values().filter(|service| !service.is_optional) {
            let state = &service.watched.state;
            let mut changes = state.changes();
            while !state.is_known() && changes.changed().await.is_ok() {}
        }
    }

    fn looked_for(&self) -> impl Iterator<Item = (&str, &Arc<Watched>)> {
        let all = self.0.iter().map(|(name, service)| (name.as_str(), &service.watched));
        all.filter(|(_, watched)| !matches!(watched.spec.source, Source::Fixed(_)))
    }
}

impl Discovery for Sources {
    fn instances(&self, service: &str) -> Arc<[Instance]> {
        self.0.get(service).map(|service| service.watched.state.instances()).unwrap_or_default()
    }

    fn stand_ins(&self, service: &str) -> Arc<[String]> {
        self.0.get(service).map(|service| service.stand_ins.clone()).unwrap_or_default()
    }
}

impl FirstAnswers {
    /// The services that are still waited for, each with the kind of its source and what is wrong with it, if anything is.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let say = |(name, watched): &(String, Weak<Watched>)| {
            // What a reload has taken away is not waited for.
            let watched = watched.upgrade().filter(|watched| !watched.state.is_known())?;
            let kind = watched.spec.source.kind();
            let trouble = watched.state.status().trouble;
            let trouble = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            Some(format!("{name} ({kind}{trouble})"))
        };
        self.0.iter().filter_map(say).collect()
    }
}

impl Watched {
    fn start(name: &str, spec: Spec, known: Arc<[Instance]>) -> Self {
        let known = match &spec.source {
            Source::Fixed(instances) => instances.clone().into(),
            Source::Dns(_) | Source::Srv(_) | Source::File(_) | Source::Consul(_) => known,
        };
        let state = Arc::new(State::new(name, spec.source.kind(), known));
        let task = match &spec.source {
            Source::Fixed(_) => {
                state.settle();
                None
            }
            Source::Dns(_) | Source::Srv(_) | Source::File(_) | Source::Consul(_) => {
                let token = CancellationToken::new();
                let following = run(spec.clone(), state.clone());
                TaskTracker::new().spawn(token.clone().run_until_cancelled_owned(following));
                Some(token.drop_guard())
            }
        };
        Self { spec, state, _task: task }
    }
}

async fn run(spec: Spec, state: Arc<State>) {
    let Spec { source, keep, retry, .. } = spec;
    match source {
        Source::Fixed(_) => {}
        Source::Dns(source) => follow(DnsFeed::new(source), &state, keep, retry).await,
        Source::Srv(source) => follow(SrvFeed::new(source), &state, keep, retry).await,
        Source::File(path) => follow(FileFeed::new(path), &state, keep, retry).await,
        Source::Consul(source) => follow(ConsulFeed::new(source), &state, keep, retry).await,
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, service)| (name, &service.watched.spec.source)))
            .finish()
    }
}

impl fmt::Debug for FirstAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.missing()).finish()
    }
}
