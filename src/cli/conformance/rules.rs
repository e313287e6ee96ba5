//! What a rule is: its name, the rule as a sentence, why it matters, and how it is tried. The rules are in [`RULES`].
//!
//! `docs/PARTICIPANTS.md` teaches the same rules, and a test holds that it names each of them.

use super::script::{Call, Epoch, Share, Step};
use super::sender::{Exchange, Heard};
pub use super::table::RULES;
use crate::txn::Operation;

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name, for `--rule` and the documentation.
    pub id: &'static str,
    /// What has to hold.
    pub says: &'static str,
    /// What goes wrong where it does not.
    pub why: &'static str,
    /// How it is tried.
    pub trial: Trial,
}

/// How a rule is tried.
#[derive(Debug, Clone, Copy)]
pub enum Trial {
    /// By this script.
    Script(&'static [Step]),
    /// By comparing what is shown before the restart with what is shown after it.
    Shown,
    /// By a look at every answer of the run: what is wrong with this one.
    Every(fn(&Exchange) -> Option<String>),
}

/// The rule on which all others rest.
pub(super) const USUAL: &str = "usual";

/// The rule whose script is also watched to see what an abort changes.
pub(super) const ABORT: &str = "abort";

/// When a rule is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Before all others.
    Usual,
    /// In its turn.
    Plain,
    /// Before and after the restart.
    Restarted,
    /// At the restart.
    Shown,
    /// All the time.
    Every,
}

impl Rule {
    /// The rule on which all others rest.
    pub(super) fn usual() -> &'static Self {
        Self::named(USUAL)
    }

    /// The rule about an abort.
    pub(super) fn abort() -> &'static Self {
        Self::named(ABORT)
    }

    fn named(id: &str) -> &'static Self {
        RULES.iter().find(|rule| rule.id == id).expect("the table has it")
    }

    /// When it is tried.
    pub(super) fn kind(&self) -> Kind {
        let has = |is_wanted: fn(&Step) -> bool| self.steps().iter().any(is_wanted);
        match self.trial {
            Trial::Script(_) if self.id == USUAL => Kind::Usual,
            Trial::Script(_) if has(|step| matches!(step, Step::Restart)) => Kind::Restarted,
            Trial::Script(_) => Kind::Plain,
            Trial::Shown => Kind::Shown,
            Trial::Every(_) => Kind::Every,
        }
    }

    /// The calls of its script.
    pub(super) fn calls(&self) -> impl Iterator<Item = &'static Call> {
        self.steps().iter().flat_map(|step| match step {
            Step::Call(call) => std::slice::from_ref(call),
            Step::AtOnce(calls) => calls,
            Step::Restart | Step::Hold => &[],
        })
    }

    /// Whether calls of its script are made at the same time.
    pub(super) fn is_at_once(&self) -> bool {
        self.steps().iter().any(|step| matches!(step, Step::AtOnce(_)))
    }

    /// Whether a promise is held in its script while nothing is done.
    pub(super) fn is_held(&self) -> bool {
        self.steps().iter().any(|step| matches!(step, Step::Hold))
    }

    /// The life in which the node of this share is when the script has been played.
    pub(super) fn last_epoch(&self, share: Share) -> Epoch {
        let of_node = self.calls().filter(|call| call.share.is_of_another_node == share.is_of_another_node);
        of_node.map(|call| call.epoch).max().unwrap_or(Epoch::Now)
    }

    /// The steps of its script.
    pub(super) fn steps(&self) -> &'static [Step] {
        match self.trial {
            Trial::Script(steps) => steps,
            Trial::Shown | Trial::Every(_) => &[],
        }
    }
}

pub(super) fn late(exchange: &Exchange) -> Option<String> {
    matches!(exchange.heard, Heard::Late)
        .then(|| format!("{} was not answered in time", exchange.operation.name()))
}

pub(super) fn broken(exchange: &Exchange) -> Option<String> {
    match &exchange.heard {
        Heard::Broken(reason) => Some(format!("{} has no answer ({reason})", exchange.operation.name())),
        Heard::Answered(answered) if exchange.operation == Operation::Work => {
            answered.flaw.as_ref().map(|flaw| format!("work was answered {}, and {flaw}", answered.status))
        }
        Heard::Answered(_) | Heard::Late | Heard::NeverSent(_) => None,
    }
}

pub(super) fn unclear(exchange: &Exchange) -> Option<String> {
    let status = exchange.status().filter(|status| !matches!(status, 200..=299 | 400..=599))?;
    Some(format!("{} was answered {status}", exchange.operation.name()))
}

pub(super) fn odd_vote(exchange: &Exchange) -> Option<String> {
    let Heard::Answered(answered) = &exchange.heard else { return None };
    let vote = answered.vote.as_ref().filter(|vote| !vote.trim().eq_ignore_ascii_case("read-only"))?;
    let operation = exchange.operation.name();
    Some(format!("{operation} was answered {} with `Transaction-Vote: {vote}`", answered.status))
}
