//! G7: one slow or dead participant delays only the transactions it takes part in.

use std::time::Duration;

use super::{Kept, kept};
use crate::sim::world::World;

/// Nobody who does not need the dead service comes to wait for an answer that does not come, or between two tries.
fn longest(world: &World) -> Duration {
    world.settings.call_timeout.min(world.settings.retry.max)
}

/// One service is dead, and those who do not need it had time enough. `open` are the transactions that have not ended.
pub fn isolated(world: &World, requests: &[usize], open: &[unanimous::plan::TransactionId]) -> Kept {
    for request in requests.iter().filter_map(|number| world.requests.get(*number)) {
        let is_told = request.told.is_some();
        kept("G7", is_told, || format!("{request:?} waits for a service that it does not need"))?;
        let bound = longest(world);
        kept("G7", request.took.is_some_and(|took| took <= bound), || {
            format!("{request:?} takes longer than {bound:?}, for a service that it does not need")
        })?;
        let has_ended = request.id.is_some_and(|id| !open.contains(&id));
        kept("G7", has_ended, || format!("{request:?} does not end, for a service that it does not need"))?;
    }
    Ok(())
}
