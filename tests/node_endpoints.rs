//! Which of a service's endpoints is called, and what wakes those that wait for a service.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use kit::{Answer, Node, Stub};
use serde_json::json;

const ROUTES: &str = r#"
    [[routes]]
    id = "transfer"
    match = { methods = ["POST"], path = "/transfers" }
    [routes.transaction]
    reply_within = "200ms"
    branches = [ { service = "accounts", path = "/debit" } ]

    [[routes]]
    id = "look"
    match = { methods = ["GET"], path = "/look" }
    forward = { service = "accounts" }
"#;

async fn two_endpoints() -> (Node, [Stub; 2]) {
    let stubs = [Stub::start().await, Stub::start().await];
    let endpoints = format!("endpoints = [{:?}, {:?}]", stubs[0].url(""), stubs[1].url(""));
    let one = format!("endpoints = [{:?}]", stubs[0].url(""));
    let service = kit::service("accounts", &stubs[0], false);
    assert!(service.contains(&one), "{service}");
    let mut node = Node::new(&(service.replace(&one, &endpoints) + ROUTES));
    node.start().await;
    (node, stubs)
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_to_each_in_turn_also_where_one_fails_and_what_follows_to_the_one_that_was_asked() {
    for failing in [Answer::status(409), Answer::status(503), Answer::cut()] {
        let (node, [ill, well]) = two_endpoints().await;
        ill.always("/debit", failing);
        let mut committed = 0;
        for _ in 0..6 {
            committed += usize::from(node.post("/transfers", &json!({})).await.status == 200);
        }
        node.settled().await;
        assert_eq!(committed, 3);
        for (stub, told, not_told) in [(&ill, "/tx/abort", "/tx/commit"), (&well, "/tx/commit", "/tx/abort")]
        {
            assert_eq!((stub.count("/debit"), stub.count(told), stub.count(not_told)), (3, 3, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_not_asked_for_ever() {
    let (node, [mut first, second]) = two_endpoints().await;
    first.next("/tx/commit", [Answer::cut()]);
    let id = node.post("/transfers", &json!({})).await.transaction().to_owned();
    first.stop().await;
    node.wait_for_state(&id, "committed").await;
    assert_eq!(second.count("/tx/commit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_that_is_answered_wakes_those_that_wait_for_the_service() {
    let stub = Stub::start().await;
    let service = kit::service("accounts", &stub, false)
        .replace("initial = \"10ms\", max = \"100ms\"", "initial = \"60s\", max = \"60s\"");
    let mut node = Node::new(&(service + ROUTES));
    node.start().await;
    stub.next("/tx/commit", [Answer::status(503)]);
    let id = node.post("/transfers", &json!({})).await.expect(202).transaction().to_owned();
    stub.next("/look", [Answer::status(500)]);
    node.get("/look").await.expect(500);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stub.count("/tx/commit"), 1, "a 5xx is no sign of health");
    node.get("/look").await.expect(200);
    node.wait_for_state(&id, "committed").await;
}
