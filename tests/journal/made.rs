//! Records of a transaction with one branch.

use std::sync::Arc;

use unanimous::clock::Timestamp;
use unanimous::journal::record::Record;
use unanimous::plan::{Issuer, Plan, PlannedBranch, Trace, TransactionId};
use unanimous::txn::{Branch, Decision, Votes};

/// The name of a transaction that begins at this time, in milliseconds.
pub(crate) fn id(time: u64) -> TransactionId {
    Issuer::new(1).issue(Timestamp(time), 0)
}

/// The beginning of one with a single branch.
pub(crate) fn begun() -> Record {
    let branch = PlannedBranch {
        service: "ledger".to_owned(),
        method: "POST".to_owned(),
        work: "/credit".to_owned(),
        prepare: None,
        commit: "/tx/commit".to_owned(),
        abort: "/tx/abort".to_owned(),
        body: None,
    };
    let (route, branches, deadline) = ("transfer".to_owned(), vec![branch], Timestamp(0));
    Record::Begun(Arc::new(Plan {
        route,
        deadline,
        branches,
        bodies: vec![],
        key: None,
        trace: Trace::begin(1),
    }))
}

/// Its decision to commit.
pub(crate) fn decided() -> Record {
    let votes = Votes { yes: Votes::default().yes.with(Branch::new(0).unwrap()), ..Votes::default() };
    Record::Decided { decision: Decision::Commit, votes, reason: None, kept: None }
}
