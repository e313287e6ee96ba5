//! What the disk would still have if the power went now, read block by block, without the program's own opinion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use unanimous::clock::Timestamp;
use unanimous::journal::codec;
use unanimous::journal::record::{Entry, Record};
use unanimous::plan::{Plan, TransactionId};
use unanimous::txn::{Branch, Decision};
use unanimous_wal::Lsn;
use unanimous_wal::block::{self, BlockKey};
use unanimous_wal::frame::Kind;
use unanimous_wal::sim::SimDisk;

/// Every record that was durable at some time.
#[derive(Default)]
pub struct Ledger {
    /// The bytes of each, and whose it is.
    pub records: BTreeMap<Lsn, (TransactionId, Vec<u8>)>,
    pub facts: BTreeMap<TransactionId, Facts>,
    /// Where the next look begins.
    next: Option<BlockKey>,
    /// The parts so far of a record that is longer than a block.
    partial: Vec<u8>,
}

/// What is durable of one transaction.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub plan: Option<Arc<Plan>>,
    /// The record that it is found by: all that is known of it is there and after it.
    pub found_by: Option<Lsn>,
    pub begun: Option<Timestamp>,
    pub preparing: bool,
    /// The decisions that are written: never two different ones.
    pub decisions: Vec<Decision>,
    pub parked: bool,
    /// Branches that an operator settled.
    pub resolved: Vec<Branch>,
    pub ended: Option<Timestamp>,
}

impl Ledger {
    /// Takes in what has become durable since the last look; gives each new record.
    pub fn look(&mut self, disk: &SimDisk) -> Vec<Entry> {
        let from = self.next.unwrap_or(BlockKey::of(Lsn::FIRST));
        let mut new = Vec::new();
        for (key, bytes) in disk.durable(from) {
            let block = block::decode(&bytes).expect("nobody damages a block while a node runs");
            for (lsn, frame) in block.frames() {
                self.partial.extend_from_slice(frame.payload);
                if matches!(frame.kind, Kind::Whole | Kind::Last) {
                    let bytes = std::mem::take(&mut self.partial);
                    new.extend(self.take(lsn, bytes));
                }
            }
            self.next = Some(BlockKey { first: key.first, part: key.part + 1 });
        }
        new
    }

    /// A node starts: it may cut off a record that was never whole, and write another in its place.
    pub fn restart(&mut self) {
        let last = self.records.keys().next_back();
        self.next = last.map(|last| BlockKey::of(last.next()));
        self.partial.clear();
    }

    /// The first record that must be kept, where so long a retention is not over at this time.
    pub fn needed(&self, retention: Duration, at: Timestamp) -> Option<Lsn> {
        let is_needed = |facts: &&Facts| facts.ended.is_none_or(|ended| ended.plus(retention) > at);
        self.facts.values().filter(is_needed).filter_map(|facts| facts.found_by).min()
    }

    /// What is known of a transaction.
    pub fn of(&self, id: TransactionId) -> Facts {
        self.facts.get(&id).cloned().unwrap_or_default()
    }

    fn take(&mut self, lsn: Lsn, bytes: Vec<u8>) -> Option<Entry> {
        let entry = codec::decode(&bytes).expect("a whole record can be read");
        // What is there a second time is what a restart left in place.
        let is_known = self.records.insert(lsn, (entry.transaction, bytes)).is_some();
        if !is_known && entry.transaction != TransactionId::NONE {
            self.facts.entry(entry.transaction).or_default().take(lsn, &entry);
        }
        (!is_known).then_some(entry)
    }
}

impl Facts {
    fn take(&mut self, lsn: Lsn, entry: &Entry) {
        match &entry.record {
            Record::Begun(plan) => {
                (self.plan, self.begun) = (Some(plan.clone()), Some(entry.time));
                self.found_by = Some(lsn);
            }
            Record::Preparing { .. } => self.preparing = true,
            Record::Decided { decision, .. } => self.decisions.push(*decision),
            Record::Carried(carried) | Record::CarriedResolved(carried, _) => {
                (self.plan, self.found_by) = (Some(carried.plan.clone()), Some(lsn));
                self.decisions.extend(carried.txn.decision());
            }
            Record::Parked { .. } => self.parked = true,
            Record::Resolved { branch, .. } => self.resolved.push(*branch),
            Record::Ended(_) => self.ended = Some(entry.time),
            Record::Acked(_) | Record::Settled | Record::Opened { .. } | Record::GaveUp { .. } => {}
        }
    }
}
