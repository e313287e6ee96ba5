//! G1 by observation: a participant that looks into the log on every call, before it answers, finds the record
//! that caused the call already there.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::{Arc, Mutex};

use kit::{Call, Node, Stub};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The record that must be in the log before this operation is asked for.
fn cause(operation: &str) -> &'static str {
    match operation {
        "work" => "begun",
        "prepare" => "preparing",
        _ => "decided",
    }
}

/// Notes every call whose cause is not in the log when it arrives.
fn watch(stub: &Stub, admin: String, seen: &Arc<Mutex<Vec<String>>>, missing: &Arc<Mutex<Vec<String>>>) {
    let (seen, missing) = (seen.clone(), missing.clone());
    let client = kit::client();
    stub.observe(move |call: Call| {
        let (admin, client, seen, missing) = (admin.clone(), client.clone(), seen.clone(), missing.clone());
        async move {
            let url = format!("{admin}/v1/log?transaction={}", call.transaction());
            let log = kit::send(&client, http::Method::GET, &url, &[], None).await.unwrap().expect(200);
            let records = kit::lines(&log.text);
            let is_there = |record: &Value| {
                let decision = ["commit", "abort"].contains(&call.operation()).then(|| call.operation());
                record["record"] == cause(call.operation())
                    && decision.is_none_or(|decision| record["decision"] == decision)
            };
            seen.lock().unwrap().push(call.operation().to_owned());
            if !records.iter().any(is_there) {
                missing
                    .lock()
                    .unwrap()
                    .push(format!("{} came before its cause: {records:?}", call.operation()));
            }
        }
    });
}

async fn every_call_finds_its_cause_in_the_log(sync: &str) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let config = kit::two_branches(&accounts, &ledger);
    let mut node = Node::new(&format!("[log]\nsync = {sync:?}\n{config}"));
    let (seen, missing) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
    watch(&accounts, node.admin_url(""), &seen, &missing);
    watch(&ledger, node.admin_url(""), &seen, &missing);
    // Every third vote is a no, so that aborts are seen too.
    let no = || kit::Answer::json(409, json!({"error": "no"}));
    ledger.next("/tx/prepare", (0..40).map(|turn| if turn % 3 == 0 { no() } else { kit::Answer::ok() }));
    node.start().await;
    let node = Arc::new(node);
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let node = node.clone();
        clients.spawn(async move {
            for turn in 0..5 {
                let reply = node.post("/transfers", &json!({"client": client, "turn": turn})).await;
                assert!([200, 409].contains(&reply.status), "{reply:?}");
            }
        });
    }
    clients.join_all().await;
    node.settled().await;
    assert_eq!(*missing.lock().unwrap(), Vec::<String>::new(), "log.sync = {sync}");
    let seen = seen.lock().unwrap();
    let count = |operation: &str| seen.iter().filter(|one| *one == operation).count();
    assert_eq!((count("work"), count("prepare")), (80, 80));
    assert!(count("commit") >= 40 && count("abort") >= 14, "commits and aborts were seen: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_finds_its_cause_in_the_log_where_every_transition_is_synced() {
    every_call_finds_its_cause_in_the_log("every-transition").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_finds_its_cause_in_the_log_where_only_decisions_are_synced() {
    every_call_finds_its_cause_in_the_log("decisions").await;
}
