//! G1: no byte leaves for a participant before the transition that causes it is in the log, and, where recovery depends
//! on it, on stable storage.

use unanimous::journal::options::Sync;
use unanimous::txn::{Decision, Operation};

use super::{Kept, kept};
use crate::sim::world::{Message, World};

pub fn before_call(world: &World, message: Message) -> Kept {
    let facts = world.ledger.of(message.transaction);
    let every = world.settings.log.sync == Sync::EveryTransition;
    let is_there = match message.operation {
        // Without a key, losing it leads to the same abort (`log.sync = "decisions"`, presumed abort).
        Operation::Work => facts.begun.is_some() || !every,
        Operation::Prepare => facts.preparing || !every,
        Operation::Commit => facts.decisions.contains(&Decision::Commit),
        Operation::Abort => facts.decisions.contains(&Decision::Abort) || !every,
    };
    kept("G1", is_there, || {
        let operation = message.operation.name();
        format!("{operation} of {} left before its record was durable", message.transaction)
    })
}
