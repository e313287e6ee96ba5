//! Which step may follow which state, and what it leaves.
//!
//! One function a transition; `None` means that no run can take that step there. The live machine
//! goes through here too, so that it cannot write what a restart would not accept.

use super::branch::{Branch, Branches};
use super::machine::{Shape, State, Telling, Txn};
use super::transition::{Decision, Illegal, Reason, Transition, Votes};

impl Txn {
    /// The transaction after `step`, where a run could have taken it.
    pub fn apply(&self, step: Transition) -> Result<Self, Illegal> {
        let next = match step {
            Transition::Preparing { read_only } => self.after_preparing(read_only),
            Transition::Decided { decision: Decision::Commit, votes, reason: None } => {
                self.after_commit(votes)
            }
            Transition::Decided { decision: Decision::Abort, votes, reason: Some(reason) } => {
                self.after_abort(votes, reason)
            }
            Transition::Decided { .. } => None,
            Transition::Acked(branch) => self.after_acked(branch),
            Transition::Parked(branch, _) => self.after_parked(branch),
            Transition::Resolved(branch, _) => self.after_resolved(branch),
            Transition::Ended => self.after_ended(),
        };
        next.ok_or(Illegal { step, state: self.state.name() })
    }

    /// The transaction that this log of it leaves.
    pub fn replay(shape: Shape, steps: impl IntoIterator<Item = Transition>) -> Result<Self, Illegal> {
        steps.into_iter().try_fold(Self::begin(shape), |txn, step| txn.apply(step))
    }

    fn after_preparing(&self, read_only: Branches) -> Option<Self> {
        let legal = self.state == State::Working
            && self.shape.branches.covers(read_only)
            && !self.shape.prepare.minus(read_only).is_empty();
        let votes = self.votes_by_work(read_only);
        legal.then_some(Self { votes, state: State::Preparing { read_only }, ..*self })
    }

    fn after_commit(&self, votes: Votes) -> Option<Self> {
        let agreed = votes.yes.or(votes.read_only);
        let everyone = agreed == self.shape.branches && agreed == votes.answered();
        let asked = match self.state {
            State::Working => self.shape.prepare.minus(votes.read_only).is_empty(),
            State::Preparing { read_only } => self.keeps_votes_by_work(read_only, votes),
            State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => false,
        };
        let telling = Telling::everyone(votes.yes);
        (everyone && asked && votes.are_disjoint()).then_some(Self {
            votes,
            state: State::Committing(telling),
            ..*self
        })
    }

    fn after_abort(&self, votes: Votes, reason: Reason) -> Option<Self> {
        let undecided = match self.state {
            State::Working => true,
            State::Preparing { read_only } => {
                self.keeps_votes_by_work(read_only, votes) && votes.never_sent.is_empty()
            }
            State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => false,
        };
        let legal = undecided
            && self.shape.branches.covers(votes.answered())
            && votes.are_disjoint()
            && self.explains(votes, reason);
        let told = self.shape.branches.minus(votes.read_only).minus(votes.never_sent);
        legal.then(|| Self { votes, state: State::Aborting(reason, Telling::everyone(told)), ..*self })
    }

    fn after_acked(&self, branch: Branch) -> Option<Self> {
        let telling = self.telling();
        let legal = telling.outstanding().has(branch) && telling.outstanding().count() > 1;
        legal.then(|| self.telling_on(telling.without(branch)))
    }

    fn after_parked(&self, branch: Branch) -> Option<Self> {
        let Telling { waiting, parked } = self.telling();
        let next = Telling { waiting: waiting.without(branch), parked: parked.with(branch) };
        waiting.has(branch).then(|| self.telling_on(next))
    }

    fn after_resolved(&self, branch: Branch) -> Option<Self> {
        let telling = self.telling();
        telling.parked.has(branch).then(|| self.telling_on(telling.without(branch)))
    }

    fn after_ended(&self) -> Option<Self> {
        let state = match self.state {
            State::Committing(_) => State::Committed,
            State::Aborting(reason, _) => State::Aborted(reason),
            State::Working | State::Preparing { .. } | State::Committed | State::Aborted(_) => return None,
        };
        // The last confirmation has no record of its own: `ended` says it.
        (self.telling().outstanding().count() <= 1).then_some(Self { state, ..*self })
    }

    /// The same decision with others still to be told.
    pub(super) fn telling_on(&self, telling: Telling) -> Self {
        let state = match self.state {
            State::Committing(_) => State::Committing(telling),
            State::Aborting(reason, _) => State::Aborting(reason, telling),
            State::Working | State::Preparing { .. } | State::Committed | State::Aborted(_) => self.state,
        };
        Self { state, ..*self }
    }

    /// Whether `reason` is one that a run would give with these votes.
    fn explains(&self, votes: Votes, reason: Reason) -> bool {
        let unanswered = self.shape.branches.minus(votes.answered());
        let nobody_refused = votes.no.is_empty() && votes.never_sent.is_empty();
        match reason {
            Reason::Refused(branch, _) => votes.no == Branches::only(branch) && votes.never_sent.is_empty(),
            Reason::Unreachable(branch, None) if votes.never_sent == Branches::only(branch) => {
                votes.no.is_empty()
            }
            Reason::Unreachable(branch, _) => {
                self.state == State::Working && nobody_refused && unanswered.has(branch)
            }
            Reason::Late(branch) => nobody_refused && self.can_be_late(branch, unanswered),
            Reason::Restarted => votes == self.durable().votes,
        }
    }

    /// A work call can take too long by itself; prepare is asked again until the deadline, which
    /// names the first branch that is still missing.
    fn can_be_late(&self, branch: Branch, unanswered: Branches) -> bool {
        match self.state {
            State::Working => unanswered.has(branch),
            State::Preparing { .. } => unanswered.lowest() == Some(branch),
            State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn branches(numbers: impl IntoIterator<Item = usize>) -> Branches {
        numbers.into_iter().map(|number| Branch::new(number).unwrap()).collect()
    }

    fn two_branches(prepare: Branches) -> Txn {
        Txn::begin(Shape::new(2, prepare, Timestamp(10_000)).unwrap())
    }

    #[test]
    fn a_commit_that_counts_a_branch_nobody_declared_is_illegal() {
        let votes = Votes { yes: branches([0, 1]), no: branches([2]), ..Votes::default() };
        let step = Transition::Decided { decision: Decision::Commit, votes, reason: None };
        assert!(two_branches(Branches::NONE).apply(step).is_err());
    }

    #[test]
    fn only_the_first_missing_branch_can_be_late_at_prepare() {
        let preparing = two_branches(branches([0, 1]))
            .apply(Transition::Preparing { read_only: Branches::NONE })
            .unwrap();
        let late = |number| Transition::Decided {
            decision: Decision::Abort,
            votes: Votes::default(),
            reason: Some(Reason::Late(Branch::new(number).unwrap())),
        };
        assert!(preparing.apply(late(0)).is_ok());
        assert!(preparing.apply(late(1)).is_err());
    }

    #[test]
    fn a_restart_knows_no_votes_but_those_in_the_log() {
        let votes = Votes { yes: branches([0]), ..Votes::default() };
        let step =
            |votes| Transition::Decided { decision: Decision::Abort, votes, reason: Some(Reason::Restarted) };
        assert!(two_branches(Branches::NONE).apply(step(Votes::default())).is_ok());
        assert!(two_branches(Branches::NONE).apply(step(votes)).is_err());
    }
}
