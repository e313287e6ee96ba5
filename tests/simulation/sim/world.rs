//! All that outlives a node: the disk, the services, what is on the wire, what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use unanimous::plan::TransactionId;
use unanimous::txn::{Branch, Decision, Operation};
use unanimous_wal::sim::SimDisk;

use super::chance::{Chance, Faults};
use super::history::History;
use super::invariants::Broken;
use super::ledger::Ledger;
use super::participant::{Response, Service};
use super::scenario::{Crash, Request, Settings};
use super::summary::Summary;

/// The world, shared by everything in it. Everything runs on one thread; the lock only satisfies the compiler.
#[derive(Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    /// Something is on the wire that was not before.
    pub sent: Arc<Notify>,
    /// The node has died, or a promise was broken.
    pub over: Arc<Notify>,
}

pub struct World {
    pub chance: Chance,
    pub faults: Faults,
    pub settings: Settings,
    pub disk: SimDisk,
    pub services: Vec<Service>,
    pub requests: Vec<Request>,
    /// What is on the wire, by the time of its arrival.
    pub wire: BTreeMap<(u64, u64), Flight>,
    /// Connections that will never answer.
    pub silent: Vec<oneshot::Sender<Response>>,
    pub ledger: Ledger,
    pub seen: BTreeMap<TransactionId, Seen>,
    /// Which transaction each idempotency key of a route began last.
    pub keys: BTreeMap<(String, String), TransactionId>,
    /// Transactions of which work left before their beginning was durable.
    pub ahead: BTreeSet<TransactionId>,
    /// Up to which record the node says that it has everything for good.
    pub acknowledged: Option<watch::Receiver<u64>>,
    /// The last record that any node said so of.
    pub high: u64,
    pub history: History,
    pub summary: Summary,
    pub broken: Option<Broken>,
    pub crash: Crash,
    /// Many requests, over a minute.
    pub is_long: bool,
    is_dead: bool,
    flights: u64,
    /// When this life began: on the world's clock, and on tokio's.
    began: (u64, Option<Instant>),
}

/// Something under way.
pub enum Flight {
    Call(Message, Option<oneshot::Sender<Response>>),
    Answer(Response, oneshot::Sender<Response>),
}

/// A call as it is on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub service: usize,
    pub transaction: TransactionId,
    pub branch: Branch,
    pub operation: Operation,
    pub attempt: u32,
}

/// What was seen of a transaction from outside.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The decision, wherever it showed first.
    pub decision: Option<Decision>,
    /// Somebody was told that it never began.
    pub is_denied: bool,
    /// Branches of which an operator said what became.
    pub settled: Vec<Branch>,
    /// A call of it was sent.
    pub is_real: bool,
}

impl Sim {
    pub fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), sent: Arc::default(), over: Arc::default() }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic is told of by itself.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.world().note(line);
    }

    /// Whether the node can still do anything that others notice.
    pub fn is_alive(&self) -> bool {
        let is_dead = self.world().is_over();
        if is_dead {
            self.over.notify_one();
        }
        !is_dead
    }

    /// The node is dead from this instant on.
    pub fn kill(&self) {
        self.world().is_dead = true;
        self.over.notify_one();
    }

    /// Remembers the first promise that was broken.
    pub fn expect(&self, result: Result<(), Broken>) {
        if let Err(broken) = result {
            let mut world = self.world();
            world.note(|| format!("BROKEN {broken}"));
            world.broken.get_or_insert(broken);
            self.over.notify_one();
        }
    }
}

impl World {
    pub fn new(seed: u64, with_history: bool) -> Self {
        let mut chance = Chance::new(seed);
        let faults = Faults::any(&mut chance);
        let settings = Settings::any(&mut chance);
        let count = chance.within(2..5);
        let services: Vec<_> = (0..count)
            .map(|number| Service::new(usize::try_from(number).expect("it is small"), &mut chance))
            .collect();
        // A few runs are long enough for old blocks to be dropped, and for what is in doubt to be carried.
        let is_long = chance.hits(40);
        let (wanted, until) =
            if is_long { (chance.within(60..160), 60_000) } else { (chance.within(3..14), 8_000) };
        let requests =
            (0..wanted).map(|number| Request::any(number, until, &services, &mut chance)).collect();
        Self {
            faults,
            settings,
            disk: SimDisk::new(chance.within(0..u64::MAX)),
            services,
            requests,
            wire: BTreeMap::new(),
            silent: Vec::new(),
            ledger: Ledger::default(),
            seen: BTreeMap::new(),
            keys: BTreeMap::new(),
            ahead: BTreeSet::new(),
            acknowledged: None,
            high: 0,
            history: History::new(with_history),
            summary: Summary::default(),
            broken: None,
            crash: Crash::Never,
            is_long,
            is_dead: false,
            flights: 0,
            began: (0, None),
            chance,
        }
    }

    /// A node starts now. The runtime of the last one is gone, and its clock with it.
    pub fn begin_life(&mut self, crash: Crash) {
        self.began = (self.now(), Some(Instant::now()));
        self.ledger.restart();
        (self.crash, self.is_dead) = (crash, false);
        if let Crash::AfterChange(nth) = crash {
            self.disk.darken(nth);
        }
    }

    /// The runtime of this life is about to go.
    pub fn end_life(&mut self) {
        self.began = (self.now(), None);
        let said = self.acknowledged.take().map_or(0, |said| *said.borrow());
        self.high = self.high.max(said);
        self.silent.clear();
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        let (base, began) = self.began;
        base + began.map_or(0, |began| u64::try_from(began.elapsed().as_millis()).expect("a run is short"))
    }

    pub fn is_over(&self) -> bool {
        self.is_dead || self.broken.is_some() || self.disk.is_dark()
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now();
        self.history.note(now, line);
    }

    /// Nothing goes wrong any more, and whoever was down is up.
    pub fn heal(&mut self) {
        self.faults.heal();
        self.services.iter_mut().for_each(|service| service.down_until = 0);
    }

    /// Puts something on the wire that arrives after so many milliseconds.
    pub fn fly(&mut self, after: u64, flight: Flight) {
        self.flights += 1;
        self.wire.insert((self.now() + after, self.flights), flight);
    }

    /// How long the next thing is under way.
    pub fn delay(&mut self) -> u64 {
        let max = self.faults.delay_ms_max;
        // Most are fast, so that the slow ones are overtaken.
        if self.chance.hits(700) { self.chance.within(0..3) } else { self.chance.within(0..max + 1) }
    }
}
