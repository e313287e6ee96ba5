//! G4: a client that was told `committed` or `aborted` was told the truth, for ever. So is a participant that asks.

use unanimous::clock::Timestamp;
use unanimous::coordinator::{Fate, View};
use unanimous::journal::options::Sync;
use unanimous::plan::TransactionId;
use unanimous::txn::{Branch, Decision};

use super::{Kept, g2, kept, on_disk};
use crate::sim::world::World;

/// A client is told.
pub fn told(world: &mut World, id: TransactionId, decision: Decision) -> Kept {
    on_disk(world)?;
    g2::decided(world, id, decision, "an answer to a client")?;
    let needs_disk = decision == Decision::Commit || world.settings.log.sync == Sync::EveryTransition;
    let is_durable = world.ledger.of(id).decisions.contains(&decision);
    kept("G4", is_durable || !needs_disk, || {
        format!("a client is told that {id} is {} before that is durable", decision.outcome())
    })
}

/// An operator is shown a parked transaction: the next start must show it too.
pub fn shown_parked(world: &mut World, id: TransactionId) -> Kept {
    on_disk(world)?;
    let is_durable = world.ledger.of(id).parked;
    kept("G4", is_durable, || format!("{id} is shown as parked before that is durable"))
}

/// An operator has said what became of a parked branch: that is durable, or the branch is not parked any more.
pub fn settled(world: &mut World, id: TransactionId, branch: Branch, is_done: bool, open: &[View]) -> Kept {
    on_disk(world)?;
    let is_durable = world.ledger.of(id).resolved.contains(&branch);
    let mut parked =
        open.iter().filter(|view| view.id == id).flat_map(|view| view.txn.telling().parked.iter());
    let is_parked = parked.any(|parked| parked == branch);
    kept("G4", if is_done { is_durable } else { !is_parked || world.disk.failed().is_some() }, || {
        let said = if is_done { "accepted" } else { "refused" };
        format!(
            "an operator's word on branch {branch} of {id} is {said}; durable: {is_durable}, parked: {is_parked}"
        )
    })
}

/// Somebody asked what became of a transaction, and was answered `at` this time or a little before; gives the decision, if
/// that was the answer.
pub fn asked(
    world: &mut World,
    id: TransactionId,
    fate: &Fate,
    at: Timestamp,
) -> Result<Option<Decision>, super::Broken> {
    on_disk(world)?;
    let facts = world.ledger.of(id);
    let decision = match fate {
        Fate::Open(view) => view.told.as_ref().map(|told| *told.get()),
        Fate::Done(past) => Some(past.decision),
        Fate::Unsettled
        | Fate::NeverSeen
        | Fate::Expired
        | Fate::GivenUp
        | Fate::SettledByHand
        | Fate::OtherNode => None,
    };
    if let Some(decision) = decision {
        g2::decided(world, id, decision, "an answer to a question")?;
    }
    match fate {
        Fate::NeverSeen => {
            world.summary.never_seen += 1;
            world.seen.entry(id).or_default().is_denied = true;
            let committed = world.seen.get(&id).and_then(|seen| seen.decision) == Some(Decision::Commit);
            kept("G4", facts.begun.is_none() && !committed, || {
                format!("{id} is said to be never seen, and it began")
            })?;
        }
        Fate::GivenUp | Fate::SettledByHand => {
            kept("G4", false, || format!("{id} is said to be damaged, and no record was given up"))?;
        }
        Fate::Expired => {
            world.summary.expired += 1;
            let is_unfinished = facts.plan.is_some() && facts.ended.is_none();
            kept("G4", !is_unfinished, || format!("{id} is said to be expired, and it has not ended"))?;
            let retention = world.settings.log.retention;
            let is_too_early = facts.ended.is_some_and(|ended| ended.plus(retention) > at);
            kept("G4", !is_too_early, || format!("{id} is said to be expired before the retention is over"))?;
        }
        Fate::OtherNode => kept("G4", false, || format!("{id} is said to be another node's"))?,
        Fate::Unsettled => kept("G4", facts.ended.is_none(), || {
            format!("{id} is said to be undecided, and its end is durable")
        })?,
        Fate::Open(_) | Fate::Done(_) => {}
    }
    Ok(decision)
}

/// `never_seen` means that an abort is safe.
pub fn after_denial(was_denied: bool, id: TransactionId, decision: Decision) -> Kept {
    kept("G4", !was_denied || decision == Decision::Abort, || {
        format!("{id} is committed, and somebody was told that it never began")
    })
}
