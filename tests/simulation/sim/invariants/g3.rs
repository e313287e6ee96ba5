//! G3: after a crash at any instant every unfinished transaction is finished without anyone asking.

use unanimous::journal::replay::Found;

use super::{Kept, kept};
use crate::sim::life::Purpose;
use crate::sim::world::World;

/// A node has read its log: it must know of all that is unfinished.
pub fn at_start(world: &World, found: &Found) -> Kept {
    for (id, facts) in
        world.ledger.facts.iter().filter(|(_, facts)| facts.plan.is_some() && facts.ended.is_none())
    {
        let logged = found.unfinished.iter().find(|logged| logged.get().id == *id);
        kept("G3", logged.is_some(), || format!("{id} is unfinished, and the start did not find it"))?;
        let replayed = logged.map(unanimous_wal::Durable::get);
        let decision = replayed.and_then(|logged| logged.txn.decision());
        kept("G3", decision == facts.decisions.first().copied(), || {
            format!("{id} was {:?}, and the start found {decision:?}", facts.decisions.first())
        })?;
        let fault = replayed.and_then(|logged| logged.fault.as_ref());
        kept("G3", fault.is_none(), || {
            format!("{id} was set aside: {}", fault.map_or("", |fault| &fault.why))
        })?;
    }
    Ok(())
}

/// Everything has ended, and the log was read once more.
pub fn at_rest(found: &Found) -> Kept {
    let unfinished = found.unfinished.first().map(|logged| logged.get().id);
    kept("G3", unfinished.is_none(), || {
        format!("{unfinished:?} had ended, and the next start goes on with it")
    })
}

/// A life is over: only a storm may end it before its time, or no end would be looked at.
pub fn in_life(purpose: Purpose, is_served: bool) -> Kept {
    kept("G3", is_served || matches!(purpose, Purpose::Storm(_)), || {
        format!("nothing fails any more, and the node did not come to the end of {purpose:?}")
    })
}

/// Nothing fails any more, and there was time enough.
pub fn at_end(world: &World, is_in_time: bool, open: usize) -> Kept {
    kept("G3", is_in_time, || {
        let untold = world.requests.iter().find(|request| request.tries > 0);
        format!("nothing fails any more, and this is not told what it asks: {untold:?}")
    })?;
    kept("G3", open == 0, || format!("{open} transactions are still open although nothing fails any more"))?;
    let unfinished =
        world.ledger.facts.iter().find(|(_, facts)| facts.plan.is_some() && facts.ended.is_none());
    kept("G3", unfinished.is_none(), || {
        unfinished.map_or_else(String::new, |(id, _)| format!("{id} has no end in the log"))
    })?;
    for service in &world.services {
        let unsettled = service.unsettled().next();
        kept("G3", unsettled.is_none(), || {
            unsettled.map_or_else(String::new, |(id, branch)| {
                format!("{} still holds branch {branch} of {id}", service.name)
            })
        })?;
    }
    Ok(())
}
