//! The kit itself: a stub answers what it is told, and remembers what it was asked.

mod kit;

use std::time::Duration;

use http::Method;
use kit::{Answer, Gate, Stub};
use serde_json::json;

async fn post(stub: &Stub, path: &str) -> reqwest::Result<kit::Reply> {
    let body = Some(json!({"amount": 5}).to_string());
    kit::send(&kit::client(), Method::POST, &stub.url(path), &[("x-mark", "1")], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_says_yes_to_what_it_was_not_told_about_and_remembers_it() {
    let stub = Stub::start().await;
    let reply = post(&stub, "/debit?fast=1").await.unwrap().expect(200);
    assert_eq!(reply.json(), json!({}));

    let call = stub.wait_for("/debit", 1).await.remove(0);
    assert_eq!((call.method.as_str(), call.header("x-mark")), ("POST", "1"));
    assert_eq!(call.json(), json!({"amount": 5}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_uses_up_its_queue_and_then_says_the_same_always() {
    let stub = Stub::start().await;
    stub.next("/debit", [Answer::status(503), Answer::json(409, json!({"no": 1}))]);
    stub.always("/debit", Answer::ok().header("Transaction-Vote", "read-only"));

    assert_eq!(post(&stub, "/debit").await.unwrap().status, 503);
    assert_eq!(post(&stub, "/debit").await.unwrap().json(), json!({"no": 1}));
    assert_eq!(post(&stub, "/debit").await.unwrap().header("transaction-vote"), "read-only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_can_break_every_rule_of_http() {
    let stub = Stub::start().await;
    for broken in [Answer::cut(), Answer::cut_midway(), Answer::garbage()] {
        stub.next("/debit", [broken.clone()]);
        assert!(post(&stub, "/debit").await.is_err(), "{broken:?} is no answer");
    }
    stub.next("/debit", [Answer::hang()]);
    let hung = tokio::time::timeout(Duration::from_millis(100), post(&stub, "/debit")).await;
    assert!(hung.is_err(), "no answer ever came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_can_be_big_and_slow() {
    let stub = Stub::start().await;
    stub.next("/debit", [Answer::big(3_000_000), Answer::ok().slowly(1, Duration::from_millis(30))]);
    assert_eq!(post(&stub, "/debit").await.unwrap().text.len(), 3_000_000);
    let began = tokio::time::Instant::now();
    assert_eq!(post(&stub, "/debit").await.unwrap().text, "{}");
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_that_is_stopped_refuses_and_comes_back_on_the_same_port() {
    let mut stub = Stub::start().await;
    post(&stub, "/debit").await.unwrap().expect(200);
    stub.stop().await;
    assert!(post(&stub, "/debit").await.unwrap_err().is_connect());
    stub.start_again().await;
    post(&stub, "/debit").await.unwrap().expect(200);
    assert_eq!(stub.count("/debit"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_holds_an_answer_until_it_is_opened() {
    let (stub, gate) = (Stub::start().await, Gate::closed());
    stub.always("/debit", Answer::ok().behind(&gate));
    let opening = async {
        stub.wait_for("/debit", 1).await;
        gate.open();
    };
    let (reply, ()) = tokio::join!(post(&stub, "/debit"), opening);
    reply.unwrap().expect(200);
}
