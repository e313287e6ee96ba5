//! G5: a failed write or sync is never taken for a success.

use std::fmt::Display;

use super::{Kept, kept};
use crate::sim::world::World;

/// What the log says it holds for good must be on the disk.
pub fn acknowledged(world: &World) -> Kept {
    let Some(said) = world.acknowledged.as_ref().map(|high| *high.borrow()) else { return Ok(()) };
    let durable = world.ledger.records.keys().next_back().map_or(0, |lsn| lsn.get());
    kept("G5", said <= durable, || {
        format!("record {said} is acknowledged, and the disk holds none after {durable}")
    })
}

/// The disk failed, and the node had time to notice.
pub fn after_failure(has_stopped: bool) -> Kept {
    kept("G5", has_stopped, || "the disk failed, and the node goes on".to_owned())
}

/// Something failed: nothing but the disk, or the end of the process, may be the cause.
pub fn failed(world: &World, why: &impl Display) -> Kept {
    kept("G5", world.disk.failed().is_some() || world.is_over(), || {
        format!("nothing was told to fail, and yet: {why}")
    })
}
