//! The example `examples/balancing.toml`, as it is, in front of four instances.

mod kit;

use kit::{Answer, Node, Stub};
use serde_json::json;

fn port(stub: &Stub) -> u16 {
    stub.url("").rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_balances_as_its_comments_say() {
    let (one, two, three, four) =
        (Stub::start().await, Stub::start().await, Stub::start().await, Stub::start().await);
    let ports = [("9001", port(&one)), ("9002", port(&two)), ("9003", port(&three)), ("9004", port(&four))];
    let mut node = Node::from_file("examples/balancing.toml", &ports);
    node.start().await;
    one.always("/catalog/a", Answer::status(503));
    for _ in 0..20 {
        node.get("/catalog/a").await.expect(200);
    }
    assert_eq!(two.count("/catalog/a"), 20, "what one instance refuses another does");
    assert!(one.count("/catalog/a") <= 5, "and after five failures it is left out");
    for _ in 0..5 {
        node.get("/carts/ada").await.expect(200);
    }
    let (has, other) = if three.calls().is_empty() { (&four, &three) } else { (&three, &four) };
    assert_eq!((has.count("/carts/ada"), other.count("/carts/ada")), (5, 0), "one user, one instance");
    has.next("/carts/ada", [Answer::cut()]);
    let key = [("idempotency-key", "\"k\"")];
    node.post_with("/carts/ada", &key, &json!({"item": 7})).await.expect(200);
    assert_eq!(other.calls_to("/carts/ada")[0].json(), json!({"item": 7}), "tried again with its body");
}
