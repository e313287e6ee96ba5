//! What is left of a transaction whose beginning is not in the log.
//!
//! Its end comes, or it is carried, where the beginning was only retired. Where neither comes, the beginning is lost: nobody knows
//! who takes part, so nothing can be sent. It must not vanish either: it is set aside with as many branches as its records
//! name, until an operator has settled each.

use unanimous_wal::Lsn;

use super::replay::{Fault, FaultKind, Logged};
use crate::plan::{Plan, PlannedBranch, Trace, TransactionId};
use crate::txn::{Branch, Branches, Decision, Reason, Transition, Txn};

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

    /// The transaction as one that an operator has to settle; `None` where that was done.
    pub(super) fn set_aside(self, id: TransactionId) -> Option<Logged> {
        let resolved: Vec<(Branch, Decision)> = self.steps.iter().filter_map(resolved).collect();
        let settled: Branches = resolved.iter().map(|(branch, _)| *branch).collect();
        // Of who was settled by an operator, the records go one after the other.
        let is_settled = !self.steps.is_empty() && self.steps.len() == resolved.len();
        let named = self.steps.iter().fold(Branches::NONE, |named, step| named.or(names(step)));
        let branches = named.iter().last().map_or(1, |last| last.index() + 1);
        if is_settled || settled.covers(Branches::first_of(branches).ok()?) {
            return None;
        }
        let plan = Plan {
            route: UNKNOWN.to_owned(),
            deadline: id.time(),
            branches: vec![unknown_branch(); branches],
            bodies: Vec::new(),
            key: None,
            trace: Trace::begin(0),
        };
        let begun = Txn::begin(plan.shape().ok()?);
        let txn = self.steps.iter().fold(begun, |txn, step| txn.bridge(*step).unwrap_or(txn));
        let why = "its beginning is missing, and with it who takes part".to_owned();
        let fault = Fault { resolved: settled, ..Fault::new(self.since, FaultKind::NoBeginning, why) };
        Some(Logged {
            id,
            plan: plan.into(),
            txn,
            kept: None,
            parked: None,
            resolved,
            since: self.since,
            fault: Some(fault),
            has_gap: true,
        })
    }
}

fn resolved(step: &Transition) -> Option<(Branch, Decision)> {
    match step {
        Transition::Resolved(branch, decision) => Some((*branch, *decision)),
        Transition::Preparing { .. }
        | Transition::Decided { .. }
        | Transition::Acked(_)
        | Transition::Parked(..)
        | Transition::Ended => None,
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
