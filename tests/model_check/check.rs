//! The model: which steps there are, and what each of them does. One [`Check`] is one model that is checked.

use std::sync::Arc;

use stateright::{Model, Property};
use unanimous::clock::Timestamp;
use unanimous::journal::options::Sync;
use unanimous::plan::{ClientKey, Plan, PlannedBranch, Trace};
use unanimous::txn::{Branch, Branches, Decision, Event, Loss, Operation, Shape, Transition};

use super::branch::{self, Mind, Said, Service};
use super::bugs::Bug;
use super::node::Fate;
use super::promises;
use super::world::{Node, Running, World};

/// When a transaction of the model is late.
const DEADLINE: Timestamp = Timestamp(10_000);

/// How a work call is lost that may have arrived: a broken connection, a 5xx, no answer in time.
const LOSSES: [Loss; 3] = [Loss::Unreachable(None), Loss::Unreachable(Some(503)), Loss::Late];

/// What is checked: a transaction, and the log it is written to.
#[derive(Debug, Clone)]
pub struct Check {
    pub plan: Arc<Plan>,
    /// The plan's, for the machine.
    pub shape: Shape,
    pub sync: Sync,
    /// Services may go against the decision.
    pub may_contradict: bool,
    pub is_exact: bool,
    pub bug: Option<Bug>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Everything that was written is on stable storage.
    Sync,
    /// The task learns that its record is.
    Proceed,
    /// The call leaves.
    Send(Branch),
    /// It turns out that no byte of the work call ever left.
    FailToSend(Branch),
    /// The answer to the work call is one that says nothing, or does not come.
    Lose(Branch, Loss),
    /// A call arrives, once more perhaps, and the service makes this of it.
    Deliver(Branch, Operation, Mind),
    /// An answer arrives.
    Hear(Branch, Operation, Said),
    /// The deadline passes.
    Deadline,
    /// A service crashes, and forgets what it did not promise.
    Forget(Branch),
    /// A service undoes on its own what it did not promise.
    Withdraw(Branch),
    /// A service that promised asks what became of the transaction.
    Ask(Branch),
    /// An operator looked, and says what a parked branch did.
    Resolve(Branch),
    /// Somebody makes a parked branch do what was decided.
    Mend(Branch),
    /// An operator has a parked branch told once more.
    Retry(Branch),
    /// The node dies; so many records that were not synced are found all the same.
    Crash(usize),
    /// It starts again.
    Restart,
}

impl Check {
    /// A transaction of `count` branches of which `prepare` are asked to prepare.
    pub fn new(count: usize, prepare: Branches, sync: Sync, has_key: bool) -> Self {
        let plan = Arc::new(plan(count, prepare, has_key));
        let shape = plan.shape().expect("a model has few branches");
        Self { plan, shape, sync, may_contradict: true, is_exact: false, bug: None }
    }

    pub fn is_every_transition(&self) -> bool {
        self.sync == Sync::EveryTransition
    }

    pub fn has_key(&self) -> bool {
        self.plan.key.is_some()
    }

    pub fn has_prepare(&self, branch: Branch) -> bool {
        self.shape.prepare.has(branch)
    }

    fn actions_of_node(&self, world: &World, actions: &mut Vec<Action>) {
        if !world.disk.is_synced() {
            actions.push(Action::Sync);
        }
        match &world.node {
            Node::Down => return actions.push(Action::Restart),
            Node::Idle => {}
            Node::Runs(Running { escrow: Some(escrow), .. }) => {
                if world.disk.is_synced() {
                    actions.push(Action::Proceed);
                }
                if self.can_be_late(escrow) {
                    actions.push(Action::Deadline);
                }
            }
            Node::Runs(running) => {
                if running.wakes && running.txn.decision().is_none() {
                    actions.push(Action::Deadline);
                }
                for branch in running.txn.telling().parked.iter() {
                    actions.extend([Action::Resolve(branch), Action::Retry(branch)]);
                }
            }
        }
        actions.extend((0..=world.disk.unsynced()).map(Action::Crash));
    }

    fn actions_of_branch(&self, world: &World, branch: Branch, actions: &mut Vec<Action>) {
        let share = world.share(branch);
        let is_listening = world.running().is_some_and(|running| running.escrow.is_none());
        let is_working = is_listening && share.asked == Some(Operation::Work);
        match share.asked {
            Some(operation) if !share.sent.has(operation) => {
                actions.push(Action::Send(branch));
                if is_working {
                    actions.push(Action::FailToSend(branch));
                }
            }
            Some(_) if is_working => actions.extend(LOSSES.map(|loss| Action::Lose(branch, loss))),
            Some(_) | None => {}
        }
        for operation in share.sent.iter() {
            let minds = share.service.minds(operation, self.may_contradict);
            let has_effect =
                |mind: &&Mind| share.receive(operation, self.has_prepare(branch), **mind) != Ok(share);
            let arrivals = minds.iter().filter(has_effect);
            actions.extend(arrivals.map(|mind| Action::Deliver(branch, operation, *mind)));
        }
        if is_listening {
            actions
                .extend(share.answers.iter().map(|(operation, said)| Action::Hear(branch, operation, said)));
        }
        match share.service {
            Service::Worked => actions.extend([Action::Forget(branch), Action::Withdraw(branch)]),
            Service::Promised if world.fate(self).is_some() => actions.push(Action::Ask(branch)),
            Service::CommittedAlone | Service::AbortedAlone if world.seen.parked.has(branch) => {
                actions.push(Action::Mend(branch));
            }
            Service::Nothing
            | Service::Promised
            | Service::Committed
            | Service::Aborted
            | Service::Left
            | Service::CommittedAlone
            | Service::AbortedAlone => {}
        }
    }

