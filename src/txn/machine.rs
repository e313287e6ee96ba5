//! The machine: a value, what it does on an event, and what it owes the world.

use serde::{Deserialize, Serialize};

use super::branch::{Branch, Branches, NoSuchBranch};
use super::event::Event;
use super::propose::Proposal;
use super::transition::{Decision, Reason, Transition, Votes};
use crate::clock::Timestamp;

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Txn {
    pub(super) shape: Shape,
    pub(super) votes: Votes,
    pub(super) state: State,
}

/// What is fixed when a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Every branch.
    pub branches: Branches,
    /// Those that are asked to prepare; for the others the work answer is the vote.
    pub prepare: Branches,
    /// When an undecided transaction is aborted.
    pub deadline: Timestamp,
}

/// How far a transaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The work calls are out.
    Working,
    /// The prepare calls are out.
    Preparing {
        /// Branches that took themselves out with their work answer.
        read_only: Branches,
    },
    /// Decided commit; some branch has still to confirm.
    Committing(Telling),
    /// Every branch confirmed the commit.
    Committed,
    /// Decided abort; some branch has still to confirm.
    Aborting(Reason, Telling),
    /// Every branch confirmed the abort.
    Aborted(Reason),
}

/// Who has still to be told of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Telling {
    /// Told, or being told, and not yet confirmed.
    pub waiting: Branches,
    /// Contradicted the decision; an operator must look.
    pub parked: Branches,
}

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Log `transition`; then the transaction is `next`, and `effects` may be done.
    Advance {
        /// What to log.
        transition: Transition,
        /// The transaction after it.
        next: Txn,
        /// What `next` owes and this transaction did not.
        effects: Vec<Effect>,
    },
    /// The transaction is now this. Nothing is logged: a crash forgets it, and may, because an
    /// undecided transaction is aborted on restart whatever its votes were.
    Remember(Txn),
    /// It changes nothing: a repeat, or an answer that came too late.
    Ignore,
    /// It can not happen to a transaction in this state.
    Violation(Violation),
}

/// Something the coordinator has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Call a branch, and for commit and abort go on until it answers.
    Call(Operation, Branch),
    /// The decision may be told to the client.
    Tell(Decision),
    /// Report the time again at this time.
    WakeAt(Timestamp),
    /// Nobody is left to be told: report [`Event::AllTold`].
    End,
}

/// The four calls of the participant protocol (contract section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The business request.
    Work,
    /// Can you commit?
    Prepare,
    /// Do it.
    Commit,
    /// Undo it.
    Abort,
}

/// An event that does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not fit a transaction that is {state}")]
pub struct Violation {
    /// The event.
    pub event: Event,
    /// The name of the state.
    pub state: &'static str,
}

impl Txn {
    /// A transaction that has just begun: it owes its work calls and a look at the clock.
    #[must_use]
    pub fn begin(shape: Shape) -> Self {
        Self { shape, votes: Votes::default(), state: State::Working }
    }

    /// What `event` leads to.
    #[must_use]
    pub fn on(&self, event: Event) -> Step {
        match self.propose(event) {
            Proposal::Log(transition) => {
                let next = self.apply(transition).expect("on() proposes only legal steps");
                Step::Advance { transition, next, effects: next.owed_beyond(self) }
            }
            Proposal::Remember(votes) => Step::Remember(Self { votes, ..*self }),
            Proposal::Nothing => Step::Ignore,
            Proposal::Misfit => Step::Violation(Violation { event, state: self.state.name() }),
        }
    }

    /// All that the present state owes the world.
    #[must_use]
    pub fn owed(&self) -> Vec<Effect> {
        let mut owed: Vec<Effect> = self.decision().map(Effect::Tell).into_iter().collect();
        let (operation, to) = self.calls();
        owed.extend(to.iter().map(|branch| Effect::Call(operation, branch)));
        match self.state {
            State::Working | State::Preparing { .. } => owed.push(Effect::WakeAt(self.shape.deadline)),
            State::Committing(telling) | State::Aborting(_, telling) if telling.outstanding().is_empty() => {
                owed.push(Effect::End);
            }
            State::Committing(_) | State::Aborting(..) | State::Committed | State::Aborted(_) => {}
        }
        owed
    }

    /// What a crash leaves of it: the votes of an undecided transaction are not in the log.
    #[must_use]
    pub fn durable(&self) -> Self {
        let votes = match self.state {
            State::Working => Votes::default(),
            State::Preparing { read_only } => self.votes_by_work(read_only),
            State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => self.votes,
        };
        Self { votes, ..*self }
    }

    /// What was fixed at the beginning.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How the branches stand; after a decision, how they stood when it was taken.
    #[must_use]
    pub fn votes(&self) -> Votes {
        self.votes
    }

    /// The decision, once it is taken.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        self.state.decision()
    }

    /// Who has still to confirm; nobody while there is nothing to confirm.
    #[must_use]
    pub fn telling(&self) -> Telling {
        match self.state {
            State::Committing(telling) | State::Aborting(_, telling) => telling,
            State::Working | State::Preparing { .. } | State::Committed | State::Aborted(_) => {
                Telling::NOBODY
            }
        }
    }
}

