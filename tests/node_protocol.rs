//! The participant protocol, row by row (contract section 5), as a participant sees it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use kit::{Answer, Node, Reply, Stub};
use serde_json::{Value, json};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn start(config: &str) -> Node {
    let mut node = Node::new(config);
    node.start().await;
    node
}

/// A node with `accounts` and `ledger` that both prepare.
async fn two() -> (Node, Stub, Stub) {
    two_within("2s").await
}

/// The same where the client gets its answer so long after the decision.
async fn two_within(reply_within: &str) -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let config = kit::two_branches(&accounts, &ledger);
    let config = config.replace("reply_within = \"2s\"", &format!("reply_within = {reply_within:?}"));
    (start(&config).await, accounts, ledger)
}

async fn transfer(node: &Node) -> Reply {
    node.post("/transfers", &json!({"amount": 5})).await
}

/// Checks all headers of the only call to `path`.
#[track_caller]
fn check_headers(stub: &Stub, path: &str, id: &str, branch: &str, operation: &str) {
    let calls = stub.calls_to(path);
    assert_eq!(calls.len(), 1, "{path}");
    let call = &calls[0];
    assert_eq!(call.method, "POST");
    assert_eq!(call.header("transaction-id"), id);
    assert_eq!(call.header("transaction-branch"), branch);
    assert_eq!(call.header("transaction-operation"), operation);
    assert_eq!(call.header("transaction-attempt"), "1");
    assert_eq!(call.header("transaction-epoch"), "1");
    assert_eq!(call.header("idempotency-key"), format!("\"{id}/{branch}/{operation}\""));
    assert!(call.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{call:?}");
    assert_ne!(call.header("traceparent"), TRACE, "the span is the call's own");
    assert_eq!(call.headers.get_all("transaction-id").iter().count(), 1);
    assert_eq!(call.headers.get_all("idempotency-key").iter().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_calls_carry_the_headers_and_an_envelope() {
    let (node, accounts, ledger) = two().await;
    let headers = [
        ("traceparent", TRACE),
        ("Idempotency-Key", "\"mine\""),
        ("Transaction-Id", "forged"),
        ("Transaction-Vote", "read-only"),
        ("Transaction-Anything", "forged"),
        ("X-Business", "kept"),
    ];
    let reply = node.post_with("/transfers", &headers, &json!({"amount": 5})).await.expect(200);
    let id = reply.transaction();
    check_headers(&accounts, "/debit", id, "0", "work");
    check_headers(&accounts, "/tx/prepare", id, "0", "prepare");
    check_headers(&accounts, "/tx/commit", id, "0", "commit");
    check_headers(&ledger, "/credit", id, "1", "work");
    check_headers(&ledger, "/tx/commit", id, "1", "commit");
    let work = &accounts.calls_to("/debit")[0];
    assert_eq!(work.text(), r#"{"amount":5}"#);
    assert_eq!(work.header("x-business"), "kept");
    assert_eq!(work.header("transaction-anything"), "");
    assert_eq!(work.header("transaction-vote"), "");
    let prepare = &ledger.calls_to("/tx/prepare")[0];
    assert_eq!(prepare.text(), format!(r#"{{"transaction":"{id}","branch":1,"operation":"prepare"}}"#));
    assert_eq!(prepare.header("content-type"), "application/json");
    assert_eq!(prepare.header("x-business"), "", "only the work call is the client's request");
    let commit = &accounts.calls_to("/tx/commit")[0];
    assert_eq!(commit.text(), format!(r#"{{"transaction":"{id}","branch":0,"operation":"commit"}}"#));
    assert_eq!(commit.header("transaction-coordinator"), node.url(&format!("/v1/transactions/{id}")));
    let told = kit::get(commit.header("transaction-coordinator")).await;
    assert_eq!((told["id"].as_str(), told["outcome"].as_str()), (Some(id), Some("committed")));

    accounts.forget();
    ledger.next("/credit", [Answer::status(409)]);
    let reply =
        node.post_with("/transfers", &[("traceparent", TRACE)], &json!({"amount": 5})).await.expect(409);
    accounts.wait_for("/tx/abort", 1).await;
    check_headers(&accounts, "/tx/abort", reply.transaction(), "0", "abort");
    assert_eq!(accounts.calls_to("/tx/abort")[0].json()["operation"], "abort");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_body_request_all_calls_carry_the_body_of_the_work_call() {
    let stub = Stub::start().await;
    let service = kit::service("system", &stub, true).replace("timeout =", "body = \"request\"\ntimeout =");
    let route = r#"
        [[routes]]
        id = "r"
        match = { methods = ["POST"], path = "/r" }
        [routes.transaction]
        branches = [ { service = "system", path = "/work", body = "/to" }, { service = "system", path = "/all" } ]
    "#;
    let mut node = start(&format!("{service}{route}")).await;
    node.post("/r", &json!({"to": {"sum": 1.50}, "x": 1})).await.expect(200);
    for path in ["/tx/prepare", "/tx/commit"] {
        let mut bodies: Vec<_> =
            stub.calls_to(path).iter().map(|call| (call.branch(), call.text())).collect();
        bodies.sort();
        assert_eq!(bodies[0], (0, r#"{"sum":1.5}"#.to_owned()), "{path}");
        assert_eq!(bodies[1], (1, r#"{"to":{"sum":1.5},"x":1}"#.to_owned()), "{path}");
    }
    // Also after a crash, when nobody has the request any more but the log.
    stub.always("/tx/commit", Answer::status(503));
    stub.forget();
    let body = json!({"to": [2], "x": 2});
    tokio::select! {
        _ = node.try_post("/r", &[], &body) => {}
        _ = stub.wait_for("/tx/commit", 2) => {}
    }
    node.kill().await;
    stub.forget();
    stub.always("/tx/commit", Answer::ok());
    node.start().await;
    stub.wait_for("/tx/commit", 2).await;
    let calls = stub.calls_to("/tx/commit");
    let first = calls.iter().find(|call| call.branch() == 0).unwrap();
    assert_eq!((first.text(), first.header("content-type")), ("[2]".to_owned(), "application/json"));
    assert_eq!(first.header("transaction-epoch"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_gets_no_2xx_is_repeated_until_it_does() {
    let (node, accounts, ledger) = two().await;
    let bad = [
        Answer::status(500),
        Answer::status(503),
        Answer::status(302),
        Answer::status(425),
        Answer::garbage(),
        Answer::cut(),
        Answer::hang(),
    ];
    accounts.next("/tx/commit", bad);
    let reply = transfer(&node).await;
    assert!([200, 202].contains(&reply.status), "{reply:?}");
    let calls = accounts.wait_for("/tx/commit", 8).await;
    let attempts: Vec<_> = calls.iter().map(kit::Call::attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7, 8]);
    node.settled().await;
    assert_eq!((accounts.count("/tx/commit"), ledger.count("/tx/commit")), (8, 1));
    assert_eq!(node.state(reply.transaction()).await, "committed");

    // The status alone counts: the rest of the answer may be missing.
    accounts.forget();
    accounts.next("/tx/commit", [Answer::cut_midway()]);
    transfer(&node).await.expect(200);
    assert_eq!(accounts.count("/tx/commit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_asks_for_no_wait_gets_the_usual_one() {
    let (node, accounts, _ledger) = two().await;
    accounts.always("/tx/commit", Answer::status(503).header("retry-after", "0"));
    let asking = transfer(&node);
    let looking = async {
        accounts.wait_for("/tx/commit", 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        accounts.count("/tx/commit")
    };
    let (_, count) = tokio::join!(asking, looking);
    // The waits are 20 to 200 ms in these tests; without them there were some 600 calls.
    assert!((2..=60).contains(&count), "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_is_repeated_too_and_404_and_410_end_it() {
    let (node, accounts, ledger) = two().await;
    ledger.always("/credit", Answer::status(409));
    accounts
        .next("/tx/abort", [Answer::status(500), Answer::status(425), Answer::cut(), Answer::status(404)]);
    let reply = transfer(&node).await.expect(409);
    accounts.wait_for("/tx/abort", 4).await;
    node.settled().await;
    assert_eq!(node.state(reply.transaction()).await, "aborted");
    accounts.forget();
    accounts.next("/tx/abort", [Answer::status(410)]);
    transfer(&node).await.expect(409);
    node.settled().await;
    assert_eq!(accounts.count("/tx/abort"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_parks_its_branch_alone() {
    let (node, accounts, ledger) = two_within("200ms").await;
    for status in [409, 400, 404, 410, 422] {
        accounts.next("/tx/commit", [Answer::status(status)]);
        ledger.forget();
        let reply = transfer(&node).await.expect(202);
        ledger.wait_for("/tx/commit", 1).await;
        node.wait_for_parked(reply.transaction()).await;
        let told = node.get(&format!("/v1/transactions/{}", reply.transaction())).await.expect(200).json();
        assert_eq!((&told["state"], &told["parked"]), (&json!("committing"), &json!(true)), "{status}");
        assert_eq!(told["branches"][0]["state"], "parked");
        assert_eq!(told["branches"][1]["state"], "confirmed");
    }
    ledger.always("/credit", Answer::status(409));
    accounts.next("/tx/abort", [Answer::status(409)]);
    let reply = transfer(&node).await.expect(409).json();
    assert_eq!(reply["transaction"]["state"], "aborting");
    assert_eq!(node.in_doubt().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_branch_is_left_out_of_phase_two() {
    let (node, accounts, ledger) = two().await;
    let read_only = || Answer::ok().header("Transaction-Vote", "read-only");
    accounts.next("/tx/prepare", [read_only()]);
    transfer(&node).await.expect(200);
    assert_eq!((accounts.count("/tx/commit"), ledger.count("/tx/commit")), (0, 1));

    accounts.next("/debit", [read_only()]);
    ledger.next("/tx/prepare", [Answer::status(409)]);
    transfer(&node).await.expect(409);
    node.settled().await;
    assert_eq!((accounts.count("/tx/prepare"), accounts.count("/tx/abort")), (1, 0));

    accounts.next("/tx/prepare", [read_only()]);
    ledger.next("/tx/prepare", [read_only()]);
    let all: Value = transfer(&node).await.expect(200).json();
    assert_eq!(all["transaction"]["state"], "committed");
    assert_eq!((accounts.count("/tx/commit"), ledger.count("/tx/commit")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepare_is_asked_again_until_the_deadline_and_425_soon() {
    let (node, accounts, _ledger) = two().await;
    accounts.next("/debit", [Answer::status(425), Answer::ok()]);
    accounts
        .next("/tx/prepare", [Answer::status(500), Answer::cut(), Answer::status(425), Answer::garbage()]);
    transfer(&node).await.expect(200);
    let calls = accounts.calls_to("/tx/prepare");
    assert_eq!(calls.iter().map(kit::Call::attempt).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let works = accounts.calls_to("/debit");
    assert_eq!(works.iter().map(kit::Call::attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_never_repeated_once_it_may_have_been_sent() {
    let (dead, alive, ledger) = (Stub::stopped(), Stub::start().await, Stub::start().await);
    let both = format!("[{:?}, {:?}]", dead.url(""), alive.url(""));
    let one = format!("[{:?}]", alive.url(""));
    let config = kit::two_branches(&alive, &ledger).replacen(&one, &both, 1);
    assert!(config.contains(&both));
    let node = start(&config).await;
    // Refused connections sent nothing: the other endpoint gets the call, from whichever it started.
    for _ in 0..4 {
        transfer(&node).await.expect(200);
    }
    assert_eq!(alive.count("/debit"), 4);
    alive.forget();
    let bad = [
        Answer::status(500),
        Answer::garbage(),
        Answer::cut(),
        Answer::cut_midway(),
        Answer::big(2 * 1024 * 1024),
        Answer::hang(),
        Answer::big(1000).slowly(100, Duration::from_millis(300)),
    ];
    alive.next("/debit", bad);
    for status in [502, 502, 502, 502, 502, 504, 504] {
        transfer(&node).await.expect(status);
    }
    node.settled().await;
    assert_eq!(alive.count("/debit"), 7, "each was asked once");
    assert_eq!(alive.count("/tx/abort"), 7, "and told, because it may have worked");
    assert_eq!(alive.count("/tx/commit") + alive.count("/tx/prepare"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_put_off_and_then_finds_no_connection_is_told_of_the_abort() {
    let (mut accounts, ledger) = (Stub::start().await, Stub::start().await);
    let often = r#"initial = "10ms", max = "100ms", jitter = true"#;
    let later = r#"initial = "1s", max = "1s", jitter = false"#;
    let node = start(&kit::two_branches(&accounts, &ledger).replacen(often, later, 1)).await;
    // It may have begun with the work, and answers so that nobody asks for it twice at once.
    accounts.next("/debit", [Answer::status(425)]);
    let put_off_and_gone = async {
        accounts.wait_for("/debit", 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        accounts.stop().await;
    };
    let (reply, ()) = tokio::join!(transfer(&node), put_off_and_gone);
    assert_eq!(reply.expect(502).json()["reason"]["kind"], "unreachable");
    accounts.start_again().await;
    node.settled().await;
    assert_eq!(accounts.count("/debit"), 1, "it found no connection the second time");
    assert_eq!(accounts.count("/tx/abort"), 1, "it may hold the work of the first time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_no_call_has_reached_is_not_told_of_the_abort() {
    let (mut accounts, ledger) = (Stub::stopped(), Stub::start().await);
    let node = start(&kit::two_branches(&accounts, &ledger)).await;
    transfer(&node).await.expect(502);
    accounts.start_again().await;
    node.settled().await;
    assert_eq!((accounts.calls().len(), ledger.count("/tx/abort")), (0, 1));
}
