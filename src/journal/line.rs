//! Records as people and programs read them (contract section 7).

use serde_json::{Map, Value, json};
use unanimous_wal::Lsn;

use super::record::{Carried, Entry, Record};
use crate::plan::{Plan, PlannedBranch, TransactionId};
use crate::txn::{Branch, Branches, Decision, Reason, Votes};

/// One record as one JSON object: `lsn`, `time`, `transaction`, `record` and what it says.
#[must_use]
pub fn json(lsn: Lsn, entry: &Entry) -> Value {
    let mut line = Map::new();
    line.insert("lsn".into(), lsn.get().into());
    line.insert("time".into(), entry.time.to_string().into());
    let transaction = (entry.transaction != TransactionId::NONE).then(|| entry.transaction.to_string());
    line.insert("transaction".into(), transaction.into());
    line.insert("record".into(), entry.record.name().into());
    if let Value::Object(said) = says(&entry.record) {
        line.extend(said);
    }
    Value::Object(line)
}

/// `{"kind":"refused","service":"ledger","branch":1,"status":409}`: why a transaction was aborted.
#[must_use]
pub fn reason_json(reason: Reason, plan: Option<&Plan>) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), reason.kind().into());
    if let Some(branch) = reason.branch() {
        if let Some(plan) = plan {
            object.insert("service".into(), plan.branch(branch).service.clone().into());
        }
        object.insert("branch".into(), branch.index().into());
    }
    if let Some(status) = reason.status() {
        object.insert("status".into(), status.into());
    }
    Value::Object(object)
}

fn says(record: &Record) -> Value {
    match record {
        Record::Opened { epoch, version } => json!({ "epoch": epoch, "version": version }),
        Record::Begun(plan) => plan_json(plan),
        Record::Preparing { read_only } => json!({ "read_only": numbers(*read_only) }),
        Record::Decided { decision, votes, reason, .. } => {
            let mut says = json!({ "decision": decision.name(), "votes": votes_json(*votes) });
            if let (Some(reason), Some(object)) = (reason, says.as_object_mut()) {
                object.insert("reason".into(), reason_json(*reason, None));
            }
            says
        }
        Record::Acked(branch) => json!({ "branch": branch }),
        Record::Parked { branch, status, reason } => {
            json!({ "branch": branch, "status": status, "reason": reason })
        }
        Record::Resolved { branch, decision, actor, reason } => {
            json!({ "branch": branch, "as": decision.outcome(), "reason": reason, "actor": actor })
        }
        Record::Ended(decision) => json!({ "outcome": decision.outcome() }),
        Record::Carried(carried) => carried_json(carried),
        Record::CarriedResolved(carried, resolved) => {
            let mut says = carried_json(carried);
            let one =
                |(branch, outcome): &(Branch, Decision)| json!({ "branch": branch, "as": outcome.outcome() });
            if let Some(object) = says.as_object_mut() {
                object.insert("resolved".into(), resolved.iter().map(one).collect::<Vec<_>>().into());
            }
            says
        }
        Record::GaveUp { damage } => json!({ "damage": damage }),
        Record::Settled => json!({}),
    }
}

fn plan_json(plan: &Plan) -> Value {
    let branches: Vec<_> = plan.branches.iter().map(branch_json).collect();
    let mut object =
        json!({ "route": plan.route, "deadline": plan.deadline.to_string(), "branches": branches });
    if let (Some(key), Some(object)) = (&plan.key, object.as_object_mut()) {
        object.insert("idempotency_key".into(), key.key.clone().into());
    }
    object
}

fn branch_json(branch: &PlannedBranch) -> Value {
    let PlannedBranch { service, method, work, prepare, commit, abort, .. } = branch;
    json!({ "service": service, "method": method, "work": work, "prepare": prepare, "commit": commit, "abort": abort })
}

fn carried_json(carried: &Carried) -> Value {
    let mut object = plan_json(&carried.plan);
    let telling = carried.txn.telling();
    if let Some(object) = object.as_object_mut() {
        object.insert("state".into(), carried.txn.state().name().into());
        object.insert("votes".into(), votes_json(carried.txn.votes()));
        object.insert("decision".into(), carried.txn.decision().map(crate::txn::Decision::name).into());
        object.insert("waiting".into(), numbers(telling.waiting));
        object.insert("parked".into(), numbers(telling.parked));
        let reason = carried.txn.state().reason();
        object.insert(
            "reason".into(),
            reason.map_or(Value::Null, |reason| reason_json(reason, Some(&carried.plan))),
        );
    }
    object
}

/// `{"0":"yes","1":"no"}`; who is missing had not answered.
fn votes_json(votes: Votes) -> Value {
    let kinds = [
        ("yes", votes.yes),
        ("read-only", votes.read_only),
        ("no", votes.no),
        ("never-sent", votes.never_sent),
    ];
    let mut by_branch: Vec<(Branch, &str)> = Vec::new();
    for (name, branches) in kinds {
        by_branch.extend(branches.iter().map(|branch| (branch, name)));
    }
    by_branch.sort_unstable();
    by_branch
        .into_iter()
        .map(|(branch, name)| (branch.to_string(), Value::from(name)))
        .collect::<Map<_, _>>()
        .into()
}

fn numbers(branches: Branches) -> Value {
    branches.iter().map(Branch::index).collect::<Vec<_>>().into()
}
