//! Another configuration for a node that runs: all of it or nothing, and no request is lost.
//!
//! ```text
//!  SIGHUP ─────────────┐
//!  the file changed ───┼─► read, check ─► remember on disk ─► swap ─► new requests meet the new one
//!  POST /v1/reload ────┘        │
//!                               └─ a mistake: it is said, and the last good configuration stays
//! ```
//!
//! Listeners stay bound, and connections open. A request keeps to the configuration that it met, to the end of its answer. A
//! transaction has what it is to do in the log; where its services are and how they are called says the newest
//! configuration that has them, and of one that none has any more, the last that had it (`remembered`).

mod remembered;
mod unchanging;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::remembered::Remembered;
pub use self::remembered::Sections;
pub(in crate::server) use self::unchanging::Unchanging;
use super::in_force::InForce;
use super::node::Setup;
use super::public::{Public, Serving, Wires};
use crate::discovery::Discovery;
use crate::gateway::Problem;
use crate::journal::replay::Found;
use crate::participant::Participants;
use crate::participant::services::Services;
use crate::watched::Watched;

/// Operators who ask at the same time wait in line; more than this are told to come again.
const ASKS_MAX: usize = 16;

/// A disk that hangs must not keep those who ask later from what it says by then.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Where the configuration of a node comes from.
pub struct Origin {
    /// The file.
    pub file: Watched,
    /// Reads it, or says what is wrong with it: at least one mistake.
    pub read: Arc<dyn Fn() -> Result<Setup, Vec<String>> + Send + Sync>,
    /// Reads what is written in this text, as if it were a file of this name.
    pub parse: fn(&str, &str) -> Result<Setup, Vec<String>>,
}

/// A configuration that was taken over.
#[derive(Debug, Clone, Copy)]
pub struct Reloaded {
    /// How many routes it has.
    pub routes: usize,
    /// How many services take part in transactions.
    pub participants: usize,
}

/// Why a configuration was not taken over. The last good one stays.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// It is wrong.
    #[error("the configuration is wrong, and the last good one stays:\n{}", .0.join("\n"))]
    Bad(Vec<String>),
    /// It changes what only a start can change.
    #[error(
        "the configuration changes what is read at a start only, so that nothing of it was taken over: {}; \
         restart the node, or take that back",
        .0.join(", ")
    )]
    Unchanging(Vec<&'static str>),
    /// What open transactions may need could not be written.
    #[error("{} could not be written ({source}), so that the last good configuration stays", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What an operator is told.
pub type Outcome = Result<Reloaded, NotReloaded>;

/// Somebody who wants the configuration to be read again, and waits to hear what came of it.
pub type Ask = oneshot::Sender<Outcome>;

/// The ends of the line in which operators wait.
pub(super) fn line() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(ASKS_MAX)
}

/// All who can say that the configuration is to be read again.
pub(super) struct Triggers {
    origin: Origin,
    hangup: Option<Signal>,
    asks: mpsc::Receiver<Ask>,
}

/// Takes over configurations.
pub(super) struct Reloader<P> {
    public: Arc<Public<P>>,
    services: Arc<Services>,
    wires: Wires,
    in_force: Arc<InForce>,
    unchanging: Unchanging,
    remembered: Remembered,
    /// Requests may still keep to one of these.
    older: Vec<Weak<Serving>>,
}

impl Triggers {
    /// From here on SIGHUP no longer ends the process.
    pub(super) fn new(origin: Origin, asks: mpsc::Receiver<Ask>) -> Self {
        let hangup = signal(SignalKind::hangup());
        let hangup = hangup.inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be listened for")).ok();
        Self { origin, hangup, asks }
    }

    /// What was kept of services that transactions in doubt need.
    pub(super) async fn recall(&self, setup: &Setup, found: &Found, services: &Services) -> Remembered {
        let plans = found.unfinished.iter().flat_map(|logged| &logged.get().plan.branches);
        let needed = plans.map(|branch| branch.service.clone());
        Remembered::at_start(setup, &self.origin, needed, services).await
    }

    /// Waits until somebody says so; an operator waits for an answer.
    async fn next(&mut self) -> Option<Ask> {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => None,
            () = self.origin.file.changed() => None,
            Some(ask) = self.asks.recv() => Some(ask),
        }
    }
}

