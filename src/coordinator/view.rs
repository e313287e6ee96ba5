//! What others may see of a transaction: clients, participants, operators.

use std::sync::Arc;

use unanimous_wal::Durable;

use crate::journal::record::Kept;
use crate::plan::{Plan, Reply, TransactionId};
use crate::txn::{Branch, Decision, Txn};

/// A transaction as it stands.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub id: TransactionId,
    /// Who takes part and what was asked.
    pub plan: Arc<Plan>,
    /// How far it has come.
    pub txn: Txn,
    /// The decision, as soon as it may be told: only what is durable can be put here.
    pub told: Option<Durable<Decision>>,
    /// What each branch answered, by number.
    pub replies: Vec<Option<Reply>>,
    /// What was kept of that for its idempotency key, with the decision.
    pub kept: Option<Kept>,
    /// Why it is parked, where it is.
    pub parked: Option<String>,
    /// Branches that an operator settled, and how.
    pub resolved: Vec<(Branch, Decision)>,
}

/// How one branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has still to answer, or to be told.
    Waiting,
    /// It did its work, and voted yes where it was asked.
    Yes,
    /// It takes no part in phase two.
    ReadOnly,
    /// It refused.
    No,
    /// Its work call never left the node.
    NeverSent,
    /// It confirmed the decision.
    Confirmed,
    /// It contradicted the decision.
    Parked,
    /// It contradicted the decision, and an operator said what became of it.
    Resolved(Decision),
}

impl View {
    /// A transaction of which nothing was heard yet.
    #[must_use]
    pub fn new(id: TransactionId, plan: Arc<Plan>, txn: Txn) -> Self {
        let replies = vec![None; plan.branches.len()];
        let (told, kept, parked, resolved) = (None, None, None, Vec::new());
        Self { id, plan, txn, told, replies, kept, parked, resolved }
    }

    /// How `branch` stands.
    #[must_use]
    pub fn standing(&self, branch: Branch) -> Standing {
        let (votes, telling) = (self.txn.votes(), self.txn.telling());
        if telling.parked.has(branch) {
            Standing::Parked
        } else if let Some((_, outcome)) = self.resolved.iter().find(|(of, _)| *of == branch) {
            Standing::Resolved(*outcome)
        } else if votes.read_only.has(branch) {
            Standing::ReadOnly
        } else if votes.never_sent.has(branch) {
            Standing::NeverSent
        } else if self.txn.decision().is_some() && !telling.waiting.has(branch) {
            Standing::Confirmed
        } else if votes.no.has(branch) {
            Standing::No
        } else if votes.yes.has(branch) && self.txn.decision().is_none() {
            Standing::Yes
        } else {
            Standing::Waiting
        }
    }

    /// The first branch that went against the decision, as an operator found.
    #[must_use]
    pub fn contradicting(&self) -> Option<(Branch, Decision)> {
        self.txn.decision().and_then(|decision| contradicting(decision, &self.resolved))
    }

    /// Whether an operator has to look.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }
}

/// The first of the settled branches that went against the decision.
#[must_use]
pub fn contradicting(decision: Decision, resolved: &[(Branch, Decision)]) -> Option<(Branch, Decision)> {
    resolved.iter().copied().find(|(_, outcome)| *outcome != decision)
}

impl Standing {
    /// Its name, as shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Yes => "yes",
            Self::ReadOnly => "read-only",
            Self::No => "no",
            Self::NeverSent => "never-sent",
            Self::Confirmed => "confirmed",
            Self::Parked => "parked",
            Self::Resolved(_) => "resolved",
        }
    }
}
