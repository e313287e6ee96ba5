//! Breadth first through everything that one, two and three branches can do.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use unanimous::txn::{Branches, Shape, Txn};

use super::candidates::subsets;
use super::run::{DEADLINE, Heard, Run, Taken, every_event};

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
    /// A shortest run to each state, nearest first.
    pub(super) runs: Vec<Arc<Run>>,
    /// Every step there is from any of them.
    pub(super) steps: Vec<Taken>,
}

impl Space {
    fn explore(shape: Shape) -> Self {
        let events = every_event(shape);
        let mut space = Self { shape, runs: vec![Run::begin(shape)], steps: Vec::new() };
        let mut seen: HashMap<(Txn, Heard), Arc<Run>> = HashMap::new();
        let mut number = 0;
        while let Some(run) = space.runs.get(number).cloned() {
            for mut taken in events.iter().filter_map(|event| run.after(*event)) {
                let state = (taken.after.txn, taken.after.heard);
                let first = seen.entry(state).or_insert_with(|| {
                    space.runs.push(Arc::clone(&taken.after));
                    Arc::clone(&taken.after)
                });
                taken.after = Arc::clone(first);
                space.steps.push(taken);
            }
            number += 1;
        }
        space
    }

    /// How many states of the machine there are; some are reached with different answers heard.
    pub(super) fn states(&self) -> usize {
        self.runs.iter().map(|run| run.txn).collect::<HashSet<_>>().len()
    }
}

/// A run to every state of every space.
pub(super) fn runs() -> impl Iterator<Item = &'static Arc<Run>> {
    SPACES.iter().flat_map(|space| &space.runs)
}

/// Every step of every space.
pub(super) fn steps() -> impl Iterator<Item = &'static Taken> {
    SPACES.iter().flat_map(|space| &space.steps)
}
