//! `examples/gateway.toml`, as it is, in front of stubs and a scripted agent of Consul: what its comments say is what it does.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod consul_agent;
mod kit;

use consul_agent::{Agent, instance};
use http::Method;
use kit::{Answer, Node, Reply, Stub};
use serde_json::json;

fn port(stub: &Stub) -> u16 {
    stub.url("").rsplit(':').next().unwrap().parse().unwrap()
}

/// The example in front of what its comments speak of.
struct Shop {
    node: Node,
    agent: Agent,
    catalog: Stub,
    carts: [Stub; 2],
    orders: Stub,
    payments: Stub,
    _archive: Stub,
}

impl Shop {
    async fn open() -> Self {
        let agent = Agent::start().await;
        let (catalog, archive, orders, payments) =
            (Stub::start().await, Stub::start().await, Stub::start().await, Stub::start().await);
        let carts = [Stub::start().await, Stub::start().await];
        agent.set("catalog", &[instance("127.0.0.1", port(&catalog))]);
        let ports = [
            ("9102", port(&archive)),
            ("9103", port(&carts[0])),
            ("9104", port(&carts[1])),
            ("9105", port(&orders)),
            ("9106", port(&payments)),
        ];
        let mut node = Node::from_file("examples/gateway.toml", &ports);
        node.env("CONSUL_HTTP_ADDR", agent.url().strip_prefix("http://").unwrap()).start().await;
        Self { node, agent, catalog, carts, orders, payments, _archive: archive }
    }

    async fn get(&self, path: &str, host: &str) -> Reply {
        self.node.send(Method::GET, &self.node.url(path), &[("host", host)], None).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_routes_and_guards_and_merges() {
    let shop = Shop::open().await;
    let lamp = Answer::json(200, json!({ "name": "lamp", "margin": 0.4 }));
    shop.catalog.always("/v2/items/7", lamp.header("server", "x"));
    let product = shop.get("/products/7", "shop.example.com").await.expect(200);
    assert_eq!((product.header("server"), product.header("cache-control")), ("", "public, max-age=60"));
    assert_eq!(product.header("ratelimit-policy"), "\"default\";q=600;w=60");
    shop.get("/products/7", "other.example.com").await.expect(404);
    let moved = shop.get("/a/b", "de.old.example.com").await.expect(301);
    assert_eq!(moved.header("location"), "https://shop.example.com/a/b");
    assert!(shop.get("/robots.txt", "x").await.expect(200).text.contains("Disallow: /carts/"));

    // One user, one instance.
    for _ in 0..4 {
        shop.get("/carts/ada", "x").await.expect(200);
    }
    let counts = shop.carts.each_ref().map(|cart| cart.count("/carts/ada"));
    assert!(counts == [4, 0] || counts == [0, 4], "{counts:?}");

    // A part that may be missing.
    for cart in &shop.carts {
        cart.always("/carts/ada", Answer::status(500));
    }
    let page = shop.get("/pages/ada/7", "x").await.expect(200);
    assert_eq!(page.json(), json!({ "product": { "name": "lamp" }, "cart": {} }));
    assert_eq!(page.header("x-gateway-completed"), "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_does_a_checkout_at_both_or_at_none() {
    let shop = Shop::open().await;
    let wish = json!({ "order": { "item": 7 }, "payment": { "amount": 30 } });
    shop.node.post("/checkout", &wish).await.expect(200);
    shop.payments.next("/charges", [Answer::status(409)]);
    shop.node.post("/checkout", &wish).await.expect(409);
    shop.node.settled().await;
    let Shop { orders, payments, .. } = &shop;
    let counts = (orders.count("/tx/commit"), orders.count("/tx/abort"), payments.count("/tx/commit"));
    assert_eq!(counts, (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_follows_consul_and_its_own_file() {
    let shop = Shop::open().await;
    let moved = Stub::start().await;
    shop.agent.set("catalog", &[instance("127.0.0.1", port(&moved))]);
    kit::until("the new instance", async || {
        shop.get("/products/8", "shop.example.com").await;
        moved.count("/v2/items/8") > 0
    })
    .await;
    let text = std::fs::read_to_string(shop.node.config()).unwrap();
    std::fs::write(shop.node.config(), text.replace("/robots.txt", "/new-robots.txt")).unwrap();
    shop.node.admin_post("/v1/reload", &json!({})).await.expect(200);
    shop.get("/new-robots.txt", "x").await.expect(200);
    shop.get("/robots.txt", "x").await.expect(404);
}
