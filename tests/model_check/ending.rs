//! From every state the end can be reached, once nothing fails any more: shown step by step.
//!
//! [`helpful`] picks in each state one step that is no fault. Where that step always brings the end nearer by
//! [`distance`], a natural number, the end is reached after finitely many of them: the state that it leads to is
//! checked like every other. This says more than that there is a way, and needs no memory of the graph.
//!
//! (stateright's own `eventually` is not used: it passes over cycles and over ways that join.)

use stateright::Model;
use unanimous::txn::{Branches, Operation, State};

use super::branch::{Mind, Service, Share};
use super::check::{Action, Check};
use super::promises::is_safe;
use super::world::{Node, Running, World};

/// It is over, or the next helpful step brings it nearer to that; or it is worse than that already.
pub fn can_end(check: &Check, world: &World) -> bool {
    let nearer = |action| {
        let next = check.next_state(world, action);
        next.is_some_and(|next| distance(&next) < distance(world))
    };
    is_over(world) || helpful(world).is_some_and(nearer) || !is_safe(check, world)
}

/// Nothing is left to be done, by the node or by a branch.
fn is_over(world: &World) -> bool {
    let is_final = world.disk.left().is_none_or(|txn| txn.state().is_final());
    world.node == Node::Idle && world.disk.is_synced() && is_final && orphans(world).is_empty()
}

/// What happens next where everybody does their part.
pub fn helpful(world: &World) -> Option<Action> {
    match &world.node {
        Node::Down => Some(Action::Restart),
        Node::Idle if !world.disk.is_synced() => Some(Action::Sync),
        Node::Idle => orphans(world).lowest().map(|branch| {
            let has_promised = world.share(branch).service == Service::Promised;
            if has_promised { Action::Ask(branch) } else { Action::Withdraw(branch) }
        }),
        Node::Runs(running) if running.escrow.is_some() => {
            Some(if world.disk.is_synced() { Action::Proceed } else { Action::Sync })
        }
        Node::Runs(running) => {
            let Some(branch) = called(running).lowest() else {
                return running.txn.telling().parked.lowest().map(Action::Resolve);
            };
            let share = world.share(branch);
            let operation = share.asked?;
            Some(match share.answers.to(operation) {
                Some(said) => Action::Hear(branch, operation, said),
                None if share.sent.has(operation) => Action::Deliver(branch, operation, Mind::Willing),
                None => Action::Send(branch),
            })
        }
    }
}

/// How far the end is, in steps, weighed so that what comes first counts most.
fn distance(world: &World) -> u32 {
    match &world.node {
        Node::Down => 5_000,
        Node::Runs(running) => {
            let subject = running.subject();
            let (phase, operation) = match subject.state() {
                State::Working => (4_000, Operation::Work),
                State::Preparing { .. } => (3_000, Operation::Prepare),
                State::Committing(_) => (2_000, Operation::Commit),
                State::Aborting(..) => (2_000, Operation::Abort),
                State::Committed | State::Aborted(_) => return 1_000,
            };
            let parked = subject.telling().parked;
            let called = subject.waits_for().minus(parked);
            let calls = called.iter().map(|branch| 4 + steps_of(world.share(branch), operation));
            let rest: u32 = calls.sum::<u32>() + 4 * count(parked);
            let logging = running.escrow.as_ref().map_or(0, |_| if world.disk.is_synced() { 1 } else { 2 });
            phase + 3 * rest + logging
        }
        Node::Idle => 100 * u32::from(!world.disk.is_synced()) + count(orphans(world)),
    }
}

/// Until the node has heard the answer.
fn steps_of(share: Share, operation: Operation) -> u32 {
    if share.asked != Some(operation) {
        3
    } else if share.answers.to(operation).is_some() {
        1
    } else if share.sent.has(operation) {
        2
    } else {
        3
    }
}

/// Branches that were worked at and of which the node knows nothing any more.
fn orphans(world: &World) -> Branches {
    let is_open = |service| matches!(service, Service::Worked | Service::Promised);
    world.shape.branches.iter().filter(|branch| is_open(world.share(*branch).service)).collect()
}

fn called(running: &Running) -> Branches {
    running.txn.waits_for().minus(running.txn.telling().parked)
}

fn count(branches: Branches) -> u32 {
    u32::try_from(branches.count()).expect("a model has few branches")
}
