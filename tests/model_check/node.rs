//! What the node does: the coordinator's task of one transaction, step by step.
//!
//! This is the one part that is written again for the model, because the real one (`coordinator::running`) is made of tasks and
//! channels. It decides nothing. What happens is decided by the real machine, what is waited for by the real rule of the log,
//! what a start finds by the real replay.

use unanimous::journal::record::{Record, Remark};
use unanimous::txn::{Decision, Effect, Event, Step, Transition, Txn};

use super::branch::Share;
use super::check::Check;
use super::disk::{Disk, Found, FoundState, Written};
use super::world::{Escrow, Node, Running, Seen, World};

impl World {
    /// A client has asked for a transaction.
    pub fn begin(check: &Check) -> Self {
        let txn = Txn::begin(check.shape);
        let mut world = Self {
            node: Node::Runs(Running::new(txn)),
            disk: Disk::new(check.shape),
            shares: vec![Share::default(); check.shape.branches.count()],
            seen: Seen::default(),
            shape: check.shape,
            is_exact: check.is_exact,
        };
        world.append(check, None, txn, txn.owed());
        world
    }

    /// Something happened to the transaction. True if that is a step for the log.
    pub fn advance(&mut self, check: &Check, event: Event) -> bool {
        let Node::Runs(running) = &mut self.node else { return false };
        match running.txn.on(event) {
            Step::Advance { transition, next, effects } => {
                self.append(check, Some(transition), next, effects);
                true
            }
            Step::Remember(next) => {
                running.txn = next;
                false
            }
            Step::Ignore | Step::Violation(_) => false,
        }
    }

    fn append(&mut self, check: &Check, step: Option<Transition>, next: Txn, effects: Vec<Effect>) {
        let record = match step {
            None => Record::Begun(check.plan.clone()),
            Some(step) => Record::of(step, &next, Remark::default()),
        };
        if check.writes(&record) {
            self.disk.append(step.map_or(Written::Begun, Written::Step));
        }
        if !check.waits_for(&record) {
            return self.enter(check, Escrow { step, next, effects });
        }
        for effect in check.let_out_early(&effects) {
            self.run(check, effect);
        }
        if let Node::Runs(running) = &mut self.node {
            running.escrow = Some(Escrow { step, next, effects });
        }
    }

    /// The log has what was waited for.
    pub fn proceed(&mut self, check: &Check) {
        let Node::Runs(running) = &mut self.node else { return };
        if let Some(escrow) = running.escrow.take() {
            self.enter(check, escrow);
        }
    }

    fn enter(&mut self, check: &Check, Escrow { step, next, effects }: Escrow) {
        if let Node::Runs(running) = &mut self.node {
            running.txn = next;
        }
        match step {
            Some(Transition::Parked(branch, _)) => self.seen.parked = self.seen.parked.with(branch),
            Some(Transition::Resolved(branch, _)) => self.seen.settled = self.seen.settled.with(branch),
            Some(
                Transition::Preparing { .. }
                | Transition::Decided { .. }
                | Transition::Acked(_)
                | Transition::Ended,
            )
            | None => {}
        }
        for effect in check.kept_of(effects) {
            self.run(check, effect);
        }
        self.live(check);
    }

    /// What the task does before it listens to anybody.
    fn live(&mut self, check: &Check) {
        let Node::Runs(running) = &mut self.node else { return };
        if running.txn.state().is_final() {
            self.idle();
        } else if std::mem::take(&mut running.is_all_told) {
            self.advance(check, Event::AllTold);
        }
    }

    fn run(&mut self, check: &Check, effect: Effect) {
        let Node::Runs(running) = &mut self.node else { return };
        match effect {
            Effect::Call(operation, branch) => self.share_mut(branch).asked = Some(operation),
            Effect::Tell(decision) => {
                running.told = Some(decision);
                let is_durable = self.disk.decision() == Some(decision);
                let must_be = check.is_every_transition() || decision == Decision::Commit;
                self.seen.broken.told_early |= must_be && !is_durable;
            }
            Effect::WakeAt(_) => running.wakes = true,
            Effect::End => running.is_all_told = true,
        }
    }

    /// The process dies, or the power fails: so many records that were not synced are found all the same.
    pub fn crash(&mut self, found: usize) {
        self.disk.crash(found);
        self.node = Node::Down;
        self.shares.iter_mut().for_each(Share::hang_up);
    }

    /// Recovery: what was decided is told again, what was not is aborted.
    pub fn restart(&mut self, check: &Check) {
        check.spoil(&mut self.disk);
        let Found { state, has_key } = self.disk.read(&check.plan);
        self.seen.broken.forgot_key |= check.has_key() && self.disk.left().is_some() && !has_key;
        match state {
            FoundState::Nothing | FoundState::Finished => self.idle(),
            FoundState::Illegal => {
                self.seen.broken.found_illegal = true;
                self.idle();
            }
            FoundState::Unfinished(txn) => self.resume(check, check.as_found(txn)),
        }
    }

    fn resume(&mut self, check: &Check, txn: Txn) {
        self.node = Node::Runs(Running::new(txn));
        let mut has_advanced = false;
        for event in check.at_restart(&txn) {
            has_advanced |= self.advance(check, event);
        }
        if !has_advanced {
            check.kept_at_restart(txn.owed()).into_iter().for_each(|effect| self.run(check, effect));
            self.live(check);
        }
    }

    fn idle(&mut self) {
        self.node = Node::Idle;
        self.shares.iter_mut().for_each(Share::hang_up);
    }

    /// What whoever asks for the transaction is told now; `None`: that it is undecided.
    pub fn fate(&self, check: &Check) -> Option<Fate> {
        match &self.node {
            Node::Down => None,
            Node::Runs(running) => running.told.map(Fate::Decided).or(check.fate_of_undecided()),
            Node::Idle => match self.disk.left() {
                Some(txn) => txn.decision().map(Fate::Decided),
                None => Some(Fate::NeverSeen),
            },
        }
    }

    /// Takes down what can be seen now.
    pub fn look(&mut self, check: &Check) {
        self.seen.decided = self.seen.decided.or(self.disk.decision());
        match self.fate(check) {
            Some(Fate::Decided(Decision::Commit)) => self.seen.told.committed = true,
            Some(Fate::Decided(Decision::Abort)) => self.seen.told.aborted = true,
            Some(Fate::NeverSeen) => self.seen.told.never_seen = true,
            None => {}
        }
    }
}

/// What is said of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Decided(Decision),
    NeverSeen,
}
