//! G2: a decision, once durable, is the only decision that transaction ever has; a commit has every vote; and the write
//! happens at every branch or at none.

use unanimous::plan::{Plan, TransactionId};
use unanimous::txn::{Branch, Decision};

use super::{Kept, g4, kept};
use crate::sim::ledger::Facts;
use crate::sim::participant::{Share, State};
use crate::sim::world::World;

/// A decision shows somewhere.
pub fn decided(world: &mut World, id: TransactionId, decision: Decision, whence: &str) -> Kept {
    let seen = world.seen.entry(id).or_default();
    let first = *seen.decision.get_or_insert(decision);
    let was_denied = seen.is_denied;
    kept("G2", first == decision, || {
        format!("{whence} says that {id} is {}, and it was {}", decision.outcome(), first.outcome())
    })?;
    g4::after_denial(was_denied, id, decision)
}

/// A commit is about to be sent: every branch must have promised, or asked to be left out.
pub fn before_commit(world: &mut World, id: TransactionId) -> Kept {
    decided(world, id, Decision::Commit, "a commit on the wire")?;
    let Some(plan) = world.ledger.of(id).plan else { return Ok(()) };
    for (branch, share) in shares(world, id, &plan) {
        let agreed = share.has_promised || share.state == State::Left;
        kept("G2", agreed, || format!("{id} is committed although branch {branch} never agreed"))?;
    }
    Ok(())
}

/// Everything is over.
pub fn at_end(world: &World) -> Kept {
    for (id, facts) in &world.ledger.facts {
        let Some(plan) = &facts.plan else { continue };
        for (branch, share) in shares(world, *id, plan) {
            branch_at_end(world, *id, facts, branch, share)?;
        }
    }
    for ((id, branch), share) in world.services.iter().flat_map(|service| &service.shares) {
        // Presumed abort forgets what was not durable, and with it what one that contradicts said of it.
        let is_known = world.ledger.facts.contains_key(id) || share.is_contrary;
        kept("G2", is_known || share.applied == 0, || {
            format!("branch {branch} of {id} wrote, and the log does not know of it")
        })?;
    }
    Ok(())
}

fn branch_at_end(world: &World, id: TransactionId, facts: &Facts, branch: Branch, share: Share) -> Kept {
    let State::Left = share.state else {
        if share.is_contrary {
            let is_settled = world.seen.get(&id).is_some_and(|seen| seen.settled.contains(&branch));
            return kept("G2", is_settled, || {
                format!("branch {branch} of {id} contradicted, and nobody was asked to settle it")
            });
        }
        let wanted = u32::from(facts.decisions.first() == Some(&Decision::Commit));
        return kept("G2", share.applied == wanted, || {
            format!(
                "branch {branch} of {id} wrote {} times instead of {wanted}: {:?}",
                share.applied, share.state
            )
        });
    };
    kept("G2", share.applied == 0, || format!("branch {branch} of {id} wrote although it was left out"))
}

fn shares(world: &World, id: TransactionId, plan: &Plan) -> Vec<(Branch, Share)> {
    let share = |(number, branch): (usize, &unanimous::plan::PlannedBranch)| {
        let number = Branch::new(number).expect("a plan has few branches");
        let service = world.services.iter().find(|service| service.name == branch.service)?;
        Some((number, service.shares.get(&(id, number)).copied().unwrap_or_default()))
    };
    plan.branches.iter().enumerate().filter_map(share).collect()
}
