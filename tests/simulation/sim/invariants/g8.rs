//! G8: the same `Idempotency-Key` never begins two transactions of a route, for as long as the log keeps the first; so no work
//! leaves for one with a key before its beginning is durable.

use unanimous::clock::Timestamp;
use unanimous::plan::{Plan, TransactionId};

use super::{Kept, kept};
use crate::sim::scenario::Request;
use crate::sim::world::World;

/// Work is about to leave.
pub fn before_work(world: &mut World, id: TransactionId) {
    if world.ledger.of(id).begun.is_none() {
        world.ahead.insert(id);
    }
}

/// A request is answered with what its key began before, or refused because it began something else with it.
pub fn answered(world: &mut World, request: &Request, id: TransactionId, is_same: bool) -> Kept {
    let Some(plan) = world.ledger.of(id).plan else { return Ok(()) };
    let Some(first) = &plan.key else { return kept("G8", false, || format!("{id} has no key")) };
    let is_its = request.route == plan.route && request.key.as_ref() == Some(&first.key);
    let is_as_said = (first.fingerprint == [request.fingerprint; 32]) == is_same;
    kept("G8", is_its && is_as_said, || {
        let said = if is_same { "is answered with" } else { "is refused because of" };
        let (route, key) = (request.route, &request.key);
        format!(
            "a request for {route} with key {key:?} {said} {id}, which {} of {} began",
            first.key, plan.route
        )
    })
}

/// The beginning of a transaction is durable.
pub fn begun(world: &mut World, id: TransactionId, plan: &Plan, at: Timestamp) -> Kept {
    let Some(key) = &plan.key else { return Ok(()) };
    kept("G8", !world.ahead.contains(&id), || {
        format!("work of {id} left, and a crash would have lost {}", key.key)
    })?;
    let scoped = (plan.route.clone(), key.key.clone());
    let earlier = world.keys.insert(scoped, id).filter(|earlier| *earlier != id);
    let Some(earlier) = earlier else { return Ok(()) };
    let is_over =
        world.ledger.of(earlier).ended.is_some_and(|ended| ended.plus(world.settings.log.retention) <= at);
    kept("G8", is_over, || format!("{} began {earlier}, and now {id} too", key.key))
}
