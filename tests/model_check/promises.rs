//! What must hold in every state, and what must happen in some, so that the model is not empty.
//!
//! The promises look at the services, the wire, the durable records and at what was told, and at what the machine says of
//! itself only to compare it with these.

use stateright::Property;
use unanimous::txn::{Branch, Decision, State};

use super::branch::Service;
use super::check::Check;
use super::ending::can_end;
use super::world::{Node, World};

pub const ONE_OUTCOME: &str = "never both outcomes";
pub const EVERY_VOTE: &str = "never commit without every vote";
pub const SURVIVES: &str = "decided survives";
pub const LOG_FIRST: &str = "no call before its record";
pub const DURABLE_FIRST: &str = "nothing told before it is durable";
pub const NO_LIES: &str = "nobody is lied to";
pub const SETTLED: &str = "an end means that every branch is settled";
pub const OPERATORS: &str = "what an operator saw and said survives";
pub const LEGAL: &str = "a crash leaves a legal log";
pub const POSSIBLE: &str = "no service is asked what it cannot do";
pub const KEYS: &str = "a key that had an effect is remembered";
pub const CAN_END: &str = "always can end";

type Condition = fn(&Check, &World) -> bool;

/// What must never happen.
const SAFE: [(&str, Condition); 11] = [
    (ONE_OUTCOME, one_outcome),
    (EVERY_VOTE, commit_has_every_vote),
    (SURVIVES, decided_survives),
    (LOG_FIRST, |_, world| !world.seen.broken.called_early),
    (DURABLE_FIRST, |_, world| !world.seen.broken.told_early),
    (NO_LIES, nobody_is_lied_to),
    (SETTLED, the_end_is_the_end),
    (OPERATORS, operators_are_not_fooled),
    (LEGAL, |_, world| !world.seen.broken.found_illegal),
    (POSSIBLE, |_, world| !world.seen.broken.asked_amiss),
    (KEYS, keys_are_remembered),
];

/// Everything must end, as long as nothing of the above has happened.
const LIVE: (&str, Condition) = (CAN_END, can_end);

/// What must be found somewhere, in one check or another.
pub const SOMETIMES: [(&str, Condition); 9] = [
    ("every branch commits, and it ends", |_, world| {
        everyone_is(world, Service::Committed) && is_finished(world)
    }),
    ("every branch aborts, and it ends", |_, world| {
        everyone_is(world, Service::Aborted) && is_finished(world)
    }),
    ("every branch leaves, and it ends", |_, world| everyone_is(world, Service::Left) && is_finished(world)),
    ("a decision waits for the disk", |_, world| {
        world
            .running()
            .is_some_and(|running| running.escrow.is_some() && running.subject().decision().is_some())
    }),
    ("a start finds a commit that nobody was told of", |_, world| {
        world.node == Node::Down
            && world.disk.decision() == Some(Decision::Commit)
            && !world.seen.told.committed
    }),
    ("a start finds nothing, and a branch has promised", |_, world| {
        world.node == Node::Down && world.disk.left().is_none() && any_is(world, Service::Promised)
    }),
    ("an abort that was told is forgotten", |_, world| {
        world.seen.told.aborted && world.node == Node::Down && world.disk.decision().is_none()
    }),
    ("a branch commits against an abort", |_, world| any_is(world, Service::CommittedAlone)),
    ("a parked branch was mended and the end is durable", |_, world| {
        !world.seen.parked.minus(world.seen.settled).is_empty() && is_finished(world)
    }),
];

/// As stateright takes them.
pub fn all() -> Vec<Property<Check>> {
    let always = SAFE.into_iter().chain([LIVE]).map(|(name, holds)| Property::always(name, holds));
    let sometimes = SOMETIMES.into_iter().map(|(name, happens)| Property::sometimes(name, happens));
    always.chain(sometimes).collect()
}

/// The names of what must always hold.
pub fn promises() -> impl Iterator<Item = &'static str> {
    SAFE.into_iter().chain([LIVE]).map(|(name, _)| name)
}

/// The promises that are broken in this state.
pub fn broken(check: &Check, world: &World) -> Vec<&'static str> {
    let broken = SAFE.iter().chain([&LIVE]).filter(|(_, holds)| !holds(check, world));
    broken.map(|(name, _)| *name).collect()
}

