//! What the log holds of transactions (contract section 7).
//!
//! A record is a transition and what a person or a restarted node needs beside it. The order of
//! fields and variants is the format on disk: append only, and never without a new fixture
//! (`docs/FORMAT.md`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::plan::{Plan, Reply, TransactionId};
use crate::txn::{Branch, Branches, Decision, Reason, Transition, Txn, Votes};

/// One record, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written.
    pub time: Timestamp,
    /// Whose it is; [`TransactionId::NONE`] for a record of the node itself.
    pub transaction: TransactionId,
    /// What happened.
    pub record: Record,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A node started.
    Opened {
        /// Which start this was, from 1.
        epoch: u64,
        /// The version of the program.
        version: String,
    },
    /// A transaction began.
    Begun(Arc<Plan>),
    /// Every work call succeeded; prepare calls may go out.
    Preparing {
        /// Branches that take no further part.
        read_only: Branches,
    },
    /// Commit or abort.
    Decided {
        /// Which of the two.
        decision: Decision,
        /// How the branches stood.
        votes: Votes,
        /// Why it is an abort.
        reason: Option<Reason>,
        /// What the branches answered, where an idempotency key may ask for it again.
        kept: Option<Kept>,
    },
    /// One branch confirmed while others are outstanding.
    Acked(Branch),
    /// A branch contradicted the decision.
    Parked {
        /// Which branch.
        branch: Branch,
        /// The HTTP status it answered with.
        status: u16,
        /// The same as a sentence.
        reason: String,
    },
    /// An operator settled a parked branch.
    Resolved {
        /// Which branch.
        branch: Branch,
        /// What became of it.
        decision: Decision,
        /// Who said so.
        actor: String,
        /// Why.
        reason: String,
    },
    /// Every branch confirmed or was resolved.
    Ended(Decision),
    /// The state of an unfinished transaction, written again so that older blocks can go.
    Carried(Box<Carried>),
    /// What came here before was damaged, and an operator chose to start without it.
    GaveUp {
        /// What was wrong with it.
        damage: String,
    },
    /// As [`Self::Carried`], of a transaction some of whose branches an operator has settled.
    CarriedResolved(Box<Carried>, Vec<(Branch, Decision)>),
    /// Its records are damaged, and an operator has settled every branch: it is over.
    Settled,
}

/// All that is known of an unfinished transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Who takes part and what was asked.
    pub plan: Arc<Plan>,
    /// How far it has come.
    pub txn: Txn,
    /// What the branches answered.
    pub kept: Option<Kept>,
    /// Why it is parked, where it is.
    pub parked: Option<String>,
}

/// The answers that are kept for an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// All of them, by branch.
    Whole(Vec<(Branch, Reply)>),
    /// They were larger together than the configuration lets the log keep.
    TooLarge,
}

/// What an operator or a participant said, for the records that keep it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remark {
    /// Who said it; empty where it was a participant.
    pub actor: String,
    /// What was said.
    pub reason: String,
    /// What the branches answered.
    pub kept: Option<Kept>,
}

impl Record {
    /// The record of a step after which the transaction is `next`.
    #[must_use]
    pub fn of(step: Transition, next: &Txn, remark: Remark) -> Self {
        let Remark { actor, reason: said, kept } = remark;
        match step {
            Transition::Preparing { read_only } => Self::Preparing { read_only },
            Transition::Decided { decision, votes, reason } => {
                Self::Decided { decision, votes, reason, kept }
            }
            Transition::Acked(branch) => Self::Acked(branch),
            Transition::Parked(branch, status) => Self::Parked { branch, status, reason: said },
            Transition::Resolved(branch, decision) => {
                Self::Resolved { branch, decision, actor, reason: said }
            }
            Transition::Ended => Self::Ended(next.decision().expect("only a decided transaction ends")),
        }
    }

    /// The step it records; `None` for what begins a transaction or is no step of one.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        match *self {
            Self::Opened { .. }
            | Self::Begun(_)
            | Self::Carried(_)
            | Self::CarriedResolved(..)
            | Self::Settled
            | Self::GaveUp { .. } => None,
            Self::Preparing { read_only } => Some(Transition::Preparing { read_only }),
            Self::Decided { decision, votes, reason, .. } => {
                Some(Transition::Decided { decision, votes, reason })
            }
            Self::Acked(branch) => Some(Transition::Acked(branch)),
            Self::Parked { branch, status, .. } => Some(Transition::Parked(branch, status)),
            Self::Resolved { branch, decision, .. } => Some(Transition::Resolved(branch, decision)),
            Self::Ended(_) => Some(Transition::Ended),
        }
    }

    /// Its name, as `dump` prints it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Begun(_) => "begun",
            Self::Preparing { .. } => "preparing",
            Self::Decided { .. } => "decided",
            Self::Acked(_) => "acked",
            Self::Parked { .. } => "parked",
            Self::Resolved { .. } => "resolved",
            Self::Ended(_) => "ended",
            Self::Carried(_) | Self::CarriedResolved(..) => "carried",
            Self::GaveUp { .. } => "gave_up",
            Self::Settled => "settled",
        }
    }
}

impl Kept {
    /// Whose answers they are.
    pub fn branches(&self) -> impl Iterator<Item = Branch> {
        let whole = match self {
            Self::Whole(answers) => answers.as_slice(),
            Self::TooLarge => &[],
        };
        whole.iter().map(|(branch, _)| *branch)
    }

    /// Keeps these answers, if they have at most `bytes_max` bytes together.
    #[must_use]
    pub fn new(replies: Vec<(Branch, Reply)>, bytes_max: usize) -> Self {
        let len = |reply: &Reply| reply.body.len() + reply.content_type.as_ref().map_or(0, String::len);
        let bytes: usize = replies.iter().map(|(_, reply)| len(reply)).sum();
        if bytes > bytes_max {
            return Self::TooLarge;
        }
        // Copies, because answers count against a budget for as long as they are held, and these may be for days.
        let copy = |reply: Reply| Reply { body: Bytes::copy_from_slice(&reply.body), ..reply };
        Self::Whole(replies.into_iter().map(|(branch, reply)| (branch, copy(reply))).collect())
    }

    /// The answer of one branch.
    #[must_use]
    pub fn reply(&self, branch: Branch) -> Option<&Reply> {
        match self {
            Self::Whole(replies) => replies.iter().find(|(of, _)| *of == branch).map(|(_, reply)| reply),
            Self::TooLarge => None,
        }
    }
}