    fn act(&self, world: &mut World, action: Action) {
        match action {
            Action::Sync => world.disk.sync(),
            Action::Proceed => world.proceed(self),
            Action::Send(branch) => self.send(world, branch),
            Action::FailToSend(branch) => self.lose(world, branch, Loss::NeverSent),
            Action::Lose(branch, loss) => self.lose(world, branch, loss),
            Action::Deliver(branch, operation, mind) => {
                match world.share(branch).receive(operation, self.has_prepare(branch), mind) {
                    Ok(share) => *world.share_mut(branch) = share,
                    Err(branch::Outrage) => world.seen.broken.asked_amiss = true,
                }
            }
            Action::Hear(branch, operation, said) => {
                self.happen(world, branch::event(branch, operation, said));
            }
            Action::Deadline => self.happen(world, Event::Clock(DEADLINE)),
            Action::Forget(branch) => world.share_mut(branch).service = Service::Nothing,
            Action::Withdraw(branch) => world.share_mut(branch).service = Service::Aborted,
            Action::Ask(branch) => ask(world, self, branch),
            Action::Resolve(branch) => {
                let has_committed = world.share(branch).service.has_committed();
                let done = if has_committed { Decision::Commit } else { Decision::Abort };
                world.seen.spoken_for = world.seen.spoken_for.with(branch);
                self.happen(world, Event::Resolved(branch, done));
            }
            Action::Mend(branch) => world.share_mut(branch).mend(),
            Action::Retry(branch) => {
                let told = world.running().and_then(|running| running.told);
                world.share_mut(branch).asked = told.map(Decision::operation);
            }
            Action::Crash(found) => world.crash(found),
            Action::Restart => world.restart(self),
        }
    }

    fn happen(&self, world: &mut World, event: Event) {
        for event in self.heard(world, event) {
            world.advance(self, event);
        }
    }

    /// Nobody listens for an answer to the work call any more.
    fn lose(&self, world: &mut World, branch: Branch, loss: Loss) {
        world.share_mut(branch).asked = None;
        self.happen(world, Event::Lost(branch, loss));
    }

    /// A call leaves: what it follows from must be in the log, and, where recovery needs it, on stable storage.
    fn send(&self, world: &mut World, branch: Branch) {
        let Some(operation) = world.share(branch).asked else { return };
        let left = world.disk.left();
        let decision = world.disk.decision();
        let is_there = match operation {
            Operation::Work => left.is_some(),
            Operation::Prepare => world.disk.holds(|step| matches!(step, Transition::Preparing { .. })),
            Operation::Commit => decision == Some(Decision::Commit),
            Operation::Abort => decision == Some(Decision::Abort),
        };
        // Presumed abort: what is forgotten is aborted. Only a key must not be forgotten.
        let must_be = self.is_every_transition()
            || operation == Operation::Commit
            || (operation == Operation::Work && self.has_key());
        world.seen.broken.called_early |= must_be && !is_there;
        let share = world.share_mut(branch);
        share.sent = share.sent.with(operation);
    }
}

impl Model for Check {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::begin(self);
        world.look(self);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.actions_of_node(world, actions);
        for branch in self.shape.branches.iter() {
            self.actions_of_branch(world, branch, actions);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        self.act(&mut world, action);
        world.look(self);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}

fn ask(world: &mut World, check: &Check, branch: Branch) {
    world.share_mut(branch).service = match world.fate(check) {
        Some(Fate::Decided(Decision::Commit)) => Service::Committed,
        Some(Fate::Decided(Decision::Abort) | Fate::NeverSeen) => Service::Aborted,
        None => Service::Promised,
    };
}

fn plan(count: usize, prepare: Branches, has_key: bool) -> Plan {
    let branch = |branch: Branch| PlannedBranch {
        service: format!("service-{branch}"),
        method: "POST".to_owned(),
        work: "/work".to_owned(),
        prepare: prepare.has(branch).then(|| "/prepare".to_owned()),
        commit: "/commit".to_owned(),
        abort: "/abort".to_owned(),
        body: None,
    };
    let key = has_key.then(|| ClientKey { key: "key".to_owned(), fingerprint: [0; 32] });
    let branches = Branches::first_of(count).expect("a model has few branches").iter().map(branch).collect();
    let (route, deadline, trace) = ("transfer".to_owned(), DEADLINE, Trace::begin(1));
    Plan { route, deadline, branches, bodies: Vec::new(), key, trace }
}
