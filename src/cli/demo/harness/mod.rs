//! The run behind `unanimous demo` and `tests/kills/`: real processes, real kills, and a proof at the end.
//!
//! ```text
//!                   ┌─ killer: SIGKILL, start again, read what was in doubt
//!                   ▼
//!  clients ──► gateway ──network──► north, south (prepare first)   each a process with durable state of its own
//!     │                  ▲    └───► east (its work answer is its vote)       ▲
//!     │                  └─ partitions                                       └─ killer of banks
//!     └─ keep every answer they were told ──► proof ◄── the log, the banks
//! ```
//!
//! What is killed when and who pays whom come from [`Options::seed`]; how far each process was at that instant is up
//! to the machine.

mod addresses;
mod clients;
mod cluster;
mod evidence;
mod killer;
mod log;
mod network;
mod others;
mod partitions;
mod plan;
mod process;
mod proof;

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::killer::Crash;
pub use self::log::{Decision, InDoubt, Stage};
pub use self::network::{Loopback, Network, Place, Way};
pub use self::partitions::Partition;
pub use self::process::free_port;
pub use self::proof::{BankSums, Proof};

use self::clients::Clients;
use self::cluster::Cluster;
use self::killer::Killer;
use self::others::Others;
use self::partitions::Cutter;
use self::plan::Plan;

/// What a run does.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub program: PathBuf,
    /// An empty directory for everything the processes keep and say.
    pub data_dir: PathBuf,
    /// Where every choice of the run comes from.
    pub seed: u64,
    /// How long transfers are made.
    pub extent: Extent,
    /// The most transfers that are begun in a second, if they are not to be as many as possible.
    pub pace: Option<NonZero<u32>>,
    /// How many clients make them, each one after the other.
    pub clients: usize,
    /// How many clients ask for everything else that a gateway does.
    pub others: usize,
    /// How often the gateway is killed.
    pub kills: usize,
    /// Into how many parts the run falls; the gateway is killed in the first one only.
    pub parts: usize,
    /// How often a bank is killed.
    pub bank_kills: usize,
    /// How often a bank is cut off from the gateway.
    pub cuts: usize,
    /// What lies between the gateway and the banks.
    pub network: Arc<dyn Network>,
    /// The gateway's `log.retention`, if it is not to be the usual one.
    pub retention: Option<Duration>,
    /// The longest the run may stand still.
    pub patience: Duration,
}

impl Options {
    /// A thousand transfers, and nothing that disturbs them.
    #[must_use]
    pub fn new(program: PathBuf, data_dir: PathBuf, seed: u64) -> Self {
        Self {
            program,
            data_dir,
            seed,
            extent: Extent::Transfers(1_000),
            pace: None,
            clients: 16,
            others: 0,
            kills: 0,
            parts: 1,
            bank_kills: 0,
            cuts: 0,
            network: Arc::new(Loopback),
            retention: None,
            patience: Duration::from_mins(1),
        }
    }
}

/// When a run has lasted long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After so many transfers, within which everything that was planned has to happen.
    Transfers(usize),
    /// After so many transfers, and when all that was planned has happened with traffic around it.
    AtLeast(usize),
    /// After so much time, and when all that was planned has happened.
    Time(Duration),
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// Every kill of the gateway and what it left in doubt.
    pub crashes: Vec<Crash>,
    /// How many times a bank was killed.
    pub bank_kills: usize,
    /// Every partition and what waited behind it.
    pub partitions: Vec<Partition>,
    /// How many requests beside the transfers were answered.
    pub others: usize,
    /// What became of the money, and of what the clients were told.
    pub proof: Proof,
    /// From the first transfer until nothing was in doubt.
    pub took: Duration,
}

