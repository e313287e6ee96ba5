//! What was long in doubt is told of, and its key kept, for the whole retention after its end.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{Answer, Node, Stub};
use serde_json::json;
use tokio::time::Instant;
use unanimous::clock::{Clock, SystemClock};
use unanimous::journal::Journal;
use unanimous::journal::options::LogOptions;
use unanimous::journal::record::{Kept, Record};
use unanimous::plan::{Issuer, Plan, PlannedBranch, Reply, Trace};
use unanimous::txn::{Branches, Decision, Votes};

const RETENTION: Duration = Duration::from_secs(3);

async fn start() -> (Node, [Stub; 3]) {
    let (mut node, stubs) = configured().await;
    node.start().await;
    (node, stubs)
}

/// Besides the usual route one for traffic, so much that older blocks go.
async fn configured() -> (Node, [Stub; 3]) {
    let stubs = [Stub::start().await, Stub::start().await, Stub::start().await];
    let [accounts, ledger, other] = &stubs;
    let rest = r#"
        [[routes]]
        id = "other"
        match = { methods = ["POST"], path = "/other" }
        [routes.transaction]
        branches = [ { service = "other", path = "/work" } ]
        [log]
        retention = "3s"
    "#;
    let usual =
        kit::two_branches(accounts, ledger).replace("reply_within = \"2s\"", "reply_within = \"50ms\"");
    (Node::new(&(usual + &kit::service("other", other, false) + rest)), stubs)
}

async fn traffic(node: &Node, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        for _ in 0..20 {
            node.post("/other", &json!({})).await.expect(200);
        }
    }
}

/// A slow machine needs longer for so much traffic.
async fn older_blocks_are_dropped(node: &Node) {
    kit::until("older blocks are dropped", async || {
        traffic(node, Duration::from_millis(100)).await;
        node.log().await[0]["lsn"].as_u64() > Some(1)
    })
    .await;
}

async fn keyed(node: &Node) -> (u16, String) {
    let reply = node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({})).await;
    (reply.status, reply.transaction().to_owned())
}

/// With traffic beside it: `told` for the retention from `since` on, when it had not ended yet, and at last nothing any more.
async fn is_told_until_the_retention_has_passed(node: &Node, id: &str, told: u16, since: Instant) {
    let path = format!("/v1/transactions/{id}");
    loop {
        traffic(node, Duration::from_millis(100)).await;
        let seen = (node.get(&path).await.status, keyed(node).await);
        // On a slow machine the last answers come when it may be forgotten.
        if since.elapsed() >= RETENTION {
            break;
        }
        assert_eq!(seen, (200, (told, id.to_owned())), "after {:?}", since.elapsed());
    }
    traffic(node, RETENTION).await;
    node.get(&path).await.expect(410);
    older_blocks_are_dropped(node).await;
    assert_ne!(keyed(node).await.1, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_long_in_doubt_is_told_of_for_the_whole_retention_after_its_end() {
    let (node, [_accounts, ledger, _other]) = start().await;
    ledger.always("/tx/commit", Answer::status(503));
    let (status, id) = keyed(&node).await;
    assert_eq!(status, 202);
    traffic(&node, RETENTION * 2).await;
    let mut carried = None;
    kit::until("its first records can go", async || {
        traffic(&node, Duration::from_millis(100)).await;
        carried = node.log().await.into_iter().find(|line| line["record"] == "carried");
        carried.is_some()
    })
    .await;
    assert_eq!(carried.unwrap().get("resolved"), None, "no operator had to look");
    let since = Instant::now();
    ledger.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    is_told_until_the_retention_has_passed(&node, &id, 200, since).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_found_is_kept_as_long_and_goes_with_the_transaction_when_it_is_carried() {
    let (mut node, [accounts, ledger, _other]) = start().await;
    accounts.next("/tx/commit", [Answer::status(409)]);
    ledger.always("/tx/commit", Answer::status(503));
    let (_, id) = keyed(&node).await;
    node.wait_for_parked(&id).await;
    let wish = json!({"branch": 0, "as": "aborted", "reason": "the hold had lapsed"});
    node.admin_post(&format!("/v1/transactions/{id}/resolve"), &wish).await.expect(200);
    traffic(&node, RETENTION * 3).await;
    older_blocks_are_dropped(&node).await;
    node.crash().await;
    assert_eq!(keyed(&node).await, (409, id.clone()));
    let since = Instant::now();
    ledger.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    is_told_until_the_retention_has_passed(&node, &id, 409, since).await;
}

/// What it is found by is not much older than its end.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_long_in_doubt_is_written_again_right_before_its_end() {
    let (node, [_accounts, ledger, _other]) = start().await;
    ledger.always("/tx/commit", Answer::status(503));
    let (_, id) = keyed(&node).await;
    tokio::time::sleep(RETENTION + Duration::from_millis(500)).await;
    ledger.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    let log = node.log().await;
    let of_it = log.iter().filter(|line| line["transaction"] == id.as_str());
    let records: Vec<_> = of_it.map(|line| line["record"].as_str().unwrap()).collect();
    assert_eq!(records, ["begun", "preparing", "decided", "acked", "carried", "ended"]);
}

/// Builds before the limit on what is logged of a request could begin one that is too long to be written again.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_keeps_its_records_and_goes_on() {
    let (mut node, [_accounts, ledger, _other]) = configured().await;
    ledger.always("/tx/commit", Answer::status(503));
    let id = too_long_to_carry(&node).await;
    node.start().await;
    kit::until("it was tried", async || {
        traffic(&node, Duration::from_millis(100)).await;
        node.stderr().contains("cannot be logged")
    })
    .await;
    node.crash().await;
    let seen = node.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
    assert_eq!(seen["state"], "committing");
    ledger.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    older_blocks_are_dropped(&node).await;
}

/// Writes a decided transaction into the log of a node that does not run.
async fn too_long_to_carry(node: &Node) -> String {
    let options = LogOptions::default();
    let (journal, _) = Journal::open(&node.data_dir(), &options, Arc::new(SystemClock), "0").await.unwrap();
    let branch = |service: &str, work: String| PlannedBranch {
        service: service.to_owned(),
        method: "POST".to_owned(),
        work,
        prepare: None,
        commit: "/tx/commit".to_owned(),
        abort: "/tx/abort".to_owned(),
        body: None,
    };
    let plan = Plan {
        route: "transfer".to_owned(),
        deadline: SystemClock.now(),
        branches: vec![branch("accounts", String::new()), branch("ledger", "/".repeat(4_100_000))],
        bodies: vec![],
        key: None,
        trace: Trace::begin(1),
    };
    let id = Issuer::new(journal.node()).issue(SystemClock.now(), 0);
    let all = Branches::first_of(2).unwrap();
    let reply = Reply { status: 200, content_type: None, body: vec![b'x'; 200_000].into() };
    let kept = Some(Kept::new(all.iter().map(|branch| (branch, reply.clone())).collect(), 512 * 1024));
    let votes = Votes { yes: all, ..Votes::default() };
    let decided = Record::Decided { decision: Decision::Commit, votes, reason: None, kept };
    for record in [Record::Begun(plan.into()), decided] {
        journal.append(id, record, ()).await.unwrap();
    }
    journal.close().await.unwrap();
    id.to_string()
}
