//! What became of a transaction that is no longer in memory.
//!
//! It is looked for where its time is in the log. The answer is never a guess: `never_seen` is given
//! only for a time that the log still covers, because participants take it for "abort is safe".

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use unanimous_wal::Lsn;

use super::record::{Carried, Entry, Kept, Record};
use super::replay::Replay;
use super::{Journal, ReadError};
use crate::plan::{Plan, TransactionId};
use crate::txn::{Decision, Reason, Votes};

/// How far the order of records can differ from that of the times in their ids: a record is given
/// up when it has waited this long for the disk.
const DISORDER: Duration = Duration::from_secs(10);

/// What the log says of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// It was decided.
    Decided(Box<Past>),
    /// It began, and no decision is on the disk yet.
    Undecided,
    /// The log covers the time of its id and does not have it: it never began.
    NeverSeen,
    /// The log no longer covers the time of its id.
    Expired,
}

/// A decided transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Who took part and what was asked.
    pub plan: Arc<Plan>,
    /// The decision.
    pub decision: Decision,
    /// How the branches stood when it was taken.
    pub votes: Votes,
    /// Why it was an abort.
    pub reason: Option<Reason>,
    /// What the branches answered, where that was kept.
    pub kept: Option<Kept>,
}

impl Journal {
    /// Looks for `id` in the log. Reads the disk: not for an async task's own thread.
    pub fn find(&self, id: TransactionId) -> Result<Search, ReadError> {
        for (from, to) in self.where_to_look(id) {
            if let Some(found) = self.look(id, from, to)? {
                return Ok(found);
            }
        }
        // Asked only now: what was retired meanwhile was perhaps not read.
        Ok(if self.covers(id) { Search::NeverSeen } else { Search::Expired })
    }

    /// What the log says of `id` from its first record on, if that is at `from` or later and before `to`.
    fn look(&self, id: TransactionId, from: Lsn, to: Option<Lsn>) -> Result<Option<Search>, ReadError> {
        let mut plan = None;
        for item in self.read(from) {
            let (lsn, Entry { transaction, record, .. }) = item?;
            if plan.is_none() && to.is_some_and(|to| lsn >= to) {
                break;
            }
            if transaction != id {
                continue;
            }
            match record {
                Record::Begun(begun) => plan = Some(begun),
                Record::Carried(carried) => match carried.txn.decision() {
                    Some(decision) => {
                        let Carried { plan, txn, kept, .. } = *carried;
                        return Ok(Some(decided(plan, decision, txn.votes(), &txn, kept)));
                    }
                    None => plan = Some(carried.plan),
                },
                Record::Decided { decision, votes, reason, kept } => {
                    let Some(plan) = plan else { break };
                    return Ok(Some(Search::Decided(Box::new(Past { plan, decision, votes, reason, kept }))));
                }
                Record::Opened { .. }
                | Record::Preparing { .. }
                | Record::Acked(_)
                | Record::Parked { .. }
                | Record::Resolved { .. }
                | Record::Ended(_) => {}
            }
        }
        Ok(plan.map(|_| Search::Undecided))
    }

    /// The parts of the log in which the first record of `id` can be; one without an end where it was carried.
    fn where_to_look(&self, id: TransactionId) -> Vec<(Lsn, Option<Lsn>)> {
        let index = self.index();
        if let Some(carried) = index.carried(id) {
            return vec![(carried, None)];
        }
        let from = index.before(id.time().minus(DISORDER)).unwrap_or(Lsn::FIRST);
        let to = index.after(id.time().plus(DISORDER));
        index.stretches(id, from, to).into_iter().map(|(from, to)| (from, Some(to))).collect()
    }

    /// Whether the log still has everything from the time of `id` on.
    fn covers(&self, id: TransactionId) -> bool {
        let earliest = id.time().minus(DISORDER);
        self.wal().low() == Lsn::FIRST || self.index().oldest().is_some_and(|oldest| oldest < earliest)
    }
}

fn decided(
    plan: Arc<Plan>,
    decision: Decision,
    votes: Votes,
    txn: &crate::txn::Txn,
    kept: Option<Kept>,
) -> Search {
    let reason = txn.state().reason();
    Search::Decided(Box::new(Past { plan, decision, votes, reason, kept }))
}

impl Journal {
    /// The newest transactions that ended, at most `max`, oldest first. Reads the disk, and of a long
    /// log only the end.
    pub fn finished(&self, max: usize) -> Result<Vec<(TransactionId, Past)>, ReadError> {
        // A transaction of a few branches has about five records; more only makes the list shorter.
        let back = u64::try_from(max).unwrap_or(u64::MAX).saturating_mul(8);
        let high = self.wal().high().map_or(0, Lsn::get);
        let from = Lsn::new(high.saturating_sub(back)).unwrap_or(Lsn::FIRST);
        let mut open: HashMap<TransactionId, Known> = HashMap::new();
        let mut ended = Vec::new();
        for item in self.read(from) {
            let (_, Entry { transaction: id, record, .. }) = item?;
            match record {
                Record::Begun(plan) => {
                    open.insert(id, Known { plan, past: None });
                }
                Record::Carried(carried) => {
                    let Carried { plan, txn, kept, .. } = *carried;
                    let past = txn.decision().map(|decision| {
                        let (votes, reason) = (txn.votes(), txn.state().reason());
                        Past { plan: plan.clone(), decision, votes, reason, kept }
                    });
                    open.insert(id, Known { plan, past });
                }
                Record::Decided { decision, votes, reason, kept } => {
                    if let Some(known) = open.get_mut(&id) {
                        let plan = known.plan.clone();
                        known.past = Some(Past { plan, decision, votes, reason, kept });
                    }
                }
                Record::Ended(_) => {
                    let past = open.remove(&id).and_then(|known| known.past);
                    ended.extend(past.map(|past| (id, past)));
                }
                Record::Opened { .. }
                | Record::Preparing { .. }
                | Record::Acked(_)
                | Record::Parked { .. }
                | Record::Resolved { .. } => {}
            }
        }
        let surplus = ended.len().saturating_sub(max);
        ended.drain(..surplus);
        Ok(ended)
    }

    /// The transactions in the log that have not ended. Reads all of it.
    pub fn unfinished(&self) -> Result<HashSet<TransactionId>, ReadError> {
        let mut replay = Replay::default();
        for item in self.read(self.wal().low()) {
            let (lsn, entry) = item?;
            replay.take(lsn, entry);
        }
        let (_, logged, _) = replay.into_parts();
        Ok(logged.into_iter().map(|logged| logged.id).collect())
    }
}

/// What has been read of a transaction.
struct Known {
    plan: Arc<Plan>,
    past: Option<Past>,
}
