//! Runs by chance, for transactions too large to visit everything.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use unanimous::txn::{BRANCHES_MAX, Branches, Event, Shape};

use super::run::{DEADLINE, Run, Taken, every_event, good_answer};

/// What moves a random run along.
#[derive(Debug, Clone, Copy)]
pub(super) enum Nudge {
    /// One of the calls it owes is answered well.
    Answer(Index),
    /// Anything at all happens.
    Anything(Index),
    /// The node is killed and started again.
    Crash,
}

pub(super) fn nudged(run: &Arc<Run>, nudge: Nudge) -> Option<Taken> {
    let pick = |events: &[Event], index: Index| match events {
        [] => None,
        some => run.after(*index.get(some)),
    };
    match nudge {
        Nudge::Answer(index) => {
            let answers: Vec<_> = run.txn.owed().into_iter().filter_map(good_answer).collect();
            pick(&answers, index)
        }
        Nudge::Anything(index) => pick(&every_event(run.txn.shape()), index),
        Nudge::Crash => {
            let found = Run { txn: run.replayed(), log: run.log.clone(), heard: run.heard };
            Arc::new(found).after(Event::Restarted)
        }
    }
}

/// Runs that mostly go well, so that many of them reach a decision; some go wrong often.
pub(super) fn plans() -> impl Strategy<Value = (Shape, Vec<Nudge>)> {
    let shape = (1..=BRANCHES_MAX, any::<u64>()).prop_map(|(count, bits)| {
        let every_branch = Branches::first_of(BRANCHES_MAX).expect("64 is the most");
        let prepare = every_branch.iter().filter(|branch| bits & (1 << branch.index()) != 0).collect();
        Shape::new(count, prepare, DEADLINE).expect("64 is the most")
    });
    let nudges = (0..4_u32).prop_flat_map(|trouble| {
        let nudge = prop_oneof![
            200 => any::<Index>().prop_map(Nudge::Answer),
            1 + 10 * trouble => any::<Index>().prop_map(Nudge::Anything),
            trouble => Just(Nudge::Crash),
        ];
        prop::collection::vec(nudge, 1..=3 * BRANCHES_MAX)
    });
    (shape, nudges)
}
