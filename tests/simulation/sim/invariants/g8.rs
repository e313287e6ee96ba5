//! G8: the same `Idempotency-Key` never begins two transactions, for as long as the log keeps the first; so no work leaves for
//! one with a key before its beginning is durable.

use unanimous::clock::Timestamp;
use unanimous::plan::{Plan, TransactionId};

use super::{Kept, kept};
use crate::sim::world::World;

/// Work is about to leave.
pub fn before_work(world: &mut World, id: TransactionId) {
    if world.ledger.of(id).begun.is_none() {
        world.ahead.insert(id);
    }
}

/// The beginning of a transaction is durable.
pub fn begun(world: &mut World, id: TransactionId, plan: &Plan, at: Timestamp) -> Kept {
    let Some(key) = &plan.key else { return Ok(()) };
    kept("G8", !world.ahead.contains(&id), || {
        format!("work of {id} left, and a crash would have lost {}", key.key)
    })?;
    let earlier = world.keys.insert(key.key.clone(), id).filter(|earlier| *earlier != id);
    let Some(earlier) = earlier else { return Ok(()) };
    let is_over =
        world.ledger.of(earlier).ended.is_some_and(|ended| ended.plus(world.settings.log.retention) <= at);
    kept("G8", is_over, || format!("{} began {earlier}, and now {id} too", key.key))
}
