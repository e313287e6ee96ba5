//! What stands before a route: addresses, rates, the length of bodies, web pages, and compression, at a real node.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use http::Method;
use kit::{Answer, Node, Reply, Stub};
use serde_json::json;

/// A forwarding route `r` at `/r` with these guards, and a transaction route with the same.
fn config(stub: &Stub, guards: &str) -> String {
    kit::service("accounts", stub, false)
        + &format!(
            "[[routes]]\nid = \"r\"\nmatch = {{ path = \"/r/{{*rest}}\" }}\nforward = {{ service = \"accounts\" }}\n{guards}\n\
             [[routes]]\nid = \"t\"\nmatch = {{ path = \"/t\" }}\n{guards}\n[routes.transaction]\n\
             branches = [ {{ service = \"accounts\", path = \"/debit\" }} ]\n"
        )
}

async fn node(stub: &Stub, guards: &str) -> Node {
    let mut node = Node::with_section("trusted_proxies = [\"127.0.0.1\"]", &config(stub, guards));
    node.start().await;
    node
}

/// A request by way of a proxy that is trusted, for this client.
async fn ask(node: &Node, client: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("x-forwarded-for", client)], headers].concat();
    node.send(Method::GET, &node.url("/r/x"), &headers, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_reaches_no_backend() {
    let stub = Stub::start().await;
    let node = node(&stub, "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]").await;
    ask(&node, "10.2.0.1", &[]).await.expect(200);
    for client in ["10.1.0.1", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(ask(&node, client, &[]).await.expect(403).json()["code"], "forbidden_address");
    }
    assert_eq!(node.post("/t", &json!({})).await.expect(403).json()["code"], "forbidden_address");
    assert_eq!(stub.calls().len(), 1);
    let metric = "http_requests_kept_out_total{route=\"r\",code=\"forbidden_address\"}";
    assert_eq!(node.metric(metric).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_a_rate_of_its_own_and_is_told_what_is_left() {
    let stub = Stub::start().await;
    let node = node(&stub, "rate_limits = [ { requests = 2, per = \"1h\" } ]").await;
    let first = ask(&node, "192.0.2.1", &[]).await.expect(200);
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=2;w=3600");
    assert_eq!(first.header("ratelimit"), "\"default\";r=1;t=1800");
    ask(&node, "192.0.2.1", &[]).await.expect(200);
    let refused = ask(&node, "192.0.2.1", &[]).await.expect(429);
    assert_eq!(refused.json()["code"], "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1_700..=1_800).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), format!("\"default\";r=0;t={wait}"));
    ask(&node, "192.0.2.2", &[]).await.expect(200);
    assert_eq!(stub.calls().len(), 3);

    // What was counted outlives a reload that leaves the limit as it is, and no other.
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    ask(&node, "192.0.2.1", &[]).await.expect(429);
    let section = "trusted_proxies = [\"127.0.0.1\"]";
    node.configure(section, &config(&stub, "rate_limits = [ { requests = 3, per = \"1h\" } ]"));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    ask(&node, "192.0.2.1", &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_can_be_by_a_field_or_for_all_and_each_has_to_have_room() {
    let stub = Stub::start().await;
    let limits = "rate_limits = [ { requests = 1, per = \"1h\", header = \"x-api-key\" }, { requests = 3, per = \"1h\", by = \"route\" } ]";
    let node = node(&stub, limits).await;
    ask(&node, "192.0.2.1", &[("x-api-key", "a")]).await.expect(200);
    ask(&node, "192.0.2.1", &[("x-api-key", "b")]).await.expect(200);
    ask(&node, "192.0.2.1", &[("x-api-key", "a")]).await.expect(429);
    let told = ask(&node, "192.0.2.1", &[("x-api-key", "c")]).await.expect(429);
    assert_eq!(told.header("ratelimit-policy"), "\"default\";q=1;w=3600, \"default-2\";q=3;w=3600");
    assert!(told.header("ratelimit").starts_with("\"default\";r=0;t=3600, \"default-2\";r=0;t="), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_decided_is_told_however_low_the_rate_of_the_route() {
    let stub = Stub::start().await;
    stub.next("/tx/commit", [Answer::status(503), Answer::status(503)]);
    let node = node(&stub, "rate_limits = [ { requests = 1, per = \"1h\" } ]").await;
    let id = node.post("/t", &json!({})).await.expect(200).transaction().to_owned();
    node.post("/t", &json!({})).await.expect(429);
    node.wait_for_state(&id, "committed").await;
    assert_eq!((stub.count("/debit"), stub.count("/tx/commit")), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_as_long_as_its_route_allows() {
    let stub = Stub::start().await;
    let node = node(&stub, "body_max = 10").await;
    let post = async |path: &str, body: &str| {
        node.send(Method::POST, &node.url(path), &[], Some(body.to_owned())).await
    };
    post("/r/x", "0123456789").await.expect(200);
    for path in ["/r/x", "/t"] {
        assert_eq!(post(path, "0123456789-").await.expect(413).json()["code"], "body_too_large");
    }
    let chunked = "POST /r/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789-\r\n0\r\n\r\n";
    let answer = node.raw(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(stub.count("/r/x"), 1, "what was cut is no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_of_a_listed_origin_may_ask_and_the_browser_is_told_so() {
    let stub = Stub::start().await;
    stub.always("/r/x", Answer::ok().header("access-control-allow-origin", "*"));
    let cors = "cors = { origins = [\"https://shop.example.com\"], methods = [\"GET\", \"DELETE\"], headers = [\"x-api-key\"], credentials = true, max_age = \"10m\" }";
    let node = node(&stub, cors).await;
    let preflight = async |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "DELETE")];
        node.send(Method::OPTIONS, &node.url("/r/x"), &headers, None).await.expect(200)
    };
    let told = preflight("https://shop.example.com").await;
    for (name, value) in [
        ("access-control-allow-origin", "https://shop.example.com"),
        ("access-control-allow-methods", "GET,DELETE"),
        ("access-control-allow-headers", "x-api-key"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(told.header(name), value, "{name}");
    }
    assert!(told.header("vary").contains("origin"), "{told:?}");
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), "");
    assert!(stub.calls().is_empty(), "a preflight is the gateway's own affair");

    let answer = ask(&node, "192.0.2.1", &[("origin", "https://shop.example.com")]).await.expect(200);
    assert_eq!(
        answer.headers.get_all("access-control-allow-origin").iter().count(),
        1,
        "the backend has no say"
    );
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example.com");
    let answer = ask(&node, "192.0.2.1", &[("origin", "https://evil.example")]).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    // OPTIONS that asks about no method is a request like any other.
    let origin = [("origin", "https://shop.example.com")];
    let answer = node.send(Method::OPTIONS, &node.url("/r/x"), &origin, None).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example.com");
    assert_eq!((stub.calls().len(), answer.text.as_str()), (3, "{}"), "the backend answers it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_strange_origin_is_told_nothing_at_all() {
    let stub = Stub::start().await;
    let cors = "cors = { origins = [\"https://shop.example.com\"], headers = [\"x-key\"], expose = [\"x-id\"], credentials = true }";
    let node = node(&stub, cors).await;
    let strange = [("origin", "https://evil.example"), ("access-control-request-method", "GET")];
    for method in [Method::GET, Method::OPTIONS] {
        let told = node.send(method, &node.url("/r/x"), &strange, None).await.expect(200);
        let fields: Vec<_> =
            told.headers.keys().filter(|name| name.as_str().starts_with("access-control-")).collect();
        assert!(fields.is_empty(), "{fields:?}");
        assert!(told.header("vary").contains("origin"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_speaks_only_forwarded_names_its_client() {
    let stub = Stub::start().await;
    let node = node(&stub, "deny = [\"6.6.6.6\", \"2001:db8::6\"]").await;
    let ask = async |headers: &[(&str, &str)]| node.send(Method::GET, &node.url("/r/x"), headers, None).await;
    for denied in [
        "for=6.6.6.6",
        "For=\"6.6.6.6:81\";proto=https",
        "for=1.1.1.1, for=\"[2001:db8::6]:81\", for=127.0.0.1",
        // Whatever the client wrote before, or into the name of the host that it asked for.
        "for=\"1.1.1.1, for=6.6.6.6;host=\"a,for=1.1.1.1\"",
        "proto=http;host=\"a\\\",for=1.1.1.1;b=\\\"\";for=6.6.6.6",
    ] {
        assert_eq!(ask(&[("forwarded", denied)]).await.status, 403, "{denied}");
    }
    ask(&[("forwarded", "for=6.6.6.6, for=1.1.1.1")]).await.expect(200);
    let call = stub.calls_to("/r/x").pop().unwrap();
    assert_eq!(call.header("x-real-ip"), "1.1.1.1");
    assert_eq!(call.header("x-forwarded-for"), "6.6.6.6, 1.1.1.1, 127.0.0.1");
    for unknown in ["for=unknown", "for=_hidden", "proto=https"] {
        ask(&[("forwarded", unknown)]).await.expect(200);
        assert_eq!(stub.calls_to("/r/x").pop().unwrap().header("x-real-ip"), "127.0.0.1", "{unknown}");
    }
    // Where both are there, `X-Forwarded-For` counts.
    ask(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.1.1.1")]).await.expect(200);
    ask(&[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "6.6.6.6")]).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_says_of_rates_stays_unless_the_route_has_some() {
    let stub = Stub::start().await;
    let said = [("ratelimit", "\"b\";r=7"), ("ratelimit-policy", "\"b\";q=9")];
    stub.always("/r/x", Answer::ok().header(said[0].0, said[0].1).header(said[1].0, said[1].1));
    for (limits, left) in
        [("", "\"b\";r=7"), ("rate_limits = [ { requests = 2, per = \"1h\" } ]", "\"default\";r=1;t=1800")]
    {
        let node = node(&stub, limits).await;
        let told = ask(&node, "192.0.2.1", &[]).await.expect(200);
        assert_eq!(told.header("ratelimit"), left);
        assert_eq!(told.headers.get_all("ratelimit").iter().count(), 1);
        assert_eq!(told.headers.get_all("ratelimit-policy").iter().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_compressed_for_who_takes_it_and_a_stream_of_events_never() {
    let stub = Stub::start().await;
    let text = "0123456789".repeat(1_000);
    let answer = |kind: &str| Answer::bytes(200, kind, text.clone()).header("etag", "\"v1\"");
    stub.always("/r/text", answer("text/plain"));
    stub.always("/r/events", answer("text/event-stream"));
    stub.always("/r/as-is", answer("text/plain").header("cache-control", "public, no-transform"));
    let node = node(&stub, "compress = true").await;
    let get = async |path: &str, accepts: &[(&str, &str)]| {
        node.send(Method::GET, &node.url(path), accepts, None).await.expect(200)
    };
    let takes = [("accept-encoding", "gzip")];
    let gzipped = get("/r/text", &takes).await;
    assert_eq!((gzipped.header("content-encoding"), gzipped.header("etag")), ("gzip", "W/\"v1\""));
    assert!(
        gzipped.header("vary").contains("accept-encoding") && gzipped.header("content-length").is_empty()
    );
    for plain in [get("/r/text", &[]).await, get("/r/events", &takes).await, get("/r/as-is", &takes).await] {
        assert_eq!((plain.header("content-encoding"), plain.header("etag")), ("", "\"v1\""));
        assert_eq!(plain.text, text);
    }
}
