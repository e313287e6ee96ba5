//! What a step says of a transaction some of whose records are missing.
//!
//! A log that was rescued from a damaged one has gaps, and says where. A record behind a gap tells more than its own
//! step: whoever prepares was not decided before; a decision tells every vote; the end tells that all confirmed. Nothing
//! here decides anything: where a record leaves open what was decided, the answer is `None`.

use super::branch::Branches;
use super::machine::{State, Telling, Txn};
use super::transition::Transition;

impl Txn {
    /// The transaction after `step`, where other steps before it may be missing. `None` where no run can have taken it, or
    /// where it does not tell what was decided.
    #[must_use]
    pub fn bridge(&self, step: Transition) -> Option<Self> {
        if let Ok(next) = self.apply(step) {
            return Some(next);
        }
        match step {
            // The votes of a decision hold all that `preparing` would have said.
            Transition::Decided { votes, .. } => {
                let prepared = self.apply(Transition::Preparing { read_only: votes.read_only }).ok()?;
                prepared.apply(step).ok()
            }
            Transition::Resolved(branch, _) => {
                self.apply(Transition::Parked(branch, 0)).ok()?.apply(step).ok()
            }
            // Where nothing is decided yet, nothing ends.
            Transition::Ended => self.telling_on(Telling::everyone(Branches::NONE)).apply(step).ok(),
            Transition::Preparing { .. } | Transition::Acked(_) | Transition::Parked(..) => None,
        }
    }

    /// Whether steps that are missing can have led from here to `later`, which stands in the log as it is
    /// [durable](Self::durable).
    #[must_use]
    pub fn may_become(&self, later: &Self) -> bool {
        if self.shape != later.shape {
            return false;
        }
        match (self.decision(), later.decision()) {
            (None, None) => *self == *later || self.state == State::Working,
            (None, Some(decision)) => {
                let (votes, reason) = (later.votes, later.state.reason());
                let decided = self.bridge(Transition::Decided { decision, votes, reason });
                decided.is_some_and(|decided| decided.may_become(later))
            }
            (Some(_), None) => false,
            (Some(_), Some(_)) if self.state.is_final() => self == later,
            (Some(before), Some(then)) => {
                (before, self.state.reason(), self.votes) == (then, later.state.reason(), later.votes)
                    && self.telling().may_become(later.telling())
            }
        }
    }
}

impl Telling {
    /// Whoever is waited for may be parked, and not the other way round.
    fn may_become(self, later: Self) -> bool {
        self.waiting.covers(later.waiting) && self.outstanding().covers(later.outstanding())
    }
}
