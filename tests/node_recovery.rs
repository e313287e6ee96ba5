//! SIGKILL with many transactions in doubt: the next start finishes each without being asked (G3).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{Answer, Node, Stub};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many are decided, and as many are not, when the node is killed.
const EACH: usize = 40;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config(accounts: &Stub, ledger: &Stub, fresh: &Stub) -> String {
    let patient = "retry   = { initial = \"30s\", max = \"30s\", jitter = false }";
    let impatient = "retry   = { initial = \"10ms\", max = \"100ms\", jitter = true }";
    let services = kit::two_branches(accounts, ledger).replace(impatient, patient);
    assert!(services.contains(patient));
    let other = r#"
        [[routes]]
        id = "fresh"
        match = { methods = ["POST"], path = "/fresh" }
        [routes.transaction]
        branches = [ { service = "fresh", path = "/work" } ]
    "#;
    format!("{services}{}{other}", kit::service("fresh", fresh, true))
        .replace("timeout = \"5s\"", "timeout = \"60s\"")
}

/// How often the node has said this.
fn said(node: &Node, words: &str) -> usize {
    node.stderr().matches(words).count()
}

/// Posts `count` transfers that nobody waits for.
fn post_many(node: &Arc<Node>, count: usize) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for n in 0..count {
        let node = node.clone();
        clients.spawn(async move {
            let _ = node.try_post("/transfers", &[("traceparent", TRACE)], &json!({"n": n})).await;
        });
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_doubt_is_finished_after_a_kill_without_being_asked() {
    let (mut accounts, mut ledger, fresh) = (Stub::start().await, Stub::start().await, Stub::start().await);
    let mut node = Node::new(&config(&accounts, &ledger, &fresh));
    node.start().await;
    let node_shared = Arc::new(node);
    // Decided: the ledger takes no commit. Undecided: the accounts never answer the work.
    ledger.always("/tx/commit", Answer::status(503));
    let decided = post_many(&node_shared, EACH);
    ledger.wait_for("/tx/commit", EACH).await;
    accounts.wait_for("/tx/commit", EACH).await;
    accounts.always("/debit", Answer::hang());
    accounts.forget();
    let undecided = post_many(&node_shared, EACH);
    accounts.wait_for("/debit", EACH).await;
    let before = node_shared.in_doubt().await;
    assert_eq!(before.len(), 2 * EACH);
    drop((decided, undecided));
    tokio::task::yield_now().await;
    let mut node = unshare(node_shared).await;
    node.kill().await;
    accounts.stop().await;
    ledger.stop().await;
    accounts.forget();
    ledger.forget();

    let started = Instant::now();
    node.start().await;
    let ready = started.elapsed();
    assert!(ready < Duration::from_secs(5), "ready after {ready:?}");
    assert_eq!(node.metric("recovery_found").await, "80.0");
    assert_eq!(node.metric("recovery_remaining").await, "80.0");
    // New traffic is served meanwhile, with the epoch of this start.
    node.post("/fresh", &json!({})).await.expect(200);
    assert_eq!(fresh.calls_to("/work")[0].header("transaction-epoch"), "2");

    assert_eq!(said(&node, "to_abort=40 to_tell=40 to_park=0"), 1, "{}", node.stderr());
    // How far it is, it says every five seconds.
    kit::until("a line on progress", async || said(&node, "recovery: 0 of 80 transactions are finished") > 0)
        .await;
    assert!(started.elapsed() >= Duration::from_secs(5), "after {:?}", started.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(said(&node, "recovery: "), 1);

    // They wait 30 s between two tries, and yet they are done at once: the first answer wakes the rest.
    ledger.always("/tx/commit", Answer::ok());
    accounts.start_again().await;
    ledger.start_again().await;
    for one in &before {
        // An operator's nudge for one of each service; a success of any call does the same.
        let id = one["id"].as_str().unwrap();
        if one["outcome"] == "committed" || one["state"] == "working" {
            node.admin_post(&format!("/v1/transactions/{id}/retry"), &json!({})).await;
            if accounts.count("/tx/abort") > 0 && ledger.count("/tx/commit") > 0 {
                break;
            }
        }
    }
    let woken = Instant::now();
    node.settled().await;
    assert!(woken.elapsed() < Duration::from_secs(3), "settled {:?} after the first answer", woken.elapsed());
    check_outcomes(&node, &before).await;
    assert_eq!(node.metric("recovery_found").await, "80.0");
    assert_eq!(node.metric("recovery_remaining").await, "0.0");
    kit::until("a last line", async || said(&node, "recovery: all 80 transactions are finished") == 1).await;
    let told = &ledger.calls_to("/tx/commit")[0];
    assert_eq!(told.header("transaction-epoch"), "2");
    assert!(told.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
}

async fn unshare(node: Arc<Node>) -> Node {
    let mut node = Some(node);
    loop {
        match Arc::try_unwrap(node.take().unwrap()) {
            Ok(node) => return node,
            Err(shared) => node = Some(shared),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn check_outcomes(node: &Node, before: &[Value]) {
    let mut outcomes = (0, 0);
    for one in before {
        let id = one["id"].as_str().unwrap();
        let now = node.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
        if one["outcome"] == "committed" {
            assert_eq!(now["state"], "committed", "what was decided stays decided");
            outcomes.0 += 1;
        } else {
            assert_eq!(now["state"], "aborted");
            assert_eq!(now["reason"], json!({"kind": "restarted"}));
            outcomes.1 += 1;
        }
    }
    assert_eq!(outcomes, (EACH, EACH));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_of_recovery_leaves_at_once() {
    let (accounts, ledger, fresh) = (Stub::start().await, Stub::start().await, Stub::start().await);
    let mut node = Node::new(&config(&accounts, &ledger, &fresh));
    node.start().await;
    ledger.always("/tx/commit", Answer::status(503));
    let node_shared = Arc::new(node);
    let clients = post_many(&node_shared, 5);
    ledger.wait_for("/tx/commit", 5).await;
    drop(clients);
    let mut node = unshare(node_shared).await;
    node.kill().await;
    ledger.forget();
    node.start().await;
    let ready = Instant::now();
    let calls = ledger.wait_for("/tx/commit", 1).await;
    // The node is ready when it has read its log; the kit notices that a few milliseconds later.
    let after = calls[0].at.saturating_duration_since(ready);
    assert!(after < Duration::from_millis(100), "{after:?}");
}
