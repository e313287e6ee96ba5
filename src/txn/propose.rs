//! What each event asks of the machine: the rules of the protocol, one function an event.
//!
//! A proposal is only a wish. [`Txn::apply`] decides whether the step is legal, for a live run and
//! for a log that is read back alike.

use super::branch::{Branch, Branches};
use super::event::{Event, Loss, Vote};
use super::machine::{State, Txn};
use super::transition::{Decision, Reason, Transition, Votes};
use crate::clock::Timestamp;

/// What an event makes of the machine, before it is checked and its effects are worked out.
pub(super) enum Proposal {
    Log(Transition),
    Remember(Votes),
    Nothing,
    Misfit,
}

impl Txn {
    pub(super) fn propose(&self, event: Event) -> Proposal {
        match event {
            Event::Worked(branch, vote) => self.on_worked(branch, vote),
            Event::Voted(branch, vote) => self.on_voted(branch, vote),
            Event::Refused(branch, status) => self.on_refused(branch, status),
            Event::Lost(branch, loss) => self.on_lost(branch, loss),
            Event::Confirmed(branch) => self.on_confirmed(branch),
            Event::Contradicted(branch, status) => self.on_contradicted(branch, status),
            Event::Resolved(branch, decision) if self.telling().parked.has(branch) => {
                Proposal::Log(Transition::Resolved(branch, decision))
            }
            Event::Resolved(..) => Proposal::Misfit,
            Event::AllTold => self.on_all_told(),
            Event::Clock(now) => self.on_clock(now),
            Event::Restarted => self.on_restarted(),
        }
    }

    fn on_worked(&self, branch: Branch, vote: Vote) -> Proposal {
        if self.state != State::Working || !self.unanswered().has(branch) {
            return Proposal::Nothing;
        }
        let votes = self.votes.and_answer(branch, vote);
        if !votes.answered().covers(self.shape.branches) {
            return Proposal::Remember(votes);
        }
        if self.shape.prepare.minus(votes.read_only).is_empty() {
            return Proposal::Log(commit(votes));
        }
        Proposal::Log(Transition::Preparing { read_only: votes.read_only })
    }

    fn on_voted(&self, branch: Branch, vote: Vote) -> Proposal {
        let asked = matches!(self.state, State::Preparing { .. }) && self.unanswered().has(branch);
        if !asked {
            return Proposal::Nothing;
        }
        let votes = self.votes.and_answer(branch, vote);
        if votes.answered().covers(self.shape.branches) {
            Proposal::Log(commit(votes))
        } else {
            Proposal::Remember(votes)
        }
    }

    fn on_refused(&self, branch: Branch, status: u16) -> Proposal {
        if !self.unanswered().has(branch) {
            return Proposal::Nothing;
        }
        let votes = Votes { no: Branches::only(branch), ..self.votes };
        Proposal::Log(abort(votes, Reason::Refused(branch, status)))
    }

    fn on_lost(&self, branch: Branch, loss: Loss) -> Proposal {
        if self.state != State::Working || !self.unanswered().has(branch) {
            return Proposal::Nothing;
        }
        let never_sent = Votes { never_sent: Branches::only(branch), ..self.votes };
        Proposal::Log(match loss {
            Loss::NeverSent => abort(never_sent, Reason::Unreachable(branch, None)),
            Loss::Unreachable(status) => abort(self.votes, Reason::Unreachable(branch, status)),
            Loss::Late => abort(self.votes, Reason::Late(branch)),
        })
    }

    fn on_confirmed(&self, branch: Branch) -> Proposal {
        let outstanding = self.telling().outstanding();
        if self.decision().is_none() {
            Proposal::Misfit
        } else if !outstanding.has(branch) {
            Proposal::Nothing
        } else if outstanding == Branches::only(branch) {
            Proposal::Log(Transition::Ended)
        } else {
            Proposal::Log(Transition::Acked(branch))
        }
    }

    fn on_contradicted(&self, branch: Branch, status: u16) -> Proposal {
        if self.decision().is_none() {
            Proposal::Misfit
        } else if self.telling().waiting.has(branch) {
            Proposal::Log(Transition::Parked(branch, status))
        } else {
            Proposal::Nothing
        }
    }

    fn on_all_told(&self) -> Proposal {
        if self.decision().is_none() || !self.telling().outstanding().is_empty() {
            Proposal::Misfit
        } else if self.state.is_final() {
            Proposal::Nothing
        } else {
            Proposal::Log(Transition::Ended)
        }
    }

    fn on_clock(&self, now: Timestamp) -> Proposal {
        match self.unanswered().lowest() {
            Some(branch) if now >= self.shape.deadline => {
                Proposal::Log(abort(self.votes, Reason::Late(branch)))
            }
            Some(_) | None => Proposal::Nothing,
        }
    }

    fn on_restarted(&self) -> Proposal {
        if self.decision().is_some() {
            return Proposal::Nothing;
        }
        // Votes that were only in memory are gone, and the log must not say otherwise.
        Proposal::Log(abort(self.durable().votes, Reason::Restarted))
    }
}

impl Votes {
    fn and_answer(self, branch: Branch, vote: Vote) -> Self {
        match vote {
            Vote::Yes => Self { yes: self.yes.with(branch), ..self },
            Vote::ReadOnly => Self { read_only: self.read_only.with(branch), ..self },
        }
    }
}

fn commit(votes: Votes) -> Transition {
    Transition::Decided { decision: Decision::Commit, votes, reason: None }
}

fn abort(votes: Votes, reason: Reason) -> Transition {
    Transition::Decided { decision: Decision::Abort, votes, reason: Some(reason) }
}
