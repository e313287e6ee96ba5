//! `examples/routing.toml`, for real: a node of its own, and stubs for the two versions of the shop.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use http::Method;
use kit::{Answer, Node, Stub};

/// A node with the example's routes, the shop and its next version.
async fn shop() -> (Node, Stub, Stub) {
    let (shop, next) = (Stub::start().await, Stub::start().await);
    let port = |stub: &Stub| stub.url("").rsplit_once(':').unwrap().1.parse().unwrap();
    let ports = [("9001", port(&shop)), ("9002", port(&next))];
    let mut node = Node::from_file("examples/routing.toml", &ports);
    node.start().await;
    (node, shop, next)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_does_what_its_comments_say() {
    let (node, shop, next) = shop().await;
    let ask = async |path: &str, fields: &[(&str, &str)]| {
        node.send(Method::GET, &node.url(path), fields, None).await
    };
    ask("/cart", &[("host", "fr.shop.example.com")]).await.expect(200);
    assert_eq!(shop.calls_to("/cart")[0].header("host"), "fr.shop.example.com");

    let fields = [("host", "shop.example.com"), ("cookie", "a=b"), ("x-version", "next")];
    ask("/products/7", &fields).await.expect(200);
    assert_eq!(next.count("/v2/products/7"), 1);
    ask("/products/7", &[("host", "shop.example.com"), ("x-version", "next"), ("x-support", "yes")])
        .await
        .expect(200);
    assert_eq!(shop.count("/support/products/7"), 1);

    shop.always("/v2/products/8", Answer::ok().header("server", "shop/1.0"));
    next.always("/v2/products/8", Answer::ok().header("server", "shop/2.0"));
    let reply =
        ask("/products/8?debug=1&x=y", &[("host", "shop.example.com"), ("cookie", "a=b")]).await.expect(200);
    assert_eq!((reply.header("cache-control"), reply.header("server")), ("public, max-age=60", ""));
    let calls = [shop.calls(), next.calls()].concat();
    let call = calls.iter().find(|call| call.path.starts_with("/v2/products/8")).unwrap();
    assert_eq!((call.header("x-product"), call.header("cookie")), ("8", ""));

    let reply = ask("/a%2fb?x=1", &[("host", "www.example.com")]).await.expect(301);
    assert_eq!(reply.header("location"), "https://shop.example.com/a%2Fb?x=1");
    let reply = ask("/robots.txt", &[("host", "127.0.0.1")]).await.expect(200);
    assert_eq!(reply.text, "User-agent: *\nDisallow: /\n");
    let reply = ask("/api/v1/x", &[("host", "127.0.0.1")]).await.expect(410);
    assert_eq!(reply.header("content-type"), "application/json");

    // Whoever asks no service is counted under the name of its route, too.
    for (route, code) in [("old-name", "3xx"), ("robots", "2xx"), ("old-api", "4xx"), ("product", "2xx")] {
        let metric = format!("http_requests_total{{route=\"{route}\",code=\"{code}\"}}");
        assert_eq!(node.metric(&metric).await, "1", "{metric}");
    }
}
