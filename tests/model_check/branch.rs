//! One branch: the service that does its share, and the wire between it and the node.
//!
//! ```text
//!            work            prepare            commit
//!  nothing ───────► worked ───────────► promised ───────► committed
//!     │  (lost when it crashes)  │  (durable)  │
//!     └──────────── abort ───────┴─────────────┴─────────► aborted: late work is refused
//! ```
//!
//! A call that left is on the wire for ever: it may arrive at any later time, as often as it likes, after any other, and in
//! any later life of the node; or never. So loss, repetition and reordering need no steps of their own. An answer reaches only
//! the life of the node that asked, and there too at any time, or never.

use unanimous::participant::Answer;
use unanimous::participant::answer::{Outcome, meaning};
use unanimous::plan::Reply;
use unanimous::txn::{Branch, Event, Operation, Vote};

/// One branch as it is outside of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Share {
    pub service: Service,
    /// What this life of the node last asked of it.
    pub asked: Option<Operation>,
    /// Calls that left, in any life of the node.
    pub sent: Calls,
    /// Answers to calls of this life.
    pub answers: Answers,
}

/// What a service that keeps the participant protocol knows of its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Service {
    /// Nothing, or it forgot what it never promised.
    #[default]
    Nothing,
    Worked,
    /// It will do as decided, whatever happens to it.
    Promised,
    Committed,
    Aborted,
    /// It voted read-only and takes no further part.
    Left,
    /// It promised and then committed on its own, against the decision.
    CommittedAlone,
    /// It promised and then aborted on its own, against the decision.
    AbortedAlone,
}

/// How a service feels about what it is asked, where it has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mind {
    Willing,
    ReadOnly,
    Unwilling,
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Yes,
    ReadOnly,
    No,
}

/// Something that a service must never be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outrage;

/// A set of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Calls(u8);

/// A set of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Answers(u16);

pub const OPERATIONS: [Operation; 4] =
    [Operation::Work, Operation::Prepare, Operation::Commit, Operation::Abort];
const SAID: [Said; 3] = [Said::Yes, Said::ReadOnly, Said::No];

impl Share {
    /// The share after `operation` arrived; the service may have been asked what it must never be asked.
    pub fn receive(self, operation: Operation, has_prepare: bool, mind: Mind) -> Result<Self, Outrage> {
        let (service, said) = match operation {
            Operation::Work => self.service.work(has_prepare, mind),
            Operation::Prepare => self.service.prepare(mind),
            Operation::Commit => self.service.commit(mind)?,
            Operation::Abort => self.service.abort(mind)?,
        };
        let is_heard = self.asked == Some(operation);
        let answers = if is_heard { self.answers.with(operation, said) } else { self.answers };
        Ok(Self { service, answers, ..self })
    }

    /// The node that asked is gone, or has nothing to do with it any more.
    pub fn hang_up(&mut self) {
        (self.asked, self.answers) = (None, Answers::default());
    }

    /// Somebody makes it do what was decided after all.
    pub fn mend(&mut self) {
        if self.service == Service::CommittedAlone {
            self.service = Service::Aborted;
        } else if self.service == Service::AbortedAlone {
            self.service = Service::Committed;
        }
    }
}

impl Service {
    pub fn has_committed(self) -> bool {
        matches!(self, Self::Committed | Self::CommittedAlone)
    }

