//! What a rule does to a participant: calls, one after the other or at once, and what each has to be answered.
//!
//! A script reads as it is told: `[given(Work), given(Commit), yes(Commit)]` is "once the work was done and the commit
//! confirmed, another commit has to be confirmed".

use crate::txn::Operation;

/// One step of a script.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// One call; the next step waits for its answer.
    Call(Call),
    /// Calls at the same time.
    AtOnce(&'static [Call]),
    /// The participant is killed and started again.
    Restart,
    /// Nothing is done for a while.
    Hold,
}

/// One call of a script.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// What it asks for.
    pub operation: Operation,
    /// What its answer has to mean.
    pub expected: Expected,
    /// Whether the rule is about this answer; otherwise it only leads there.
    pub is_judged: bool,
    /// Which piece of work it is about.
    pub share: Share,
    /// The epoch it carries.
    pub epoch: Epoch,
    /// Whether it carries the work that has to be refused.
    pub is_impossible: bool,
}

/// What an answer has to mean, by the table of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Done: 2xx, and for an abort also 404 and 410.
    Yes,
    /// Refused: any other 4xx but 425.
    No,
    /// Either, and in time.
    Any,
}

/// One branch of one of the script's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// Which of the script's transactions.
    pub transaction: u8,
    /// Which branch of it.
    pub branch: u8,
    /// Whether another node coordinates the transaction.
    pub is_of_another_node: bool,
}

/// The epoch of a call, seen from the life of the node in which most calls are made; in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Epoch {
    /// The first life of a node that was never restarted.
    First,
    /// This life.
    Now,
    /// The next one: the node was restarted.
    Next,
}

/// A call that has to be answered with yes before the rule can be judged.
pub(super) const fn given(operation: Operation) -> Call {
    call(operation, Expected::Yes, false)
}

/// A call that has to be answered with no before the rule can be judged.
pub(super) const fn given_no(operation: Operation) -> Call {
    call(operation, Expected::No, false)
}

/// A call whose answer does not matter, as long as there is one.
pub(super) const fn any(operation: Operation) -> Call {
    call(operation, Expected::Any, false)
}

/// The rule: this call has to be answered with yes.
pub(super) const fn yes(operation: Operation) -> Call {
    call(operation, Expected::Yes, true)
}

/// The rule: this call has to be answered with no.
pub(super) const fn no(operation: Operation) -> Call {
    call(operation, Expected::No, true)
}

const fn call(operation: Operation, expected: Expected, is_judged: bool) -> Call {
    let share = Share { transaction: 0, branch: 0, is_of_another_node: false };
    Call { operation, expected, is_judged, share, epoch: Epoch::Now, is_impossible: false }
}

impl Call {
    /// The same, of branch 1.
    pub(super) const fn of_branch_1(self) -> Self {
        Self { share: Share { branch: 1, ..self.share }, ..self }
    }

    /// The same, of a second transaction.
    pub(super) const fn of_another(self) -> Self {
        Self { share: Share { transaction: 1, ..self.share }, ..self }
    }

    /// The same, of a transaction of another node, which is in its first life.
    pub(super) const fn of_another_node(self) -> Self {
        let share = Share { transaction: 1, is_of_another_node: true, ..self.share };
        Self { share, epoch: Epoch::First, ..self }
    }

    /// The same, after a restart of the node.
    pub(super) const fn of_next_life(self) -> Self {
        Self { epoch: Epoch::Next, ..self }
    }

    /// The same, with work that the participant cannot do.
    pub(super) const fn impossible(self) -> Self {
        Self { is_impossible: true, ..self }
    }
}
