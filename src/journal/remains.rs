//! What is left of a transaction whose beginning is not in the log.
//!
//! Its end comes, or it is carried, where the beginning was only retired. Where neither comes, the beginning is lost: nobody knows
//! who takes part, so nothing can be sent. It must not vanish either: it is set aside with as many branches as its records
//! name, until an operator has settled each.

use unanimous_wal::Lsn;

use super::replay::{Fault, FaultKind, Logged};
use crate::clock::Timestamp;
use crate::plan::{Plan, PlannedBranch, Trace, TransactionId};
use crate::txn::branch::BRANCHES_MAX;
use crate::txn::{Branches, Decision, Reason, Shape, Transition, Txn, Votes};

/// Stands where a route or a service is not known; neither can have this name.
const UNKNOWN: &str = "?";

/// The records of one transaction without its beginning.
#[derive(Debug)]
pub(super) struct Remains {
    since: Lsn,
    steps: Vec<Transition>,
}

impl Remains {
    pub(super) fn from(since: Lsn) -> Self {
        Self { since, steps: Vec::new() }
    }

    pub(super) fn take(&mut self, step: Option<Transition>) {
        self.steps.extend(step);
    }

    /// The transaction as one that an operator has to settle. What he settled before, while more was known of it, does not
    /// say that nobody else took part.
    pub(super) fn set_aside(self, id: TransactionId) -> Logged {
        let count = self.branches();
        let plan = Plan {
            route: UNKNOWN.to_owned(),
            deadline: id.time(),
            branches: vec![unknown_branch(); count],
            bodies: Vec::new(),
            key: None,
            trace: Trace::begin(0),
        };
        let why = "its beginning is missing, and with it who takes part".to_owned();
        Logged {
            id,
            plan: plan.into(),
            txn: self.as_far_as_known(count, id.time()),
            kept: None,
            parked: None,
            resolved: Vec::new(),
            since: self.since,
            fault: Some(Fault::new(self.since, FaultKind::NoBeginning, why)),
            has_gap: true,
        }
    }

    /// As many as took part at least.
    fn branches(&self) -> usize {
        let named = self.steps.iter().fold(Branches::NONE, |named, step| named.or(names(step)));
        let count = named.iter().last().map_or(1, |last| last.index() + 1);
        // Somebody else was asked to prepare, or is why it was aborted.
        let is_another_missing = |step: &Transition| match step {
            Transition::Preparing { read_only } => read_only.count() == count,
            Transition::Decided { decision: Decision::Abort, votes, .. } => {
                votes.yes.or(votes.read_only).count() == count
            }
            Transition::Decided { decision: Decision::Commit, .. }
            | Transition::Acked(_)
            | Transition::Parked(..)
            | Transition::Resolved(..)
            | Transition::Ended => false,
        };
        let is_missing = count < BRANCHES_MAX && self.steps.iter().any(is_another_missing);
        count + usize::from(is_missing)
    }

    fn votes(&self) -> Option<Votes> {
        self.steps.iter().find_map(|step| match step {
            Transition::Decided { votes, .. } => Some(*votes),
            Transition::Preparing { .. }
            | Transition::Acked(_)
            | Transition::Parked(..)
            | Transition::Resolved(..)
            | Transition::Ended => None,
        })
    }

    /// Who was asked to prepare is not known either: it is as somebody must have been, for what was decided.
    fn as_far_as_known(&self, count: usize, deadline: Timestamp) -> Txn {
        let as_if = |prepare: Branches| {
            let begun = Txn::begin(Shape::new(count, prepare, deadline).expect("branches that have numbers"));
            self.steps.iter().fold(begun, |txn, step| txn.bridge(*step).unwrap_or(txn))
        };
        let all = Branches::first_of(count).expect("a branch that has a number");
        let ways = [Branches::NONE, all, all.minus(self.votes().unwrap_or_default().yes)].map(as_if);
        ways.into_iter().find(|txn| txn.decision().is_some()).unwrap_or(as_if(Branches::NONE))
    }
}

/// The branches that a record names.
fn names(step: &Transition) -> Branches {
    match step {
        Transition::Preparing { read_only } => *read_only,
        Transition::Decided { votes, reason, .. } => {
            let of_reason = match reason {
                Some(Reason::Refused(branch, _) | Reason::Unreachable(branch, _) | Reason::Late(branch)) => {
                    Branches::only(*branch)
                }
                Some(Reason::Restarted) | None => Branches::NONE,
            };
            votes.yes.or(votes.read_only).or(votes.no).or(votes.never_sent).or(of_reason)
        }
        Transition::Acked(branch) | Transition::Parked(branch, _) | Transition::Resolved(branch, _) => {
            Branches::only(*branch)
        }
        Transition::Ended => Branches::NONE,
    }
}

fn unknown_branch() -> PlannedBranch {
    let unknown = || UNKNOWN.to_owned();
    PlannedBranch {
        service: unknown(),
        method: unknown(),
        work: unknown(),
        prepare: None,
        commit: unknown(),
        abort: unknown(),
        body: None,
    }
}
