//! What was found out about one rule, and what is wrong with an answer.

use super::rules::Rule;
use super::script::Expected;
use super::sender::{Exchange, Heard};
use crate::participant::Answer;
use crate::txn::Operation;

/// What was found out about one rule.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) rule: &'static Rule,
    pub(super) verdict: Verdict,
    /// What was sent and answered.
    pub(super) exchanges: Vec<Exchange>,
}

/// Whether a rule is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    /// And what shows it.
    Broken(String),
    /// It could not be judged, and why not.
    Unjudged(String),
    /// It could not be judged, and need not be: an option was left out, or the participant may say no there.
    LeftOut(&'static str),
}

impl Verdict {
    /// One word: `kept`, `broken` or `unjudged`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Broken(_) => "broken",
            Self::Unjudged(_) | Self::LeftOut(_) => "unjudged",
        }
    }

    /// What shows it, or why not; nothing where the rule is kept.
    pub(super) fn because(&self) -> Option<&str> {
        match self {
            Self::Kept => None,
            Self::Broken(because) | Self::Unjudged(because) => Some(because),
            Self::LeftOut(because) => Some(because),
        }
    }
}

/// What is wrong with the last of the answers to a call, where something is.
pub(super) fn blame(expected: Expected, last: &Exchange) -> Option<String> {
    let answer = last.meaning();
    let is_as_expected = match expected {
        Expected::Yes => matches!(answer, Answer::Done { .. }),
        Expected::No => matches!(answer, Answer::No(_) | Answer::Contradiction(_)),
        Expected::Any => true,
    };
    if is_as_expected {
        return None;
    }
    let operation = last.operation.name();
    let heard = match &last.heard {
        Heard::Answered(answered) => match &answered.flaw {
            Some(flaw) if last.operation == Operation::Work => {
                format!("was answered {}, and {flaw}", answered.status)
            }
            Some(_) | None => format!("was answered {}", answered.status),
        },
        Heard::NeverSent(reason) => format!("could not be sent ({reason})"),
        Heard::Broken(reason) => format!("has no answer ({reason})"),
        Heard::Late => "was not answered in time".to_owned(),
    };
    Some(format!("{operation} {heard}; {}", wanted(expected, last)))
}

fn wanted(expected: Expected, last: &Exchange) -> &'static str {
    match (expected, last.operation, last.status()) {
        (Expected::No, Operation::Abort, Some(404 | 410)) => {
            "to an abort that says that nothing was left to undo, and it has to be a no, such as 409"
        }
        (Expected::No, ..) => "it has to be a no, such as 409",
        (Expected::Yes | Expected::Any, _, Some(429)) => "it has to be 2xx, and to a node a 429 is a no",
        (Expected::Yes | Expected::Any, ..) => "it has to be 2xx",
    }
}
