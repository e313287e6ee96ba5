//! One way through the machine: the transaction, its log, and what the branches really said.
//!
//! The last is kept here on purpose, apart from the machine's own votes, so that a machine that
//! miscounts is found out.

use std::sync::Arc;

use unanimous::clock::Timestamp;
use unanimous::txn::{
    Branch, Branches, Decision, Effect, Event, Loss, Operation, Reason, Shape, Step, Transition, Txn, Vote,
};

/// When every transaction of these tests runs out of time.
pub(super) const DEADLINE: Timestamp = Timestamp(10_000);
/// The one status that branches refuse and contradict with: the machine only carries it along.
pub(super) const STATUS: u16 = 409;
/// The one status of a branch that fails at its work.
pub(super) const STATUS_FAILED: u16 = 503;

/// A transaction and how it came there.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Where it is.
    pub(super) txn: Txn,
    /// What it logged on the way, oldest first.
    pub(super) log: Vec<Transition>,
    /// What the branches said on the way.
    pub(super) heard: Heard,
}

/// What the branches said to the calls that were out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Heard {
    /// Yes to work.
    pub(super) worked: Branches,
    /// Yes to prepare.
    pub(super) prepared: Branches,
    /// Read-only, to either.
    pub(super) read_only: Branches,
    /// Nothing, because the work call never left.
    pub(super) never_sent: Branches,
}

/// A step of a run: something that changed it.
#[derive(Debug)]
pub(super) struct Taken {
    /// The run before it.
    pub(super) before: Arc<Run>,
    /// What happened.
    pub(super) event: Event,
    /// What was logged; `None` where it was only remembered.
    pub(super) logged: Option<Transition>,
    /// What was to be done.
    pub(super) effects: Vec<Effect>,
    /// The run after it, or another run to the same state.
    pub(super) after: Arc<Run>,
}

impl Run {
    pub(super) fn begin(shape: Shape) -> Arc<Self> {
        Arc::new(Self { txn: Txn::begin(shape), log: Vec::new(), heard: Heard::default() })
    }

    /// What `event` does to the run, where it does anything.
    pub(super) fn after(self: &Arc<Self>, event: Event) -> Option<Taken> {
        let (logged, txn, effects) = match self.txn.on(event) {
            Step::Advance { transition, next, effects } => (Some(transition), next, effects),
            Step::Remember(next) => (None, next, Vec::new()),
            Step::Ignore | Step::Violation(_) => return None,
        };
        let log = self.log.iter().copied().chain(logged).collect();
        let after = Arc::new(Self { txn, log, heard: self.heard.and(event, &self.txn.owed()) });
        Some(Taken { before: Arc::clone(self), event, logged, effects, after })
    }

    /// What a restart finds.
    pub(super) fn replayed(&self) -> Txn {
        Txn::replay(self.txn.shape(), self.log.iter().copied()).expect("a run logs only what replay accepts")
    }

    /// Why `event` would abort it, if it does.
    pub(super) fn reason_given_by(&self, event: Event) -> Option<Reason> {
        let first_missing = self.txn.owed().into_iter().find_map(|effect| match effect {
            Effect::Call(_, branch) => Some(branch),
            Effect::Tell(_) | Effect::WakeAt(_) | Effect::End => None,
        });
        match event {
            Event::Refused(branch, status) => Some(Reason::Refused(branch, status)),
            Event::Lost(branch, Loss::NeverSent) => Some(Reason::Unreachable(branch, None)),
            Event::Lost(branch, Loss::Unreachable(status)) => Some(Reason::Unreachable(branch, status)),
            Event::Lost(branch, Loss::Late) => Some(Reason::Late(branch)),
            Event::Clock(now) if now >= DEADLINE => first_missing.map(Reason::Late),
            Event::Restarted => Some(Reason::Restarted),
            Event::Clock(_)
            | Event::Worked(..)
            | Event::Voted(..)
            | Event::Confirmed(_)
            | Event::Contradicted(..)
            | Event::Resolved(..)
            | Event::AllTold => None,
        }
    }

