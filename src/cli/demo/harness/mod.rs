//! The run behind `unanimous demo` and `tests/kills.rs`: real processes, real kills, and a proof at the end.
//!
//! ```text
//!                   ┌─ killer: SIGKILL, start again, read what was in doubt
//!                   ▼
//!  clients ──► gateway ──► north, south (prepare first)   each a process with durable state of its own
//!     │                └─► east (its work answer is its vote)          ▲
//!     │                                                                └─ killer of banks
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
mod plan;
mod process;
mod proof;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::killer::Crash;
pub use self::log::{Decision, InDoubt, Stage};
pub use self::process::free_port;
pub use self::proof::{BankSums, Proof};

use self::clients::Clients;
use self::cluster::Cluster;
use self::killer::Killer;
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
    /// How many transfers are made.
    pub transfers: usize,
    /// How many clients make them, each one after the other.
    pub clients: usize,
    /// How often the gateway is killed.
    pub kills: usize,
    /// How often a bank is killed.
    pub bank_kills: usize,
    /// The longest the run may stand still.
    pub patience: Duration,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// Every kill of the gateway and what it left in doubt.
    pub crashes: Vec<Crash>,
    /// How many times a bank was killed.
    pub bank_kills: usize,
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
    },
    /// So many transfers are settled.
    Settled(usize),
    /// A bank was killed.
    BankKilled(&'a str),
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

/// Runs it all. Every process is dead when this returns, however it returns.
pub async fn run(options: &Options, watcher: Watcher<'_>) -> Result<Report, HarnessError> {
    let plan = Plan::new(options);
    let mut cluster = Cluster::start(options).await?;
    let before = cluster.sums().await?;
    watcher(Event::Started { total: before.iter().map(|sum| sum.balance).sum() });

    let began = Instant::now();
    let clients = Clients::new(&cluster.gateway_url, &plan.transfers, watcher);
    let mut killer = Killer::new(cluster.addresses(), &clients, watcher, began);
    let (gateway, banks) = cluster.processes();
    tokio::select! {
        done = async {
            tokio::try_join!(
                clients.run(options.clients),
                killer.kill_gateway(gateway, &plan.gateway_kills),
                killer::kill_banks(banks, &plan.bank_kills, &clients, watcher),
            )
        } => { done?; }
        stuck = stalled(clients.settled(), options.patience) => return Err(stuck),
    }

    watcher(Event::Waiting);
    cluster.wait_until_nothing_is_in_doubt(options.patience).await?;
    let took = began.elapsed();
    let (mut crashes, mut log) = killer.into_findings();
    let evidence = evidence::gather(&cluster, &mut log, &before, &clients).await?;
    let mut proof = proof::prove(&evidence);
    for crash in &mut crashes {
        crash.learn_the_end(&log);
    }
    cluster.stop().await?;
    proof.problems.extend(cluster.verify().await?);
    Ok(Report { crashes, bank_kills: plan.bank_kills.len(), proof, took })
}

/// Returns when the number of settled transfers has not changed for `patience`.
async fn stalled(mut settled: watch::Receiver<usize>, patience: Duration) -> HarnessError {
    while tokio::time::timeout(patience, settled.changed()).await.is_ok() {}
    HarnessError::Stuck { what: format!("transfer {} to be settled", *settled.borrow() + 1), patience }
}
