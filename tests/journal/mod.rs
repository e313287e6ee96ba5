//! One record of every kind, with fixed contents: what the golden bytes and the fixtures are made of.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use bytes::Bytes;
use unanimous::clock::Timestamp;
use unanimous::journal::record::{Carried, Entry, Kept, Record};
use unanimous::plan::{Body, ClientKey, Plan, PlannedBranch, Reply, Trace, TransactionId};
use unanimous::txn::{Branch, Branches, Decision, Reason, Transition, Txn, Votes};

/// A transaction that commits, with a key, a prepare call and a body that is sent again.
pub(crate) const COMMITTED: &str = "019303d8-4000-7000-8001-00000007aaaa";
/// A transaction that a branch refused, which then contradicted the abort.
pub(crate) const ABORTED: &str = "019303d8-4001-7000-8001-00000007bbbb";

/// The name of each record, and the record.
pub(crate) fn every_record() -> Vec<(&'static str, Entry)> {
    let (committed, aborted) = (id(COMMITTED), id(ABORTED));
    let all = Votes { yes: branches(&[0]), read_only: branches(&[1]), ..Votes::default() };
    let refused = Votes { yes: branches(&[0]), no: branches(&[1]), ..Votes::default() };
    let reason = Some(Reason::Refused(branch(1), 409));
    let kept = Some(Kept::Whole(vec![(branch(0), reply())]));
    let commit = Record::Decided { decision: Decision::Commit, votes: all, reason: None, kept };
    let abort = Record::Decided { decision: Decision::Abort, votes: refused, reason, kept: None };
    let said = "ledger answered abort with 409: no".to_owned();
    let parked = Record::Parked { branch: branch(1), status: 409, reason: said.clone() };
    let resolved = Record::Resolved {
        branch: branch(1),
        decision: Decision::Abort,
        actor: "ada".to_owned(),
        reason: "looked into the ledger".to_owned(),
    };
    let again = Box::new(carried(refused, reason, said.clone()));
    let again = Record::CarriedResolved(again, vec![(branch(0), Decision::Commit)]);
    let records = [
        ("opened", TransactionId::NONE, Record::Opened { epoch: 1, version: "0.1.0".to_owned() }),
        ("begun", committed, Record::Begun(plan(Some("order-7")))),
        ("preparing", committed, Record::Preparing { read_only: branches(&[1]) }),
        ("decided commit", committed, commit),
        ("ended", committed, Record::Ended(Decision::Commit)),
        ("begun without key", aborted, Record::Begun(plan(None))),
        ("decided abort", aborted, abort),
        ("acked", aborted, Record::Acked(branch(0))),
        ("parked", aborted, parked),
        ("carried", aborted, Record::Carried(Box::new(carried(refused, reason, said)))),
        ("resolved", aborted, resolved),
        ("ended by hand", aborted, Record::Ended(Decision::Abort)),
        ("gave up", TransactionId::NONE, Record::GaveUp { damage: "record 9 is damaged".to_owned() }),
        ("carried after a resolution", aborted, again),
        ("settled", aborted, Record::Settled),
    ];
    let time = |place: usize| Timestamp(1_731_000_000_000 + 10 * place as u64);
    let entry =
        |(place, (name, transaction, record))| (name, Entry { time: time(place), transaction, record });
    records.into_iter().enumerate().map(entry).collect()
}

/// Two branches: accounts, which is asked to prepare and gets its body again, and ledger.
pub(crate) fn plan(key: Option<&str>) -> Arc<Plan> {
    let accounts = PlannedBranch {
        service: "accounts".to_owned(),
        method: "POST".to_owned(),
        work: "/debit?dry=0".to_owned(),
        prepare: Some("/tx/prepare".to_owned()),
        commit: "/tx/commit".to_owned(),
        abort: "/tx/abort".to_owned(),
        body: Some(0),
    };
    let ledger = PlannedBranch {
        service: "ledger".to_owned(),
        work: "/credit".to_owned(),
        prepare: None,
        body: None,
        ..accounts.clone()
    };
    let body = Body {
        content_type: Some("application/json".to_owned()),
        bytes: Bytes::from_static(br#"{"amount":1.10}"#),
    };
    Arc::new(Plan {
        route: "transfer".to_owned(),
        deadline: Timestamp(1_731_000_010_000),
        branches: vec![accounts, ledger],
        bodies: vec![body],
        key: key.map(|key| ClientKey { key: key.to_owned(), fingerprint: [7; 32] }),
        trace: Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap().0,
    })
}

fn carried(votes: Votes, reason: Option<Reason>, said: String) -> Carried {
    let plan = plan(None);
    let steps = [
        Transition::Decided { decision: Decision::Abort, votes, reason },
        Transition::Acked(branch(0)),
        Transition::Parked(branch(1), 409),
    ];
    let txn = Txn::replay(plan.shape().unwrap(), steps).unwrap();
    Carried { plan, txn, kept: None, parked: Some(said) }
}

fn reply() -> Reply {
    let content_type = Some("application/json".to_owned());
    Reply { status: 200, content_type, body: Bytes::from_static(br#"{"balance":98.90}"#) }
}

fn id(text: &str) -> TransactionId {
    text.parse().unwrap()
}

fn branch(number: usize) -> Branch {
    Branch::new(number).unwrap()
}

fn branches(numbers: &[usize]) -> Branches {
    numbers.iter().map(|number| branch(*number)).collect()
}