/// Whether nothing has happened yet that must never happen.
pub fn is_safe(check: &Check, world: &World) -> bool {
    SAFE.iter().all(|(_, holds)| holds(check, world))
}

/// Services that went their own way are another matter: they are parked, and an operator looks.
fn one_outcome(_: &Check, world: &World) -> bool {
    !(any_is(world, Service::Committed) && any_is(world, Service::Aborted))
}

fn commit_has_every_vote(_: &Check, world: &World) -> bool {
    let has_voted = |service| {
        matches!(service, Service::Promised | Service::Committed | Service::Left | Service::AbortedAlone)
    };
    let is_commit = world.decisions().any(|decision| decision == Decision::Commit)
        || any_is(world, Service::Committed)
        || world.shares.iter().any(|share| share.sent.has(unanimous::txn::Operation::Commit));
    !is_commit || world.shares.iter().all(|share| has_voted(share.service))
}

/// From the first durable decision on there is no other, on the disk or in memory.
fn decided_survives(_: &Check, world: &World) -> bool {
    let Some(decided) = world.seen.decided else { return true };
    let in_memory = world.running().map(|running| running.subject().decision());
    in_memory.is_none_or(|decision| decision == Some(decided))
        && world.disk.futures().all(|left| left.and_then(|txn| txn.decision()) == Some(decided))
}

/// Whatever was told stays true.
fn nobody_is_lied_to(_: &Check, world: &World) -> bool {
    let told = world.seen.told;
    let has = |decision| world.seen.decided == Some(decision) || world.disk.decision() == Some(decision);
    let may_be_committed = has(Decision::Commit) || any_is(world, Service::Committed);
    let may_be_aborted = has(Decision::Abort) || any_is(world, Service::Aborted);
    !((told.aborted || told.never_seen) && may_be_committed) && !(told.committed && may_be_aborted)
}

/// Nothing of a transaction that is said to be over is still open, and nobody contradicted unseen.
fn the_end_is_the_end(check: &Check, world: &World) -> bool {
    let logged = world.disk.futures().flatten();
    let mut finals = logged.filter(|txn| txn.state().is_final()).filter_map(|txn| txn.decision());
    finals.all(|decision| check.shape.branches.iter().all(|branch| is_settled(world, branch, decision)))
}

fn is_settled(world: &World, branch: Branch, decision: Decision) -> bool {
    let share = world.share(branch);
    match (share.service, decision) {
        (Service::Left, _) | (Service::Committed, Decision::Commit) | (Service::Aborted, Decision::Abort) => {
            true
        }
        // Nothing ever reached it, or will.
        (Service::Nothing, Decision::Abort) => share.sent.is_empty(),
        (Service::CommittedAlone | Service::AbortedAlone, _) => world.seen.spoken_for.has(branch),
        (
            Service::Nothing | Service::Worked | Service::Promised | Service::Committed | Service::Aborted,
            _,
        ) => false,
    }
}

/// A branch that was shown as parked is never one that was not asked yet, and what was settled stays so.
fn operators_are_not_fooled(_: &Check, world: &World) -> bool {
    let seen = world.seen;
    let decided = world.disk.left().filter(|txn| txn.decision().is_some());
    decided.map_or(seen.parked.or(seen.settled).is_empty(), |txn| {
        let telling = txn.telling();
        telling.waiting.and(seen.parked).is_empty() && telling.outstanding().and(seen.settled).is_empty()
    })
}

/// As long as the key is not durable, the same request could begin a second transaction after a crash.
fn keys_are_remembered(check: &Check, world: &World) -> bool {
    let had_effect = world.shares.iter().any(|share| !share.sent.is_empty());
    let may_be_lost = check.has_key() && had_effect && world.disk.left().is_none();
    !may_be_lost && !world.seen.broken.forgot_key
}

fn any_is(world: &World, service: Service) -> bool {
    world.shares.iter().any(|share| share.service == service)
}

fn everyone_is(world: &World, service: Service) -> bool {
    world.shares.iter().all(|share| share.service == service)
}

fn is_finished(world: &World) -> bool {
    world.disk.left().is_some_and(|txn| matches!(txn.state(), State::Committed | State::Aborted(_)))
}