    /// By the log: those who must hear of the decision, did not confirm it and are not parked.
    pub(super) fn unconfirmed(&self) -> Branches {
        self.log.iter().fold(Branches::NONE, |left, step| match step {
            Transition::Preparing { .. } => left,
            Transition::Decided { votes, .. } => {
                self.txn.shape().branches.minus(votes.read_only).minus(votes.never_sent)
            }
            Transition::Acked(branch) | Transition::Parked(branch, _) | Transition::Resolved(branch, _) => {
                left.without(*branch)
            }
            Transition::Ended => Branches::NONE,
        })
    }

    /// By the log: those that contradicted the decision and are not settled.
    pub(super) fn parked(&self) -> Branches {
        self.log.iter().fold(Branches::NONE, |parked, step| match step {
            Transition::Preparing { .. } | Transition::Decided { .. } => parked,
            Transition::Parked(branch, _) => parked.with(*branch),
            Transition::Acked(branch) | Transition::Resolved(branch, _) => parked.without(*branch),
            Transition::Ended => Branches::NONE,
        })
    }
}

impl Heard {
    /// Those that agreed to a commit: by prepare where they have one, else by their work.
    pub(super) fn agreed(self, shape: Shape) -> Branches {
        self.prepared.or(self.read_only).or(self.worked.minus(shape.prepare))
    }

    /// An answer counts where its call was out.
    fn and(self, event: Event, owed: &[Effect]) -> Self {
        let asked = |operation, branch| owed.contains(&Effect::Call(operation, branch));
        match event {
            Event::Worked(branch, vote) if asked(Operation::Work, branch) => match vote {
                Vote::Yes => Self { worked: self.worked.with(branch), ..self },
                Vote::ReadOnly => Self { read_only: self.read_only.with(branch), ..self },
            },
            Event::Voted(branch, vote) if asked(Operation::Prepare, branch) => match vote {
                Vote::Yes => Self { prepared: self.prepared.with(branch), ..self },
                Vote::ReadOnly => Self { read_only: self.read_only.with(branch), ..self },
            },
            Event::Lost(branch, Loss::NeverSent) if asked(Operation::Work, branch) => {
                Self { never_sent: self.never_sent.with(branch), ..self }
            }
            Event::Worked(..)
            | Event::Voted(..)
            | Event::Refused(..)
            | Event::Lost(..)
            | Event::Confirmed(_)
            | Event::Contradicted(..)
            | Event::Resolved(..)
            | Event::AllTold
            | Event::Clock(_)
            | Event::Restarted => self,
        }
    }
}

/// Everything that can happen to a transaction of this shape, sensible or not.
pub(super) fn every_event(shape: Shape) -> Vec<Event> {
    let mut events = vec![
        Event::AllTold,
        Event::Clock(Timestamp(DEADLINE.0 - 1)),
        Event::Clock(DEADLINE),
        Event::Restarted,
    ];
    events.extend(shape.branches.iter().flat_map(events_of));
    events
}

fn events_of(branch: Branch) -> [Event; 13] {
    [
        Event::Worked(branch, Vote::Yes),
        Event::Worked(branch, Vote::ReadOnly),
        Event::Voted(branch, Vote::Yes),
        Event::Voted(branch, Vote::ReadOnly),
        Event::Refused(branch, STATUS),
        Event::Lost(branch, Loss::NeverSent),
        Event::Lost(branch, Loss::Unreachable(None)),
        Event::Lost(branch, Loss::Unreachable(Some(STATUS_FAILED))),
        Event::Lost(branch, Loss::Late),
        Event::Confirmed(branch),
        Event::Contradicted(branch, STATUS),
        Event::Resolved(branch, Decision::Commit),
        Event::Resolved(branch, Decision::Abort),
    ]
}

/// What a branch that does its part answers.
pub(super) fn good_answer(effect: Effect) -> Option<Event> {
    match effect {
        Effect::Call(Operation::Work, branch) => Some(Event::Worked(branch, Vote::Yes)),
        Effect::Call(Operation::Prepare, branch) => Some(Event::Voted(branch, Vote::Yes)),
        Effect::Call(Operation::Commit | Operation::Abort, branch) => Some(Event::Confirmed(branch)),
        Effect::End => Some(Event::AllTold),
        Effect::Tell(_) | Effect::WakeAt(_) => None,
    }
}
