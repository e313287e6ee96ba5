//! A bank of the demo: a participant as a process of its own, with durable state of its own.
//!
//! It keeps the participant protocol and nothing else: it asks the coordinator nothing, not even when it
//! starts. What it held before it was killed it holds again, until it is told commit or abort.
//!
//! ```text
//!  call ──► server (HTTP) ──► book (decides, pure) ──► journal (one line, fdatasync) ──► answer
//! ```
mod book;
mod journal;
mod server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use book::{Outcome, Posting};
pub use journal::JournalError;
pub use server::{Standing, Sum};

use journal::Journal;
use server::Bank;

/// Arguments of the hidden command `demo-bank`.
#[derive(Debug, Clone, clap::Args)]
pub struct BankArgs {
    /// What this bank is called
    #[arg(long)]
    pub name: String,
    /// Where it listens
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where it keeps its book; made if it is not there
    #[arg(long)]
    pub data_dir: PathBuf,
    /// How many accounts it opens when it has no book yet
    #[arg(long, default_value_t = 100)]
    pub accounts: usize,
    /// What is on each of them then
    #[arg(long, default_value_t = 1_000)]
    pub balance: i64,
}

/// Why a bank ended.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// Its book cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It cannot listen, or no longer.
    #[error("the bank cannot listen on {listen}")]
    Listen {
        /// The address it was told to take.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the book, then serves until the process is killed.
pub async fn run(args: BankArgs) -> Result<(), BankError> {
    let (book, journal) = Journal::open(&args.data_dir, &args.name, args.accounts, args.balance)?;
    let failed = journal.failed();
    let bank = Arc::new(Bank::new(book, journal));
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await.map_err(|source| BankError::Listen { listen, source })?;
    tokio::select! {
        served = async { axum::serve(listener, server::router(bank)).await } => {
            served.map_err(|source| BankError::Listen { listen, source })
        }
        error = failed => Err(error.into()),
    }
}
