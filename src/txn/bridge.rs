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
            Transition::Ended if self.decision().is_some() => {
                self.telling_on(Telling::everyone(Branches::NONE)).apply(step).ok()
            }
            Transition::Ended
            | Transition::Preparing { .. }
            | Transition::Acked(_)
            | Transition::Parked(..) => None,
        }
    }

    /// Whether steps that are missing can have led from here to `later`.
    #[must_use]
    pub fn may_become(&self, later: &Self) -> bool {
        let stays = match (self.state, later.state) {
            (State::Preparing { read_only }, State::Preparing { read_only: then }) => read_only == then,
            (State::Preparing { .. }, State::Working) => false,
            (State::Working | State::Preparing { .. }, _) => true,
            (before, then) => {
                before.decision() == then.decision()
                    && before.reason() == then.reason()
                    && self.votes == later.votes
                    && self.telling().outstanding().covers(later.telling().outstanding())
            }
        };
        stays && self.shape == later.shape
    }
}
