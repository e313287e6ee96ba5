//! The promises (`docs/GUARANTEES.md`), as what an observer of the world can check. One file each.
//!
//! They believe nothing that the program says of itself: what is durable is read from the disk, what was sent from
//! the wire, what was done from the services.

use std::fmt;

use unanimous::journal::record::{Entry, Record};
use unanimous::txn::Operation;

use super::world::{Message, Sim, World};

pub mod g1;
pub mod g2;
pub mod g3;
pub mod g4;
pub mod g5;
pub mod g6;
pub mod g7;
pub mod g8;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub promise: &'static str,
    pub what: String,
}

pub type Kept = Result<(), Broken>;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// For the checks: kept, or broken as `what` says.
fn kept(promise: &'static str, is_kept: bool, what: impl FnOnce() -> String) -> Kept {
    if is_kept { Ok(()) } else { Err(Broken { promise, what: what() }) }
}

/// A call is about to be put on the wire.
pub fn before_call(sim: &Sim, message: Message) {
    let looked = on_disk(&mut sim.world());
    sim.expect(looked);
    let mut world = sim.world();
    let result = g1::before_call(&world, message).and_then(|()| match message.operation {
        Operation::Work => {
            g8::before_work(&mut world, message.transaction);
            Ok(())
        }
        Operation::Prepare => Ok(()),
        Operation::Commit => g2::before_commit(&mut world, message.transaction),
        Operation::Abort => g2::decided(
            &mut world,
            message.transaction,
            unanimous::txn::Decision::Abort,
            "an abort on the wire",
        ),
    });
    drop(world);
    sim.expect(result);
}

/// Looks at what has become durable.
pub fn on_disk(world: &mut World) -> Kept {
    let disk = world.disk.clone();
    for entry in world.ledger.look(&disk) {
        on_record(world, &entry)?;
    }
    g5::acknowledged(world)
}

fn on_record(world: &mut World, entry: &Entry) -> Kept {
    let id = entry.transaction;
    let decision = match &entry.record {
        Record::Begun(plan) => {
            g8::begun(world, id, plan, entry.time)?;
            None
        }
        Record::Decided { decision, .. } => Some(*decision),
        Record::Carried(carried) | Record::CarriedResolved(carried, _) => {
            world.summary.carried += 1;
            carried.txn.decision()
        }
        Record::Parked { .. } => {
            world.summary.parked += 1;
            None
        }
        Record::Opened { .. }
        | Record::Preparing { .. }
        | Record::Acked(_)
        | Record::Resolved { .. }
        | Record::Settled
        | Record::Ended(_)
        | Record::GaveUp { .. } => None,
    };
    decision.map_or(Ok(()), |decision| g2::decided(world, id, decision, "a record"))
}
