//! Every transition that could stand in a log, whether a run would write it or not.

use std::collections::HashMap;

use unanimous::txn::{Branch, Branches, Decision, Reason, Shape, Transition, Txn, Votes};

use super::run::{STATUS, STATUS_FAILED};

/// Each one that names branches of the shape, or the one after them, which does not exist.
///
/// Three branches are enough without the stranger: it would make them sixteen times as many.
pub(super) fn every_transition(shape: Shape) -> Vec<Transition> {
    let named = if shape.branches.count() < 3 { with_a_stranger(shape) } else { shape.branches };
    let mut reasons = vec![None];
    reasons.extend(every_reason(named).into_iter().map(Some));

    let mut steps = every_step_but_decided(shape);
    for votes in every_votes(named) {
        for reason in &reasons {
            for decision in [Decision::Commit, Decision::Abort] {
                steps.push(Transition::Decided { decision, votes, reason: *reason });
            }
        }
    }
    steps
}

/// The same without decisions.
pub(super) fn every_step_but_decided(shape: Shape) -> Vec<Transition> {
    let named = with_a_stranger(shape);
    let mut steps = vec![Transition::Ended];
    steps.extend(subsets(named).into_iter().map(|read_only| Transition::Preparing { read_only }));
    steps.extend(named.iter().flat_map(|branch| {
        [
            Transition::Acked(branch),
            Transition::Parked(branch, STATUS),
            Transition::Resolved(branch, Decision::Commit),
            Transition::Resolved(branch, Decision::Abort),
        ]
    }));
    steps
}

/// The decisions that runs write, each once.
pub(super) fn every_decided_in(written: &HashMap<Txn, Vec<Transition>>) -> Vec<Transition> {
    let mut decided: Vec<Transition> = Vec::new();
    for step in written.values().flatten() {
        if matches!(step, Transition::Decided { .. }) && !decided.contains(step) {
            decided.push(*step);
        }
    }
    decided
}

/// Every set of some of these branches.
pub(super) fn subsets(branches: Branches) -> Vec<Branches> {
    branches.iter().fold(vec![Branches::NONE], |sets, branch| {
        sets.iter().flat_map(|set| [*set, set.with(branch)]).collect()
    })
}

fn every_votes(named: Branches) -> Vec<Votes> {
    let sets = subsets(named);
    let mut all = Vec::new();
    for &yes in &sets {
        for &read_only in &sets {
            for &no in &sets {
                all.extend(sets.iter().map(|&never_sent| Votes { yes, read_only, no, never_sent }));
            }
        }
    }
    all
}

fn every_reason(named: Branches) -> Vec<Reason> {
    let mut reasons = vec![Reason::Restarted];
    reasons.extend(named.iter().flat_map(|branch| {
        [
            Reason::Refused(branch, STATUS),
            Reason::Unreachable(branch, None),
            Reason::Unreachable(branch, Some(STATUS_FAILED)),
            Reason::Late(branch),
        ]
    }));
    reasons
}

fn with_a_stranger(shape: Shape) -> Branches {
    let stranger = Branch::new(shape.branches.count()).expect("three branches are few");
    shape.branches.with(stranger)
}
