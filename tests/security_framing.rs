//! Where one request ends and the next begins: what two parties could read in two ways is refused, or passed on in one.
//!
//! Each case says what the backend really received. CVE numbers are of gateways that got it wrong.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;
mod security;

use security::{Backend, node, send, statuses};

/// A request that a smuggler hides: it must never reach the backend as one.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends one case, and gives the statuses that came back.
async fn one(backend: &Backend, bytes: &str) -> (Vec<u16>, String) {
    let node = node(backend, "", "").await;
    let answers = send(&node, bytes).await;
    (statuses(&answers), answers)
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}")
}

/// Each of these is refused with 400, the connection ends, and the backend never hears of it.
async fn all_are_refused(cases: &[(&str, String)]) {
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    for (name, bytes) in cases {
        let answers = send(&node, bytes).await;
        assert!(matches!(statuses(&answers)[..], [400 | 501]), "{name}: {answers}");
        assert_eq!(backend.all(), "", "{name}: the backend heard of it");
    }
    assert_eq!(statuses(&send(&node, "GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").await), [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_does_not_count_and_is_not_passed_on() {
    // CVE-2026-2835, hyper#4123: CL.TE and TE.CL, in both orders of the fields.
    let (length, chunked) = ("Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n");
    for fields in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
        let backend = Backend::start().await;
        let (statuses, answers) = one(&backend, &post(&fields, &format!("0\r\n\r\n{HIDDEN}"))).await;
        assert!(matches!(statuses[..], [200 | 400]), "{answers}");
        assert!(!backend.all().contains("/hidden"), "{}", backend.all());
        if statuses == [200] {
            assert_eq!(backend.field("content-length"), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_coding_that_could_be_read_in_two_ways_is_refused() {
    let body = "0\r\n\r\n";
    let cases = [
        ("not the last", "Transfer-Encoding: chunked, identity\r\n"),
        ("unknown", "Transfer-Encoding: xchunked\r\n"),
        ("only gzip", "Transfer-Encoding: gzip\r\n"),
        ("twice, the last another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a tab in it", "Transfer-Encoding: \tchun\tked\r\n"),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        ("a quote", "Transfer-Encoding: \"chunked\"\r\n"),
        ("nothing", "Transfer-Encoding: \r\n"),
        ("a bare CR before it", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("another before it", "Transfer-Encoding: gzip, chunked\r\n"),
        (
            "another before it in its own field",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("twice in a list", "Transfer-Encoding: chunked, chunked\r\n"),
        ("nothing before it", "Transfer-Encoding: , chunked\r\n"),
    ];
    all_are_refused(&cases.map(|(name, fields)| (name, post(fields, body)))).await;
    let old = "POST /x HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned();
    all_are_refused(&[("HTTP/1.0 has no chunks", old)]).await;
    // Whatever follows is no request, for nobody can say where it begins.
    let followed = post("Transfer-Encoding: gzip, chunked\r\n", body) + HIDDEN;
    all_are_refused(&[("a request behind it", followed)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_chunks_arrives_whatever_the_method() {
    // A client library leaves out the body of a GET whose length nobody has said.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let backend = Backend::start().await;
        let bytes = format!(
            "{method} /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let (statuses, answers) = one(&backend, &bytes).await;
        assert_eq!(statuses, [200], "{method}: {answers}");
        assert_eq!(backend.field("transfer-encoding").as_deref(), Some("chunked"), "{method}");
        let (_, body) =
            backend.all().split_once("\r\n\r\n").map(|(head, body)| (head.len(), body.to_owned())).unwrap();
        assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_a_signed_number_cannot_hold_goes_to_nobody() {
    // 2^63: to a backend that counts with a sign it is less than nothing.
    let backend = Backend::start().await;
    let bytes = post("Content-Length: 9223372036854775808\r\n", HIDDEN);
    let (statuses, answers) = one(&backend, &bytes).await;
    assert_eq!((&statuses[..], backend.all().as_str()), (&[413][..], ""), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_a_field_about_framing_is_not_passed_on() {
    let backend = Backend::start().await;
    let fields =
        "Transfer_Encoding: chunked\r\nContent_Length: 9\r\nProxy_Connection: x\r\nContent-Length: 5\r\n";
    let (statuses, answers) = one(&backend, &post(fields, "hello")).await;
    assert_eq!(statuses, [200], "{answers}");
    assert!(!backend.all().contains('_'), "{}", backend.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_no_number_is_refused() {
    // CVE-2021-21299, CVE-2023-40225, CVE-2021-40346 and the classic corpus.
    let cases = [
        ("a sign", "Content-Length: +5\r\n"),
        ("negative", "Content-Length: -5\r\n"),
        ("hexadecimal", "Content-Length: 0x5\r\n"),
        ("empty", "Content-Length: \r\n"),
        ("letters", "Content-Length: five\r\n"),
        ("two that differ", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("a list that differs", "Content-Length: 5, 6\r\n"),
        ("a fraction", "Content-Length: 5.0\r\n"),
        ("a space in it", "Content-Length: 5 5\r\n"),
        ("more than 64 bits", "Content-Length: 18446744073709551621\r\n"),
        ("an underscore", "Content-Length: 1_0\r\n"),
    ];
    all_are_refused(&cases.map(|(name, fields)| (name, post(fields, "hello")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_said_twice_is_passed_on_once_or_refused() {
    for fields in ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n"] {
        let backend = Backend::start().await;
        let (statuses, answers) = one(&backend, &post(fields, "hello")).await;
        match statuses[..] {
            [200] => assert_eq!(backend.field("content-length").as_deref(), Some("5")),
            _ => assert_eq!((&statuses[..], backend.all().as_str()), (&[400][..], ""), "{answers}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_end_the_request_and_nothing_after_them_is_one() {
    // RUSTSEC-2021-0078/-0079 (CVE-2021-32714, -32715) and chunk extensions without end.
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
    for (name, body) in [
        ("an overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("negative", "-5\r\nhello\r\n0\r\n\r\n"),
        ("no number", "z\r\nhello\r\n0\r\n\r\n"),
        ("data beyond its length", "4\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("an extension without end", &long),
    ] {
        let backend = Backend::start().await;
        let bytes = post("Transfer-Encoding: chunked\r\n", body) + HIDDEN;
        let (statuses, answers) = one(&backend, &bytes).await;
        assert!(statuses.len() <= 1, "{name}: {answers}");
        assert!(!backend.all().contains("/hidden"), "{name}: {}", backend.all());
        assert!(
            !backend.all().contains("0\r\n\r\n"),
            "{name}: what broke off never looks whole: {}",
            backend.all()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_names_that_are_none_are_refused() {
    // CVE-2023-25725 (an empty name), CVE-2019-9900 (NUL), request splitting by bare CR.
    let with = |line: &str| format!("GET /x HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
    let cases = [
        ("an empty name", with(": y")),
        ("a space in the name", with("X Y: z")),
        ("a space before the colon", with("X : z")),
        ("no colon", with("XY")),
        ("NUL in a value", with("X: a\0b")),
        ("a bare CR in a value", with("X: a\rHidden: b")),
        ("a bare LF in front of a name", with("X: a\n Hidden: b")),
        ("a folded line", with("X: a\r\n b")),
        ("a folded first line", "GET /x HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n".to_owned()),
        ("a byte beyond ASCII in a name", with("X\u{e9}: z")),
        ("a brace in a name", with("X{: z")),
    ];
    all_are_refused(&cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_that_is_none_is_refused() {
    let cases = [
        ("HTTP/0.9", "GET /x\r\n\r\n"),
        ("HTTP/1.2 with letters", "GET /x HTTP/1.1x\r\nHost: x\r\n\r\n"),
        ("HTTP/2 in a line", "GET /x HTTP/2.0\r\nHost: x\r\n\r\n"),
        ("HTTP/3", "GET /x HTTP/3.0\r\nHost: x\r\n\r\n"),
        ("another protocol", "GET /x ICY/1.1\r\nHost: x\r\n\r\n"),
        ("two spaces", "GET  /x HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a tab", "GET\t/x HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a space in the target", "GET /x y HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a method with a colon", "G:T /x HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("no host", "GET /x HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET /x HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
        ("a host in the target and another in the field", "GET http://y/x HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a TLS handshake", "\x16\x03\x01\x02"),
    ];
    all_are_refused(&cases.map(|(name, bytes)| (name, bytes.to_owned()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feeds_are_refused_or_read_as_ends_of_lines_and_never_passed_on() {
    let backend = Backend::start().await;
    let bytes = format!("POST /x HTTP/1.1\nHost: x\nContent-Length: {}\n\n{HIDDEN}", HIDDEN.len());
    let (statuses, answers) = one(&backend, &bytes).await;
    assert!(matches!(statuses[..], [200 | 400]), "{answers}");
    let before_body = backend.all().split("\r\n\r\n").next().unwrap_or_default().to_owned();
    assert!(!before_body.replace("\r\n", "").contains('\n'), "{before_body}");
    assert!(backend.request_lines().len() <= 2 && !before_body.contains("/hidden"), "{}", backend.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_body_that_nobody_read_is_no_request_of_somebody_else() {
    // CVE-2025-4366: an answer is given early, and the rest of the body is parsed as the next request.
    let backend = Backend::start().await;
    let node = node(&backend, "", "body_max = 10").await;
    let body = HIDDEN.repeat(10);
    let early = format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answers = send(&node, &early).await;
    assert_eq!(statuses(&answers), [413], "{answers}");
    let unrouted = "POST /v1/transactions/x HTTP/1.1\r\nHost: x\r\nContent-Length: ";
    let answers = send(&node, format!("{unrouted}{}\r\n\r\n{HIDDEN}", HIDDEN.len())).await;
    assert_eq!(statuses(&answers), [405], "{answers}");
    assert_eq!(backend.all(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_order_and_each_once() {
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    let row: Vec<_> = (0..5).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    assert_eq!(statuses(&send(&node, row.concat()).await), [200; 5]);
    assert_eq!(backend.request_lines(), (0..5).map(|number| format!("GET /{number}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_the_backend_did_not_agree_to_opens_no_tunnel() {
    // CVE-2026-2833: bytes behind `Upgrade` went to the backend before its 101. And h2c smuggling.
    for fields in [
        "Connection: Upgrade\r\nUpgrade: foo\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    ] {
        let backend = Backend::start().await;
        let bytes = format!(
            "GET /x HTTP/1.1\r\nHost: x\r\n{fields}\r\nGET /v1/transactions/x HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let (statuses, answers) = one(&backend, &bytes).await;
        assert!(matches!(statuses[..], [200, 404] | [200]), "{answers}");
        assert_eq!(backend.request_lines(), ["GET /x"], "the second request is the gateway's own");
        assert_eq!(
            (backend.field("upgrade").filter(|to| to == "h2c"), backend.field("http2-settings")),
            (None, None)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_that_says_nothing_of_length_has_no_body() {
    let backend = Backend::start().await;
    let (statuses, answers) = one(&backend, &format!("POST /x HTTP/1.0\r\nHost: x\r\n\r\n{HIDDEN}")).await;
    assert_eq!(statuses.len(), 1, "{answers}");
    assert_eq!(backend.request_lines(), ["POST /x"], "{}", backend.all());
}
