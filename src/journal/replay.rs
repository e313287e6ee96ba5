//! What the log leaves: the same fold as a live run, over everything it holds.
//!
//! Finished transactions are let go at once, so that memory holds only what is unfinished. A log
//! that no run can have written is not corrected: the transaction is set aside with its records, and
//! recovery parks it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use unanimous_wal::{Durable, Lsn, Readable};

use super::codec::{self, CodecError};
use super::index::Index;
use super::record::{Carried, Entry, Kept, Record};
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
    /// Only that records are missing. One that comes later may tell what they held.
    pub is_gap: bool,
    /// Branches that an operator has settled since.
    pub resolved: Branches,
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
}

/// Route and key in one short value: SHA-256, cut to 16 bytes.
pub type KeyHash = u128;

/// The fold.
#[derive(Debug, Default)]
pub struct Replay {
    open: HashMap<TransactionId, Logged>,
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
        let mut logged: Vec<_> = self.open.into_values().collect();
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
                logged.fault = Some(Fault { lsn, why, is_gap: true, resolved: Branches::NONE });
            }
        }
    }

    fn begin(&mut self, lsn: Lsn, id: TransactionId, plan: Arc<Plan>) {
        self.index.note_begun(id, lsn);
        self.remember_key(id, &plan);
        let Ok(shape) = plan.shape() else {
            self.found.strays += 1;
            return;
        };
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
        let Ok(shape) = plan.shape() else {
            self.found.strays += 1;
            return;
        };
        let wrong = |why: String| Some(Fault { lsn, why, is_gap: false, resolved: Branches::NONE });
        let is_in_it = |branch| shape.branches.has(branch);
        let misfit = !txn.is_of(shape)
            || !kept.iter().flat_map(Kept::branches).all(is_in_it)
            || !resolved.iter().all(|(branch, _)| is_in_it(*branch));
        let (txn, kept, resolved) =
            if misfit { (Txn::begin(shape), None, Vec::new()) } else { (txn, kept, resolved) };
        let fault = match self.open.get(&id) {
            _ if misfit => wrong("it is carried with other branches than it has".to_owned()),
            Some(before) if before.fault.as_ref().is_some_and(|fault| !fault.is_gap) => before.fault.clone(),
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
        let Some(logged) = self.open.get_mut(&id) else {
            // Its beginning was retired, and so it had ended; or the log was cut by hand.
            self.found.strays += 1;
            return;
        };
        logged.take(lsn, step);
        and(logged);
        let fault = logged.fault.as_ref();
        let settled = fault.is_some_and(|fault| fault.resolved.covers(logged.txn.shape().branches));
        let ended = match fault {
            None => logged.txn.state().is_final(),
            // Whatever is missing: everybody confirmed it.
            Some(fault) => fault.is_gap && step == Transition::Ended,
        };
        if ended || settled {
            self.open.remove(&id);
            self.found.finished += 1;
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
                if fault.is_gap && fault.resolved.is_empty() =>
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
        self.fault.get_or_insert(Fault { lsn, why, is_gap: false, resolved: Branches::NONE }).is_gap = false;
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{PlannedBranch, Reply, Trace};
    use crate::txn::{Reason, Shape, Votes};

    fn plan() -> Arc<Plan> {
        let branch = PlannedBranch {
            service: "accounts".to_owned(),
            method: "POST".to_owned(),
            work: "/debit".to_owned(),
            prepare: None,
            commit: "/tx/commit".to_owned(),
            abort: "/tx/abort".to_owned(),
            body: None,
        };
        let (route, deadline, trace) = ("transfer".to_owned(), Timestamp(10_000), Trace::begin(1));
        Arc::new(Plan { route, deadline, branches: vec![branch], bodies: Vec::new(), key: None, trace })
    }

    #[test]
    fn a_transaction_that_is_carried_although_it_ended_is_set_aside() {
        let plan = plan();
        let votes = Votes { yes: plan.shape().unwrap().branches, ..Votes::default() };
        let commit = Transition::Decided { decision: Decision::Commit, votes, reason: None };
        let txn = Txn::replay(plan.shape().unwrap(), [commit, Transition::Ended]).unwrap();
        assert_eq!(fault(plan, txn), "it is carried although it is committed");
    }

    #[test]
    fn a_transaction_that_is_carried_with_other_branches_is_set_aside() {
        let other = Shape::new(2, Branches::NONE, Timestamp(10_000)).unwrap();
        assert_eq!(fault(plan(), Txn::begin(other)), "it is carried with other branches than it has");
    }

    #[test]
    fn a_transaction_that_is_carried_as_no_run_can_leave_it_is_set_aside() {
        let shape = plan().shape().unwrap();
        let abort = Transition::Decided {
            decision: Decision::Abort,
            votes: Votes::default(),
            reason: Some(Reason::Restarted),
        };
        let aborting = Txn::replay(shape, [abort]).unwrap();
        let working = Txn::begin(shape);
        // Changed in its serialized form, because no transition leads there. Its only branch is 0.
        for (txn, member, foreign) in [
            (aborting, "/state/Aborting/1/waiting", json!(0b11)),
            (aborting, "/state/Aborting/0", json!({"Late": 7})),
            (aborting, "/votes/no", json!(0b10)),
            (working, "/state", json!({"Preparing": {"read_only": 0b10}})),
            (working, "/votes/yes", json!(0b1)),
        ] {
            let mut value = serde_json::to_value(txn).unwrap();
            *value.pointer_mut(member).unwrap() = foreign;
            let txn = serde_json::from_value(value).unwrap();
            assert_eq!(fault(plan(), txn), "it is carried with other branches than it has", "{member}");
        }
    }

    #[test]
    fn a_transaction_that_is_carried_with_answers_of_others_is_set_aside() {
        let other = Branch::new(1).unwrap();
        let reply = Reply { status: 200, content_type: None, body: "".into() };
        let txn = Txn::begin(plan().shape().unwrap());
        let kept = Some(Kept::Whole(vec![(other, reply)]));
        let why = "it is carried with other branches than it has";
        let of = |kept| Box::new(Carried { plan: plan(), txn, kept, parked: None });
        assert_eq!(fault_of(Record::Carried(of(kept))), why);
        assert_eq!(fault_of(Record::CarriedResolved(of(None), vec![(other, Decision::Commit)])), why);
    }

    #[test]
    fn what_is_wrong_with_a_transaction_stays_wrong_when_it_is_carried() {
        let (plan, mut replay) = (plan(), Replay::default());
        let carried =
            Carried { txn: Txn::begin(plan.shape().unwrap()), plan: plan.clone(), kept: None, parked: None };
        for record in [Record::Begun(plan.clone()), Record::Begun(plan), Record::Carried(Box::new(carried))] {
            replay.take(Lsn::FIRST, entry(record));
        }
        let seen = replay.open(TransactionId::NONE).unwrap();
        assert_eq!(seen.fault.as_ref().unwrap().why, "it begins a second time");
    }

    #[test]
    fn a_transaction_that_is_carried_as_what_it_was_not_is_set_aside() {
        let (plan, mut replay) = (plan(), Replay::default());
        let reason = Some(Reason::Restarted);
        let abort = Transition::Decided { decision: Decision::Abort, votes: Votes::default(), reason };
        let txn = Txn::replay(plan.shape().unwrap(), [abort]).unwrap();
        replay.take(Lsn::FIRST, entry(Record::Begun(plan.clone())));
        let carried = Carried { plan, txn, kept: None, parked: None };
        replay.take(Lsn::FIRST, entry(Record::Carried(Box::new(carried))));
        let seen = replay.open(TransactionId::NONE).unwrap();
        assert_eq!(seen.fault.as_ref().unwrap().why, "it is carried as aborting and was working");
    }

    #[test]
    fn a_transaction_with_more_branches_than_there_can_be_is_nobody_s() {
        let (plan, mut replay) = (plan(), Replay::default());
        let txn = Txn::begin(plan.shape().unwrap());
        let plan =
            Arc::new(Plan { branches: vec![plan.branches[0].clone(); 65], ..Arc::unwrap_or_clone(plan) });
        replay.take(Lsn::FIRST, entry(Record::Begun(plan.clone())));
        let carried = Carried { plan, txn, kept: None, parked: None };
        replay.take(Lsn::FIRST, entry(Record::Carried(Box::new(carried))));
        let (_, unfinished, found) = replay.into_parts();
        assert_eq!((unfinished, found.strays), (vec![], 2));
    }

    fn entry(record: Record) -> Entry {
        Entry { time: Timestamp(1), transaction: TransactionId::NONE, record }
    }

    fn fault(plan: Arc<Plan>, txn: Txn) -> String {
        fault_of(Record::Carried(Box::new(Carried { plan, txn, kept: None, parked: None })))
    }

    fn fault_of(record: Record) -> String {
        let mut replay = Replay::default();
        replay.take(Lsn::FIRST, entry(record));
        let (_, unfinished, _) = replay.into_parts();
        let logged = unfinished.first().expect("it is unfinished");
        assert_eq!(logged.txn.shape(), logged.plan.shape().unwrap(), "what is kept fits together");
        logged.fault.as_ref().expect("it is set aside").why.clone()
    }
}
