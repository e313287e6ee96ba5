//! The log of one transaction: what is durable, and what a crash may still take.
//!
//! Records are written in order and synced in order, so what a crash leaves is a prefix that holds at least everything
//! that was synced. What it leaves is read back by the real [`Replay`].

use std::sync::Arc;

use unanimous::clock::Timestamp;
use unanimous::journal::record::{Carried, Entry, Record, Remark};
use unanimous::journal::replay::Replay;
use unanimous::plan::{Plan, TransactionId};
use unanimous::txn::{Decision, Shape, Transition, Txn};
use unanimous_wal::Lsn;

/// The records of the transaction, `begun` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    shape: Shape,
    records: Vec<Written>,
    /// So many of them are on stable storage.
    durable: usize,
    /// What these leave of the transaction; `None` while there is no `begun`.
    left: Option<Txn>,
    /// They are not what a run can have written.
    is_illegal: bool,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Begun,
    Step(Transition),
}

/// What a start finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub state: FoundState,
    /// The transaction's key is remembered.
    pub has_key: bool,
}

/// What a start finds of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundState {
    Nothing,
    Unfinished(Txn),
    Finished,
    /// Records that no run can have written.
    Illegal,
}

impl Disk {
    pub fn new(shape: Shape) -> Self {
        Self { shape, records: Vec::new(), durable: 0, left: None, is_illegal: false }
    }

    pub fn append(&mut self, record: Written) {
        self.records.push(record);
    }

    pub fn is_synced(&self) -> bool {
        self.durable == self.records.len()
    }

    /// How many records a crash could take.
    pub fn unsynced(&self) -> usize {
        self.records.len() - self.durable
    }

    pub fn sync(&mut self) {
        for record in self.records.get(self.durable..).unwrap_or_default() {
            match record.after(self.shape, self.left) {
                Some(left) => self.left = Some(left),
                None => self.is_illegal = true,
            }
        }
        self.durable = self.records.len();
    }

    /// The node is gone, and so many of its last records are found although nobody saw them synced.
    ///
    /// A start syncs what it found before it does anything, so that these are durable from here on.
    pub fn crash(&mut self, found: usize) {
        self.records.truncate(self.durable + found);
        self.sync();
    }

    /// Takes the last record for damaged: only a deliberate bug does that.
    pub fn drop_last(&mut self) {
        self.records.pop();
        (self.durable, self.left) = (0, None);
        self.sync();
    }

    /// What the durable records leave of the transaction.
    pub fn left(&self) -> Option<&Txn> {
        self.left.as_ref()
    }

    pub fn decision(&self) -> Option<Decision> {
        self.left.and_then(|txn| txn.decision())
    }

    /// Whether such a step is on stable storage.
    pub fn holds(&self, is_it: impl Fn(&Transition) -> bool) -> bool {
        let durable = self.records.iter().take(self.durable);
        durable.filter_map(Written::step).any(|step| is_it(&step))
    }

    pub fn is_illegal(&self) -> bool {
        self.is_illegal
    }

    /// What a start would find of the transaction for each number of unsynced records that a crash leaves, from none on.
    pub fn futures(&self) -> impl Iterator<Item = Option<Txn>> {
        let unsynced = self.records.get(self.durable..).unwrap_or_default();
        let rest = unsynced.iter().scan(self.left, |left, record| {
            *left = record.after(self.shape, *left).or(*left);
            Some(*left)
        });
        std::iter::once(self.left).chain(rest)
    }

    /// Reads the log as a start does.
    pub fn read(&self, plan: &Arc<Plan>) -> Found {
        let found = replay(self.as_records(plan));
        if let FoundState::Unfinished(txn) = &found.state {
            // Retention may have written it again and let go of what was before: that must leave the same.
            let carried = Carried { plan: plan.clone(), txn: txn.durable(), kept: None, parked: None };
            assert_eq!(replay([Record::Carried(Box::new(carried))]), found, "carried, it is the same");
        }
        found
    }

    fn as_records(&self, plan: &Arc<Plan>) -> Vec<Record> {
        let mut txn = Txn::begin(self.shape);
        let records = self.records.iter().map(|written| match *written {
            Written::Begun => Record::Begun(plan.clone()),
            // Only a deliberate bug ends what was never decided.
            Written::Step(Transition::Ended) if txn.decision().is_none() => Record::Ended(Decision::Abort),
            Written::Step(step) => {
                txn = txn.apply(step).unwrap_or(txn);
                Record::of(step, &txn, Remark::default())
            }
        });
        records.collect()
    }
}

impl Written {
    fn step(&self) -> Option<Transition> {
        match self {
            Self::Begun => None,
            Self::Step(step) => Some(*step),
        }
    }

    fn after(self, shape: Shape, before: Option<Txn>) -> Option<Txn> {
        match (self, before) {
            (Self::Begun, None) => Some(Txn::begin(shape)),
            (Self::Step(step), Some(txn)) => txn.apply(step).ok(),
            (Self::Begun, Some(_)) | (Self::Step(_), None) => None,
        }
    }
}

fn replay(records: impl IntoIterator<Item = Record>) -> Found {
    let mut replay = Replay::default();
    for (number, record) in (1..).zip(records) {
        let entry = Entry { time: Timestamp(number), transaction: TransactionId::NONE, record };
        replay.take(Lsn::new(number).expect("from 1 on"), entry);
    }
    let (_, unfinished, found) = replay.into_parts();
    let state = match unfinished.first() {
        Some(logged) if logged.fault.is_some() => FoundState::Illegal,
        Some(logged) => FoundState::Unfinished(logged.txn),
        None if found.strays > 0 => FoundState::Illegal,
        None if found.finished > 0 => FoundState::Finished,
        None => FoundState::Nothing,
    };
    Found { state, has_key: !found.keys.is_empty() }
}
