//! What others may see of a transaction: clients, participants, operators.

use std::sync::Arc;

use unanimous_wal::Durable;

use crate::journal::record::Kept;
use crate::plan::{Plan, Reply, TransactionId};
use crate::txn::{Branch, Decision, Txn};

/// A transaction as it stands.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub id: TransactionId,
    /// Who takes part and what was asked.
    pub plan: Arc<Plan>,
    /// How far it has come.
    pub txn: Txn,
    /// The decision, as soon as it may be told: only what is durable can be put here.
    pub told: Option<Durable<Decision>>,
    /// What each branch answered, by number.
    pub replies: Vec<Option<Reply>>,
    /// What was kept of that for its idempotency key, with the decision.
    pub kept: Option<Kept>,
    /// Why it is parked, where it is.
    pub parked: Option<String>,
    /// Branches that an operator settled, and how.
    pub resolved: Vec<(Branch, Decision)>,
}

/// How one branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has still to answer, or to be told.
    Waiting,
    /// It did its work, and voted yes where it was asked.
    Yes,
    /// It takes no part in phase two.
    ReadOnly,
    /// It refused.
    No,
    /// Its work call never left the node.
    NeverSent,
    /// It confirmed the decision.
    Confirmed,
    /// It contradicted the decision.
    Parked,
    /// It contradicted the decision, and an operator said what became of it.
    Resolved(Decision),
}

impl View {
    /// A transaction of which nothing was heard yet.
    #[must_use]
    pub fn new(id: TransactionId, plan: Arc<Plan>, txn: Txn) -> Self {
        let replies = vec![None; plan.branches.len()];
        let (told, kept, parked, resolved) = (None, None, None, Vec::new());
        Self { id, plan, txn, told, replies, kept, parked, resolved }
    }

    /// How `branch` stands.
    #[must_use]
    pub fn standing(&self, branch: Branch) -> Standing {
        let (votes, telling) = (self.txn.votes(), self.txn.telling());
        if telling.parked.has(branch) {
            Standing::Parked
        } else if let Some((_, outcome)) = self.resolved.iter().find(|(of, _)| *of == branch) {
            Standing::Resolved(*outcome)
        } else if votes.read_only.has(branch) {
            Standing::ReadOnly
        } else if votes.never_sent.has(branch) {
            Standing::NeverSent
        } else if self.txn.decision().is_some() && !telling.waiting.has(branch) {
            Standing::Confirmed
        } else if votes.no.has(branch) {
            Standing::No
        } else if votes.yes.has(branch) && self.txn.decision().is_none() {
            Standing::Yes
        } else {
            Standing::Waiting
        }
    }

    /// The first branch that went against the decision, as an operator found.
    #[must_use]
    pub fn contradicting(&self) -> Option<(Branch, Decision)> {
        self.txn.decision().and_then(|decision| contradicting(decision, &self.resolved))
    }

    /// Whether an operator has to look.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }
}

/// The first of the settled branches that went against the decision.
#[must_use]
pub fn contradicting(decision: Decision, resolved: &[(Branch, Decision)]) -> Option<(Branch, Decision)> {
    resolved.iter().copied().find(|(_, outcome)| *outcome != decision)
}

impl Standing {
    /// Its name, as shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Yes => "yes",
            Self::ReadOnly => "read-only",
            Self::No => "no",
            Self::NeverSent => "never-sent",
            Self::Confirmed => "confirmed",
            Self::Parked => "parked",
            Self::Resolved(_) => "resolved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::plan::{Issuer, made};
    use crate::txn::{Branches, Event, Reason, Step, Transition, Vote, Votes};

    fn branch(number: usize) -> Branch {
        Branch::new(number).unwrap()
    }

    fn only(number: usize) -> Branches {
        Branches::only(branch(number))
    }

    /// A transaction of four branches after these steps.
    fn after(steps: &[Transition]) -> View {
        let plan = made::over(&["a", "b", "c", "d"]);
        let txn = Txn::replay(plan.shape().unwrap(), steps.iter().copied()).unwrap();
        View::new(Issuer::new(1).issue(Timestamp(1), 0), Arc::new(plan), txn)
    }

    fn standings(view: &View) -> [&'static str; 4] {
        [0, 1, 2, 3].map(|number| view.standing(branch(number)).name())
    }

    #[test]
    fn each_branch_stands_as_it_has_answered_and_been_told() {
        assert_eq!(standings(&after(&[])), ["waiting"; 4]);
        let votes = Votes { yes: only(0).or(only(1)).or(only(2)), read_only: only(3), ..Votes::default() };
        let commit = Transition::Decided { decision: Decision::Commit, votes, reason: None };
        assert_eq!(standings(&after(&[commit])), ["waiting", "waiting", "waiting", "read-only"]);
        let acked = [commit, Transition::Acked(branch(0)), Transition::Parked(branch(1), 409)];
        let mut view = after(&acked);
        assert_eq!(standings(&view), ["confirmed", "parked", "waiting", "read-only"]);
        view = after(&[acked[0], acked[1], acked[2], Transition::Resolved(branch(1), Decision::Abort)]);
        view.resolved.push((branch(1), Decision::Abort));
        assert_eq!(standings(&view), ["confirmed", "resolved", "waiting", "read-only"]);
        assert_eq!(view.contradicting(), Some((branch(1), Decision::Abort)));
        view.resolved = vec![(branch(1), Decision::Commit)];
        assert_eq!(view.contradicting(), None);
    }

    #[test]
    fn of_an_abort_those_that_refused_and_those_that_never_heard_of_it_are_told_apart() {
        let abort =
            |votes, reason| Transition::Decided { decision: Decision::Abort, votes, reason: Some(reason) };
        let votes = Votes { yes: only(0), no: only(1), ..Votes::default() };
        let refused = abort(votes, Reason::Refused(branch(1), 409));
        assert_eq!(standings(&after(&[refused])), ["waiting", "no", "waiting", "waiting"]);
        let told = [refused, Transition::Acked(branch(1)), Transition::Acked(branch(3))];
        assert_eq!(standings(&after(&told)), ["waiting", "confirmed", "waiting", "confirmed"]);
        let votes = Votes { yes: only(0), never_sent: only(2), ..Votes::default() };
        let unheard = abort(votes, Reason::Unreachable(branch(2), None));
        assert_eq!(standings(&after(&[unheard])), ["waiting", "waiting", "never-sent", "waiting"]);
    }

    #[test]
    fn a_yes_is_one_until_the_decision_and_whoever_is_parked_is_for_an_operator() {
        let mut view = after(&[]);
        let Step::Remember(next) = view.txn.on(Event::Worked(branch(0), Vote::Yes)) else {
            panic!("the first answer decides nothing")
        };
        view.txn = next;
        assert_eq!(standings(&view), ["yes", "waiting", "waiting", "waiting"]);
        assert!(!view.is_parked());
        view.parked = Some("no such hold".to_owned());
        assert!(view.is_parked());
    }
}