impl<P: Participants> Reloader<P> {
    pub(super) fn new(
        public: Arc<Public<P>>,
        services: Arc<Services>,
        wires: Wires,
        in_force: Arc<InForce>,
        unchanging: Unchanging,
        remembered: Remembered,
    ) -> Self {
        Self { public, services, wires, in_force, unchanging, remembered, older: Vec::new() }
    }

    /// Reads the configuration again whenever somebody says so, for as long as it is polled.
    pub(super) async fn run(&mut self, triggers: &mut Triggers) -> Infallible {
        loop {
            let ask = triggers.next().await;
            let outcome = self.reload(&triggers.origin).await;
            self.note(&outcome);
            if let Some(ask) = ask {
                // Whoever asked may be gone.
                drop(ask.send(outcome));
            }
        }
    }

    async fn reload(&mut self, origin: &Origin) -> Outcome {
        let read = origin.read.clone();
        let reading = timeout(READ_WITHIN, tokio::task::spawn_blocking(move || read()));
        let Ok(read) = reading.await else {
            let path = origin.file.path().display();
            let why = format!("{path} was not read within {READ_WITHIN:?}: its disk hangs, or it is no file");
            return Err(NotReloaded::Bad(vec![why]));
        };
        let setup = read.expect("reading a configuration does not panic").map_err(NotReloaded::Bad)?;
        let differ = self.unchanging.differ(&Unchanging::of(&setup));
        if !differ.is_empty() {
            return Err(NotReloaded::Unchanging(differ));
        }
        let needed = self.needed();
        let mut sections = self.remembered.sections().clone();
        sections.retain(|name, _| needed.contains(name));
        sections.extend(setup.sections.clone());
        self.remembered
            .keep(sections)
            .await
            .map_err(|source| NotReloaded::Unwritten { path: self.remembered.path.clone(), source })?;
        let reloaded =
            Reloaded { routes: setup.routes.iter().count(), participants: setup.participants.len() };
        // What is looked for as before goes on as it was: nobody's instances are forgotten.
        let sources = self.in_force.next(setup.sources.clone());
        let discovery: Arc<dyn Discovery> = sources.clone();
        let serving = Arc::new(self.wires.serving(&setup, &discovery));
        self.public.metrics.participants(setup.participants.keys().map(String::as_str));
        self.services.replace(setup.participants, &discovery, |name| needed.contains(name));
        self.in_force.replace(sources);
        self.older.push(Arc::downgrade(&self.public.serving.swap(serving)));
        Ok(reloaded)
    }

    /// The services with which a transaction is open, or may yet be begun by a request that keeps to an older configuration.
    fn needed(&mut self) -> BTreeSet<String> {
        self.older.retain(|serving| serving.strong_count() > 0);
        let kept = self.older.iter().filter_map(Weak::upgrade).chain([self.public.serving.load_full()]);
        // In this order: what a request begins meanwhile is seen in one or the other.
        let mut needed: BTreeSet<String> =
            kept.flat_map(|serving| serving.services.keys().cloned().collect::<Vec<_>>()).collect();
        needed.extend(self.public.coordinator.services_of_open());
        needed
    }

    fn note(&self, outcome: &Outcome) {
        let now = self.public.coordinator.journal().now();
        self.public.metrics.reloaded(outcome.is_ok(), now);
        match outcome {
            Ok(Reloaded { routes, participants }) => {
                tracing::info!(routes, participants, "the configuration was read again and is in force");
            }
            Err(error) => tracing::error!("{error}"),
        }
    }
}

impl From<NotReloaded> for Problem {
    fn from(error: NotReloaded) -> Self {
        match error {
            NotReloaded::Bad(mistakes) => {
                let detail = "the configuration is wrong; the last good one stays";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_config", detail).with("errors", mistakes)
            }
            NotReloaded::Unchanging(ref keys) => {
                let keys = keys.clone();
                Self::new(StatusCode::CONFLICT, "restart_needed", error.to_string()).with("keys", keys)
            }
            NotReloaded::Unwritten { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_remembered", error.to_string())
                    .with_header(RETRY_AFTER, "5")
            }
        }
    }
}
