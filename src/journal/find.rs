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
use super::{Journal, ReadError, Threads};
use crate::clock::Timestamp;
use crate::plan::{Plan, TransactionId};
use crate::txn::{Branch, Decision, Reason, Votes};

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
    /// Its records are damaged, and an operator has settled every branch of it.
    SettledByHand,
    /// The log covers the time of its id and does not have it: it never began.
    NeverSeen,
    /// It ended longer ago than the retention, or the log no longer covers the time of its id.
    Expired,
    /// Records of the time of its id are missing, and its own may have been among them.
    GivenUp,
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
    /// Branches that an operator settled, and how.
    pub resolved: Vec<(Branch, Decision)>,
    /// When every branch was settled; `None` while that is not on the disk.
    pub ended: Option<Timestamp>,
}

impl Journal {
    /// Looks for `id` in the log.
    pub async fn search(&self, id: TransactionId) -> Result<Search, ReadError> {
        match self.threads {
            Threads::Own => {
                let journal = self.clone();
                let search = tokio::task::spawn_blocking(move || journal.find(id));
                search.await.expect("looking into the log does not panic")
            }
            Threads::None => self.find(id),
        }
    }

    /// As [`search`](Self::search), on the caller's thread. Reads the disk: not for an async task's own.
    pub fn find(&self, id: TransactionId) -> Result<Search, ReadError> {
        loop {
            let low = self.wal().low();
            let found = self.find_once(id)?;
            // What is retired meanwhile is passed over: between what was read may have been its decision, or its end.
            if self.wal().low() == low {
                return Ok(found);
            }
        }
    }

    fn find_once(&self, id: TransactionId) -> Result<Search, ReadError> {
        for (from, to) in self.where_to_look(id) {
            match self.look(id, from, to)? {
                Some(Known { past: Some(past), .. }) if self.has_expired(&past) => {
                    return Ok(Search::Expired);
                }
                Some(Known { past: Some(past), .. }) => return Ok(Search::Decided(Box::new(past))),
                Some(known) if known.is_settled_by_hand() => return Ok(Search::SettledByHand),
                Some(_) => return Ok(Search::Undecided),
                None => {}
            }
        }
        // Asked only now: what was retired meanwhile was perhaps not read.
        Ok(self.without_records(id))
    }

    /// What the log says of `id` from its first record on, if that is at `from` or later and before `to`.
    fn look(&self, id: TransactionId, from: Lsn, to: Option<Lsn>) -> Result<Option<Known>, ReadError> {
        let mut known: Option<Known> = None;
        for item in self.read(from) {
            let (lsn, Entry { time, transaction, record }) = item?;
            if known.is_none() && to.is_some_and(|to| lsn >= to) {
                break;
            }
            if transaction != id {
                continue;
            }
            match &mut known {
                Some(known) => known.take(time, record),
                None => known = Known::begin(record),
            }
            if known.as_ref().is_some_and(Known::has_ended) {
                break;
            }
        }
        Ok(known)
    }

