//! What the branches of a running transaction answered: held while somebody waits to be told, or until it is logged for a key.

use super::Running;
use crate::journal::record::Kept;
use crate::participant::Participants;
use crate::plan::Reply;
use crate::txn::{Branch, Transition};

impl<P: Participants> Running<P> {
    /// Whether what the branches answered will be logged for its key.
    pub(super) fn keeps_for_key(&self) -> bool {
        self.plan.key.is_some() && self.txn.decision().is_none()
    }

    /// The client was told. In doubt for days, it need not hold for days what the branches answered.
    pub(super) fn forget_answers(&mut self) {
        self.has_answers = false;
        self.seats.view.send_modify(|view| view.replies.fill(None));
    }

    pub(super) fn remember(&mut self, branch: Branch, reply: Reply) {
        if self.seats.audience.is_cancelled() && !self.keeps_for_key() {
            return;
        }
        self.has_answers = true;
        self.seats.view.send_modify(|view| {
            if let Some(place) = view.replies.get_mut(branch.index()) {
                *place = Some(reply);
            }
        });
    }

    /// What must be logged with a decision, so that the key's first answer can be given again.
    pub(super) fn keep(&self, transition: Transition) -> Option<Kept> {
        let is_decision = matches!(transition, Transition::Decided { .. });
        let view = self.seats.view.borrow();
        let replies = view.replies.iter().zip(self.txn.shape().branches.iter());
        let answered = replies.filter_map(|(reply, branch)| reply.clone().map(|reply| (branch, reply)));
        (is_decision && self.plan.key.is_some())
            .then(|| Kept::new(answered.collect(), self.shared.options.answer_kept_max))
    }
}