impl Txn {
    /// The call that the state makes, and to whom.
    fn calls(&self) -> (Operation, Branches) {
        match self.state {
            State::Working => (Operation::Work, self.unanswered()),
            State::Preparing { .. } => (Operation::Prepare, self.unanswered()),
            State::Committing(telling) => (Operation::Commit, telling.waiting),
            State::Aborting(_, telling) => (Operation::Abort, telling.waiting),
            State::Committed => (Operation::Commit, Branches::NONE),
            State::Aborted(_) => (Operation::Abort, Branches::NONE),
        }
    }

    /// Whose answers it waits for; for those that are parked, an operator's.
    #[must_use]
    pub fn waits_for(&self) -> Branches {
        self.calls().1.or(self.telling().parked)
    }

    /// Whose answers it needs before it can end: those it waits for now, and before the decision all that may have to be told
    /// of it.
    #[must_use]
    pub fn needs(&self) -> Branches {
        if self.decision().is_none() { self.shape.branches } else { self.telling().outstanding() }
    }

    /// Whether a transaction of this shape can stand so in the log: while it is undecided, just as its records say, and with
    /// nobody in it whom the shape does not have.
    #[must_use]
    pub fn is_of(&self, shape: Shape) -> bool {
        let begun = Self::begin(shape);
        let named = self.state.reason().and_then(Reason::branch).map_or(Branches::NONE, Branches::only);
        match self.state {
            State::Working => *self == begun,
            State::Preparing { read_only } => begun.apply(Transition::Preparing { read_only }) == Ok(*self),
            State::Committing(_) | State::Committed | State::Aborting(..) | State::Aborted(_) => {
                let in_it = self.votes.answered().or(self.telling().outstanding()).or(named);
                self.shape == shape && shape.branches.covers(in_it)
            }
        }
    }

    fn owed_beyond(&self, before: &Self) -> Vec<Effect> {
        let already = before.owed();
        self.owed().into_iter().filter(|effect| !already.contains(effect)).collect()
    }

    /// Who has still to answer before there can be a decision.
    pub(super) fn unanswered(&self) -> Branches {
        if self.decision().is_some() {
            return Branches::NONE;
        }
        self.shape.branches.minus(self.votes.answered())
    }

    /// The votes that stand when preparing begins: those given with the work answer.
    pub(super) fn votes_by_work(&self, read_only: Branches) -> Votes {
        let yes = self.shape.branches.minus(self.shape.prepare).minus(read_only);
        Votes { yes, read_only, ..Votes::default() }
    }

    pub(super) fn keeps_votes_by_work(&self, read_only: Branches, votes: Votes) -> bool {
        let before = self.votes_by_work(read_only);
        votes.yes.covers(before.yes) && votes.read_only.covers(before.read_only)
    }
}

impl Shape {
    /// A transaction of `count` branches of which `prepare` are asked to prepare.
    pub fn new(count: usize, prepare: Branches, deadline: Timestamp) -> Result<Self, NoSuchBranch> {
        let branches = Branches::first_of(count)?;
        Ok(Self { branches, prepare: prepare.and(branches), deadline })
    }
}

impl State {
    /// Its name, as shown everywhere (contract section 1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Preparing { .. } => "preparing",
            Self::Committing(_) => "committing",
            Self::Committed => "committed",
            Self::Aborting(..) => "aborting",
            Self::Aborted(_) => "aborted",
        }
    }

    /// The decision, once it is taken.
    #[must_use]
    pub fn decision(self) -> Option<Decision> {
        match self {
            Self::Working | Self::Preparing { .. } => None,
            Self::Committing(_) | Self::Committed => Some(Decision::Commit),
            Self::Aborting(..) | Self::Aborted(_) => Some(Decision::Abort),
        }
    }

    /// Whether nothing more can happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Committed | Self::Aborted(_) => true,
            Self::Working | Self::Preparing { .. } | Self::Committing(_) | Self::Aborting(..) => false,
        }
    }

    /// Why it is an abort.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Aborting(reason, _) | Self::Aborted(reason) => Some(reason),
            Self::Working | Self::Preparing { .. } | Self::Committing(_) | Self::Committed => None,
        }
    }
}

/// The names of all states, in the order of a transaction's life.
pub const STATES: [&str; 6] = ["working", "preparing", "committing", "committed", "aborting", "aborted"];

impl Telling {
    const NOBODY: Self = Self { waiting: Branches::NONE, parked: Branches::NONE };

    pub(super) fn everyone(waiting: Branches) -> Self {
        Self { waiting, parked: Branches::NONE }
    }

    pub(super) fn without(self, branch: Branch) -> Self {
        Self { waiting: self.waiting.without(branch), parked: self.parked.without(branch) }
    }

    /// Waited for or parked.
    #[must_use]
    pub fn outstanding(self) -> Branches {
        self.waiting.or(self.parked)
    }
}

impl Operation {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}
