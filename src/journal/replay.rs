//! What the log leaves: the same fold as a live run, over everything it holds.
//!
//! Finished transactions are let go at once, so that memory holds only what is unfinished. A log
//! that no run can have written is not corrected: the transaction is set aside with its records, and
//! recovery parks it.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use unanimous_wal::{Durable, Lsn, Readable};

use super::codec::{self, CodecError};
use super::index::Index;
use super::record::{Carried, Entry, Kept, Record};
use super::remains::Remains;
use crate::clock::Timestamp;
use crate::plan::{ClientKey, Plan, TransactionId};
use crate::txn::{Branch, Branches, Decision, Illegal, Transition, Txn};

/// An unfinished transaction as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its name.
    pub id: TransactionId,
    /// Who takes part and what was asked.
    pub plan: Arc<Plan>,
    /// How far it has come.
    pub txn: Txn,
    /// What the branches answered, where that was kept.
    pub kept: Option<Kept>,
    /// Why it is parked, where it is.
    pub parked: Option<String>,
    /// Branches that an operator settled, and how.
    pub resolved: Vec<(Branch, Decision)>,
    /// Its oldest record that counts.
    pub since: Lsn,
    /// What is wrong with its records, where no run can have written them in this order, or some of them are missing and may
    /// have held the decision.
    pub fault: Option<Fault>,
    /// Records of it may be missing: those that are there need not follow each other step by step.
    pub has_gap: bool,
}

/// What is wrong with the records of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first record that does not fit.
    pub lsn: Lsn,
    /// Why it does not.
    pub why: String,
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// Branches that an operator has settled since.
    pub resolved: Branches,
}

/// What is wrong with the records of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Only that records are missing. One that comes later may tell what they held.
    Gap,
    /// No run can have written them in this order.
    Disorder,
    /// The one that it begins with is missing: nobody knows who takes part.
    NoBeginning,
}

/// What the log held.
#[derive(Debug, Default)]
pub struct Found {
    /// Every transaction that has not ended, oldest first.
    pub unfinished: Vec<Durable<Logged>>,
    /// Every idempotency key that is still remembered, and the transaction that it began.
    pub keys: HashMap<KeyHash, TransactionId>,
    /// How many transactions had ended.
    pub finished: u64,
    /// How many records were read.
    pub records: u64,
    /// Records of transactions whose beginning is not in the log.
    pub strays: u64,
    /// The nodes that began transactions here, with the first record that says so. What was only carried may be of a node that lost
    /// its number to damage.
    pub nodes: BTreeMap<u32, Lsn>,
}

impl Found {
    /// The first record of another node than `own`, and that node: files of two logs are mixed, unless this one lost its
    /// number to damage.
    #[must_use]
    pub fn stranger(&self, own: u32) -> Option<(Lsn, u32)> {
        let others = self.nodes.iter().filter(|(node, _)| **node != own);
        others.map(|(node, lsn)| (*lsn, *node)).min()
    }
}

/// Route and key in one short value: SHA-256, cut to 16 bytes.
pub type KeyHash = u128;

/// The fold.
#[derive(Debug, Default)]
pub struct Replay {
    open: HashMap<TransactionId, Logged>,
    /// Transactions whose beginning was not met.
    remains: BTreeMap<TransactionId, Remains>,
    found: Found,
    index: Index,
}

impl Replay {
    /// Takes one record as the log gives it.
    pub fn read(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), CodecError> {
        self.take(lsn, codec::decode(bytes)?);
        Ok(())
    }

    /// Takes one record.
    pub fn take(&mut self, lsn: Lsn, entry: Entry) {
        self.found.records += 1;
        if let Record::GaveUp { damage } = &entry.record {
            self.give_up(lsn, entry.time, damage);
        }
        self.index.note(entry.time, lsn);
        let id = entry.transaction;
        match entry.record {
            Record::Opened { .. } | Record::GaveUp { .. } => {}
            Record::Begun(plan) => self.begin(lsn, id, plan),
            Record::Carried(carried) => self.carry(lsn, id, *carried, Vec::new()),
            Record::CarriedResolved(carried, resolved) => self.carry(lsn, id, *carried, resolved),
            Record::Decided { kept, decision, votes, reason } => {
                let keep = |logged: &mut Logged| logged.kept = kept;
                self.step(lsn, id, Transition::Decided { decision, votes, reason }, keep);
            }
            Record::Parked { branch, status, reason } => {
                let park = |logged: &mut Logged| logged.parked = Some(reason);
                self.step(lsn, id, Transition::Parked(branch, status), park);
            }
            Record::Resolved { branch, decision, .. } => {
                let settle = |logged: &mut Logged| logged.resolved.push((branch, decision));
                self.step(lsn, id, Transition::Resolved(branch, decision), settle);
            }
            Record::Settled => self.settle(id),
            Record::Preparing { .. } | Record::Acked(_) | Record::Ended(_) => {
                let step = entry.record.transition().expect("these three are steps");
                self.step(lsn, id, step, |_| {});
            }
        }
    }

