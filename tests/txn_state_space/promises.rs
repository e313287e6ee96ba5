//! What holds in every state, as checks of a run; the exhaustive and the random tests share them.

use unanimous::txn::{Decision, Effect, Event, Operation, Reason, State, Step, Transition};

use super::run::{Run, Taken};

/// A crash loses nothing but votes of an undecided transaction.
pub(super) fn replay_gives_what_is_durable(run: &Run) {
    assert_eq!(run.replayed(), run.txn.durable(), "{run:?}");
}

/// The log holds the decision, once.
pub(super) fn at_most_one_decision_is_logged(run: &Run) {
    let logged: Vec<_> = run.log.iter().copied().filter_map(decision_of).collect();
    assert_eq!(logged, run.txn.decision().into_iter().collect::<Vec<_>>(), "{run:?}");
}

/// No event changes it.
pub(super) fn a_decision_stays(taken: &Taken) {
    let before = taken.before.txn.decision();
    assert!(before.is_none() || before == taken.after.txn.decision(), "{taken:?}");
}

/// By what the branches said, not by what the machine counted.
pub(super) fn a_commit_has_everybodys_consent(run: &Run) {
    let agreed = run.heard.agreed(run.txn.shape());
    let commits = run.txn.decision() == Some(Decision::Commit);
    assert!(!commits || agreed == run.txn.shape().branches, "{run:?}");
}

/// No branch is forgotten, and none is called in vain.
pub(super) fn whoever_is_left_out_gave_cause(run: &Run) {
    let votes = run.txn.votes();
    assert!(run.heard.read_only.covers(votes.read_only), "{run:?}");
    assert_eq!(run.heard.never_sent, votes.never_sent, "{run:?}");
    // A restart may have forgotten who was read-only, and calls too many rather than too few.
    if run.txn.state().reason() != Some(Reason::Restarted) {
        assert_eq!(run.heard.read_only, votes.read_only, "{run:?}");
    }
}

/// Before the decision.
pub(super) fn whoever_has_not_answered_is_called(run: &Run) {
    let shape = run.txn.shape();
    let (operation, unanswered) = match run.txn.state() {
        State::Working => (Operation::Work, shape.branches.minus(run.heard.worked)),
        State::Preparing { .. } => (Operation::Prepare, shape.prepare.minus(run.heard.prepared)),
        State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => return,
    };
    let called = unanswered.minus(run.heard.read_only);
    let mut due: Vec<_> = called.iter().map(|branch| Effect::Call(operation, branch)).collect();
    due.push(Effect::WakeAt(shape.deadline));
    assert_eq!(run.txn.owed(), due, "{run:?}");
}

/// After the decision, live and after a restart alike.
pub(super) fn whoever_has_not_confirmed_is_called(run: &Run) {
    let Some(decision) = run.txn.decision() else { return };
    let operation = match decision {
        Decision::Commit => Operation::Commit,
        Decision::Abort => Operation::Abort,
    };
    let unconfirmed = run.unconfirmed();
    let mut due = vec![Effect::Tell(decision)];
    due.extend(unconfirmed.iter().map(|branch| Effect::Call(operation, branch)));
    if unconfirmed.or(run.parked()).is_empty() && !run.txn.state().is_final() {
        due.push(Effect::End);
    }
    assert_eq!(run.txn.owed(), due, "{run:?}");
    assert_eq!(run.replayed().owed(), due, "{run:?}");
}

/// Undecided: abort, and tell all that may have done something. Decided: as it was.
pub(super) fn a_restart_finishes_what_the_log_began(run: &Run) {
    let found = run.replayed();
    if found.decision().is_some() {
        assert_eq!(found.on(Event::Restarted), Step::Ignore, "{run:?}");
        return;
    }
    let told = found.shape().branches.minus(found.votes().read_only);
    let mut due = vec![Effect::Tell(Decision::Abort)];
    due.extend(told.iter().map(|branch| Effect::Call(Operation::Abort, branch)));
    let step = found.on(Event::Restarted);
    let Step::Advance { next, effects, .. } = step else { unreachable!("{run:?} stays undecided") };
    assert!(matches!(next.state(), State::Aborting(Reason::Restarted, _)), "{run:?}");
    assert_eq!(effects, due, "{run:?}");
}

/// The decision that this step is.
pub(super) fn decision_of(step: Transition) -> Option<Decision> {
    match step {
        Transition::Decided { decision, .. } => Some(decision),
        Transition::Preparing { .. }
        | Transition::Acked(_)
        | Transition::Parked(..)
        | Transition::Resolved(..)
        | Transition::Ended => None,
    }
}
