//! What became of a transaction, as the log tells it: to the millisecond of the retention, and never a guess.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "journal/made.rs"]
mod made;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use unanimous::clock::{Clock, Timestamp};
use unanimous::journal::find::Search;
use unanimous::journal::options::{LogOptions, Sync};
use unanimous::journal::record::{Carried, Record};
use unanimous::journal::{Journal, LogPosition as Lsn};
use unanimous::plan::TransactionId;
use unanimous::txn::{Branch, Decision, Txn};
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::{self, SimDisk, SimStore};
use unanimous_wal::store::{Removed, Slot, Store, StoreError, Visit, WITNESS_LEN};
use unanimous_wal::{Options, Room, create_in};

use made::{begun, decided, id};

const ENDED: Record = Record::Ended(Decision::Commit);

/// A clock that stands where it is put.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed))
    }
}

/// A log, and the clock that it goes by.
struct Bench {
    journal: Journal,
    clock: Hand,
    _commits: JoinSet<()>,
}

impl Bench {
    async fn open(disk: &SimDisk, options: &LogOptions, time: u64) -> Self {
        let clock = Hand(Arc::new(AtomicU64::new(time)));
        let (log, below) = (sim::open(disk, Options::default()).unwrap(), Arc::new(clock.clone()));
        let mut commits = JoinSet::new();
        let spawn = |committer| drop(commits.spawn(committer));
        let (journal, _) = Journal::start_in_task(log, options, below, "0", spawn).await.unwrap();
        Self { journal, clock, _commits: commits }
    }

    fn at(&self, time: u64) -> &Self {
        self.clock.0.store(time, Relaxed);
        self
    }

    async fn write(&self, transaction: TransactionId, record: Record) {
        let _ = self.journal.append(transaction, record, ()).await.unwrap();
        self.journal.catch_up().await;
    }

    fn find(&self, transaction: TransactionId) -> &'static str {
        match self.journal.find(transaction).unwrap() {
            Search::Decided(past) if past.ended.is_some() => "ended",
            Search::Decided(_) => "decided",
            Search::Undecided => "undecided",
            Search::SettledByHand => "by hand",
            Search::NeverSeen => "never seen",
            Search::Expired => "expired",
            Search::GivenUp => "given up",
        }
    }
}

