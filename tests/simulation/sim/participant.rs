//! A service that keeps the participant protocol (contract section 5), and forgets what it may forget.
//!
//! ```text
//!            work            prepare            commit
//!  nothing ───────► worked ───────────► promised ───────► committed
//!     │  (lost when it crashes)  │  (durable)  │
//!     └──────────── abort ───────┴─────────────┴─────────► aborted: late work is refused
//! ```
//!
//! A service without prepare promises with its answer to the work call. One that contradicts goes the other way by
//! itself after it promised, and says so when it is told.

use std::collections::BTreeMap;

use unanimous::plan::TransactionId;
use unanimous::txn::{Branch, Operation, Vote};

use super::chance::{Chance, Faults};

/// Whose share of what.
pub type ShareId = (TransactionId, Branch);

/// One service.
pub struct Service {
    pub name: String,
    pub has_prepare: bool,
    /// What it answers to an abort of something it does not know: 200, 404 or 410.
    pub unknown_abort: u16,
    /// It is down until this time, in milliseconds.
    pub down_until: u64,
    /// It is silent for as long as the run says so.
    pub is_dead: bool,
    pub shares: BTreeMap<ShareId, Share>,
    /// Makes its votes a matter of the transaction, not of how often it is asked.
    salt: u64,
}

/// What a service knows of one branch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    pub state: State,
    /// How often the write happened; undone writes are not counted.
    pub applied: u32,
    /// It has promised once.
    pub has_promised: bool,
    /// It went against the decision, or was going to.
    pub is_contrary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It knows nothing, or forgot it.
    #[default]
    Nothing,
    Worked,
    Promised,
    Committed,
    Aborted,
    /// It voted read-only and takes no further part.
    Left,
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub vote: Vote,
}

/// Something that a participant must never be asked.
pub type Outrage = &'static str;

impl Service {
    pub fn new(number: usize, chance: &mut Chance) -> Self {
        Self {
            name: format!("service-{number}"),
            has_prepare: chance.hits(600),
            unknown_abort: chance.one_of(&[200, 404, 410]),
            down_until: 0,
            is_dead: false,
            shares: BTreeMap::new(),
            salt: chance.within(0..u64::MAX),
        }
    }

    /// Everything that was not promised is gone.
    pub fn crash(&mut self) {
        for share in self.shares.values_mut().filter(|share| share.state == State::Worked) {
            share.state = State::Nothing;
        }
    }

    /// Does what it is asked; gives its answer, or what it should never have been asked.
    pub fn receive(
        &mut self,
        id: ShareId,
        operation: Operation,
        faults: &Faults,
    ) -> Result<Response, Outrage> {
        let mind = self.mind(id, faults);
        let (has_prepare, unknown_abort) = (self.has_prepare, self.unknown_abort);
        let share = self.shares.entry(id).or_default();
        match operation {
            Operation::Work => Ok(share.work(mind, has_prepare)),
            Operation::Prepare => Ok(share.prepare(mind)),
            Operation::Commit => share.commit(mind),
            Operation::Abort => share.abort(mind, unknown_abort),
        }
    }

    /// How it feels about a branch: the same whenever it is asked.
    fn mind(&self, (id, branch): ShareId, faults: &Faults) -> Mind {
        let folded = id.as_u128() ^ (id.as_u128() >> 64);
        let seed = u64::try_from(folded & u128::from(u64::MAX)).expect("it is cut to 64 bits");
        let mut chance = Chance::new(seed ^ self.salt ^ branch.index() as u64);
        let opinion = if chance.hits(faults.no) {
            Opinion::No
        } else if chance.hits(faults.read_only) {
            Opinion::ReadOnly
        } else {
            Opinion::Yes
        };
        let at_work = !self.has_prepare || chance.hits(500);
        Mind { opinion, at_work, is_contrary: chance.hits(faults.contradiction) }
    }

    /// Shares that wait for a decision.
    pub fn unsettled(&self) -> impl Iterator<Item = ShareId> {
        let waits = |state| matches!(state, State::Worked | State::Promised);
        self.shares.iter().filter(move |(_, share)| waits(share.state)).map(|(id, _)| *id)
    }
}

#[derive(Clone, Copy)]
struct Mind {
    opinion: Opinion,
    /// It says so at work already, not only when it is asked to prepare.
    at_work: bool,
    is_contrary: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opinion {
    Yes,
    No,
    ReadOnly,
}

impl Share {
    fn work(&mut self, mind: Mind, has_prepare: bool) -> Response {
        match self.state {
            State::Aborted => status(409),
            State::Worked | State::Promised | State::Committed => status(200),
            State::Left => READ_ONLY,
            State::Nothing if mind.opinion == Opinion::No && mind.at_work => {
                self.state = State::Aborted;
                status(409)
            }
            State::Nothing if mind.opinion == Opinion::ReadOnly && mind.at_work => {
                self.state = State::Left;
                READ_ONLY
            }
            State::Nothing if has_prepare => {
                self.state = State::Worked;
                status(200)
            }
            State::Nothing => {
                self.promise();
                status(200)
            }
        }
    }

    fn prepare(&mut self, mind: Mind) -> Response {
        match self.state {
            State::Worked if mind.opinion == Opinion::No => {
                self.state = State::Aborted;
                status(409)
            }
            State::Worked if mind.opinion == Opinion::ReadOnly => {
                self.state = State::Left;
                READ_ONLY
            }
            State::Worked => {
                self.promise();
                status(200)
            }
            State::Promised | State::Committed => status(200),
            State::Left => READ_ONLY,
            // The work was lost with a crash, and what is not there cannot be promised.
            State::Nothing => status(404),
            State::Aborted => status(409),
        }
    }

    fn commit(&mut self, mind: Mind) -> Result<Response, Outrage> {
        match self.state {
            State::Promised if mind.is_contrary => {
                (self.state, self.is_contrary) = (State::Aborted, true);
                Ok(status(409))
            }
            State::Promised => {
                self.state = State::Committed;
                self.applied += 1;
                Ok(status(200))
            }
            State::Committed => Ok(status(200)),
            State::Aborted if self.is_contrary => Ok(status(409)),
            State::Aborted => Err("a commit after an abort"),
            State::Nothing | State::Worked => Err("a commit to a branch that never promised"),
            State::Left => Err("a commit to a branch that asked to be left out"),
        }
    }

    fn abort(&mut self, mind: Mind, unknown: u16) -> Result<Response, Outrage> {
        match self.state {
            State::Promised if mind.is_contrary => {
                (self.state, self.is_contrary) = (State::Committed, true);
                self.applied += 1;
                Ok(status(409))
            }
            State::Worked | State::Promised => {
                self.state = State::Aborted;
                Ok(status(200))
            }
            State::Nothing | State::Aborted | State::Left => {
                self.state = State::Aborted;
                Ok(status(unknown))
            }
            State::Committed if self.is_contrary => Ok(status(409)),
            State::Committed => Err("an abort after a commit"),
        }
    }

    fn promise(&mut self) {
        (self.state, self.has_promised) = (State::Promised, true);
    }
}

const READ_ONLY: Response = Response { status: 200, vote: Vote::ReadOnly };

fn status(status: u16) -> Response {
    Response { status, vote: Vote::Yes }
}
