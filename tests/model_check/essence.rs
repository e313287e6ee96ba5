//! Which states count as one: what makes a check of three branches small enough to be exhaustive.
//!
//! Two states count as one where nothing that can happen afterwards tells them apart:
//!
//! - **Branches are interchangeable** (symmetry): a state is the set of its branches, not their order. Only the reason of an
//!   abort knows an order, and that is left out too:
//! - **Votes and reason after the decision.** From then on the machine looks only at who has still to confirm.
//! - **Answers to work and prepare after the decision**, and such calls on the wire to a service that is settled: nobody
//!   changes anything for them any more.
//! - **The order of confirmations in the log.** A start sees the fold over the records; so it is the fold that is compared, of
//!   each prefix that a crash may leave.
//!
//! That it is so is checked: `what_counts_as_one_has_the_same_promises_and_the_same_future` visits all states of a smaller model, of
//! which only those count as one whose logs leave the same.

use std::hash::{Hash, Hasher};

use unanimous::txn::{Branch, Effect, Operation, State, Txn};

use super::branch::Share;
use super::world::{Escrow, Node, World};

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if self.is_exact { self.hash_all(hasher) } else { self.hash_essence(hasher) }
    }
}

impl World {
    fn hash_all<H: Hasher>(&self, hasher: &mut H) {
        std::mem::discriminant(&self.node).hash(hasher);
        if let Node::Runs(running) = &self.node {
            (running.txn, running.told, running.wakes, running.is_all_told).hash(hasher);
            if let Some(escrow) = &running.escrow {
                (escrow.next, &escrow.effects, escrow.branch()).hash(hasher);
            }
        }
        for left in self.disk.futures() {
            left.hash(hasher);
        }
        (self.disk.is_illegal(), &self.shares, self.seen).hash(hasher);
    }

    pub fn hash_essence<H: Hasher>(&self, hasher: &mut H) {
        let seen = self.seen;
        (seen.decided, seen.told, seen.broken, self.disk.is_illegal()).hash(hasher);
        std::mem::discriminant(&self.node).hash(hasher);
        let (mut txns, mut escrow) = (Vec::with_capacity(4), None);
        if let Node::Runs(running) = &self.node {
            (running.told, running.wakes, running.is_all_told).hash(hasher);
            // While a step is being logged, only it counts, and what it lets out.
            escrow = running.escrow.as_ref();
            txns.push(*running.subject());
        }
        for left in self.disk.futures() {
            left.is_some().hash(hasher);
            txns.extend(left);
        }
        txns.len().hash(hasher);
        for txn in &txns {
            std::mem::discriminant(&txn.state()).hash(hasher);
        }
        escrow.is_some().hash(hasher);
        let effects = escrow.iter().flat_map(|escrow| &escrow.effects);
        effects.filter(|effect| !matches!(effect, Effect::Call(..))).for_each(|effect| effect.hash(hasher));
        let branches = self.shape.branches.iter().map(|branch| self.essence_of(branch, &txns, escrow));
        let mut branches: Vec<u128> = branches.collect();
        branches.sort_unstable();
        branches.hash(hasher);
    }

    /// All that matters of one branch, in one word.
    fn essence_of(&self, branch: Branch, txns: &[Txn], escrow: Option<&Escrow>) -> u128 {
        let mut word = Word(1);
        for txn in txns {
            word.put_txn(txn, branch);
        }
        let called = escrow.iter().flat_map(|escrow| &escrow.effects).find_map(|effect| match effect {
            Effect::Call(operation, of) if *of == branch => Some(*operation),
            Effect::Call(..) | Effect::Tell(_) | Effect::WakeAt(_) | Effect::End => None,
        });
        word.put_operation(called);
        word.put(&[escrow.and_then(Escrow::branch) == Some(branch)]);
        let is_undecided = self.running().is_some_and(|running| running.subject().decision().is_none());
        word.put_share(self.share(branch), is_undecided);
        let seen = [self.seen.parked, self.seen.spoken_for, self.seen.settled, self.shape.prepare];
        word.put(&seen.map(|branches| branches.has(branch)));
        word.0
    }
}

/// Bits, last in front. The first is always 1, so that no two of different lengths are equal.
struct Word(u128);

impl Word {
    fn put(&mut self, bits: &[bool]) {
        for bit in bits {
            assert!(self.0 >> 127 == 0, "a branch's essence fits 127 bits");
            self.0 = self.0 << 1 | u128::from(*bit);
        }
    }

    fn put_number(&mut self, number: u16, bits: u32) {
        assert!(self.0 >> (128 - bits) == 0, "a branch's essence fits 127 bits");
        self.0 = self.0 << bits | u128::from(number);
    }

    fn put_operation(&mut self, operation: Option<Operation>) {
        self.put_number(operation.map_or(0, |operation| operation as u16 + 1), 3);
    }

    fn put_txn(&mut self, txn: &Txn, branch: Branch) {
        let (votes, telling) = (txn.votes(), txn.telling());
        match txn.state() {
            State::Working => self.put(&[votes.yes.has(branch), votes.read_only.has(branch)]),
            State::Preparing { read_only } => {
                self.put(&[votes.yes.has(branch), votes.read_only.has(branch), read_only.has(branch)]);
            }
            State::Committing(_) | State::Aborting(..) => {
                self.put(&[telling.waiting.has(branch), telling.parked.has(branch)]);
            }
            State::Committed | State::Aborted(_) => {}
        }
    }

    fn put_share(&mut self, share: Share, is_undecided: bool) {
        let Share { service, asked, sent, answers } = share;
        let is_past = !is_undecided;
        let sent = if is_past && service.is_settled() { sent.of_phase_two() } else { sent };
        let answers = if is_past { answers.of_phase_two() } else { answers };
        self.put_number(service as u16, 3);
        self.put_operation(asked);
        self.put_number(u16::from(sent.bits()), 4);
        self.put_number(answers.bits(), 12);
    }
}
