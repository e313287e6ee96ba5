//! Transactions as records in the log: the only place that knows both the machine and the disk.
//!
//! ```text
//!  append(id, record, effects) ──► codec ──► wal ──► Durable<effects>
//!  open ──► read everything ──► replay ──► Journal + what was unfinished
//!  find(id) ──► index (time ──► LSN) ──► wal ──► what became of it
//! ```
//!
//! It decides nothing. It never touches the network: effects go in and come back wrapped in
//! [`Durable`] when the log has them.
//!
//! | file | holds |
//! |---|---|
//! | [`record`] | what the log holds of transactions |
//! | [`codec`] | records as bytes |
//! | [`replay`] | the same fold as a live run, over what the log holds |
//! | [`index`] | where in the log a time is |
//! | [`find`] | what became of a finished transaction |
//! | [`inspect`] | a log that no node works with, looked at without changing it |
//! | `opening` | a disk that does not answer while the log is opened |
//! | `room` | the floor below which nothing new is begun |
//! | [`salvage`] | a new log of what can be rescued of a damaged one |
//! | [`mod@line`] | records as people and programs read them |

pub mod codec;
pub mod find;
pub mod index;
pub mod inspect;
pub mod line;
mod opening;
pub mod options;
pub mod record;
mod remains;
pub mod replay;
mod room;
pub mod salvage;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;

pub use self::room::Disk;
pub use unanimous_wal::{BATCH_SIZES, COMMIT_SECONDS, Lsn as LogPosition, Poisoned, Stats as LogStats};
use unanimous_wal::{Durable, Log, Lsn, ReadAllError, Readable, Synced, Wal};

use self::codec::CodecError;
use self::index::{Index, Noted};
use self::opening::Started;
use self::options::{LogOptions, Sync};
use self::record::{Entry, Record};
use self::replay::Found;
use self::room::Floor;
use crate::clock::{Clock, Monotone, Timestamp};
use crate::plan::TransactionId;

/// The log of a running node.
#[derive(Clone)]
pub struct Journal {
    wal: Wal,
    threads: Threads,
    sync: Sync,
    retention: Duration,
    clock: Arc<dyn Clock>,
    floor: Arc<Floor>,
    index: Arc<Mutex<Index>>,
    /// Records that have to be in the index and were not waited for, in the order of the log.
    later: Arc<Mutex<VecDeque<(Noted, Synced)>>>,
}

/// Where the log is written and searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// On threads that may wait for the disk.
    Own,
    /// On the caller's, which has nothing to wait for: the disk is simulated.
    None,
}

/// Why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The log failed; nothing is written any more until a restart.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The record cannot be logged as it is; nothing was written.
    #[error("the transaction cannot be logged: {0}")]
    Unloggable(#[from] CodecError),
}

/// Why a log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or what it holds.
    #[error(transparent)]
    Log(#[from] unanimous_wal::OpenError),
    /// A record that is whole and yet none of ours.
    #[error("record {lsn} cannot be read: {source}")]
    Record {
        /// Which record.
        lsn: Lsn,
        /// What is wrong with it.
        source: CodecError,
    },
    /// Records of another node, in a log of which nothing was given up.
    #[error("{}", mixed(*lsn, *theirs, *own))]
    Mixed {
        /// The first of them.
        lsn: Lsn,
        /// The number of the node that wrote it.
        theirs: u32,
        /// The number of the node that the log is of.
        own: u32,
    },
    /// The disk does not answer.
    #[error("the disk has not answered for {} s while the log in {} was opened", waited.as_secs_f64(), directory.display())]
    Hung {
        /// The directory of the log.
        directory: PathBuf,
        /// How long nothing was heard of it.
        waited: Duration,
    },
}

impl Journal {
    /// As [`open`](Self::open), over a log that is open already.
    pub async fn start(
        log: Log,
        options: &LogOptions,
        clock: Arc<dyn Clock>,
        version: &str,
    ) -> Result<(Self, Found), JournalError> {
        let started = Started::read(log, &*clock, Readable::start, || ())?;
        Self::go_on(started, options, clock, version, Threads::Own).await
    }

