//! `Idempotency-Key`: the same key with the same request begins one transaction, whatever happens between (G8).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kit::{Answer, Gate, Node, Reply, Stub};
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn two(section: &str) -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let second = r#"
        [[routes]]
        id = "refund"
        match = { methods = ["POST"], path = "/refunds" }
        [routes.transaction]
        branches = [ { service = "accounts", path = "/debit" } ]
    "#;
    let config = format!("{}{second}", kit::two_branches(&accounts, &ledger));
    let mut node = Node::with_section(section, &config);
    node.start().await;
    (node, accounts, ledger)
}

async fn keyed(node: &Node, path: &str, key: &str, body: Value) -> Reply {
    node.post_with(path, &[("Idempotency-Key", key)], &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_is_given_again_also_after_a_crash() {
    let (mut node, accounts, ledger) = two("").await;
    accounts
        .next("/debit", [Answer::json(200, json!({"balance": 1})), Answer::json(200, json!({"balance": 2}))]);
    ledger.next(
        "/credit",
        [Answer::bytes(200, "text/plain", "one"), Answer::json(409, json!({"error": "no"}))],
    );
    let committed = keyed(&node, "/transfers", "\"k1\"", json!({"n": 1})).await.expect(200);
    let aborted = keyed(&node, "/transfers", "\"k2\"", json!({"n": 2})).await.expect(409);
    node.settled().await;
    let ended = |text: &str| text.replace("aborting", "aborted");
    for turn in ["at once", "after a crash", "after another"] {
        let again = keyed(&node, "/transfers", "\"k1\"", json!({"n": 1})).await.expect(200);
        assert_eq!((&again.text, again.transaction()), (&committed.text, committed.transaction()), "{turn}");
        let again = keyed(&node, "/transfers", "\"k2\"", json!({"n": 2})).await.expect(409);
        assert_eq!(
            (again.text.clone(), again.transaction()),
            (ended(&aborted.text), aborted.transaction()),
            "{turn}"
        );
        node.crash().await;
    }
    assert_eq!((accounts.count("/debit"), ledger.count("/credit")), (2, 2));
    // Bare means the same as quoted, and a key belongs to its route.
    let bare = keyed(&node, "/transfers", "k1", json!({"n": 1})).await.expect(200);
    assert_eq!(bare.transaction(), committed.transaction());
    let elsewhere = keyed(&node, "/refunds", "k1", json!({"n": 1})).await.expect(200);
    assert_ne!(elsewhere.transaction(), committed.transaction());
    assert_eq!(accounts.count("/debit"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_with_a_used_key_is_refused_also_after_a_crash() {
    let (mut node, accounts, _ledger) = two("").await;
    let id = keyed(&node, "/transfers", "k", json!({"n": 1})).await.expect(200).transaction().to_owned();
    for _ in 0..2 {
        let refused = keyed(&node, "/transfers", "k", json!({"n": 2})).await.expect(422);
        assert_eq!(refused.transaction(), id, "that which the key began");
        assert_eq!(refused.json()["code"], "key_reused");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        keyed(&node, "/transfers?other=1", "k", json!({"n": 1})).await.expect(422);
        node.crash().await;
    }
    assert_eq!(accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_is_undecided_the_second_is_told_to_come_back() {
    let (node, accounts, _ledger) = two("").await;
    let gate = Gate::closed();
    accounts.always("/debit", Answer::ok().behind(&gate));
    let (first, early) = tokio::join!(keyed(&node, "/transfers", "k", json!({"n": 1})), async {
        accounts.wait_for("/debit", 1).await;
        let early = keyed(&node, "/transfers", "k", json!({"n": 1})).await;
        keyed(&node, "/transfers", "k", json!({"n": 2})).await.expect(422);
        gate.open();
        early
    });
    assert_eq!((first.status, early.status), (200, 409));
    assert_ne!(early.header("retry-after"), "");
    assert_eq!(early.json()["code"], "in_progress");
    assert_eq!(early.transaction(), first.transaction());
    assert_eq!(accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_can_be_read_in_two_ways_is_refused() {
    let (node, accounts, _ledger) = two("").await;
    let long = "k".repeat(256);
    let bad =
        ["", "\"\"", "a, b", "\"a\", \"b\"", "(\"a\" \"b\")", "\"a", "\"a\";x=1", ":YQ==:", "a b", &long];
    for key in bad {
        let refused = keyed(&node, "/transfers", key, json!({})).await.expect(400);
        assert_eq!(refused.json()["code"], "bad_idempotency_key", "{key}");
    }
    let two = [("Idempotency-Key", "a"), ("Idempotency-Key", "a"), ("content-type", "application/json")];
    node.send(Method::POST, &node.url("/transfers"), &two, Some("{}".to_owned())).await.expect(400);
    assert_eq!(accounts.calls().len(), 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_begin_one_transaction() {
    let (node, accounts, ledger) = two("").await;
    let node = Arc::new(node);
    for round in 0..30 {
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let node = node.clone();
            clients.spawn(
                async move { keyed(&node, "/transfers", &format!("k{round}"), json!({"n": 1})).await },
            );
        }
        let replies = clients.join_all().await;
        assert!(replies.iter().all(|reply| [200, 202, 409].contains(&reply.status)), "{replies:#?}");
        let mut ids: Vec<_> =
            replies.iter().filter(|reply| reply.status == 200).map(Reply::transaction).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "one transaction, and somebody was told: {replies:#?}");
        let waits = replies.iter().filter(|reply| reply.status == 409);
        assert!(waits.clone().all(|reply| !reply.header("retry-after").is_empty()), "{waits:?}");
        assert_eq!((accounts.count("/debit"), ledger.count("/credit")), (round + 1, round + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_too_large_to_keep_leave_status_outcome_and_a_note() {
    let (mut node, accounts, _ledger) = two("answer_kept_max = 100").await;
    accounts.next("/debit", [Answer::big(1000)]);
    let first = keyed(&node, "/transfers", "k", json!({})).await.expect(200);
    assert_eq!(first.json()["response"]["accounts"].as_str().unwrap().len(), 998);
    for _ in 0..2 {
        node.settled().await;
        let again = keyed(&node, "/transfers", "k", json!({})).await.expect(200);
        let told = again.json();
        assert_eq!(told["status"], "success");
        assert_eq!(told["transaction"], json!({"id": first.transaction(), "state": "committed"}));
        assert!(told["note"].is_string() && told.get("response").is_none(), "{told}");
        node.crash().await;
    }
    assert_eq!(accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_before_the_decision_has_all_answers_of_its_key_later() {
    let (node, accounts, ledger) = two("").await;
    let gate = Gate::closed();
    accounts.always("/debit", Answer::json(200, json!({"balance": 1})));
    ledger.always("/credit", Answer::json(200, json!({"written": 2})).behind(&gate));
    let (key, body) = ([("Idempotency-Key", "k")], json!({}));
    let undecided = async {
        accounts.wait_for("/debit", 1).await;
        ledger.wait_for("/credit", 1).await;
        // The first answer is there, and the second one will come when the client has gone.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        told = node.try_post("/transfers", &key, &body) => panic!("nothing is decided: {told:?}"),
        () = undecided => {}
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    gate.open();
    node.settled().await;
    let told = keyed(&node, "/transfers", "k", json!({})).await.expect(200).json();
    assert_eq!(told["response"], json!({"accounts": {"balance": 1}, "ledger": {"written": 2}}));
    assert_eq!(accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_branches_answered_is_logged_for_a_key_and_for_nothing_else() {
    let (mut node, accounts, _ledger) = two("").await;
    accounts
        .next("/debit", [Answer::json(200, json!("told for a key")), Answer::json(200, json!("told once"))]);
    keyed(&node, "/transfers", "k", json!({})).await.expect(200);
    node.post("/transfers", &json!({})).await.expect(200);
    node.settled().await;
    node.terminate().await;
    let bytes = std::fs::read(node.data_dir().join("ring")).unwrap();
    let has = |words: &[u8]| bytes.windows(words.len()).any(|seen| seen == words);
    assert_eq!((has(b"told for a key"), has(b"told once")), (true, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_again_while_recovery_runs_gets_the_recovered_outcome() {
    let (mut node, accounts, mut ledger) = two("").await;
    accounts.always("/debit", Answer::json(200, json!({"balance": 1})));
    ledger.always("/tx/commit", Answer::status(503));
    let (key, body) = ([("Idempotency-Key", "k")], json!({}));
    let first = node.try_post("/transfers", &key, &body);
    let seen = ledger.wait_for("/tx/commit", 1);
    // Killed while the client waits.
    tokio::select! {
        _ = first => {}
        _ = seen => {}
    }
    node.kill().await;
    ledger.stop().await;
    node.start().await;
    let pending = keyed(&node, "/transfers", "k", json!({})).await.expect(202);
    assert_eq!(pending.json()["response"]["accounts"], json!({"balance": 1}));
    ledger.always("/tx/commit", Answer::ok());
    ledger.start_again().await;
    node.settled().await;
    let done = keyed(&node, "/transfers", "k", json!({})).await.expect(200);
    assert_eq!(done.transaction(), pending.transaction());
    assert_eq!(accounts.count("/debit"), 1);
}
