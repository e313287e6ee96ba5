//! Every state the machine can reach with one, two and three branches, and what holds in each.
//!
//! The space is small enough to visit all of it, so nothing below is sampled but the last test,
//! which goes on to 64 branches by chance. What a protocol run looks like to a reader is not shown
//! here: that is `stories.rs`.
//!
//! ```text
//!  begin ─► every event ─► every state ─► every event ─► .. ─► nothing new
//!                │              │
//!                │              └─ what holds in a state: `Run`
//!                └─ what holds for a step: `Taken`
//! ```

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use unanimous::txn::{Branch, Decision, Effect, Event, Operation, Step, Transition, Txn};

use candidates::{every_decided_in, every_step_but_decided, every_transition};
use promises::{
    a_commit_has_everybodys_consent, a_decision_stays, a_restart_finishes_what_the_log_began,
    at_most_one_decision_is_logged, decision_of, replay_gives_what_is_durable,
    whoever_has_not_answered_is_called, whoever_has_not_confirmed_is_called, whoever_is_left_out_gave_cause,
};
use random::{nudged, plans};
use run::{Run, good_answer};
use space::{SPACES, runs, steps};

#[path = "txn_state_space/candidates.rs"]
mod candidates;
#[path = "txn_state_space/promises.rs"]
mod promises;
#[path = "txn_state_space/random.rs"]
mod random;
#[path = "txn_state_space/run.rs"]
mod run;
#[path = "txn_state_space/space.rs"]
mod space;

#[test]
fn the_whole_space_is_visited() {
    for space in SPACES.iter() {
        let shape = space.shape;
        println!(
            "{} branches, prepare {:?}: {} states",
            shape.branches.count(),
            shape.prepare,
            space.states()
        );
    }
    println!("{} states, {} steps", SPACES.iter().map(space::Space::states).sum::<usize>(), steps().count());

    let names: HashSet<_> = runs().map(|run| run.txn.state().name()).collect();
    let all = ["working", "preparing", "committing", "committed", "aborting", "aborted"];
    assert_eq!(names, HashSet::from(all));
}

#[test]
fn replaying_a_log_gives_what_a_crash_leaves_of_the_state() {
    runs().for_each(|run| replay_gives_what_is_durable(run));
    // And so for every other way to the same state: each step of it leaves the same log behind.
    for taken in steps() {
        let before = taken.before.txn.durable();
        let replayed = taken.logged.map_or(Ok(before), |step| before.apply(step));
        assert_eq!(replayed, Ok(taken.after.txn.durable()), "{taken:?}");
    }
}

#[test]
fn replay_accepts_exactly_what_a_run_can_write() {
    for space in SPACES.iter() {
        let mut written: HashMap<Txn, Vec<Transition>> = HashMap::new();
        for run in &space.runs {
            written.entry(run.txn.durable()).or_default();
        }
        for taken in &space.steps {
            let here = written.entry(taken.before.txn.durable()).or_default();
            here.extend(taken.logged.filter(|step| !here.contains(step)));
        }

        let whatever = every_transition(space.shape);
        // Once decided, a few hundred decisions stand for the hundred thousand that are refused alike.
        let mut after_a_decision = every_step_but_decided(space.shape);
        after_a_decision.extend(every_decided_in(&written));

        for (durable, written) in &written {
            let candidates = if durable.decision().is_none() { &whatever } else { &after_a_decision };
            let accepted: Vec<_> = candidates.iter().filter(|step| durable.apply(**step).is_ok()).collect();
            for step in &accepted {
                assert!(written.contains(step), "no run writes {step:?} in {durable:?}");
            }
            assert_eq!(accepted.len(), written.len(), "replay refuses a step of a run in {durable:?}");
        }
    }
}

#[test]
fn there_is_at_most_one_decision_and_it_never_changes() {
    runs().for_each(|run| at_most_one_decision_is_logged(run));
    steps().for_each(a_decision_stays);
}

#[test]
fn every_effect_comes_with_the_record_that_causes_it() {
    for taken in steps() {
        for effect in &taken.effects {
            let caused = taken.logged.is_some_and(|step| causes(step, *effect));
            assert!(caused, "{effect:?} in {taken:?}");
        }
        let decided = taken.logged.and_then(decision_of).map(Effect::Tell);
        let told = taken.effects.iter().find(|effect| matches!(effect, Effect::Tell(_)));
        assert_eq!(decided.as_ref(), told, "{taken:?}");
    }
}

#[test]
fn commit_is_decided_only_when_every_branch_agreed() {
    runs().for_each(|run| a_commit_has_everybodys_consent(run));
}

#[test]
fn an_abort_names_the_event_that_brought_it() {
    for taken in steps() {
        let Some(Transition::Decided { reason: Some(reason), .. }) = taken.logged else { continue };
        assert_eq!(Some(reason), taken.before.reason_given_by(taken.event), "{taken:?}");
    }
}

#[test]
fn only_read_only_and_never_reached_branches_are_left_out_of_the_end() {
    runs().for_each(|run| whoever_is_left_out_gave_cause(run));
}

#[test]
fn an_undecided_state_calls_exactly_the_branches_that_have_not_answered() {
    runs().for_each(|run| whoever_has_not_answered_is_called(run));
}

