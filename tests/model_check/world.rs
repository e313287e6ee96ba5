//! One state of the model: the node, its disk, the branches, and what was seen so far.

use unanimous::txn::{Branch, Branches, Decision, Effect, Shape, Transition, Txn};

use super::branch::Share;
use super::disk::Disk;

/// All there is.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub node: Node,
    pub disk: Disk,
    /// By number.
    pub shares: Vec<Share>,
    pub seen: Seen,
    /// What never changes.
    pub shape: Shape,
    /// Whether states that differ only in what cannot matter any more count as different; see `essence`.
    pub is_exact: bool,
}

/// The process.
#[expect(clippy::large_enum_variant, reason = "most states of the model have the large one")]
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Down,
    /// It runs, and has nothing to do with the transaction: it ended, or the log does not know it.
    Idle,
    Runs(Running),
}

/// The transaction in memory, as its task has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub txn: Txn,
    /// What waits for the disk; until then the task does nothing else.
    pub escrow: Option<Escrow>,
    /// What may be told to whoever asks.
    pub told: Option<Decision>,
    /// It will look at the clock when the deadline passes.
    pub wakes: bool,
    pub is_all_told: bool,
}

/// Effects in the hands of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Escrow {
    /// The step that is being logged; `None` for the beginning.
    pub step: Option<Transition>,
    /// The transaction after it.
    pub next: Txn,
    pub effects: Vec<Effect>,
}

/// What was seen from outside, in all lives of the node, and what must never be.
///
/// What *may* have been asked counts as asked: so the model needs no clients that choose when to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// The first decision that was durable.
    pub decided: Option<Decision>,
    pub told: Told,
    /// Branches that an operator was shown as parked.
    pub parked: Branches,
    /// Branches that an operator spoke for.
    pub spoken_for: Branches,
    /// Branches that an operator settled, and was told that it is so.
    pub settled: Branches,
    pub broken: Broken,
}

/// What whoever asked was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Told {
    pub committed: bool,
    pub aborted: bool,
    /// Abort is safe.
    pub never_seen: bool,
}

/// What went wrong in a step, so that no later state shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a promise of its own")]
pub struct Broken {
    /// A call left before its record was as durable as it has to be.
    pub called_early: bool,
    /// A decision was told before it was as durable as it has to be.
    pub told_early: bool,
    /// A start found records that no run can have written.
    pub found_illegal: bool,
    /// A start did not find a key whose transaction it found.
    pub forgot_key: bool,
    /// A service was asked what it can not do.
    pub asked_amiss: bool,
}

impl World {
    pub fn running(&self) -> Option<&Running> {
        match &self.node {
            Node::Runs(running) => Some(running),
            Node::Down | Node::Idle => None,
        }
    }

    pub fn share(&self, branch: Branch) -> Share {
        *self.shares.get(branch.index()).expect("branches are those of the shape")
    }

    pub fn share_mut(&mut self, branch: Branch) -> &mut Share {
        self.shares.get_mut(branch.index()).expect("branches are those of the shape")
    }

    /// What the log or the memory takes for decided, durable or not.
    pub fn decisions(&self) -> impl Iterator<Item = Decision> {
        let logged = self.disk.futures().flatten().filter_map(|txn| txn.decision());
        logged.chain(self.running().and_then(|running| running.subject().decision()))
    }
}

impl Running {
    pub fn new(txn: Txn) -> Self {
        Self { txn, escrow: None, told: None, wakes: false, is_all_told: false }
    }

    /// The transaction, after the step that is being logged.
    pub fn subject(&self) -> &Txn {
        self.escrow.as_ref().map_or(&self.txn, |escrow| &escrow.next)
    }
}

impl Escrow {
    /// The branch that the step is about, where it is about one.
    pub fn branch(&self) -> Option<Branch> {
        match self.step {
            Some(
                Transition::Acked(branch) | Transition::Parked(branch, _) | Transition::Resolved(branch, _),
            ) => Some(branch),
            Some(Transition::Preparing { .. } | Transition::Decided { .. } | Transition::Ended) | None => {
                None
            }
        }
    }
}
