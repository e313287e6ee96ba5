//! What an answer means: the table of contract section 5, as one pure function.
//!
//! | answer | to work / prepare | to commit | to abort |
//! |---|---|---|---|
//! | 2xx | yes | done | done |
//! | 409, other 4xx | no | contradiction | contradiction |
//! | 404, 410 | no | contradiction | done |
//! | 425 | ask again | ask again | ask again |
//! | 5xx, no answer | prepare: ask again; work: lost | ask again | ask again |
//!
//! A 1xx or 3xx final status is none of these; it is read as 5xx, because it says nothing about
//! what the participant did.

use std::time::Duration;

use crate::plan::Reply;
use crate::txn::{Loss, Operation, Vote};

/// What came of one attempt, as the network saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Answered {
        /// What was answered.
        reply: Reply,
        /// What its `Transaction-Vote` header said.
        vote: Vote,
        /// What its `Retry-After` header asked for.
        retry_after: Option<Duration>,
    },
    /// No byte of the call left this node.
    NeverSent,
    /// The call may have arrived; the answer is missing, cut, garbled or too large. Its status, where one came.
    Broken(Option<u16>),
    /// The call may have arrived; the answer took longer than the service's timeout.
    Late,
}

/// What an attempt means to the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done: worked, will commit, committed, aborted.
    Done {
        /// Yes, or yes and leave me out.
        vote: Vote,
        /// What was answered.
        reply: Reply,
    },
    /// The branch says no.
    No(Reply),
    /// The branch contradicts the decision.
    Contradiction(Reply),
    /// Ask again, after this long if it is given.
    AskAgain(Option<Duration>),
    /// The work call is lost and must not be sent again.
    Lost(Loss, Option<Reply>),
}

/// What `outcome` of a call to do `operation` means.
#[must_use]
pub fn meaning(operation: Operation, outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answered { reply, vote, retry_after } => match reply.status {
            200..=299 => Answer::Done { vote, reply },
            425 => Answer::AskAgain(retry_after),
            404 | 410 if operation == Operation::Abort => Answer::Done { vote, reply },
            400..=499 => refusal(operation, reply),
            _ if operation == Operation::Work => {
                Answer::Lost(Loss::Unreachable(Some(reply.status)), Some(reply))
            }
            _ => Answer::AskAgain(retry_after),
        },
        Outcome::NeverSent => lost_or_again(operation, Loss::NeverSent),
        Outcome::Broken(status) => lost_or_again(operation, Loss::Unreachable(status)),
        Outcome::Late => lost_or_again(operation, Loss::Late),
    }
}

/// Whether a service that answers its work call with this status has refused.
pub(crate) fn is_no(status: u16) -> bool {
    (400..=499).contains(&status) && status != 425
}

fn refusal(operation: Operation, reply: Reply) -> Answer {
    match operation {
        Operation::Work | Operation::Prepare => Answer::No(reply),
        Operation::Commit | Operation::Abort => Answer::Contradiction(reply),
    }
}

fn lost_or_again(operation: Operation, loss: Loss) -> Answer {
    match operation {
        Operation::Work => Answer::Lost(loss, None),
        Operation::Prepare | Operation::Commit | Operation::Abort => Answer::AskAgain(None),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// One letter an answer: done, no, contradiction, again, lost.
    fn letter(operation: Operation, outcome: Outcome) -> char {
        match meaning(operation, outcome) {
            Answer::Done { .. } => 'd',
            Answer::No(_) => 'n',
            Answer::Contradiction(_) => 'c',
            Answer::AskAgain(_) => 'a',
            Answer::Lost(..) => 'l',
        }
    }

    fn answered(status: u16) -> Outcome {
        let reply = Reply { status, content_type: None, body: Bytes::new() };
        Outcome::Answered { reply, vote: Vote::Yes, retry_after: None }
    }

    #[test]
    fn every_answer_means_what_the_contract_says() {
        // Columns: work, prepare, commit, abort.
        let table = [
            (answered(200), "dddd"),
            (answered(204), "dddd"),
            (answered(302), "laaa"),
            (answered(400), "nncc"),
            (answered(404), "nncd"),
            (answered(409), "nncc"),
            (answered(410), "nncd"),
            (answered(425), "aaaa"),
            (answered(429), "nncc"),
            (answered(500), "laaa"),
            (answered(503), "laaa"),
            (answered(999), "laaa"),
            (Outcome::NeverSent, "laaa"),
            (Outcome::Broken(None), "laaa"),
            (Outcome::Broken(Some(200)), "laaa"),
            (Outcome::Late, "laaa"),
        ];
        let operations = [Operation::Work, Operation::Prepare, Operation::Commit, Operation::Abort];
        for (outcome, expected) in table {
            let found: String =
                operations.map(|operation| letter(operation, outcome.clone())).iter().collect();
            assert_eq!(found, expected, "{outcome:?}");
        }
    }
}