    /// What it can make of this call.
    pub fn minds(self, operation: Operation, may_contradict: bool) -> &'static [Mind] {
        match (self, operation) {
            (Self::Nothing, Operation::Work) | (Self::Worked, Operation::Prepare) => {
                &[Mind::Willing, Mind::ReadOnly, Mind::Unwilling]
            }
            (Self::Promised, Operation::Commit | Operation::Abort) if may_contradict => {
                &[Mind::Willing, Mind::Unwilling]
            }
            _ => &[Mind::Willing],
        }
    }

    /// It can no longer be taken for one that may go either way.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Nothing | Self::Worked | Self::Promised)
    }

    fn work(self, has_prepare: bool, mind: Mind) -> (Self, Said) {
        match (self, mind) {
            (Self::Nothing, Mind::Willing) if has_prepare => (Self::Worked, Said::Yes),
            (Self::Nothing, Mind::Willing) => (Self::Promised, Said::Yes),
            (Self::Nothing, Mind::ReadOnly) | (Self::Left, _) => (Self::Left, Said::ReadOnly),
            (Self::Nothing, Mind::Unwilling) | (Self::Aborted, _) => (Self::Aborted, Said::No),
            (
                Self::Worked | Self::Promised | Self::Committed | Self::CommittedAlone | Self::AbortedAlone,
                _,
            ) => (self, Said::Yes),
        }
    }

    fn prepare(self, mind: Mind) -> (Self, Said) {
        match (self, mind) {
            (Self::Worked, Mind::Willing) => (Self::Promised, Said::Yes),
            (Self::Worked, Mind::ReadOnly) | (Self::Left, _) => (Self::Left, Said::ReadOnly),
            (Self::Worked, Mind::Unwilling) => (Self::Aborted, Said::No),
            (Self::Promised | Self::Committed | Self::CommittedAlone | Self::AbortedAlone, _) => {
                (self, Said::Yes)
            }
            // What is not there cannot be promised.
            (Self::Nothing | Self::Aborted, _) => (self, Said::No),
        }
    }

    fn commit(self, mind: Mind) -> Result<(Self, Said), Outrage> {
        match (self, mind) {
            (Self::Promised, Mind::Unwilling) | (Self::AbortedAlone, _) => Ok((Self::AbortedAlone, Said::No)),
            (Self::Promised | Self::Committed, _) => Ok((Self::Committed, Said::Yes)),
            (Self::Nothing | Self::Worked | Self::Aborted | Self::Left | Self::CommittedAlone, _) => {
                Err(Outrage)
            }
        }
    }

    fn abort(self, mind: Mind) -> Result<(Self, Said), Outrage> {
        match (self, mind) {
            (Self::Promised, Mind::Unwilling) | (Self::CommittedAlone, _) => {
                Ok((Self::CommittedAlone, Said::No))
            }
            (Self::Nothing | Self::Worked | Self::Promised | Self::Aborted, _) => {
                Ok((Self::Aborted, Said::Yes))
            }
            (Self::Left, _) => Ok((Self::Left, Said::Yes)),
            (Self::Committed | Self::AbortedAlone, _) => Err(Outrage),
        }
    }
}

/// What the node makes of an answer: the table of the participant protocol, and the coordinator's reading of it.
pub fn event(branch: Branch, operation: Operation, said: Said) -> Event {
    let (status, vote) = match said {
        Said::Yes => (200, Vote::Yes),
        Said::ReadOnly => (200, Vote::ReadOnly),
        Said::No => (409, Vote::Yes),
    };
    let reply = Reply { status, content_type: None, body: "".into() };
    match meaning(operation, Outcome::Answered { reply, vote, retry_after: None }) {
        Answer::Done { vote, .. } => match operation {
            Operation::Work => Event::Worked(branch, vote),
            Operation::Prepare => Event::Voted(branch, vote),
            Operation::Commit | Operation::Abort => Event::Confirmed(branch),
        },
        Answer::No(reply) => Event::Refused(branch, reply.status),
        Answer::Contradiction(reply) => Event::Contradicted(branch, reply.status),
        Answer::Lost(loss, _) => Event::Lost(branch, loss),
        Answer::AskAgain(_) => {
            unreachable!("no service of the model answers 425 or 5xx; that is a lost answer")
        }
    }
}

impl Calls {
    pub fn has(self, operation: Operation) -> bool {
        self.0 & bit(operation) != 0
    }

    pub fn with(self, operation: Operation) -> Self {
        Self(self.0 | bit(operation))
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Operation> {
        OPERATIONS.into_iter().filter(move |operation| self.has(*operation))
    }

    /// Those that tell a decision.
    pub fn of_phase_two(self) -> Self {
        Self(self.0 & (bit(Operation::Commit) | bit(Operation::Abort)))
    }

    pub fn bits(self) -> u8 {
        self.0
    }
}

impl Answers {
    pub fn iter(self) -> impl Iterator<Item = (Operation, Said)> {
        let all = OPERATIONS.into_iter().flat_map(|operation| SAID.map(|said| (operation, said)));
        all.filter(move |(operation, said)| self.0 & place(*operation, *said) != 0)
    }

    pub fn to(self, operation: Operation) -> Option<Said> {
        SAID.into_iter().find(|said| self.0 & place(operation, *said) != 0)
    }

    /// Those to a decision.
    pub fn of_phase_two(self) -> Self {
        Self(self.0 & !0b11_1111)
    }

    pub fn bits(self) -> u16 {
        self.0
    }

    fn with(self, operation: Operation, said: Said) -> Self {
        Self(self.0 | place(operation, said))
    }
}

fn bit(operation: Operation) -> u8 {
    1 << operation as u8
}

fn place(operation: Operation, said: Said) -> u16 {
    1 << (operation as u16 * 3 + said as u16)
}
