//! What a backend is told of the client, and what a client gets through the gateway, of a real node.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use http::Method;
use kit::{Answer, Node, Stub};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

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
    assert_eq!(refused.header("x-gateway-error"), "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_leads_back_to_the_gateway_ends_with_508() {
    let stub = Stub::start().await;
    let node = node("", &stub).await;
    // By a name: an address that is the node's own is refused with the configuration.
    let here = node.url("").replace("127.0.0.1", "localhost");
    let here = format!("[services.accounts]\nendpoints = [\"{here}\"]\n");
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
async fn what_is_no_scheme_and_no_port_is_passed_on_from_nobody() {
    let stub = Stub::start().await;
    let node = node("trusted_proxies = [\"127.0.0.0/8\"]", &stub).await;
    let own = node.listen().rsplit_once(':').unwrap().1;
    for (proto, port, passed) in [
        ("https", "8443", ("https", "8443")),
        ("javascript", "99999", ("http", own)),
        ("https, http", "+443", ("http", own)),
        ("", "0", ("http", own)),
    ] {
        let said = [("x-forwarded-proto", proto), ("x-forwarded-port", port)];
        node.send(Method::GET, &node.url("/x"), &said, None).await.expect(200);
        let call = stub.calls_to("/x").pop().unwrap();
        assert_eq!((call.header("x-forwarded-proto"), call.header("x-forwarded-port")), passed);
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
    assert!(plain["took_seconds"].is_f64(), "{plain}");
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

/// A backend that keeps all that it gets of one request, and answers with these bytes once it has seen `end`.
async fn raw_backend(end: &'static str, answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).ends_with(end) {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(got).unwrap()
    };
    (address, tokio_util::task::TaskTracker::new().spawn(serve))
}

async fn node_before(address: &str) -> Node {
    let route = "[[routes]]\nid = \"all\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"s\" }\n";
    let mut node = Node::new(&format!("[services.s]\nendpoints = [\"http://{address}\"]\n{route}"));
    node.start().await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_through_in_both_directions_without_what_must_not_be_there() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, content-length\r\n\r\n\
                  2\r\nok\r\n0\r\ngrpc-status: 0\r\ncontent-length: 9\r\n\r\n";
    let (address, got) = raw_backend("digest: x\r\n\r\n", answer).await;
    let node = node_before(&address).await;
    let request = "POST /x HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close, TE\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: digest, host\r\n\r\n2\r\nhi\r\n0\r\nhost: evil\r\ndigest: x\r\n\r\n";
    let told = node.raw(request).await;
    let seen = got.await.unwrap();
    assert!(seen.contains("\r\nte: trailers\r\n") && seen.ends_with("0\r\ndigest: x\r\n\r\n"), "{seen}");
    assert!(!seen.contains("evil"), "{seen}");
    assert!(told.ends_with("0\r\ngrpc-status: 0\r\n\r\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_and_one_that_is_refused_is_not() {
    let (address, got) = raw_backend("hello", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let node = node_before(&address).await;
    let head = "POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(kit::PATIENCE, stream.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && !got.await.unwrap().contains("100-continue"), "{rest}");
    let refused = node.raw(head.replace("/x", "/v1/transactions/x")).await;
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_stream_arrives_when_it_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node_before(&listener.local_addr().unwrap().to_string()).await;
    let mut client = TcpStream::connect(node.listen()).await.unwrap();
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    // An answer that comes before its request is nobody's: the whole head is read first.
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        assert!(backend.read_buf(&mut asked).await.unwrap() > 0, "the node asks");
    }
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        backend.write_all(event.as_bytes()).await.unwrap();
        // Nothing more is sent before it has come.
        let listens = async {
            while !String::from_utf8_lossy(&heard).contains(&event) {
                assert!(client.read_buf(&mut heard).await.unwrap() > 0);
            }
        };
        timeout(kit::PATIENCE, listens)
            .await
            .unwrap_or_else(|_| panic!("{number}: {}", String::from_utf8_lossy(&heard)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_passed_on_while_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node_before(&listener.local_addr().unwrap().to_string()).await;
    let mut client = TcpStream::connect(node.listen()).await.unwrap();
    client.write_all(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n").await.unwrap();
    let mut backend: Option<TcpStream> = None;
    let mut got = Vec::new();
    for part in ["first-part", "other-part", "third-part"] {
        client.write_all(part.as_bytes()).await.unwrap();
        if backend.is_none() {
            backend = Some(timeout(kit::PATIENCE, listener.accept()).await.unwrap().unwrap().0);
        }
        let reads = async {
            while !String::from_utf8_lossy(&got).ends_with(part) {
                assert!(backend.as_mut().unwrap().read_buf(&mut got).await.unwrap() > 0);
            }
        };
        timeout(kit::PATIENCE, reads)
            .await
            .unwrap_or_else(|_| panic!("{part}: {}", String::from_utf8_lossy(&got)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_and_each_part_has_a_span_of_its_own_in_the_trace_of_the_client() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    let stub = Stub::start().await;
    let routes = r#"
        [[routes]]
        id = "tries"
        match = { path = "/tries" }
        forward = { service = "accounts", retry = { on = [503] } }
        [[routes]]
        id = "parts"
        match = { path = "/parts" }
        [routes.merge]
        parts = [
          { service = "accounts", path = "/a", as = "a" },
          { service = "accounts", path = "/b", as = "b" },
        ]
    "#;
    let mut node = Node::new(&(kit::service("accounts", &stub, false) + routes));
    node.start().await;
    stub.next("/tries", [Answer::status(503)]);
    let parent = format!("{TRACE}00f067aa0ba902b7-01");
    for path in ["/tries", "/parts"] {
        let headers = [("traceparent", parent.as_str())];
        node.send(Method::GET, &node.url(path), &headers, None).await.expect(200);
    }
    let told: std::collections::BTreeSet<_> =
        stub.calls().iter().map(|call| call.header("traceparent").to_owned()).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().all(|told| told.starts_with(TRACE) && told.ends_with("-01") && *told != parent));
}
