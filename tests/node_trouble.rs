//! What operators see of trouble without asking for a log of each request: lines that say why, and counts.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use kit::{Answer, Gate, Node, Stub};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All goes to one service, and one route merges one part of it.
const ROUTES: &str = r#"
    [[routes]]
    id = "all"
    match = { path = "/{*rest}" }
    forward = { service = "s", timeout = "300ms" }

    [[routes]]
    id = "merged"
    match = { path = "/merged" }
    merge = { parts = [ { service = "s", path = "/part", as = "part", required = false } ] }
"#;

/// A node before these instances, with more keys for `[node]` and for the service.
async fn node(section: &str, instances: &[&Stub], keys: &str) -> Node {
    let endpoints: Vec<String> = instances.iter().map(|stub| format!("\"{}\"", stub.url(""))).collect();
    let service = format!("[services.s]\nendpoints = [{}]\n{keys}\n", endpoints.join(", "));
    let mut node = Node::with_section(section, &(service + ROUTES));
    node.env("UNANIMOUS_LOG_FORMAT", "json").start().await;
    node
}

/// What the log says with this message, beginning with the first.
fn said(node: &Node, message: &str) -> Vec<Value> {
    let lines: Vec<Value> = node.stderr().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = lines.into_iter().map(|mut line| {
        let level = line["level"].take();
        let mut fields = line["fields"].take();
        fields["level"] = level;
        fields
    });
    fields.filter(|fields| fields["message"] == message).collect()
}