    /// A transaction that has not ended, as far as was taken.
    #[must_use]
    pub fn open(&self, id: TransactionId) -> Option<&Logged> {
        self.open.get(&id)
    }

    /// What is left when everything has been taken.
    #[must_use]
    pub fn finish(self, readable: &Readable) -> (Index, Found) {
        let (index, logged, found) = self.into_parts();
        let unfinished = logged.into_iter().map(|logged| readable.read_back(logged)).collect();
        (index, Found { unfinished, ..found })
    }

    /// The same without the proof that it was read from a log: for a look at a log, not a run.
    #[must_use]
    pub fn into_parts(self) -> (Index, Vec<Logged>, Found) {
        let remains = self.remains.into_iter().map(|(id, remains)| remains.set_aside(id));
        let mut logged: Vec<_> = self.open.into_values().chain(remains).collect();
        logged.sort_by_key(|logged| logged.since);
        (self.index, logged, self.found)
    }

    /// Records up to this time are missing. A decision that is in the log stands; whether there was one for the others
    /// nobody knows, unless a record that comes later tells.
    fn give_up(&mut self, lsn: Lsn, to: Timestamp, damage: &str) {
        self.index.note_given_up(to);
        for logged in self.open.values_mut().filter(|logged| logged.fault.is_none()) {
            logged.has_gap = true;
            if logged.txn.decision().is_none() {
                let why = format!("what was decided may have been lost with what was given up: {damage}");
                logged.fault = Some(Fault::new(lsn, FaultKind::Gap, why));
            }
        }
    }

    fn begin(&mut self, lsn: Lsn, id: TransactionId, plan: Arc<Plan>) {
        if let Some(node) = id.node() {
            self.found.nodes.entry(node).or_insert(lsn);
        }
        self.index.note_begun(id, lsn);
        self.remember_key(id, &plan);
        let Ok(shape) = plan.shape() else { return self.stray(lsn, id, None) };
        self.remains.remove(&id);
        match self.open.entry(id) {
            Slot::Vacant(slot) => {
                let txn = Txn::begin(shape);
                let (kept, parked, resolved, fault) = (None, None, Vec::new(), None);
                slot.insert(Logged {
                    id,
                    plan,
                    txn,
                    kept,
                    parked,
                    resolved,
                    since: lsn,
                    fault,
                    has_gap: false,
                });
            }
            Slot::Occupied(mut slot) => slot.get_mut().is_wrong(lsn, "it begins a second time".to_owned()),
        }
    }

    /// A transaction's state replaces all that was before it; where the log still has that, both
    /// must say the same.
    fn carry(&mut self, lsn: Lsn, id: TransactionId, carried: Carried, resolved: Vec<(Branch, Decision)>) {
        self.remember_key(id, &carried.plan);
        self.index.note_carried(id, lsn);
        let Carried { plan, txn, kept, parked } = carried;
        let Ok(shape) = plan.shape() else { return self.stray(lsn, id, None) };
        self.remains.remove(&id);
        let wrong = |why: String| Some(Fault::new(lsn, FaultKind::Disorder, why));
        let is_in_it = |branch| shape.branches.has(branch);
        let misfit = !txn.is_of(shape)
            || !kept.iter().flat_map(Kept::branches).all(is_in_it)
            || !resolved.iter().all(|(branch, _)| is_in_it(*branch));
        let (txn, kept, resolved) =
            if misfit { (Txn::begin(shape), None, Vec::new()) } else { (txn, kept, resolved) };
        let fault = match self.open.get(&id) {
            _ if misfit => wrong("it is carried with other branches than it has".to_owned()),
            Some(before) if before.fault.as_ref().is_some_and(|fault| fault.kind != FaultKind::Gap) => {
                before.fault.clone()
            }
            Some(before) if before.txn != txn && !(before.has_gap && before.txn.may_become(&txn)) => wrong(
                format!("it is carried as {} and was {}", txn.state().name(), before.txn.state().name()),
            ),
            // Only what is unfinished is ever carried.
            Some(_) | None if txn.state().is_final() => {
                wrong(format!("it is carried although it is {}", txn.state().name()))
            }
            Some(_) | None => None,
        };
        let has_gap = false;
        self.open.insert(id, Logged { id, plan, txn, kept, parked, resolved, since: lsn, fault, has_gap });
    }