#[test]
fn every_state_ends_once_the_branches_answer_and_the_operator_resolves() {
    for run in runs() {
        let mut txn = run.txn;
        // Work, prepare, tell or resolve each branch; then the end.
        for _ in 0..=3 * txn.shape().branches.count() {
            let Some(event) = helpful_event(&txn) else { break };
            txn = match txn.on(event) {
                Step::Advance { next, .. } | Step::Remember(next) => next,
                step @ (Step::Ignore | Step::Violation(_)) => panic!("{event:?} gives {step:?} in {txn:?}"),
            };
        }
        assert!(txn.state().is_final(), "{run:?} comes to a stand at {txn:?}");
        // Nothing but trouble makes an abort.
        assert_eq!(txn.decision(), run.txn.decision().or(Some(Decision::Commit)), "{run:?} ends at {txn:?}");
    }
}

#[test]
fn a_final_state_never_changes_and_owes_no_call() {
    for run in runs().filter(|run| run.txn.state().is_final()) {
        assert_eq!(run.txn.owed(), run.txn.decision().map(Effect::Tell).into_iter().collect::<Vec<_>>());
    }
    assert!(steps().all(|taken| !taken.before.txn.state().is_final()));
}

#[test]
fn a_decided_state_owes_a_call_to_exactly_the_branches_that_have_not_confirmed() {
    runs().for_each(|run| whoever_has_not_confirmed_is_called(run));
}

#[test]
fn a_branch_settles_for_itself_or_is_parked_and_then_settled_by_an_operator() {
    for taken in steps() {
        let (unconfirmed, parked) = (taken.before.unconfirmed(), taken.before.parked());
        let fits = match taken.logged {
            Some(Transition::Acked(branch)) => unconfirmed.or(parked).has(branch),
            Some(Transition::Parked(branch, _)) => unconfirmed.has(branch),
            Some(Transition::Resolved(branch, _)) => parked.has(branch),
            Some(Transition::Ended) => unconfirmed.or(parked).count() <= 1,
            Some(Transition::Preparing { .. } | Transition::Decided { .. }) | None => continue,
        };
        assert!(fits, "{taken:?}");
    }
}

#[test]
fn a_restart_aborts_what_is_undecided_and_leaves_a_decision_alone() {
    runs().for_each(|run| a_restart_finishes_what_the_log_began(run));
}

/// What a log with a gap is judged by: what stands behind it can have come of what stands before it, or not.
#[test]
fn a_state_may_become_just_those_that_steps_lead_to() {
    let spaces = || SPACES.iter().filter(|space| space.shape.branches.count() <= 2);
    let mut later: HashMap<Txn, HashSet<Txn>> = HashMap::new();
    for space in spaces() {
        let mut steps: HashMap<Txn, HashSet<Txn>> = HashMap::new();
        for taken in &space.steps {
            steps.entry(taken.before.txn.durable()).or_default().insert(taken.after.txn.durable());
        }
        for start in space.runs.iter().map(|run| run.txn.durable()) {
            let (mut reached, mut left) = (HashSet::from([start]), vec![start]);
            while let Some(txn) = left.pop() {
                left.extend(steps.get(&txn).into_iter().flatten().filter(|next| reached.insert(**next)));
            }
            later.insert(start, reached);
        }
    }
    for (before, reached) in &later {
        for after in later.keys() {
            let can = reached.contains(after);
            assert_eq!(before.may_become(after), can, "{before:?} and then {after:?}");
        }
    }
}

#[test]
fn a_step_runs_what_the_new_state_owes_and_the_old_one_did_not() {
    for taken in steps() {
        let before = taken.before.txn.owed();
        let mut owed = taken.after.txn.owed();
        owed.retain(|effect| !before.contains(effect));
        assert_eq!(taken.effects, owed, "{taken:?}");
    }
}

#[test]
fn an_event_that_is_repeated_at_once_changes_nothing() {
    for taken in steps() {
        assert!(taken.after.after(taken.event).is_none(), "{taken:?} happens twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_runs_of_up_to_64_branches_keep_the_same_promises((shape, nudges) in plans()) {
        let mut run = Run::begin(shape);
        for nudge in nudges {
            let Some(taken) = nudged(&run, nudge) else { continue };
            a_decision_stays(&taken);
            run = taken.after;
            replay_gives_what_is_durable(&run);
            at_most_one_decision_is_logged(&run);
            a_commit_has_everybodys_consent(&run);
            whoever_is_left_out_gave_cause(&run);
            whoever_has_not_answered_is_called(&run);
            whoever_has_not_confirmed_is_called(&run);
            a_restart_finishes_what_the_log_began(&run);
        }
    }
}

/// Which effects a record lets out (promise G1 of the design).
fn causes(step: Transition, effect: Effect) -> bool {
    let is_preparing = matches!(step, Transition::Preparing { .. });
    let is_resolved = matches!(step, Transition::Resolved(..));
    match effect {
        // These are owed from the beginning and go out with `begun`.
        Effect::Call(Operation::Work, _) | Effect::WakeAt(_) => false,
        Effect::Call(Operation::Prepare, _) => is_preparing,
        Effect::Call(Operation::Commit, _) => decision_of(step) == Some(Decision::Commit),
        Effect::Call(Operation::Abort, _) => decision_of(step) == Some(Decision::Abort),
        Effect::Tell(decision) => decision_of(step) == Some(decision),
        Effect::End => decision_of(step).is_some() || is_resolved,
    }
}

/// What happens next in a world where everyone does their part.
fn helpful_event(txn: &Txn) -> Option<Event> {
    let resolved = |branch: Branch| Event::Resolved(branch, Decision::Commit);
    let parked = txn.telling().parked.lowest().map(resolved);
    txn.owed().into_iter().find_map(good_answer).or(parked)
}