    /// As [`start`](Self::start), all on the caller's thread: commits run in a future that is given to `spawn`. For
    /// simulations, in which a run must repeat itself.
    pub async fn start_in_task(
        log: Log,
        options: &LogOptions,
        clock: Arc<dyn Clock>,
        version: &str,
        spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>),
    ) -> Result<(Self, Found), JournalError> {
        let start = |readable: Readable| {
            let (wal, commits) = readable.start_in_task()?;
            spawn(Box::pin(commits));
            Ok(wal)
        };
        let started = Started::read(log, &*clock, start, || ())?;
        Self::go_on(started, options, clock, version, Threads::None).await
    }

    async fn go_on(
        started: Started,
        options: &LogOptions,
        clock: Arc<dyn Clock>,
        version: &str,
        threads: Threads,
    ) -> Result<(Self, Found), JournalError> {
        let Started { wal, index, found, gave_up } = started;
        let clock = Arc::new(Monotone::new(clock, index.latest()));
        let journal = Self {
            wal,
            threads,
            sync: options.sync,
            retention: options.retention,
            clock,
            floor: Arc::new(Floor::new(options.room_min)),
            index: Arc::new(Mutex::new(index)),
            later: Arc::default(),
        };
        if let Some(record) = gave_up {
            journal.append(TransactionId::NONE, record, ()).await?;
        }
        let opened = Record::Opened { epoch: journal.epoch(), version: version.to_owned() };
        journal.append(TransactionId::NONE, opened, ()).await?;
        Ok((journal, found))
    }

    /// Writes `record` and gives `effects` back when it is as durable as recovery needs it to be.
    pub async fn append<T>(
        &self,
        id: TransactionId,
        record: Record,
        effects: T,
    ) -> Result<Durable<T>, AppendError> {
        let (waits, noted) = (self.sync.waits_for(&record), Noted::of(id, &record));
        let entry = Entry { time: self.clock.now(), transaction: id, record };
        let bytes = codec::encode(&entry)?;
        if !waits {
            let (durable, later) = self.wal.append_lazily(bytes, effects).await?;
            if let Some(noted) = noted {
                self.later().push_back((noted, later));
            }
            return Ok(durable);
        }
        let durable = self.wal.append(bytes, effects).await?;
        if let Some(lsn) = durable.lsn() {
            let mut index = self.index();
            index.note(entry.time, lsn);
            if let Some(noted) = noted {
                noted.put(&mut index, lsn);
            }
        }
        Ok(durable)
    }

    /// Records from `from` on, as far as they are durable. Reads the disk.
    pub fn read(&self, from: Lsn) -> impl Iterator<Item = Result<(Lsn, Entry), ReadError>> + use<> {
        self.wal.read(from).map(|item| {
            let (lsn, bytes) = item?;
            let entry = codec::decode(&bytes).map_err(|source| ReadError::Record { lsn, source })?;
            Ok((lsn, entry))
        })
    }

    /// The time of day as the log counts it: it never goes back, over restarts too.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long finished transactions can be asked for.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// Whatever ended before this time is told of no more.
    #[must_use]
    pub fn kept_since(&self) -> Timestamp {
        self.now().minus(self.retention)
    }

    /// Which start of the node this is, from 1.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.wal.epoch()
    }

    /// The number that names this node in its transactions' ids.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.wal.node()
    }

    /// The highest durable LSN, as it grows; 0 while there is none.
    #[must_use]
    pub fn follow(&self) -> tokio::sync::watch::Receiver<u64> {
        self.wal.follow()
    }

    /// What the log counts about itself.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.wal.stats()
    }

    /// Resolves when the log has failed, with a sentence that says how.
    pub async fn failed(&self) -> Poisoned {
        self.wal.poisoned().await
    }

    /// Writes what is queued and closes the log.
    pub async fn close(self) -> Result<(), Poisoned> {
        self.wal.close().await
    }

    /// The log below.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The first record of at least this time, as far as the index knows: everything before it is
    /// older.
    #[must_use]
    pub fn position(&self, time: Timestamp) -> Option<Lsn> {
        self.index().before(time)
    }

    /// Lets go of every block that holds only records before `below`.
    pub async fn retire(&self, below: Lsn) -> Result<(), Poisoned> {
        self.wal.retire(below).await?;
        self.index().forget(self.wal.low());
        Ok(())
    }

    /// Waits until everything handed in so far can be read. A log that failed has nothing more to wait for.
    pub async fn catch_up(&self) {
        // Requests are answered in order, and letting go of what is gone already changes nothing.
        let _ = self.wal.retire(self.wal.low()).await;
    }

    /// The index, with everything in it that is durable.
    fn index(&self) -> MutexGuard<'_, Index> {
        let mut later = self.later();
        let mut index = self.index.lock().expect("no code panics while it holds this lock");
        // What failed to be written is not in the log, and so not in the index.
        while let Some(synced) = later.front_mut().and_then(|(_, synced)| synced.now_or_never()) {
            if let (Some((noted, _)), Ok(lsn)) = (later.pop_front(), synced) {
                noted.put(&mut index, lsn);
            }
        }
        index
    }

    fn later(&self) -> MutexGuard<'_, VecDeque<(Noted, Synced)>> {
        self.later.lock().expect("no code panics while it holds this lock")
    }
}

/// That files of two logs are in one directory, and what to do.
fn mixed(lsn: Lsn, theirs: u32, own: u32) -> String {
    format!(
        "record {lsn} is of node {theirs}, and by `INIT` this is the log of node {own}: files of two logs are mixed. Bring the files together \
         that belong to one; `unanimous salvage` makes a log of `store` and `ring` alone where `INIT` and `witness` are moved out"
    )
}

impl OpenError {
    /// Whether another process works with the log.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Log(unanimous_wal::OpenError::Locked { .. }))
    }

    /// Whether something is where a new log was to be made.
    #[must_use]
    pub fn is_not_empty(&self) -> bool {
        matches!(
            self,
            Self::Log(
                unanimous_wal::OpenError::NotEmpty { .. } | unanimous_wal::OpenError::Unfinished { .. }
            )
        )
    }
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first record of this start could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why a record could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log.
    #[error(transparent)]
    Log(#[from] unanimous_wal::ReadError),
    /// A record that is whole and yet none of ours.
    #[error("record {lsn} cannot be read: {source}")]
    Record {
        /// Which record.
        lsn: Lsn,
        /// What is wrong with it.
        source: CodecError,
    },
}

impl From<ReadAllError<CodecError>> for OpenError {
    fn from(error: ReadAllError<CodecError>) -> Self {
        match error {
            ReadAllError::Visit { lsn, cause } => Self::Record { lsn, source: cause },
            ReadAllError::Damage(damage) => Self::Log(damage.into()),
            ReadAllError::NewerVersion(damage) => Self::Log(unanimous_wal::OpenError::NewerVersion(damage)),
            ReadAllError::Store(error) => Self::Log(error.into()),
        }
    }
}

impl From<unanimous_wal::AppendError> for AppendError {
    fn from(error: unanimous_wal::AppendError) -> Self {
        match error {
            unanimous_wal::AppendError::Poisoned(poisoned) => Self::Poisoned(poisoned),
            too_large @ unanimous_wal::AppendError::TooLarge { .. } => {
                Self::Unloggable(CodecError::TooLarge(too_large.to_string()))
            }
        }
    }
}