    fn step(&mut self, lsn: Lsn, id: TransactionId, step: Transition, and: impl FnOnce(&mut Logged)) {
        let Some(logged) = self.open.get_mut(&id) else { return self.stray(lsn, id, Some(step)) };
        logged.take(lsn, step);
        and(logged);
        let fault = logged.fault.as_ref();
        let settled = fault.is_some_and(|fault| fault.resolved.covers(logged.txn.shape().branches));
        let ended = match fault {
            None => logged.txn.state().is_final(),
            // Whatever is missing: everybody confirmed it.
            Some(fault) => fault.kind == FaultKind::Gap && step == Transition::Ended,
        };
        if ended || settled {
            self.open.remove(&id);
            self.found.finished += 1;
        }
    }

    /// An operator has settled what was set aside.
    fn settle(&mut self, id: TransactionId) {
        let (was_open, had_remains) = (self.open.remove(&id).is_some(), self.remains.remove(&id).is_some());
        self.found.finished += u64::from(was_open || had_remains);
    }

    /// Its beginning was retired, and then its end comes, or it is carried; or its beginning is lost.
    fn stray(&mut self, lsn: Lsn, id: TransactionId, step: Option<Transition>) {
        self.found.strays += 1;
        if let Some(logged) = self.open.get_mut(&id) {
            return logged.is_wrong(lsn, "it is carried with more branches than there can be".to_owned());
        }
        if step == Some(Transition::Ended) {
            self.remains.remove(&id);
        } else {
            self.remains.entry(id).or_insert_with(|| Remains::from(lsn)).take(step);
        }
    }

    fn remember_key(&mut self, id: TransactionId, plan: &Plan) {
        if let Some(ClientKey { key, .. }) = &plan.key {
            self.found.keys.insert(key_hash(&plan.route, key), id);
        }
    }
}

impl Logged {
    fn take(&mut self, lsn: Lsn, step: Transition) {
        let next = if self.has_gap { self.txn.bridge(step) } else { self.txn.apply(step).ok() };
        match (&mut self.fault, step) {
            (Some(fault), Transition::Resolved(branch, _)) => fault.resolved = fault.resolved.with(branch),
            // Nothing of it was decided in what is missing: this is what came next, or the decision itself.
            (Some(fault), Transition::Preparing { .. } | Transition::Decided { .. })
                if fault.kind == FaultKind::Gap && fault.resolved.is_empty() =>
            {
                (self.fault, self.has_gap) = (None, false);
                self.go_to(next, lsn, step);
            }
            (Some(_), _) => {}
            (None, _) => self.go_to(next, lsn, step),
        }
    }

    fn go_to(&mut self, next: Option<Txn>, lsn: Lsn, step: Transition) {
        let Some(next) = next else {
            return self.is_wrong(lsn, Illegal { step, state: self.txn.state().name() }.to_string());
        };
        self.txn = next;
        if next.telling().parked.is_empty() {
            self.parked = None;
        }
    }

    fn is_wrong(&mut self, lsn: Lsn, why: String) {
        let disorder = Fault::new(lsn, FaultKind::Disorder, why);
        self.fault.get_or_insert(disorder).kind = FaultKind::Disorder;
    }
}

impl Fault {
    pub(super) fn new(lsn: Lsn, kind: FaultKind, why: String) -> Self {
        Self { lsn, why, kind, resolved: Branches::NONE }
    }
}

/// The scope of an idempotency key is its route.
#[must_use]
pub fn key_hash(route: &str, key: &str) -> KeyHash {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(route).chain_update([0]).chain_update(key).finalize();
    digest.first_chunk().map_or(0, |head| u128::from_be_bytes(*head))
}

#[cfg(test)]
mod tests;
