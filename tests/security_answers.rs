//! A backend that lies about where its answer ends: its client gets no other client's answer, and nobody gets half of one for
//! a whole.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;
mod security;

use security::{Backend, node, send, statuses};

const ASK: &str = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";

/// What one client gets where the backend answers with these bytes, and what the next one gets.
async fn answers(bytes: impl AsRef<[u8]>) -> (String, String) {
    let backend = Backend::answering(bytes).await;
    let node = node(&backend, "", "").await;
    (send(&node, ASK).await, send(&node, ASK).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    // Response queue poisoning: a second answer behind the first, on a connection that is used again.
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let (first, second) = answers(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{poison}")).await;
    for got in [first, second] {
        assert!(got.ends_with("ok") && !got.contains("poison"), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_where_none_may_be_is_no_answer() {
    for head in ["204 No Content", "304 Not Modified"] {
        let hidden = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        let (first, second) = answers(format!("HTTP/1.1 {head}\r\ncontent-length: 44\r\n\r\n{hidden}")).await;
        for got in [first, second] {
            assert!(!got.contains("poison") && statuses(&got).len() == 1, "{head}: {got}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_end_could_be_read_in_two_ways_is_passed_on_in_one_or_is_502() {
    for (name, fields, body) in [
        (
            "a length beside chunks",
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "chunks beside a length",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n", "ok!"),
        ("a list of lengths", "content-length: 2, 3\r\n", "ok!"),
        ("a length with a sign", "content-length: +2\r\n", "ok"),
        ("no length that is a number", "content-length: two\r\n", "ok"),
        ("a folded field", "x-a: b\r\n c\r\ncontent-length: 2\r\n", "ok"),
        ("a space before the colon", "content-length : 2\r\n", "ok"),
        ("an empty name", ": b\r\ncontent-length: 2\r\n", "ok"),
        ("NUL in a value", "x-a: b\0c\r\ncontent-length: 2\r\n", "ok"),
        ("a bare CR in a value", "x-a: b\rset-cookie: c\r\ncontent-length: 2\r\n", "ok"),
    ] {
        let (got, next) = answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")).await;
        match statuses(&got)[..] {
            [200] => {
                let head = got.split("\r\n\r\n").next().unwrap().to_lowercase();
                let framing =
                    head.matches("content-length").count() + head.matches("transfer-encoding").count();
                assert_eq!(framing, 1, "{name}: {got}");
                assert!(
                    !head.contains('\0') && !head.replace("\r\n", "").contains(['\r', '\n']),
                    "{name}: {got}"
                );
            }
            [502] => assert!(got.contains("\"code\":\"unreachable\""), "{name}: {got}"),
            _ => panic!("{name}: {got}"),
        }
        assert_eq!(statuses(&next).len(), 1, "{name}: {next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_as_long_as_it_was_read_and_no_other_length_is_said_of_it() {
    for length in [0, 3, 300] {
        let fields = format!("content-length: {length}\r\ntransfer-encoding: chunked");
        let (got, next) =
            answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
        for got in [got, next] {
            assert!(got.contains("5\r\nhello\r\n0\r\n\r\n"), "{length}: {got}");
            assert!(!got.to_lowercase().contains("content-length"), "{length}: {got}");
        }
    }
    for fields in ["content-length: 2, 2", "content-length: 2\r\ncontent-length: 2"] {
        let (got, next) = answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok")).await;
        for got in [got, next] {
            assert!(got.contains("content-length: 2\r\n") && got.ends_with("\r\n\r\nok"), "{fields}: {got}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_coded_for_the_way_is_not_passed_on_as_if_it_were_not() {
    for coding in ["gzip, chunked", "gzip\r\ntransfer-encoding: chunked", "gzip", "identity"] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n4\r\nxxxx\r\n0\r\n\r\n");
        let (got, _) = answers(answer).await;
        assert_eq!(statuses(&got), [502], "{coding}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_read_to_where_its_chunks_end() {
    for (fields, status) in
        [("content-length: 3\r\ntransfer-encoding: chunked", 200), ("transfer-encoding: gzip, chunked", 502)]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n7\r\n{{\"a\":1}}\r\n0\r\n\r\n");
        let backend = Backend::answering(answer).await;
        let config = format!(
            "[services.s]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"m\"\nmatch = {{ path = \"/x\" }}\n\
             merge = {{ parts = [{{ service = \"s\", path = \"/p\" }}] }}\n",
            backend.address
        );
        let mut node = kit::Node::with_section("", &config);
        node.start().await;
        let got = send(&node, ASK).await;
        assert_eq!(statuses(&got), [status], "{fields}: {got}");
        assert_eq!(got.ends_with("{\"a\":1}"), status == 200, "{fields}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_more_fields_than_most_have_is_passed_on() {
    let many = "x-many: y\r\n".repeat(200);
    let (got, _) = answers(format!("HTTP/1.1 200 OK\r\n{many}content-length: 2\r\n\r\nok")).await;
    assert_eq!((statuses(&got), got.matches("x-many").count()), (vec![200], 200), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    for (bytes, framing) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 100\r\n\r\nhalf", "content-length: 100"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz",
            "transfer-encoding: chunked",
        ),
    ] {
        let (got, _) = answers(bytes).await;
        assert!(got.to_lowercase().contains(framing) && !got.ends_with("0\r\n\r\n"), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_502_and_names_no_address() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(2 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-many: y\r\n".repeat(10_000));
    for bytes in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/7.1 200 OK\r\n\r\n",
        &long,
        &many,
    ] {
        let backend = Backend::answering(bytes).await;
        let node = node(&backend, "", "").await;
        let got = send(&node, ASK).await;
        assert_eq!(statuses(&got), [502], "{:?}: {got}", bytes.get(..40));
        let port = backend.address.rsplit(':').next().unwrap();
        assert!(!got.contains(port) && !got.contains("127.0.0.1"), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_interim_answers_ends_and_a_tunnel_that_nobody_asked_for_is_none() {
    let flood = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100);
    let (got, _) = answers(format!("{flood}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    assert!(got.ends_with("ok"), "{got}");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let (got, next) = answers(switched).await;
    for got in [got, next] {
        assert!(statuses(&got) == [502] && !got.contains("poison"), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_connection_to_the_backend_stay_on_it() {
    let (got, _) = answers(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-private\r\nx-private: 1\r\nkeep-alive: timeout=9\r\n\
         proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-gateway-error: forged\r\n\
         X-Gateway-Completed: forged\r\nTransaction-Id: forged\r\ntransaction_vote: forged\r\ntrailer: x\r\nte: trailers\r\nserver: s\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let got = got.to_lowercase();
    for name in ["x-private", "keep-alive", "proxy-authenticate", "upgrade", "\r\nte:", "forged"] {
        assert!(!got.contains(name), "{name}: {got}");
    }
    assert!(got.contains("server: s"), "{got}");
}
