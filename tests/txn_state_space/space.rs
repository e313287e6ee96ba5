//! Breadth first through everything that one, two and three branches can do.

use std::collections::HashSet;
use std::sync::LazyLock;

use unanimous::txn::{Branches, Event, Shape};

use super::candidates::subsets;
use super::run::{DEADLINE, Run, Taken, every_event};

/// One space for each number of branches and each choice of branches with prepare.
pub(super) static SPACES: LazyLock<Vec<Space>> = LazyLock::new(|| {
    (1..=3)
        .flat_map(|count| {
            let branches = Branches::first_of(count).expect("three branches are few");
            subsets(branches).into_iter().map(move |prepare| Shape { branches, prepare, deadline: DEADLINE })
        })
        .map(Space::explore)
        .collect()
});

/// All that can become of transactions of one shape.
pub(super) struct Space {
    /// The shape.
    pub(super) shape: Shape,
    /// The shortest run to each state, nearest first.
    pub(super) runs: Vec<Run>,
    /// What changes something: the number of a run, and the event.
    changes: Vec<(usize, Event)>,
}

impl Space {
    fn explore(shape: Shape) -> Self {
        let events = every_event(shape);
        let first = Run::begin(shape);
        let mut seen = HashSet::from([(first.txn, first.heard)]);
        let mut space = Self { shape, runs: vec![first], changes: Vec::new() };
        let mut number = 0;
        while let Some(run) = space.runs.get(number) {
            let taken: Vec<_> = events.iter().filter_map(|event| run.after(*event)).collect();
            for taken in taken {
                space.changes.push((number, taken.event));
                if seen.insert((taken.after.txn, taken.after.heard)) {
                    space.runs.push(taken.after);
                }
            }
            number += 1;
        }
        space
    }

    /// How many states of the machine there are; some are reached with different answers heard.
    pub(super) fn states(&self) -> usize {
        self.runs.iter().map(|run| run.txn).collect::<HashSet<_>>().len()
    }

    /// Every step there is.
    pub(super) fn steps(&self) -> impl Iterator<Item = Taken> {
        self.changes.iter().filter_map(|(number, event)| self.runs.get(*number)?.after(*event))
    }
}

/// A run to every state of every space.
pub(super) fn runs() -> impl Iterator<Item = &'static Run> {
    SPACES.iter().flat_map(|space| &space.runs)
}

/// Every step of every space.
pub(super) fn steps() -> impl Iterator<Item = Taken> {
    SPACES.iter().flat_map(Space::steps)
}