async fn begun(node: &Node, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(node.listen()).await.unwrap();
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_service_is_said_with_its_cause_and_without_an_address() {
    let mut stub = Stub::start().await;
    stub.always("/late", Answer::hang());
    stub.always("/cut", Answer::cut());
    stub.always("/garbage", Answer::garbage());
    let node = node("", &[&stub], "").await;
    for path in ["/late", "/cut", "/garbage"] {
        node.get(path).await;
    }
    stub.stop().await;
    node.get("/gone").await.expect(502);
    let unreadable =
        "a service gave no answer that could be read; whether it acted on the request is not known";
    let kinds = |message: &str| -> Vec<Value> {
        let lines = said(&node, message);
        for line in &lines {
            assert_eq!(
                (&line["level"], &line["route"], &line["service"]),
                (&json!("WARN"), &json!("all"), &json!("s"))
            );
            assert_eq!(line["request_id"].as_str().unwrap().len(), 32, "{line}");
        }
        lines.into_iter().map(|line| line["kind"].clone()).collect()
    };
    assert_eq!(kinds("a service did not answer in time"), ["no answer in time"]);
    assert_eq!(kinds(unreadable), ["closed before an answer", "not HTTP"]);
    assert_eq!(kinds("a service could not be reached"), ["connection refused"]);
    let port = stub.url("").rsplit(':').next().unwrap().to_owned();
    assert!(!node.stderr().contains(&port), "{}", node.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_does_not_fill_the_log() {
    let mut stub = Stub::start().await;
    stub.stop().await;
    let node = node("", &[&stub], "").await;
    for _ in 0..200 {
        node.get("/x").await.expect(502);
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    node.get("/x").await.expect(502);
    let lines = said(&node, "a service could not be reached");
    let left_out: u64 = lines.iter().map(|line| line["left_out"].as_u64().unwrap()).sum();
    assert_eq!(lines.len() as u64 + left_out, 201, "{lines:?}");
    assert!(lines.len() < 50, "{}", lines.len());
    assert_eq!(
        node.metric("retries_total{service=\"s\",reason=\"never_sent\"}").await,
        "0",
        "there is no other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_are_failures_of_the_service() {
    let stub = Stub::start().await;
    stub.always("/half", Answer::cut_midway());
    stub.always("/part", Answer::cut_midway());
    let keys = "breaker = { requests_min = 8, error_percent = 100, open = \"1h\", open_max = \"1h\" }";
    for path in ["/half", "/merged"] {
        let node = node("", &[&stub], keys).await;
        for _ in 0..8 {
            node.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        }
        kit::until("its breaker is open", async || node.metric("breaker_state{service=\"s\"}").await == "2")
            .await;
        let line = said(&node, "an answer broke off").remove(0);
        assert_eq!((&line["level"], &line["service"]), (&json!("WARN"), &json!("s")), "{line}");
        assert_eq!(line["kind"], "closed before its end", "{line}");
        if path == "/half" {
            assert_eq!(node.metric("http_answers_broken_off_total{route=\"all\"}").await, "8");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_answers_break_off_is_left_out_and_the_log_names_no_address() {
    let (good, bad) = (Stub::start().await, Stub::start().await);
    bad.always("/half", Answer::cut_midway());
    bad.always("/health", Answer::status(503));
    let keys = "outlier = { consecutive = 3, base_time = \"1h\", max_time = \"1h\" }\nbalance = { policy = \"round-robin\" }";
    let checked =
        format!("{keys}\nhealth = {{ path = \"/health\", interval = \"50ms\", unhealthy = 1, healthy = 1 }}");
    let node = node("", &[&good, &bad], keys).await;
    for _ in 0..8 {
        node.raw("GET /half HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    }
    let ejected = "service_instances{service=\"s\",standing=\"ejected\"}";
    kit::until("it is ejected", async || node.metric(ejected).await == "1").await;
    let line = said(&node, "an instance fails too often and is left out").remove(0);
    assert_eq!((&line["usable"], &line["instances"]), (&json!(1), &json!(2)), "{line}");

    let other = self::node("", &[&good, &bad], &checked).await;
    kit::until("it is not well", async || {
        !said(&other, "an instance is not well, as its checks say").is_empty()
    })
    .await;
    let line = said(&other, "an instance is not well, as its checks say").remove(0);
    assert_eq!((&line["usable"], &line["instances"]), (&json!(1), &json!(2)), "{line}");
    bad.always("/health", Answer::ok());
    kit::until("it is well again", async || !said(&other, "an instance is well again").is_empty()).await;
    assert_eq!(said(&other, "an instance is well again")[0]["usable"], 2);
    let port = bad.url("").rsplit(':').next().unwrap().to_owned();
    for log in [node.stderr(), other.stderr()] {
        assert!(!log.contains(&port), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_counted_and_is_no_failure_of_the_service() {
    let (stub, gate) = (Stub::start().await, Gate::closed());
    stub.always("/behind", Answer::ok().behind(&gate));
    stub.always("/slow", Answer::big(4 << 20).slowly(1 << 10, Duration::from_millis(20)));
    let keys = "breaker = { requests_min = 1, error_percent = 1, open = \"1h\", open_max = \"1h\" }";
    let node = node("access_log = true", &[&stub], keys).await;
    drop({
        let client = begun(&node, "/behind").await;
        stub.wait_for("/behind", 1).await;
        client
    });
    kit::until("it is counted", async || {
        let gone = "unanimous_http_requests_total{route=\"all\",code=\"gone\"} 1\n";
        node.admin("/metrics").await.text.contains(gone)
    })
    .await;
    assert_eq!(node.metric("http_request_duration_seconds_count{route=\"all\"}").await, "1");
    let line = said(&node, "no answer: the client has gone").remove(0);
    assert_eq!((&line["route"], &line["status"]), (&json!("all"), &json!(499)), "{line}");
    assert!(line["took_seconds"].is_f64(), "{line}");
    let mut client = begun(&node, "/slow").await;
    client.read_u8().await.unwrap();
    drop(client);
    kit::until("nobody waits", async || node.metric("http_requests_in_flight").await == "0").await;
    assert_eq!(node.metric("breaker_state{service=\"s\"}").await, "0");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_can_cause_does_not_fill_the_log() {
    let stub = Stub::start().await;
    stub.always("/part", Answer::status(404));
    let node = node("", &[&stub], "").await;
    node.get("/merged").await.expect(200);
    assert!(said(&node, "a part is missing").is_empty(), "{}", node.stderr());
    stub.always("/part", Answer::status(500));
    for _ in 0..20 {
        node.get("/merged").await.expect(200);
    }
    let lines = said(&node, "a part is missing");
    assert_eq!((&lines[0]["status"], &lines[0]["kind"]), (&json!(500), &json!("refused")), "{lines:?}");
    assert!(lines.len() < 10, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_said_once_a_second() {
    let stub = Stub::start().await;
    let node = node("", &[&stub], "").await;
    for _ in 0..20 {
        let answer = node.raw("GET /a\"b HTTP/1.1 x\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let many = "x: y\r\n".repeat(101);
    let answer = node.raw(format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    kit::until("both are said", async || said(&node, "a client sent what is no request").len() >= 2).await;
    let lines = said(&node, "a client sent what is no request");
    let kinds = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(kinds("its head is over a limit"), 1, "{lines:?}");
    assert!((1..10).contains(&kinds("not HTTP")), "{lines:?}");
    assert!(stub.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_of_transactions_begins_at_zero() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    node.start().await;
    for (name, value) in [
        ("phase_duration_seconds_count{phase=\"working\"}", "0"),
        ("participant_calls_total{service=\"ledger\",operation=\"commit\",result=\"ok\"}", "0"),
        ("participant_call_duration_seconds_count{service=\"accounts\",operation=\"work\"}", "0"),
    ] {
        assert_eq!(node.metric(name).await, value, "{name}");
    }
}
