//! What clients may not do, what the node says when it cannot start, and how it stops.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::process::Output;
use std::time::Duration;

use http::Method;
use kit::{Answer, Gate, Node, Stub};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A node with the ledger's part of the request at `/to`.
async fn two(section: &str) -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let pointer = "path = \"/credit\", body = \"/to\"";
    let config = kit::two_branches(&accounts, &ledger).replace("path = \"/credit\"", pointer);
    let mut node = Node::with_section(section, &config);
    node.start().await;
    (node, accounts, ledger)
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_could_not_be_logged_begins_nothing() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let carrying = "abort   = \"/tx/abort\"\n        body    = \"request\"";
    let config = kit::two_branches(&accounts, &ledger).replacen("abort   = \"/tx/abort\"", carrying, 1);
    let mut node = Node::with_section("body_max = 8388608", &config);
    node.start().await;
    let most = 3 * 1024 * 1024;
    let body = |len: usize| json!({"to": 1, "x": "x".repeat(len - 15)});
    let refused = node.post("/transfers", &body(most)).await.expect(413).json();
    assert_eq!(refused["code"], "body_too_large");
    // Its paths count as well: so many bytes less, and it is logged.
    let detail = refused["detail"].as_str().unwrap();
    let has: usize = detail.split(" has ").last().unwrap().split(' ').next().unwrap().parse().unwrap();
    let fits = 2 * most - has;
    assert!(fits < most - 50 && fits > most - 1000, "{detail}");
    node.post("/transfers", &body(fits)).await.expect(200);
    node.post("/transfers", &body(fits + 1)).await.expect(413);
    assert_eq!(accounts.count("/debit"), 1);
    assert_eq!(node.in_doubt().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_meant_is_refused_and_begins_nothing() {
    let (node, accounts, _ledger) = two("body_max = 1000\nheader_timeout = \"300ms\"").await;
    let big = json!({"to": "x".repeat(1000)});
    let refused = node.post("/transfers", &big).await.expect(413);
    assert_eq!(refused.json()["code"], "body_too_large");
    let chunked = format!(
        "POST /transfers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    );
    assert!(node.raw(chunked.as_bytes()).await.starts_with("HTTP/1.1 413 "));

    let long =
        node.raw(b"POST /transfers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2000\r\n\r\n");
    assert!(long.await.starts_with("HTTP/1.1 413 "), "without waiting for a byte of it");
    let homeless = node.raw(b"GET /nothing HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(homeless.starts_with("HTTP/1.1 400 ") && homeless.contains("bad_host"), "{homeless}");

    let unknown = node.get("/nothing").await.expect(404);
    assert_eq!(
        (unknown.json()["code"].as_str(), unknown.header("content-type")),
        (Some("no_route"), "application/problem+json")
    );
    let method = node.get("/transfers").await.expect(405);
    assert_eq!((method.header("allow"), method.json()["status"].as_u64()), ("POST, OPTIONS", Some(405)));
    let status =
        node.post("/v1/transactions/4b6f9a52-0f2e-4d3c-9a55-0242ac120002", &json!({})).await.expect(405);
    assert_eq!(status.header("allow"), "GET, HEAD");
    let malformed =
        node.send(Method::POST, &node.url("/transfers"), &[], Some("{\"to\":".to_owned())).await.expect(400);
    assert_eq!(malformed.json()["code"], "malformed_json");
    let missing = node.post("/transfers", &json!({"from": 1})).await.expect(400);
    assert_eq!(missing.json()["code"], "missing_pointer");

    // Too slow with its headers: cut, with or without a word.
    let slow = node.raw(b"POST /transfers HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408 "), "{slow}");
    assert_eq!(accounts.calls().len(), 0, "nothing was begun");
    assert_eq!(node.log().await.len(), 1);
    node.post("/transfers", &json!({"to": 1})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_stop_its_transaction() {
    let (node, accounts, ledger) = two("").await;
    let gate = Gate::closed();
    accounts.always("/debit", Answer::ok().behind(&gate));
    let body = r#"{"to":1}"#;
    let request =
        format!("POST /transfers HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut stream = TcpStream::connect(node.url("").replace("http://", "")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let id = accounts.wait_for("/debit", 1).await[0].transaction().to_owned();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    node.wait_for_state(&id, "committed").await;
    assert_eq!(ledger.count("/tx/commit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_and_ends_with_0() {
    let (mut node, accounts, _ledger) = two("drain = \"500ms\"").await;
    let gate = Gate::closed();
    accounts.always("/debit", Answer::ok().behind(&gate));
    let body = json!({"to": 1});
    let stopping = async {
        accounts.wait_for("/debit", 1).await;
        node.signal("TERM").await;
        kit::until("it is not ready any more", async || node.admin("/readyz").await.status == 503).await;
        assert_eq!(node.admin("/livez").await.status, 200);
        // Within `drain` connections are taken, and a new transaction is refused with nothing of it begun.
        let refused = node.post("/transfers", &body).await.expect(503);
        assert_eq!((refused.header("retry-after"), refused.json()["code"].clone()), ("5", json!("draining")));
        assert_eq!(accounts.count("/debit"), 1);
        assert_eq!(refused.header("connection"), "close", "its client is to find another node");
        // Longer than `drain`: the listener is closed by now, the request goes on.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let late = node.try_post("/transfers", &[], &body).await;
        assert!(late.as_ref().is_none_or(|late| late.status == 503), "{late:?}");
        gate.open();
    };
    let (reply, ()) = tokio::join!(node.post("/transfers", &body), stopping);
    reply.expect(200);
    let ended = node.wait().await;
    assert_eq!(ended.code(), Some(0), "{}", node.stderr());
    node.start().await;
    assert_eq!(node.in_doubt().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_it_at_once_and_loses_nothing() {
    let (mut node, accounts, ledger) = two("drain = \"30s\"").await;
    ledger.always("/tx/commit", Answer::status(503));
    let (key, body) = ([("Idempotency-Key", "k")], json!({"to": 1}));
    let client = async {
        let _ = node.try_post("/transfers", &key, &body).await;
    };
    let stopping = async {
        ledger.wait_for("/tx/commit", 1).await;
        node.signal("TERM").await;
        kit::until("it is not ready any more", async || node.admin("/readyz").await.status == 503).await;
        node.signal("TERM").await;
    };
    tokio::join!(client, stopping);
    let ended = node.wait().await;
    assert_ne!(ended.code(), Some(0));
    assert!(node.stderr().contains("second signal"), "{}", node.stderr());
    ledger.always("/tx/commit", Answer::ok());
    node.start().await;
    node.settled().await;
    node.post_with("/transfers", &key, &body).await.expect(200);
    assert_eq!(accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_is_said_and_ends_with_74() {
    let (node, _accounts, _ledger) = two("").await;
    let serve = |directory: String, listen: &'static str| {
        let config = node.config().to_str().unwrap().to_owned();
        let node = &node;
        async move {
            let ports = ["--listen", listen, "--admin", "127.0.0.1:0"];
            node.cli(&[&["serve", "--config", &config, "--data-dir", &directory][..], &ports].concat()).await
        }
    };
    let locked = serve(node.data_dir().display().to_string(), "127.0.0.1:0").await;
    assert_eq!(locked.status.code(), Some(74), "{}", err(&locked));
    assert!(err(&locked).contains("in use by another process"), "{}", err(&locked));
    let no_directory = serve("/proc/nowhere/data".to_owned(), "127.0.0.1:0").await;
    assert_eq!(no_directory.status.code(), Some(74), "{}", err(&no_directory));
    assert!(err(&no_directory).contains("/proc/nowhere"), "{}", err(&no_directory));
    let address: &'static str = node.url("").replace("http://", "").leak();
    let in_use = serve("/proc/nowhere/data".to_owned(), address).await;
    assert_eq!(in_use.status.code(), Some(1));
    assert!(err(&in_use).contains("node.listen") && err(&in_use).contains(address), "{}", err(&in_use));
    node.post("/transfers", &json!({"to": 1})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_found_said_and_never_served() {
    let (mut node, _accounts, ledger) = two("").await;
    for n in 0..20 {
        node.post("/transfers", &json!({"to": n})).await.expect(200);
    }
    ledger.always("/tx/commit", Answer::status(503));
    node.post("/transfers", &json!({"to": 1})).await.expect(202);
    node.kill().await;
    // Every byte of the middle of what was written is turned over.
    let file = node.data_dir().join("store").join("db");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2..end / 2 + 64].iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&file, &bytes).unwrap();
    // And the second copy is gone.
    std::fs::remove_file(node.data_dir().join("ring")).unwrap();

    let directory = node.data_dir().display().to_string();
    let verify = node.cli(&["verify", "--data-dir", &directory]).await;
    let said = String::from_utf8(verify.stdout.clone()).unwrap() + &err(&verify);
    assert_eq!(verify.status.code(), Some(1), "{said}");
    assert!(said.contains("WRONG") || said.contains("damage") || said.contains("record"), "{said}");
    let dump = node.cli(&["dump", "--data-dir", &directory]).await;
    assert_eq!(dump.status.code(), Some(1), "{}", err(&dump));
    assert_eq!(node.spawn().wait().await.code(), Some(74), "{}", node.stderr());
    assert!(node.stderr().contains(&directory), "{}", node.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_end_with_78_and_help_helps() {
    let node = Node::new("[services.x]\nendpoint = [\"http://127.0.0.1:1\"]\n");
    for command in ["serve", "check"] {
        let refused = node.cli(&[command, "--config", node.config().to_str().unwrap()]).await;
        assert_eq!(refused.status.code(), Some(78), "{}", err(&refused));
        assert!(
            err(&refused).contains("endpoints") && err(&refused).contains("unanimous.toml:"),
            "{}",
            err(&refused)
        );
    }
    let absent = node.cli(&["serve", "--config", "/nowhere/unanimous.toml"]).await;
    assert_eq!(absent.status.code(), Some(78), "{}", err(&absent));
    assert!(err(&absent).contains("/nowhere/unanimous.toml"));
    for command in ["serve", "demo", "check", "dump", "verify", "tx", "completions"] {
        let help = node.cli(&[command, "--help"]).await;
        assert_eq!(help.status.code(), Some(0));
        assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: unanimous "), "{command}");
    }
    assert_eq!(node.cli(&["serve"]).await.status.code(), Some(2));
    assert_eq!(node.cli(&["nonsense"]).await.status.code(), Some(2));
    let completions = node.cli(&["completions", "bash"]).await;
    assert!(String::from_utf8(completions.stdout).unwrap().contains("unanimous"));
}
