//! Deliberate bugs, and where they come into the node. Each must be noticed, by the promises that it breaks and no others.
//!
//! A bug changes what the node does and never what the promises see, so that it is the promises that are tested. Without a
//! bug each function here gives back what it was given.

use unanimous::journal::options::Sync;
use unanimous::journal::record::Record;
use unanimous::txn::{Branches, Decision, Effect, Event, Loss, Operation, Txn, Vote};

use super::check::Check;
use super::disk::Disk;
use super::node::Fate;
use super::promises::{
    CAN_END, DURABLE_FIRST, EVERY_VOTE, KEYS, LEGAL, LOG_FIRST, NO_LIES, ONE_OUTCOME, OPERATORS, POSSIBLE,
    SETTLED, SURVIVES,
};
use super::world::{Escrow, World};

/// What is wrong with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Calls leave while their record is being written.
    CallsLeaveBeforeTheLog,
    /// A decision is told while its record is being written.
    ToldBeforeTheSync,
    /// A decision to commit is not logged.
    CommitIsNotLogged,
    /// A decision to abort is not logged.
    AbortIsNotLogged,
    /// No record is waited for.
    NothingIsWaitedFor,
    /// A decision to commit is not waited for.
    CommitIsNotWaitedFor,
    /// `begun` with a key is not waited for.
    KeyIsNotWaitedFor,
    /// A contradiction is not waited for.
    ContradictionIsNotWaitedFor,
    /// An operator's word is not waited for.
    OperatorIsNotWaitedFor,
    /// The last record is taken for damaged at a start, and dropped.
    LastRecordIsDropped,
    /// A start aborts what was committed, too.
    RestartAbortsWhatIsDecided,
    /// A start takes every answer for given, and goes on.
    RestartPresumesYes,
    /// A start tells nobody what was decided.
    RestartTellsNobody,
    /// A start goes on with what is undecided, instead of aborting it.
    RestartGoesOnWithTheUndecided,
    /// A work call without an answer counts as a yes.
    LostWorkIsYes,
    /// A no counts as a yes.
    RefusalIsYes,
    /// Who has not voted by the deadline counts as a yes.
    SilenceIsYes,
    /// The deadline can pass for a transaction that is just being decided.
    DecidesTwice,
    /// A call without an answer counts as one that never left.
    LostWorkWasNeverSent,
    /// One branch is not told of the decision.
    OneBranchIsNotTold,
    /// The first confirmation counts for all.
    FirstConfirmationIsAll,
    /// A branch that contradicts is taken to have done as it was told.
    ContradictionIsDone,
    /// A branch that asked to be left out is told all the same.
    ReadOnlyIsYes,
    /// Whoever asks for what is undecided is told that it never began.
    UndecidedIsNeverSeen,
}

/// A bug, a transaction that shows it, and the promises that it breaks.
pub struct Case {
    pub bug: Bug,
    pub branches: usize,
    /// So many of them have a prepare.
    pub prepare: usize,
    pub log: Log,
    pub breaks: &'static [&'static str],
}

/// A log of the model.
pub type Log = (Sync, bool);
const EVERY: Log = (Sync::EveryTransition, false);
const DECISIONS: Log = (Sync::Decisions, false);
const KEY: Log = (Sync::Decisions, true);

