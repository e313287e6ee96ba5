//! What a backend is told of the client, and what a client gets through the gateway, of a real node.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use http::Method;
use kit::{Answer, Node, Stub};
use serde_json::json;

const ALL: &str = r#"
    [[routes]]
    id = "transfer"
    match = { methods = ["POST"], path = "/transfers" }
    [routes.transaction]
    branches = [ { service = "accounts", path = "/debit" } ]

    [[routes]]
    id = "all"
    match = { methods = ["GET"], path = "/{*rest}" }
    forward = { service = "accounts" }
"#;

async fn node(section: &str, stub: &Stub) -> Node {
    let mut node = Node::with_section(section, &(kit::service("accounts", stub, false) + ALL));
    node.start().await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_name_on_both_sides_of_the_gateway() {
    let stub = Stub::start().await;
    stub.always("/bad", Answer::ok().header("x-request-id", "of-the-backend"));
    let node = node("", &stub).await;
    let asked = async |path: &str, headers: &[(&str, &str)]| {
        let reply = node.send(Method::GET, &node.url(path), headers, None).await;
        (
            reply.header("x-request-id").to_owned(),
            stub.calls_to(path).last().unwrap().header("x-request-id").to_owned(),
        )
    };
    let (told, seen) = asked("/made", &[]).await;
    assert_eq!((told.len(), &told), (32, &seen));
    let (told, seen) = asked("/bad", &[("x-request-id", "order-7")]).await;
    assert_eq!((told.as_str(), seen.as_str()), ("order-7", "order-7"));
    let reply = node.post_with("/transfers", &[("x-request-id", "order-8")], &json!({})).await;
    assert_eq!(reply.header("x-request-id"), "order-8");
    assert_eq!(stub.calls_to("/debit")[0].header("x-request-id"), "order-8");
    let refused = node
        .send(Method::DELETE, &node.url("/transfers"), &[("x-request-id", "order-9")], None)
        .await
        .expect(405);
    assert_eq!(refused.header("x-request-id"), "order-9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_leads_back_to_the_gateway_ends_with_508() {
    let stub = Stub::start().await;
    let node = node("", &stub).await;
    let here = format!("[services.accounts]\nendpoints = [\"{}\"]\n", node.url(""));
    let all = ALL.split("[[routes]]").nth(2).unwrap();
    node.configure("", &format!("{here}[[routes]]{all}"));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(node.get("/x").await.expect(508).json()["code"], "loop_detected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_speaks_for_its_client_only_where_it_is_trusted() {
    let stub = Stub::start().await;
    let said = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")];
    for (section, hops, proto) in [
        ("", "127.0.0.1", "http"),
        ("trusted_proxies = [\"127.0.0.0/8\"]", "203.0.113.9, 127.0.0.1", "https"),
    ] {
        let node = node(section, &stub).await;
        node.send(Method::GET, &node.url("/x"), &said, None).await.expect(200);
        let call = stub.calls_to("/x").pop().unwrap();
        assert_eq!((call.header("x-forwarded-for"), call.header("x-forwarded-proto")), (hops, proto));
        node.post_with("/transfers", &said, &json!({})).await.expect(200);
        assert_eq!(stub.calls_to("/debit").pop().unwrap().header("x-forwarded-for"), hops);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_connect_nor_trace_is_done() {
    let stub = Stub::start().await;
    let node = node("", &stub).await;
    for method in [Method::TRACE, Method::CONNECT] {
        let target = if method == Method::TRACE { "/x" } else { "x:443" };
        let answer =
            node.raw(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    }
    assert!(stub.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_a_line_for_each_request_and_no_secret_of_its_query() {
    let stub = Stub::start().await;
    stub.always("/cut", Answer::cut_midway());
    let mut node = Node::with_section("access_log = true", &(kit::service("accounts", &stub, false) + ALL));
    node.env("UNANIMOUS_LOG_FORMAT", "json").start().await;
    let body = node.get("/some/thing?token=secret").await.expect(200).text;
    let id = node.post("/transfers", &json!({})).await.expect(200).transaction().to_owned();
    node.send(Method::DELETE, &node.url("/some/thing"), &[("x-request-id", "order-7")], None)
        .await
        .expect(405);
    node.raw("GET /cut HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    kit::until("four lines", async || lines(&node).len() == 4).await;
    let lines = lines(&node);
    let of = |path: &str, method: &str| {
        lines.iter().find(|line| line["path"] == path && line["method"] == method).unwrap().clone()
    };
    let plain = of("/some/thing", "GET");
    assert_eq!((&plain["status"], &plain["route"]), (&json!(200), &json!("all")));
    assert_eq!((&plain["bytes"], &plain["is_whole"]), (&json!(body.len()), &json!(true)));
    assert_eq!((&plain["client"], &plain["version"]), (&json!("127.0.0.1"), &json!("HTTP/1.1")));
    assert_eq!(of("/transfers", "POST")["transaction"], id.as_str());
    let refused = of("/some/thing", "DELETE");
    assert_eq!((&refused["status"], &refused["request_id"]), (&json!(405), &json!("order-7")));
    assert_eq!(of("/cut", "GET")["is_whole"], false);
    assert!(!node.stderr().contains("secret"), "{}", node.stderr());
    assert_eq!(node.metric("http_requests_in_flight").await, "0");
    assert_eq!(node.metric("http_request_duration_seconds_count{route=\"all\"}").await, "2");
}

/// The access log, a line an entry.
fn lines(node: &Node) -> Vec<serde_json::Value> {
    let lines = node
        .stderr()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .collect::<Vec<_>>();
    let ours = |line: &serde_json::Value| line["fields"].get("path").is_some();
    lines.into_iter().filter(ours).map(|line| line["fields"].clone()).collect()
}