/// Ten minutes, so that the disorder of 10 s is not of its size.
fn kept() -> LogOptions {
    LogOptions { retention: Duration::from_mins(10), ..LogOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_told_of_from_its_beginning_to_the_end_of_the_retention() {
    let disk = SimDisk::new(1);
    let bench = Bench::open(&disk, &kept(), 100_000).await;
    let one = id(100_000);
    assert_eq!(bench.find(one), "never seen");
    bench.write(one, begun()).await;
    assert_eq!(bench.find(one), "undecided");
    bench.write(one, decided()).await;
    assert_eq!(bench.find(one), "decided");
    bench.at(110_000).write(one, ENDED).await;
    let Search::Decided(past) = bench.journal.find(one).unwrap() else { panic!("it was decided") };
    assert_eq!((past.decision, past.ended), (Decision::Commit, Some(Timestamp(110_000))));
    bench.at(710_000);
    assert_eq!((bench.journal.now(), bench.journal.kept_since()), (Timestamp(710_000), Timestamp(110_000)));
    assert_eq!(bench.find(one), "ended", "it ended just within the retention");
    bench.at(710_001);
    assert_eq!(bench.find(one), "expired");
    assert_eq!(bench.find(id(100_001)), "never seen", "and the log knows all that was there then");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_settled_without_a_decision_is_no_decision() {
    let disk = SimDisk::new(1);
    let bench = Bench::open(&disk, &kept(), 100_000).await;
    let branch = Branch::new(0).unwrap();
    let (actor, reason) = ("ann".to_owned(), "by hand".to_owned());
    let resolved = Record::Resolved { branch, decision: Decision::Abort, actor, reason };
    let (by_hand, ended) = (id(100_000), id(100_001));
    bench.write(by_hand, begun()).await;
    bench.write(by_hand, resolved.clone()).await;
    assert_eq!(bench.find(by_hand), "by hand");
    // Where its end is there, that says what the decision was.
    for record in [begun(), resolved, ENDED] {
        bench.write(ended, record).await;
    }
    let Search::Decided(past) = bench.journal.find(ended).unwrap() else { panic!("it ended") };
    assert_eq!((past.decision, past.resolved), (Decision::Commit, vec![(branch, Decision::Abort)]));
}

#[tokio::test(start_paused = true)]
async fn where_the_beginning_of_the_log_is_gone_nothing_older_was_never_seen() {
    let disk = SimDisk::new(1);
    let bench = Bench::open(&disk, &kept(), 100_000).await;
    let (early, carried, late) = (id(100_001), id(100_002), id(200_000));
    bench.write(early, begun()).await;
    bench.write(early, decided()).await;
    bench.write(early, ENDED).await;
    bench.write(carried, begun()).await;
    for _ in 0..300 {
        bench.write(id(100_003), Record::Acked(Branch::new(0).unwrap())).await;
    }
    // From here on there is an entry in the index.
    bench.at(200_000).write(late, begun()).await;
    let low = Lsn::new(306).unwrap();
    assert_eq!(bench.journal.position(Timestamp(200_001)), Some(low));
    let Record::Begun(plan) = begun() else { panic!("it begins one") };
    let txn = Txn::begin(plan.shape().unwrap());
    let it = Carried { plan, txn, kept: None, parked: None };
    bench.write(carried, Record::Carried(Box::new(it))).await;
    assert_eq!(bench.find(early), "ended");
    bench.journal.retire(low).await.unwrap();
    assert_eq!(bench.find(carried), "undecided", "wherever it began");
    let told = [early, id(210_000), id(210_001)].map(|id| bench.find(id));
    assert_eq!(told, ["expired", "expired", "never seen"], "it could be older than the oldest that is known");
    let told = [early, carried, id(189_999), id(190_000)].map(bench.journal.has_forgotten());
    assert_eq!(told, [true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn where_records_were_given_up_nothing_of_their_time_was_never_seen() {
    let disk = SimDisk::new(1);
    let bench = Bench::open(&disk, &kept(), 100_000).await;
    bench.journal.close().await.unwrap();
    let bench = Bench::open(&disk, &kept(), 200_000).await;
    assert_eq!(bench.find(id(150_000)), "never seen");
    bench.journal.close().await.unwrap();
    let bench = Bench::open(&disk, &kept(), 300_000).await;
    bench.write(TransactionId::NONE, Record::GaveUp { damage: "a gap".to_owned() }).await;
    bench.journal.close().await.unwrap();
    let bench = Bench::open(&disk, &kept(), 300_000).await;
    // The last record before was written at 300,000, and so was this one; what is in question takes 10 s to be written.
    let told = [289_999, 290_000, 300_000, 300_001].map(|time| bench.find(id(time)));
    assert_eq!(told, ["never seen", "given up", "given up", "never seen"]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_that_ended_are_listed_the_oldest_first_and_the_open_ones_apart() {
    let disk = SimDisk::new(1);
    let bench = Bench::open(&disk, &kept(), 100_000).await;
    let all: Vec<_> = (1..=4).map(|number| id(100_000 + number)).collect();
    for (n, one) in (0..).zip(&all) {
        bench.at(100_000 + n).write(*one, begun()).await;
        bench.write(*one, decided()).await;
        if n != 1 {
            bench.write(*one, ENDED).await;
        }
    }
    let listed = |max| bench.journal.finished(max).unwrap().into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(listed(10), [all[0], all[2], all[3]]);
    assert_eq!(listed(2), [all[2], all[3]]);
    assert_eq!(bench.journal.unfinished().unwrap().into_iter().collect::<Vec<_>>(), [all[1]]);
    bench.at(700_001);
    assert_eq!(listed(10), [all[2], all[3]], "the first is told of no more");
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_is_durable_and_the_rest_is_not_yet() {
    let disk = SimDisk::new(1);
    let options = LogOptions { sync: Sync::Decisions, ..kept() };
    let bench = Bench::open(&disk, &options, 100_000).await;
    let one = id(100_000);
    let mut waited = Vec::new();
    for record in [begun(), decided(), ENDED] {
        waited.push(bench.journal.append(one, record, ()).await.unwrap().lsn().is_some());
    }
    assert_eq!(waited, [false, true, false]);
    assert_eq!((bench.journal.epoch(), bench.journal.retention()), (1, Duration::from_mins(10)));
    assert!(bench.journal.stats().blocks > 0);
}

/// A disk on which the second look for a record takes until something else has been done.
struct Slow {
    disk: SimStore,
    looks: AtomicU64,
    meanwhile: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Store for Slow {
    fn at_or_before(&self, key: BlockKey) -> Result<Option<(BlockKey, Vec<u8>)>, StoreError> {
        let found = self.disk.at_or_before(key);
        if self.looks.fetch_add(1, Relaxed) == 1
            && let Some((reached, go_on)) = self.meanwhile.lock().unwrap().take()
        {
            reached.send(()).unwrap();
            go_on.recv().unwrap();
        }
        found
    }

    fn put(&self, key: BlockKey, block: &[u8]) -> Result<(), StoreError> {
        self.disk.put(key, block)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.disk.sync()
    }
    fn scan(&self, from: BlockKey, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.disk.scan(from, visit)
    }
    fn remove_below(&self, key: BlockKey, limit: usize) -> Result<Removed, StoreError> {
        self.disk.remove_below(key, limit)
    }
    fn remove_from(&self, key: BlockKey) -> Result<Removed, StoreError> {
        self.disk.remove_from(key)
    }
    fn read_witness(&self) -> Result<[Vec<u8>; 2], StoreError> {
        self.disk.read_witness()
    }
    fn write_witness(&self, slot: Slot, bytes: &[u8; WITNESS_LEN]) -> Result<(), StoreError> {
        self.disk.write_witness(slot, bytes)
    }
    fn sync_witness(&self) -> Result<(), StoreError> {
        self.disk.sync_witness()
    }
    fn ring_pages(&self) -> u64 {
        self.disk.ring_pages()
    }
    fn read_ring(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.disk.read_ring(at, bytes)
    }
    fn write_ring(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk.write_ring(at, bytes)
    }
    fn sync_ring(&self) -> Result<(), StoreError> {
        self.disk.sync_ring()
    }
    fn room(&self) -> Result<Room, StoreError> {
        self.disk.room()
    }
    fn set_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        self.disk.set_aside()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retired_while_it_is_looked_for_is_not_told_of_by_half() {
    let slow = Slow { disk: SimDisk::new(1).open(), looks: AtomicU64::new(0), meanwhile: Mutex::new(None) };
    let slow = Arc::new(slow);
    let log = create_in(slow.clone(), 1, Options::default()).unwrap();
    let clock = Hand(Arc::new(AtomicU64::new(100_000)));
    let (journal, _) = Journal::start(log, &kept(), Arc::new(clock.clone()), "0").await.unwrap();
    let one = id(100_000);
    for record in [begun(), decided(), ENDED] {
        let _ = journal.append(one, record, ()).await.unwrap();
        journal.catch_up().await;
    }
    clock.0.store(800_000, Relaxed);
    let _ = journal.append(id(800_000), begun(), ()).await.unwrap();
    let ((reached, is_reached), (done, go_on)) = (channel(), channel());
    *slow.meanwhile.lock().unwrap() = Some((reached, go_on));
    slow.looks.store(0, Relaxed);
    let searching = journal.clone();
    let search = tokio::task::spawn_blocking(move || searching.find(one).unwrap());
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
    // Its beginning was read, and its decision is dropped.
    journal.retire(Lsn::new(5).unwrap()).await.unwrap();
    done.send(()).unwrap();
    let found = search.await.unwrap();
    assert!(matches!(found, Search::Expired), "{found:?}");
    journal.close().await.unwrap();
}
