//! Transactions whose records no run can have written.
//!
//! Nothing is guessed and nothing is sent for them. Their records stay where they are, an operator is
//! told, and each branch is settled by an operator's word; when all are, the transaction is over, and a last record says so.

use std::sync::Arc;

use super::registry::Stand;
use super::running::Message;
use super::{NotDone, Seats, Shared};
use crate::journal::AppendError;
use crate::journal::record::Record;
use crate::journal::replay::Fault;
use crate::participant::Participants;
use crate::txn::Branches;

/// Holds one transaction until an operator has settled every branch of it.
pub(crate) async fn hold<P: Participants>(shared: Arc<Shared<P>>, mut seats: Seats, mut fault: Fault) {
    let (id, branches) = {
        let view = seats.view.borrow();
        (view.id, view.txn.shape().branches)
    };
    let reason = words(&fault, branches);
    tracing::error!(transaction = %id, %reason, "parked: an operator must look");
    seats.view.send_modify(|view| view.parked = Some(reason));
    shared.registry.stands(id, Stand::held(branches.minus(fault.resolved)));
    while !fault.resolved.covers(branches) {
        let Some(message) = seats.messages.recv().await else { return };
        let (branch, decision, actor, reason, answer) = match message {
            Message::Resolve { branch, decision, actor, reason, answer } => {
                (branch, decision, actor, reason, answer)
            }
            Message::Retry(answer) => {
                let _ = answer.send(Err(NotDone::Damaged));
                continue;
            }
            // Nobody can tell what its records mean: they stay where they are.
            Message::Carry(_) => continue,
        };
        if !branches.has(branch) || fault.resolved.has(branch) {
            let _ = answer.send(Err(NotDone::NotParked(branch)));
            continue;
        }
        let record = Record::Resolved { branch, decision, actor, reason };
        match shared.journal.append(id, record, ()).await {
            Ok(_) => {
                fault.resolved = fault.resolved.with(branch);
                shared.registry.stands(id, Stand::held(branches.minus(fault.resolved)));
                seats.view.send_modify(|view| {
                    view.resolved.push((branch, decision));
                    view.parked = Some(words(&fault, branches));
                });
            }
            Err(AppendError::Poisoned(_) | AppendError::Unloggable(_)) => break,
        }
        // Before anybody hears that it is: a start cannot see that from what is left of its records.
        let is_over = fault.resolved.covers(branches);
        if is_over && shared.journal.append(id, Record::Settled, ()).await.is_err() {
            break;
        }
        let _ = answer.send(Ok(seats.view.borrow().clone()));
    }
    shared.registry.remove(id);
}

/// What is wrong, and what is left to do: no record says that for a branch, whatever it seems to have confirmed.
fn words(fault: &Fault, branches: Branches) -> String {
    let left: Vec<_> = branches.minus(fault.resolved).iter().map(|branch| branch.to_string()).collect();
    let damaged = format!("its record {} is damaged: {}", fault.lsn, fault.why);
    if left.is_empty() {
        damaged
    } else {
        format!("{damaged}; still to be resolved: branch {}", left.join(", "))
    }
}
