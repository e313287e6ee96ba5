//! A whole node: binds, opens the log, recovers, serves, drains.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::admin::{Admin, router};
use super::doors::{bind, limits, open_admin, open_public};
use super::files::connections_max;
use super::in_force::InForce;
use super::metrics::{Live, Metrics};
use super::options::NodeOptions;
use super::public::{Public, Wires};
use super::reload::{self, Origin, Reloader, Sections, Triggers, Unchanging};
use crate::balance::Policy;
use crate::budget::Halves;
use crate::clients::{Clients, Forwarders};
use crate::clock::SystemClock;
use crate::coordinator::Coordinator;
use crate::coordinator::options::CoordinatorOptions;
use crate::discovery::consul::register::Entry;
use crate::discovery::{Discovery, Spec};
use crate::gateway::guard::{Guards, Limiters};
use crate::gateway::{GatewayOptions, Pools, RouteTable, Shares, Trust};
use crate::journal::options::LogOptions;
use crate::journal::replay::Found;
use crate::journal::{Journal, JournalError, Poisoned};
use crate::participant::http::{Attempt, HttpParticipants};
use crate::participant::options::TransactionOptions;
use crate::participant::services::Services;
use crate::participant::wire::Sender;
use crate::recovery;
use crate::trace::Spans;

/// Everything the configuration says, as each layer wants it.
pub struct Setup {
    /// Listeners and limits.
    pub node: NodeOptions,
    /// The log.
    pub log: LogOptions,
    /// Transactions.
    pub coordinator: CoordinatorOptions,
    /// Calls to backends.
    pub gateway: GatewayOptions,
    /// The routes.
    pub routes: RouteTable,
    /// What stands before them, by the id of the route.
    pub guards: BTreeMap<String, Guards>,
    /// The services that keep the participant protocol.
    pub participants: BTreeMap<String, TransactionOptions>,
    /// What the configuration says of each of them, as it is written.
    pub sections: Sections,
    /// Where the services are.
    pub sources: BTreeMap<String, Spec>,
    /// How they are called, but for the calls of transactions.
    pub policies: BTreeMap<String, Policy>,
    /// The node's own entry in Consul; `None`: it makes none.
    pub register: Option<Entry>,
    /// Where to read all this again; `None`: it does not change.
    pub origin: Option<Origin>,
    /// Where spans go.
    pub spans: Spans,
}