pub const CASES: [Case; 24] = [
    case(Bug::CallsLeaveBeforeTheLog, 1, 1, EVERY, &[LOG_FIRST, EVERY_VOTE, NO_LIES, POSSIBLE]),
    case(Bug::ToldBeforeTheSync, 1, 0, EVERY, &[DURABLE_FIRST, NO_LIES, POSSIBLE]),
    case(
        Bug::CommitIsNotLogged,
        1,
        0,
        EVERY,
        &[LOG_FIRST, DURABLE_FIRST, EVERY_VOTE, NO_LIES, OPERATORS, LEGAL, POSSIBLE],
    ),
    case(Bug::AbortIsNotLogged, 1, 0, EVERY, &[LOG_FIRST, DURABLE_FIRST, OPERATORS, LEGAL]),
    case(
        Bug::NothingIsWaitedFor,
        1,
        0,
        EVERY,
        &[LOG_FIRST, DURABLE_FIRST, EVERY_VOTE, NO_LIES, OPERATORS, POSSIBLE],
    ),
    case(Bug::CommitIsNotWaitedFor, 1, 0, EVERY, &[LOG_FIRST, DURABLE_FIRST, EVERY_VOTE, NO_LIES, POSSIBLE]),
    case(Bug::KeyIsNotWaitedFor, 1, 0, KEY, &[KEYS, LOG_FIRST]),
    case(Bug::ContradictionIsNotWaitedFor, 1, 0, DECISIONS, &[OPERATORS]),
    case(Bug::OperatorIsNotWaitedFor, 1, 0, DECISIONS, &[OPERATORS]),
    case(Bug::LastRecordIsDropped, 1, 0, EVERY, &[SURVIVES, EVERY_VOTE, NO_LIES, OPERATORS, POSSIBLE]),
    case(
        Bug::RestartAbortsWhatIsDecided,
        1,
        0,
        DECISIONS,
        &[SURVIVES, EVERY_VOTE, NO_LIES, SETTLED, LEGAL, POSSIBLE],
    ),
    case(Bug::RestartPresumesYes, 1, 0, EVERY, &[EVERY_VOTE, NO_LIES, POSSIBLE, CAN_END]),
    case(Bug::RestartTellsNobody, 1, 0, EVERY, &[CAN_END]),
    case(Bug::RestartGoesOnWithTheUndecided, 1, 0, DECISIONS, &[NO_LIES, EVERY_VOTE, SETTLED, POSSIBLE]),
    case(Bug::LostWorkIsYes, 1, 0, EVERY, &[EVERY_VOTE, NO_LIES, POSSIBLE, CAN_END]),
    case(Bug::RefusalIsYes, 2, 0, EVERY, &[ONE_OUTCOME, EVERY_VOTE, NO_LIES, POSSIBLE]),
    case(Bug::SilenceIsYes, 1, 1, EVERY, &[EVERY_VOTE, NO_LIES, POSSIBLE, CAN_END]),
    case(
        Bug::DecidesTwice,
        1,
        0,
        EVERY,
        &[SURVIVES, LEGAL, LOG_FIRST, DURABLE_FIRST, EVERY_VOTE, NO_LIES, SETTLED, POSSIBLE],
    ),
    case(Bug::LostWorkWasNeverSent, 1, 0, EVERY, &[SETTLED]),
    case(Bug::OneBranchIsNotTold, 2, 2, EVERY, &[CAN_END]),
    case(Bug::FirstConfirmationIsAll, 2, 0, EVERY, &[SETTLED]),
    case(Bug::ContradictionIsDone, 1, 0, EVERY, &[SETTLED]),
    case(Bug::ReadOnlyIsYes, 1, 0, EVERY, &[POSSIBLE, CAN_END]),
    case(Bug::UndecidedIsNeverSeen, 1, 0, EVERY, &[NO_LIES, EVERY_VOTE, POSSIBLE]),
];

const fn case(bug: Bug, branches: usize, prepare: usize, log: Log, breaks: &'static [&'static str]) -> Case {
    Case { bug, branches, prepare, log, breaks }
}

impl Case {
    pub fn check(&self) -> Check {
        let prepare = Branches::first_of(self.prepare).expect("a model has few branches");
        Check { bug: Some(self.bug), ..Check::new(self.branches, prepare, self.log.0, self.log.1) }
    }
}

impl Check {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub fn waits_for(&self, record: &Record) -> bool {
        let is_skipped = match record {
            Record::Begun(_) => self.is(Bug::KeyIsNotWaitedFor),
            Record::Decided { decision, .. } => {
                self.is(Bug::CommitIsNotWaitedFor) && *decision == Decision::Commit
            }
            Record::Parked { .. } => self.is(Bug::ContradictionIsNotWaitedFor),
            Record::Resolved { .. } => self.is(Bug::OperatorIsNotWaitedFor),
            Record::Opened { .. }
            | Record::GaveUp { .. }
            | Record::Preparing { .. }
            | Record::Acked(_)
            | Record::Ended(_)
            | Record::Carried(_)
            | Record::Settled
            | Record::CarriedResolved(..) => false,
        };
        self.sync.waits_for(record) && !is_skipped && !self.is(Bug::NothingIsWaitedFor)
    }

    pub fn writes(&self, record: &Record) -> bool {
        let Record::Decided { decision, .. } = record else { return true };
        match decision {
            Decision::Commit => !self.is(Bug::CommitIsNotLogged),
            Decision::Abort => !self.is(Bug::AbortIsNotLogged),
        }
    }

