//! Opening the log where somebody watches: a disk that does not answer must not keep the node from saying so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use unanimous_wal::{Log, Readable, Wal};

use super::index::Index;
use super::options::LogOptions;
use super::record::{Entry, Record};
use super::replay::{Found, Replay};
use super::{Journal, JournalError, OpenError, Threads};
use crate::clock::Clock;
use crate::plan::TransactionId;

/// A log that was read to its end and can be written, before its first record of this start.
pub(super) struct Started {
    pub(super) wal: Wal,
    pub(super) index: Index,
    pub(super) found: Found,
    pub(super) gave_up: Option<Record>,
}

/// What is heard of an opening while it runs.
#[derive(Default)]
struct Attendant {
    steps: AtomicU64,
    /// Milliseconds that it may stand still.
    patience: AtomicU64,
}

impl Journal {
    /// Opens the log in `directory`, reads all of it, and writes `opened`.
    pub async fn open(
        directory: &Path,
        options: &LogOptions,
        clock: Arc<dyn Clock>,
        version: &str,
    ) -> Result<(Self, Found), JournalError> {
        let (of, directory, stall_max) = (directory, directory.to_owned(), options.stall_max);
        let wal_options = unanimous_wal::Options {
            accept_damage: options.accept_damage,
            copied: options.accept_copy,
            ..unanimous_wal::Options::default()
        };
        let open = move |attendant: &Attendant| {
            // sled reads all of its file before it gives the first record.
            attendant.allow(stall_max + unanimous_wal::time_to_read(&directory));
            let log = unanimous_wal::open(&directory, wal_options).map_err(OpenError::Log)?;
            attendant.allow(stall_max);
            Started::read(log, &*clock, Readable::start, || attendant.step()).map(|started| (started, clock))
        };
        let opened = attended(stall_max, open).await;
        let (started, clock) =
            opened.map_err(|waited| OpenError::Hung { directory: of.to_owned(), waited })??;
        Self::go_on(started, options, clock, version, Threads::Own).await
    }
}

impl Started {
    /// Reads the log to its end, telling of every record that goes by, and starts it.
    pub(super) fn read(
        log: Log,
        clock: &dyn Clock,
        start: impl FnOnce(Readable) -> Result<Wal, unanimous_wal::OpenError>,
        step: impl Fn(),
    ) -> Result<Self, OpenError> {
        let mut replay = Replay::default();
        let readable = log.read_all(|lsn, bytes| {
            step();
            replay.read(lsn, bytes)
        })?;
        let gave_up = readable.given_up().map(|damage| Record::GaveUp { damage });
        if let Some(record) = gave_up.clone() {
            let entry = Entry { time: clock.now(), transaction: TransactionId::NONE, record };
            replay.take(readable.next(), entry);
        }
        let (index, found) = replay.finish(&readable);
        if let Some((lsn, theirs)) = found.stranger(readable.node()).filter(|_| index.is_whole()) {
            return Err(OpenError::Mixed { lsn, theirs, own: readable.node() });
        }
        let wal = start(readable).map_err(OpenError::Log)?;
        Ok(Self { wal, index, found, gave_up })
    }
}

/// Runs `open` where it may wait for the disk. If nothing is heard of it for longer than its patience, that is the error; it is
/// left to itself then, because there is no way to end a call that hangs.
async fn attended<T: Send + 'static>(
    patience: Duration,
    open: impl FnOnce(&Attendant) -> T + Send + 'static,
) -> Result<T, Duration> {
    let attendant = Arc::new(Attendant::default());
    attendant.allow(patience);
    let theirs = attendant.clone();
    let mut running = spawn_blocking(move || open(&theirs));
    let mut seen = 0;
    loop {
        let patience = attendant.patience();
        if let Ok(opened) = timeout(patience, &mut running).await {
            return Ok(opened.expect("a panic in sled is an error, and there is no other"));
        }
        let steps = attendant.steps.load(Ordering::Relaxed);
        if steps == seen {
            return Err(patience);
        }
        seen = steps;
    }
}

impl Attendant {
    /// It goes on.
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// It goes on, and may stand still for so long from here on.
    fn allow(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(millis, Ordering::Relaxed);
        self.step();
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::sleep;

    use super::*;
    use crate::clock::SystemClock;
    use crate::plan::{Issuer, made};

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn an_opening_may_take_long_as_long_as_it_goes_on() {
        let steps = |attendant: &Attendant| {
            for _ in 0..30 {
                sleep(PATIENCE / 10);
                attendant.step();
            }
            attendant.allow(PATIENCE * 10);
            sleep(PATIENCE * 3);
        };
        assert_eq!(attended(PATIENCE, steps).await, Ok(()));
    }

    #[tokio::test]
    async fn an_opening_that_stands_still_is_given_up() {
        let (go_on, wait) = mpsc::channel();
        let hangs = move |attendant: &Attendant| {
            attendant.step();
            wait.recv()
        };
        assert_eq!(attended(PATIENCE, hangs).await, Err(PATIENCE));
        go_on.send(()).expect("it still hangs");
    }

    #[tokio::test]
    async fn a_log_that_takes_longer_to_read_than_a_call_to_the_disk_may_take_is_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = LogOptions { stall_max: Duration::from_secs(1), ..LogOptions::default() };
        let open = || Journal::open(directory.path(), &options, Arc::new(SystemClock), "0");
        let (journal, _) = open().await.expect("a new log");
        let mut plan = made::over(&["ledger"]);
        plan.route = "r".repeat(4_000_000);
        let plan = Arc::new(plan);
        let issuer = Issuer::new(journal.node());
        for _ in 0..5 {
            let id = issuer.issue(SystemClock.now(), 0);
            journal.append(id, Record::Begun(plan.clone()), ()).await.expect("it is logged");
        }
        journal.close().await.expect("it is whole");
        assert!(unanimous_wal::time_to_read(directory.path()) > options.stall_max);
        let (journal, found) = open().await.expect("it may take longer");
        assert_eq!(found.unfinished.len(), 5);
        journal.close().await.expect("it is whole");
    }
}
