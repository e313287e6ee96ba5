//! All services, each with its snapshot and the task that keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::consul::ConsulFeed;
use super::dns::{DnsFeed, SrvFeed};
use super::file::{FileFeed, LOOK_EVERY};
use super::follow::follow;
use super::state::{State, Status};
use super::{Discovery, Instance, Pace, Source, Spec};

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

    /// How the source of each service that is looked for does.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.looked_for().map(|(_, service)| service.watched.state.status()).collect()
    }

    /// The services that are not optional and of which nothing is known yet, each with the kind of its source and what is wrong
    /// with it, if anything is.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let unknown = self.looked_for().filter(|(_, one)| !one.is_optional && !one.watched.state.is_known());
        let say = |(name, service): (&str, &Service)| {
            let Status { source, trouble, .. } = service.watched.state.status();
            let trouble = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            format!("{name} ({source}{trouble})")
        };
        unknown.map(say).collect()
    }

    fn looked_for(&self) -> impl Iterator<Item = (&str, &Service)> {
        let all = self.0.iter().map(|(name, service)| (name.as_str(), service));
        all.filter(|(_, service)| !matches!(service.watched.spec.source, Source::Fixed(_)))
    }
}

impl Discovery for Sources {
    fn instances(&self, service: &str) -> Arc<[Instance]> {
        self.0.get(service).map(|service| service.watched.state.instances()).unwrap_or_default()
    }

    fn stand_ins(&self, service: &str) -> Arc<[String]> {
        self.0.get(service).map(|service| service.stand_ins.clone()).unwrap_or_default()
    }

    fn changes(&self, service: &str) -> Option<watch::Receiver<u64>> {
        self.looked_for()
            .find(|(name, _)| *name == service)
            .map(|(_, service)| service.watched.state.changes())
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
            Source::Fixed(_) => None,
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
        Source::File(path) => {
            // A look at a file is no burden to anybody.
            let retry = Pace { least: retry.least.min(LOOK_EVERY), most: retry.most.min(LOOK_EVERY) };
            follow(FileFeed::new(path), &state, keep, retry).await;
        }
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