    /// The log may still have it, because whole blocks go at a time: how long it is told of does not depend on that.
    fn has_expired(&self, past: &Past) -> bool {
        past.ended.is_some_and(|ended| ended < self.kept_since())
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

    /// Tells of a transaction that has ended whether nothing of it is in the log any more. Nothing can be noted while
    /// the answer is kept.
    pub fn has_forgotten(&self) -> impl Fn(TransactionId) -> bool {
        let index = self.index();
        move |id| {
            let is_older = index.oldest().is_some_and(|oldest| id.time().plus(DISORDER) < oldest);
            is_older && index.carried(id).is_none()
        }
    }

    /// What can be said of a transaction of which the log has nothing: whether it covers the time of `id`.
    fn without_records(&self, id: TransactionId) -> Search {
        let (earliest, index) = (id.time().minus(DISORDER), self.index());
        let begins_before =
            self.wal().low() == Lsn::FIRST || index.oldest().is_some_and(|oldest| oldest < earliest);
        match index.was_given_up(id.time(), id.time().plus(DISORDER)) {
            _ if !begins_before => Search::Expired,
            true => Search::GivenUp,
            false => Search::NeverSeen,
        }
    }
}

impl Journal {
    /// The newest transactions that ended within the retention, at most `max`, oldest first. Reads the disk, and of a
    /// long log only the end.
    pub fn finished(&self, max: usize) -> Result<Vec<(TransactionId, Past)>, ReadError> {
        // A transaction of a few branches has about five records; more only makes the list shorter.
        let back = u64::try_from(max).unwrap_or(u64::MAX).saturating_mul(8);
        let high = self.wal().high().map_or(0, Lsn::get);
        let from = Lsn::new(high.saturating_sub(back)).unwrap_or(Lsn::FIRST);
        let mut open: HashMap<TransactionId, Known> = HashMap::new();
        let mut ended = Vec::new();
        for item in self.read(from) {
            let (_, Entry { time, transaction: id, record }) = item?;
            if let Some(known) = open.get_mut(&id) {
                known.take(time, record);
                if known.has_ended() {
                    ended.extend(open.remove(&id).and_then(|known| known.past).map(|past| (id, past)));
                }
            } else if let Some(known) = Known::begin(record) {
                open.insert(id, known);
            }
        }
        ended.retain(|(_, past)| !self.has_expired(past));
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
    /// Branches that an operator settled although nothing is known to be decided.
    by_hand: Vec<(Branch, Decision)>,
}

impl Known {
    /// What a record says with which the log can begin to tell of a transaction.
    fn begin(record: Record) -> Option<Self> {
        match record {
            Record::Begun(plan) => Some(Self { plan, past: None, by_hand: Vec::new() }),
            Record::Carried(carried) => Some(Self::carried(*carried, Vec::new())),
            Record::CarriedResolved(carried, resolved) => Some(Self::carried(*carried, resolved)),
            Record::Opened { .. }
            | Record::GaveUp { .. }
            | Record::Settled
            | Record::Preparing { .. }
            | Record::Decided { .. }
            | Record::Acked(_)
            | Record::Parked { .. }
            | Record::Resolved { .. }
            | Record::Ended(_) => None,
        }
    }

    fn carried(Carried { plan, txn, kept, .. }: Carried, resolved: Vec<(Branch, Decision)>) -> Self {
        let past = txn.decision().map(|decision| Past {
            plan: plan.clone(),
            decision,
            votes: txn.votes(),
            reason: txn.state().reason(),
            kept,
            resolved,
            ended: None,
        });
        Self { plan, past, by_hand: Vec::new() }
    }

    fn take(&mut self, time: Timestamp, record: Record) {
        match record {
            Record::Decided { decision, votes, reason, kept } => {
                let (plan, resolved) = (self.plan.clone(), Vec::new());
                self.past = Some(Past { plan, decision, votes, reason, kept, resolved, ended: None });
            }
            Record::Resolved { branch, decision, .. } => match &mut self.past {
                Some(past) => past.resolved.push((branch, decision)),
                None => self.by_hand.push((branch, decision)),
            },
            Record::Ended(decision) => {
                let (plan, resolved) = (self.plan.clone(), std::mem::take(&mut self.by_hand));
                // Its decision is missing, and its end says what it was.
                let (votes, reason, kept) = (Votes::default(), None, None);
                let from_end = || Past { plan, decision, votes, reason, kept, resolved, ended: None };
                self.past.get_or_insert_with(from_end).ended = Some(time);
            }
            // Whoever read the records before a `carried` knows all that it says.
            Record::Carried(_)
            | Record::CarriedResolved(..)
            | Record::Settled
            | Record::Opened { .. }
            | Record::GaveUp { .. }
            | Record::Begun(_)
            | Record::Preparing { .. }
            | Record::Acked(_)
            | Record::Parked { .. } => {}
        }
    }

    fn is_settled_by_hand(&self) -> bool {
        self.by_hand.len() == self.plan.branches.len()
    }

    fn has_ended(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.ended.is_some())
    }
}