/// Why a node stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// An address could not be listened on.
    #[error("cannot listen on {address} (node.{key}): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for backends could not be made: {0}")]
    Client(#[from] reqwest::Error),
    /// The log could not be opened or written.
    #[error("the log in {directory}: {source}")]
    Log {
        /// The directory.
        directory: String,
        /// What is wrong with it.
        source: JournalError,
    },
    /// The log failed while the node ran.
    #[error(transparent)]
    LogFailed(#[from] Poisoned),
    /// A second signal came while the node was draining.
    #[error("a second signal: stopping at once; what is in doubt is in the log")]
    AtOnce,
}

/// How long a stopping node waits for transactions whose clients have their answer already.
const LINGER: Duration = Duration::from_secs(1);

/// How long a node whose log failed waits for the answers that say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often the disk is looked at. A log that gets 100 MB/s more in between still does not fill what is left when the reserve
/// is given back.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What `/readyz` says while new transactions are refused for want of room.
const NEARLY_FULL: &str = "the disk is nearly full: new transactions are refused (log.room_min)";

/// A node that serves.
struct Node {
    journal: Journal,
    coordinator: Coordinator<HttpParticipants>,
    drain: Duration,
    /// Told to those who answer clients, when the node is about to go.
    leaving: Arc<AtomicBool>,
    readiness: watch::Sender<Option<&'static str>>,
    /// Cancelled when the public listener is to close.
    closing: CancellationToken,
    serving: JoinHandle<()>,
    reload: Option<(Reloader<HttpParticipants>, Triggers)>,
    /// Where services are looked for, and the node's own entry there.
    in_force: Arc<InForce>,
    /// Closes the admin listener when the node goes.
    admin: DropGuard,
}

/// Runs a node until the first message of `signals`, then drains; the second stops it at once.
pub async fn run(setup: Setup, signals: mpsc::Receiver<()>) -> Result<(), Stopped> {
    run_over(setup, open_log, signals).await
}

/// As [`run`], but `open` says which log it is: for measurements over one that keeps nothing.
pub async fn run_over(
    setup: Setup,
    open: impl AsyncFnOnce(&Setup) -> Result<(Journal, Found), Stopped>,
    mut signals: mpsc::Receiver<()>,
) -> Result<(), Stopped> {
    let mut node = Node::start(setup, open).await?;
    let mut reload = node.reload.take();
    tokio::select! {
        failed = node.journal.failed() => return Err(node.give_up(failed).await),
        never = node.look_after() => match never {},
        never = node.look_at_disk() => match never {},
        never = reload_when_asked(reload.as_mut()) => match never {},
        _ = signals.recv() => {}
    }
    // A node that stops takes no other configuration.
    drop(reload);
    tokio::select! {
        failed = node.journal.failed() => return Err(node.give_up(failed).await),
        never = node.look_at_disk() => match never {},
        () = node.stop() => {}
        Some(()) = signals.recv() => return Err(Stopped::AtOnce),
    }
    // Whoever holds the log last closes its files, and only `close` does not wait for ever.
    let Node { journal, coordinator, admin, .. } = node;
    drop((coordinator, admin));
    journal.close().await?;
    Ok(())
}

impl Node {
    async fn start(
        mut setup: Setup,
        open: impl AsyncFnOnce(&Setup) -> Result<(Journal, Found), Stopped>,
    ) -> Result<Self, Stopped> {
        // As it is written: what the system makes of it is not what a later reading is compared with.
        let unchanging = Unchanging::of(&setup);
        setup.node.connections_max = connections_max(setup.node.connections_max);
        let NodeOptions { listen, admin, drain, .. } = setup.node;
        let (listener, admin) = (bind(listen, "listen").await?, bind(admin, "admin").await?);
        // Port 0 of the configuration is some port by now.
        let listen = listener.local_addr().unwrap_or(listen);
        let admin_address = admin.local_addr().unwrap_or(setup.node.admin);
        let (readiness, unready) = watch::channel(Some("the log is being read"));
        let (closing, admin_closing) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, metrics) = (TaskTracker::new(), Arc::new(Metrics::new()));
        let (reload, asks) = reload::line();
        let triggers = setup.origin.take().map(|origin| Triggers::new(origin, asks));
        // Before the log is read, which may take a while: by then it may be known where the services are.
        let in_force = Arc::new(InForce::new(setup.sources.clone(), &metrics));
        let door = Arc::new(Admin::new(metrics.clone(), unready, in_force.clone(), reload));
        let limits = limits(&setup.node);
        // Until the log is read, a probe can already be answered and the operator can see why it waits.
        open_admin(router(door.clone(), admin_address), admin, limits, admin_closing.clone(), &tasks);

        let (journal, mut found) = open(&setup).await?;
        let discovery = in_force.discovery();
        let services = Arc::new(Services::new(setup.participants.clone(), &discovery));
        let remembered = match &triggers {
            Some(triggers) => Some(triggers.recall(&setup, &found, &services).await),
            None => None,
        };
        let advertised = setup.node.advertised(listen);
        let sender = Sender { advertise: advertised.clone(), epoch: journal.epoch() };
        let participants = participants(&setup, services.clone(), sender, &metrics)?;
        let coordinator = coordinator(&setup, participants, &journal, &metrics, &mut found);
        let (public, wires) = public(&setup, &discovery, &services, &coordinator, &metrics);
        let reload = triggers.zip(remembered).map(|(triggers, remembered)| {
            (
                Reloader::new(public.clone(), services, wires, in_force.clone(), unchanging, remembered),
                triggers,
            )
        });
        watch_live(&metrics, &coordinator);
        metrics.config_read(true, journal.now());
        // It is empty: only this line fills it.
        let _ = door.coordinator.set(coordinator.clone());
        recovery::resume(&coordinator, found);
        let disk = tokio::select! {
            disk = journal.look_at_disk() => disk,
            failed = journal.wal().poisoned() => return Err(Stopped::LogFailed(failed)),
        };
        readiness.send_replace(disk.is_nearly_full.then_some(NEARLY_FULL));
        tracing::info!(address = %listen, admin = %admin_address, epoch = journal.epoch(), "ready");
        let leaving = public.leaving.clone();
        let serving = open_public(public, metrics, listener, limits, closing.clone(), &tasks);
        in_force.register(setup.register, &advertised, admin_address);
        let admin = admin_closing.drop_guard();
        Ok(Self {
            journal,
            coordinator,
            drain,
            leaving,
            readiness,
            closing,
            serving,
            reload,
            in_force,
            admin,
        })
    }

    /// What goes on beside serving, for as long as the node does: retention, and a word about recovery.
    async fn look_after(&self) -> Infallible {
        tokio::join!(self.coordinator.keep_up(), recovery::report(&self.coordinator));
        // Only a failed log ends the first, and the node stops of that.
        std::future::pending().await
    }

    /// Sees to it that the disk keeps room for what was begun, for as long as anything is open.
    async fn look_at_disk(&self) -> Infallible {
        loop {
            sleep(LOOK_EVERY).await;
            let is_nearly_full = self.journal.look_at_disk().await.is_nearly_full;
            self.readiness.send_if_modified(|why| {
                let now = match *why {
                    None | Some(NEARLY_FULL) => is_nearly_full.then_some(NEARLY_FULL),
                    another => another,
                };
                std::mem::replace(why, now) != now
            });
        }
    }

    /// Accepts for a while longer, so that load balancers notice; then finishes what is in flight.
    async fn stop(&self) {
        tracing::info!("draining: still accepting for {:?}", self.drain);
        self.readiness.send_replace(Some("draining"));
        self.leaving.store(true, Ordering::Relaxed);
        // What is plain goes on being forwarded; a new transaction is refused, and nothing of it begun.
        self.coordinator.drain();
        tokio::join!(sleep(self.drain), self.in_force.drain());
        // Before the door closes, so that nobody is sent to a closed one.
        self.in_force.leave().await;
        self.closing.cancel();
        self.served().await;
        // What is not finished by then is in doubt, and in the log.
        let _ = timeout(LINGER, self.coordinator.finished()).await;
        let (left, _) = self.coordinator.in_doubt();
        tracing::info!("stopped; {left} transactions are in doubt and go on at the next start");
    }

    /// The log failed: lets those who wait hear it, and nothing else. Whatever they are not told the next start finishes.
    async fn give_up(&self, failed: Poisoned) -> Stopped {
        self.readiness.send_replace(Some("the log failed"));
        self.coordinator.drain();
        self.closing.cancel();
        let _ = timeout(LAST_WORDS, self.served()).await;
        failed.into()
    }

    /// Waits until the public listener is closed and every connection with it.
    async fn served(&self) {
        while !self.serving.is_finished() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn open_log(setup: &Setup) -> Result<(Journal, Found), Stopped> {
    let directory = &setup.node.data_dir;
    let opened = Journal::open(directory, &setup.log, Arc::new(SystemClock), env!("CARGO_PKG_VERSION")).await;
    opened.map_err(|source| Stopped::Log { directory: directory.display().to_string(), source })
}

fn participants(
    setup: &Setup,
    services: Arc<Services>,
    sender: Sender,
    metrics: &Arc<Metrics>,
) -> Result<HttpParticipants, Stopped> {
    let metrics = metrics.clone();
    let observer = Arc::new(move |attempt: &Attempt<'_>| metrics.call(attempt));
    let gateway = &setup.gateway;
    let clients = Clients::new(gateway.connect_timeout, gateway.pool_idle)?;
    let (spans, answers) = (setup.spans.clone(), Halves::new(setup.node.body_budget));
    Ok(HttpParticipants::new(clients, services, sender, observer, spans, gateway.answer_max, answers))
}

fn coordinator(
    setup: &Setup,
    participants: HttpParticipants,
    journal: &Journal,
    metrics: &Arc<Metrics>,
    found: &mut Found,
) -> Coordinator<HttpParticipants> {
    let metrics = metrics.clone();
    let observer = Arc::new(move |phase: &_| metrics.phase(phase));
    Coordinator::new(journal.clone(), participants, setup.coordinator, observer, found)
}

fn public(
    setup: &Setup,
    discovery: &Arc<dyn Discovery>,
    services: &Arc<Services>,
    coordinator: &Coordinator<HttpParticipants>,
    metrics: &Arc<Metrics>,
) -> (Arc<Public<HttpParticipants>>, Wires) {
    // Whoever waits for a service hears of it also where the answer was to a forwarded request.
    let services = services.clone();
    let pools = Pools::new(Forwarders::new(setup.gateway.connect_timeout, setup.gateway.pool_idle));
    let read = pools.clone();
    metrics.watch_pools(move || read.readings());
    metrics.participants(setup.participants.keys().map(String::as_str));
    let wires = Wires {
        options: setup.gateway,
        bodies: Halves::new(setup.node.body_budget),
        pools,
        answered: Arc::new(move |name| services.get(name).into_iter().for_each(|service| service.answers())),
        waiting: Shares::new(setup.node.connections_max),
        limiters: Limiters::default(),
    };
    let public = Public {
        serving: ArcSwap::from_pointee(wires.serving(setup, discovery)),
        coordinator: coordinator.clone(),
        access_log: setup.node.access_log,
        trust: Trust::new(setup.node.trusted_proxies.clone()),
        metrics: metrics.clone(),
        body_max: setup.node.body_max,
        body_timeout: setup.gateway.body_timeout,
        kept: Halves::new(setup.node.body_budget),
        waiting: wires.waiting.clone(),
        leaving: Arc::default(),
        spans: setup.spans.clone(),
    };
    (Arc::new(public), wires)
}

async fn reload_when_asked(reload: Option<&mut (Reloader<HttpParticipants>, Triggers)>) -> Infallible {
    match reload {
        Some((reloader, triggers)) => reloader.run(triggers).await,
        None => std::future::pending().await,
    }
}

fn watch_live(metrics: &Metrics, coordinator: &Coordinator<HttpParticipants>) {
    let coordinator = coordinator.clone();
    metrics.watch(move || {
        let (in_doubt, oldest) = coordinator.in_doubt();
        let (recovery_found, recovery_remaining) = coordinator.recovering();
        let now = coordinator.journal().now();
        Live {
            in_doubt,
            oldest_in_doubt: oldest.map(|oldest| now.since(oldest)).unwrap_or_default(),
            parked: coordinator.parked(),
            recovery_found,
            recovery_remaining,
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            log: coordinator.journal().stats(),
            disk: Some(coordinator.journal().disk()),
        }
    });
}
