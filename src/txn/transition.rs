//! The steps a transaction can take: what the log holds of it.
//!
//! Every one of these is appended to the log before anything that follows from it is done. Their
//! order in the log is checked again when it is read: [`super::Txn::apply`] accepts exactly what a
//! run can write.

use serde::{Deserialize, Serialize};

use super::branch::{Branch, Branches};
use super::machine::Operation;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transition {
    /// Every work call succeeded; prepare calls may go out.
    Preparing {
        /// Branches that said so with their work answer and take no further part.
        read_only: Branches,
    },
    /// Commit or abort; never changed afterwards.
    Decided {
        /// Which of the two.
        decision: Decision,
        /// How the branches stood when it was taken.
        votes: Votes,
        /// Why it is an abort; `None` for a commit.
        reason: Option<Reason>,
    },
    /// One branch confirmed while others are outstanding.
    Acked(Branch),
    /// One branch contradicted the decision, by this HTTP status.
    Parked(Branch, u16),
    /// An operator said what became of a parked branch.
    Resolved(Branch, Decision),
    /// Every branch confirmed or was resolved.
    Ended,
}

/// Commit or abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The write happens at every branch.
    Commit,
    /// The write happens at none.
    Abort,
}

/// How the branches stand. The sets are disjoint; who is in none of them has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Votes {
    /// Will do as decided.
    pub yes: Branches,
    /// Take no part in phase two.
    pub read_only: Branches,
    /// Refused.
    pub no: Branches,
    /// Their work call never left this node, so there is nothing to abort.
    pub never_sent: Branches,
}

/// Why a transaction was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A branch said no, by this HTTP status.
    Refused(Branch, u16),
    /// A branch could not be reached, or answered with this 5xx status.
    Unreachable(Branch, Option<u16>),
    /// A branch did not answer in time.
    Late(Branch),
    /// The node restarted before a decision was durable.
    Restarted,
}

/// A step that no run can take from the state it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log holds a step that cannot follow the one before it: {step:?} while {state}")]
pub struct Illegal {
    /// The step.
    pub step: Transition,
    /// The name of the state it was found in.
    pub state: &'static str,
}

impl Decision {
    /// `commit` or `abort`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }

    /// The call that tells a branch of it.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            Self::Commit => Operation::Commit,
            Self::Abort => Operation::Abort,
        }
    }

    /// What a transaction that ends so is called: `committed` or `aborted`.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Commit => "committed",
            Self::Abort => "aborted",
        }
    }
}

impl Votes {
    /// The branches that have answered, or never will.
    #[must_use]
    pub fn answered(self) -> Branches {
        self.yes.or(self.read_only).or(self.no).or(self.never_sent)
    }

    /// Whether no branch stands in two sets.
    #[must_use]
    pub fn are_disjoint(self) -> bool {
        let singly = self.yes.count() + self.read_only.count() + self.no.count() + self.never_sent.count();
        self.answered().count() == singly
    }
}

impl Reason {
    /// The stable word for it: `refused`, `unreachable`, `late` or `restarted`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Refused(..) => "refused",
            Self::Unreachable(..) => "unreachable",
            Self::Late(_) => "late",
            Self::Restarted => "restarted",
        }
    }

    /// The branch it came from.
    #[must_use]
    pub fn branch(self) -> Option<Branch> {
        match self {
            Self::Refused(branch, _) | Self::Unreachable(branch, _) | Self::Late(branch) => Some(branch),
            Self::Restarted => None,
        }
    }

    /// The HTTP status the branch answered with, where there was one.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Refused(_, status) => Some(status),
            Self::Unreachable(_, status) => status,
            Self::Late(_) | Self::Restarted => None,
        }
    }
}