/// What a run tells whoever watches it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The processes run, and this is the money in all banks together.
    Started {
        /// Before the first transfer.
        total: i64,
        /// The gateway's admin listener.
        admin_url: &'a str,
    },
    /// The gateway runs, from the start or again.
    Runs {
        /// The id of its process.
        pid: Option<u32>,
    },
    /// So many transfers are settled.
    Settled(usize),
    /// A bank was killed.
    BankKilled(&'a str),
    /// A partition has healed, and what had waited for that is done.
    Healed(&'a Partition),
    /// The gateway was killed, runs again, and has said what was in doubt.
    Recovered {
        /// How many kills of the gateway there were before it.
        before: usize,
        /// What it left behind.
        crash: &'a Crash,
    },
    /// All transfers are made; the rest is waiting for the last branches.
    Waiting,
}

/// Whoever watches a run.
pub type Watcher<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// Why a run could not be brought to its end. That is a failure of the program under test as well.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The machine did not do what the run needs.
    #[error("could not {doing}")]
    Machine {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended that was not killed.
    #[error("{name} ended by itself ({status}); the end of what it said:\n{said}")]
    Ended {
        /// The gateway or a bank.
        name: String,
        /// How it ended.
        status: String,
        /// The last lines of its stderr.
        said: String,
    },
    /// Nothing moved for too long.
    #[error("nothing happened for {patience:?} while waiting for {what}")]
    Stuck {
        /// What was waited for.
        what: String,
        /// How long.
        patience: Duration,
    },
    /// A process did not answer.
    #[error("no answer from {url}")]
    Unanswered {
        /// What was asked.
        url: String,
        /// Why there was none.
        source: reqwest::Error,
    },
    /// A process answered something that cannot be understood.
    #[error("the answer of {url} cannot be understood ({why}): {text}")]
    Unclear {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
        /// The beginning of the answer.
        text: String,
    },
}

/// Kills of the gateway, kills of banks, partitions.
const PLANS: usize = 3;

/// Runs it all. Every process is dead when this returns, however it returns.
pub async fn run(options: &Options, watcher: Watcher<'_>) -> Result<Report, HarnessError> {
    let plan = Plan::new(options);
    let mut cluster = Cluster::start(options).await?;
    let before = cluster.sums().await?;
    let total = before.iter().map(|sum| sum.balance).sum();
    watcher(Event::Started { total, admin_url: &cluster.admin_url });

    let clients = Clients::new(&cluster.gateway_url, options, PLANS, watcher);
    let mut killer = Killer::new(cluster.addresses(), &clients, watcher);
    let mut cutter = Cutter::new(cluster.addresses(), &clients, options, watcher);
    let others = Others::new(&cluster.gateway_url, &clients);
    let (gateway, banks) = cluster.processes();
    let bank_kills = tokio::select! {
        done = async {
            let clients_and_others =
                async { Ok(tokio::join!(clients.run(options.clients), others.run(options.others))) };
            tokio::try_join!(
                clients_and_others,
                killer.kill_gateway(gateway, &plan.gateway_kills, options.parts),
                killer::kill_banks(banks, &plan.bank_kills, &clients, watcher),
                cutter.cut_off(&plan.cuts),
            )
        } => { let (_, (), bank_kills, ()) = done?; bank_kills }
        stuck = stalled(clients.settled(), options.patience) => return Err(stuck),
    };

    watcher(Event::Waiting);
    cluster.wait_until_nothing_is_in_doubt(options.patience).await?;
    let took = clients.elapsed();
    let partitions = cutter.into_partitions();
    let (mut crashes, mut log) = killer.into_findings();
    let evidence = evidence::gather(&cluster, &mut log, &before, &clients, options.retention).await?;
    let mut proof = proof::prove(&evidence);
    for crash in &mut crashes {
        crash.learn_the_end(&log);
    }
    cluster.stop().await?;
    proof.problems.extend(cluster.verify().await?);
    let (others, odd) = others.into_findings();
    proof.problems.extend(odd);
    Ok(Report { crashes, bank_kills, partitions, others, proof, took })
}

/// Returns when the number of settled transfers has not changed for `patience`.
async fn stalled(mut settled: watch::Receiver<usize>, patience: Duration) -> HarnessError {
    while tokio::time::timeout(patience, settled.changed()).await.is_ok() {}
    HarnessError::Stuck { what: format!("transfer {} to be settled", *settled.borrow() + 1), patience }
}
