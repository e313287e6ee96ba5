//! What may begin can be logged to its end.

use crate::clock::Timestamp;
use crate::coordinator::LOGGED_MAX;
use crate::coordinator::options::KEPT_MAX;
use crate::journal::codec::{decode, encode};
use crate::journal::record::{Carried, Entry, Kept, Record};
use crate::plan::{Body, ClientKey, Plan, PlannedBranch, Reply, Trace, TransactionId};
use crate::txn::{Branches, Decision, Txn};

/// Whatever a transaction consists of, what follows its beginning must fit as well.
#[test]
fn the_longest_transaction_that_may_begin_can_be_carried_with_the_most_that_is_kept() {
    let long = |text: &str, len| text.repeat(len);
    let planned = PlannedBranch {
        service: long("s", 64),
        method: long("m", 64),
        work: long("w", 20_000),
        prepare: Some(long("p", 9_000)),
        commit: long("c", 9_000),
        abort: long("a", 9_000),
        body: Some(63),
    };
    let fingerprint = [7; 32];
    let mut plan = Plan {
        route: long("r", 100),
        deadline: Timestamp(u64::MAX),
        branches: vec![planned; 64],
        bodies: vec![Body { content_type: Some(long("t", 100)), bytes: vec![7; 100].into() }; 64],
        key: Some(ClientKey { key: long("k", 255), fingerprint }),
        trace: Trace::begin(u128::MAX),
    };
    plan.bodies[0].bytes = vec![7; LOGGED_MAX - plan.logged_len() + 100].into();
    assert_eq!((plan.logged_len(), LOGGED_MAX), (LOGGED_MAX, 3_145_728));
    let branches = Branches::first_of(64).unwrap();
    let reply = Reply { status: 599, content_type: Some(long("t", 92)), body: vec![7; 8_100].into() };
    let kept = Kept::new(branches.iter().map(|branch| (branch, reply.clone())).collect(), KEPT_MAX);
    assert!(matches!(&kept, Kept::Whole(replies) if replies.len() == 64));
    let (kept, parked) = (Some(kept), Some(long("é", 250)));
    let carried = Carried { txn: Txn::begin(plan.shape().unwrap()), plan: plan.into(), kept, parked };
    let resolved = branches.iter().map(|branch| (branch, Decision::Commit)).collect();
    let record = Record::CarriedResolved(Box::new(carried), resolved);
    let entry = Entry { time: Timestamp(u64::MAX), transaction: TransactionId::NONE, record };
    let bytes = encode(&entry).unwrap();
    assert!(bytes.len() > LOGGED_MAX + KEPT_MAX - 10_000);
    assert!(decode(&bytes).is_ok_and(|read| read == entry));
}
