//! Balancing in a whole node: transactions are not subject to it, and operators see it.

mod kit;

use std::time::Duration;

use kit::{Answer, Gate, Node, Stub};
use serde_json::json;
use tokio::time::Instant;

/// Every measure that would keep calls from a service, each as strict as it can be.
const STRICT: &str = r#"
health = { path = "/health", interval = "50ms", unhealthy = 1 }
outlier = { consecutive = 1, base_time = "1h", max_time = "1h", max_percent = 100 }
breaker = { error_percent = 1, requests_min = 1, open = "1h", open_max = "1h" }
limit = { initial = 1, min = 1, max = 1 }
"#;

/// Two branches at these instances, of which each service has `keys` too, and routes that only forward.
fn config(accounts: &Stub, ledger: &Stub, keys: [&str; 2]) -> String {
    let service = |name: &str, stub: &Stub, keys: &str| {
        let section = kit::service(name, stub, true);
        section.replace(
            &format!("[services.{name}.transaction]"),
            &format!("{keys}\n[services.{name}.transaction]"),
        )
    };
    let plain = |name: &str| {
        format!(
            "[[routes]]\nid = \"{name}\"\nmatch = {{ path = \"/{name}\" }}\nforward = {{ service = \"{name}\" }}\n"
        )
    };
    let whole = kit::two_branches(accounts, ledger);
    let (_, routes) = whole.split_once("[[routes]]").expect("a route");
    format!(
        "{}{}[[routes]]{routes}\n{}{}",
        service("accounts", accounts, keys[0]),
        service("ledger", ledger, keys[1]),
        plain("accounts"),
        plain("ledger")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_ejected_unhealthy_and_left_alone_still_gets_all_calls_of_transactions_at_once() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    accounts.always("/health", Answer::status(503));
    accounts.always("/accounts", Answer::status(500));
    let mut node = Node::new(&config(&accounts, &ledger, [STRICT, ""]));
    node.start().await;
    assert_eq!(node.get("/accounts").await.status, 500);
    assert_eq!(node.get("/accounts").await.status, 503, "its breaker is open");
    kit::until("it is unhealthy too", async || {
        node.metric("service_instances{service=\"accounts\",standing=\"unhealthy\"}").await == "1"
    })
    .await;
    let begun = Instant::now();
    assert_eq!(node.post("/transfers", &json!({"amount": 5})).await.status, 200);
    ledger.always("/credit", Answer::status(409));
    assert_eq!(node.post("/transfers", &json!({"amount": 6})).await.status, 409);
    accounts.wait_for("/tx/abort", 1).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let called = ["/debit", "/tx/prepare", "/tx/commit", "/tx/abort"].map(|path| accounts.count(path));
    assert_eq!(called, [2, 1, 1, 1]);
    assert_eq!(node.get("/accounts").await.status, 503, "and its answers to these close no breaker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_at_its_limit_still_gets_all_calls_of_transactions_at_once() {
    let (accounts, ledger, gate) = (Stub::start().await, Stub::start().await, Gate::closed());
    ledger.always("/ledger", Answer::ok().behind(&gate));
    let mut node = Node::new(&config(&accounts, &ledger, ["", "limit = { initial = 1, min = 1, max = 1 }"]));
    node.start().await;
    let held = async {
        let reply = node.get("/ledger").await;
        assert_eq!(reply.status, 200);
    };
    let meanwhile = async {
        ledger.wait_for("/ledger", 1).await;
        assert_eq!(node.get("/ledger").await.status, 503, "it is at its limit");
        assert_eq!(node.post("/transfers", &json!({"amount": 5})).await.status, 200);
        let called = ["/credit", "/tx/prepare", "/tx/commit"].map(|path| ledger.count(path));
        assert_eq!(called, [1, 1, 1]);
        gate.open();
    };
    tokio::join!(held, meanwhile);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_instances_breakers_limits_and_what_was_shed() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    accounts.always("/health", Answer::status(503));
    accounts.always("/accounts", Answer::status(500));
    let mut node = Node::new(&config(&accounts, &ledger, [STRICT, "limit = { initial = 7 }"]));
    node.start().await;
    for _ in 0..3 {
        node.get("/accounts").await;
    }
    node.get("/ledger").await;
    let text = node.admin("/metrics").await.expect(200).text;
    let instance = accounts.url("");
    for line in [
        "unanimous_service_instances{service=\"ledger\",standing=\"usable\"} 1",
        "unanimous_service_panic{service=\"accounts\"} 1",
        &format!("unanimous_instance_usable{{service=\"accounts\",instance=\"{instance}\"}} 0"),
        &format!("unanimous_instance_requests{{service=\"accounts\",instance=\"{instance}\"}} 0"),
        "unanimous_breaker_state{service=\"accounts\"} 2",
        "unanimous_concurrency_limit{service=\"ledger\"} 7",
        "unanimous_retries_total{service=\"accounts\",reason=\"never_sent\"} 0",
        "unanimous_shed_total{service=\"accounts\",reason=\"breaker\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_service_survives_a_reload() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    accounts.always("/accounts", Answer::status(500));
    let breaker = "breaker = { error_percent = 1, requests_min = 1, open = \"1h\", open_max = \"1h\" }";
    let config = config(&accounts, &ledger, [breaker, ""]);
    let mut node = Node::new(&config);
    node.start().await;
    assert_eq!(node.get("/accounts").await.status, 500);
    let more = "[[routes]]\nid = \"more\"\nmatch = { path = \"/more\" }\n\
                forward = { service = \"ledger\", path = \"/ledger\" }\n";
    node.configure("", &format!("{config}\n{more}"));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(node.get("/more").await.status, 200, "the new configuration holds");
    let refused = node.get("/accounts").await.expect(503);
    assert_eq!(refused.json()["code"], "breaker_open");
    assert_eq!(accounts.count("/accounts"), 1);
}
