//! What can happen to a transaction, as the coordinator reports it.

use serde::{Deserialize, Serialize};

use super::branch::Branch;
use super::transition::Decision;
use crate::clock::Timestamp;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The work call of a branch succeeded.
    Worked(Branch, Vote),
    /// A branch answered prepare with yes.
    Voted(Branch, Vote),
    /// A branch answered work or prepare with no, by this HTTP status.
    Refused(Branch, u16),
    /// The work call of a branch has no usable answer and must not be sent again.
    Lost(Branch, Loss),
    /// A branch confirmed the decision.
    Confirmed(Branch),
    /// A branch answered commit or abort with a status that contradicts it.
    Contradicted(Branch, u16),
    /// An operator says what became of a parked branch.
    Resolved(Branch, Decision),
    /// Nobody is left to be told.
    AllTold,
    /// It is now this late.
    Clock(Timestamp),
    /// The node started and found this transaction in its log.
    Restarted,
}

/// What a branch answered when it did not say no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vote {
    /// It will do as decided.
    Yes,
    /// It changed nothing and is left out of what follows.
    ReadOnly,
}

/// How a work call was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No byte of it left this node, so there is nothing at the branch to abort.
    NeverSent,
    /// It may have arrived: a 5xx answer (then with its status), a broken connection.
    Unreachable(Option<u16>),
    /// It may have arrived; the answer took too long.
    Late,
}