    /// What is done already while the record is being written.
    pub fn let_out_early(&self, effects: &[Effect]) -> Vec<Effect> {
        let is_early = |effect: &&Effect| match effect {
            Effect::Call(..) => self.is(Bug::CallsLeaveBeforeTheLog),
            Effect::Tell(_) => self.is(Bug::ToldBeforeTheSync),
            Effect::WakeAt(_) | Effect::End => false,
        };
        effects.iter().filter(is_early).copied().collect()
    }

    /// What is done of what has to be done.
    pub fn kept_of(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.is(Bug::OneBranchIsNotTold) {
            let first = self.shape.branches.lowest();
            effects.retain(|effect| match effect {
                Effect::Call(Operation::Commit | Operation::Abort, branch) => Some(*branch) != first,
                Effect::Call(..) | Effect::Tell(_) | Effect::WakeAt(_) | Effect::End => true,
            });
        }
        effects
    }

    pub fn kept_at_restart(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.is(Bug::RestartTellsNobody) {
            effects.retain(|effect| !matches!(effect, Effect::Call(..)));
        }
        self.kept_of(effects)
    }

    /// What happens to the log before it is read.
    pub fn spoil(&self, disk: &mut Disk) {
        if self.is(Bug::LastRecordIsDropped) {
            disk.drop_last();
        }
    }

    /// What a start makes of what it read.
    pub fn as_found(&self, txn: Txn) -> Txn {
        let is_forgotten =
            self.is(Bug::RestartAbortsWhatIsDecided) && txn.decision() == Some(Decision::Commit);
        if is_forgotten { Txn::begin(self.shape) } else { txn }
    }

    /// What a start makes of a transaction.
    pub fn at_restart(&self, txn: &Txn) -> Vec<Event> {
        let is_undecided = txn.decision().is_none();
        if self.is(Bug::RestartPresumesYes) && is_undecided {
            return self.shape.branches.iter().map(|branch| Event::Worked(branch, Vote::Yes)).collect();
        }
        if self.is(Bug::RestartGoesOnWithTheUndecided) {
            return Vec::new();
        }
        vec![Event::Restarted]
    }

    /// What the node hears when this happened.
    pub fn heard(&self, world: &World, event: Event) -> Vec<Event> {
        let yes = |branch| {
            let is_working = world.running().is_some_and(|running| running.txn.state().name() == "working");
            if is_working { Event::Worked(branch, Vote::Yes) } else { Event::Voted(branch, Vote::Yes) }
        };
        let late = world.running().and_then(|running| running.txn.waits_for().lowest());
        let instead = match event {
            Event::Lost(branch, Loss::Late) if self.is(Bug::LostWorkIsYes) => Some(yes(branch)),
            Event::Lost(branch, Loss::Unreachable(None)) if self.is(Bug::LostWorkWasNeverSent) => {
                Some(Event::Lost(branch, Loss::NeverSent))
            }
            Event::Refused(branch, _) if self.is(Bug::RefusalIsYes) => Some(yes(branch)),
            Event::Clock(_) if self.is(Bug::SilenceIsYes) => late.map(yes),
            Event::Contradicted(branch, _) if self.is(Bug::ContradictionIsDone) => {
                Some(Event::Confirmed(branch))
            }
            Event::Worked(branch, Vote::ReadOnly) if self.is(Bug::ReadOnlyIsYes) => Some(yes(branch)),
            Event::Voted(branch, Vote::ReadOnly) if self.is(Bug::ReadOnlyIsYes) => Some(yes(branch)),
            Event::Confirmed(_) if self.is(Bug::FirstConfirmationIsAll) => {
                return self.shape.branches.iter().map(Event::Confirmed).collect();
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
            | Event::Restarted => None,
        };
        vec![instead.unwrap_or(event)]
    }

    /// Whether the deadline can pass while this is being written.
    pub fn can_be_late(&self, escrow: &Escrow) -> bool {
        self.is(Bug::DecidesTwice) && escrow.next.decision() == Some(Decision::Commit)
    }

    pub fn fate_of_undecided(&self) -> Option<Fate> {
        self.is(Bug::UndecidedIsNeverSeen).then_some(Fate::NeverSeen)
    }
}
