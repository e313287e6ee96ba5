//! What HTTP/2 could smuggle into HTTP/1.1: frames written by hand, and what the backend really received.
//!
//! Each case says what the backend really received. CVE numbers are of gateways that got it wrong.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;
mod security;

use std::time::Duration;

use kit::Node;
use security::{Backend, node, send, statuses};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const NONE: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The connection, or a stream, is not to go on: `RST_STREAM` and `GOAWAY`.
const REFUSED: [u8; 2] = [3, 7];

/// A request that a smuggler hides in the body of another.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";

type Field = (&'static str, &'static str);

const POST: [Field; 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "x")];

/// A frame of stream 1, or of the connection.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = u8::from(kind != SETTINGS);
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Fields as literals, neither indexed nor in Huffman's code (RFC 7541, 6.2.2).
fn block(fields: &[Field]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// `POST` with these fields, and then these frames of data, of which the last ends the stream.
fn post(fields: &[Field], data: &[&str]) -> Vec<u8> {
    request(&[&POST[..], fields].concat(), data)
}

fn request(fields: &[Field], data: &[&str]) -> Vec<u8> {
    let end = |is_last: bool| if is_last { END_STREAM } else { NONE };
    let mut frames = frame(HEADERS, END_HEADERS | end(data.is_empty()), &block(fields));
    for (number, piece) in (1..).zip(data) {
        frames.extend(frame(DATA, end(number == data.len()), piece.as_bytes()));
    }
    frames
}

async fn connect(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, NONE, b"")].concat()).await.unwrap();
    stream
}

/// Sends these frames, and gives the types of all that come back.
async fn exchange(node: &Node, frames: &[u8]) -> Vec<u8> {
    let mut stream = connect(node).await;
    let _ = stream.write_all(frames).await;
    let mut answer = Vec::new();
    while let Ok(Ok(1..)) = timeout(Duration::from_millis(300), stream.read_buf(&mut answer)).await {}
    types(&answer)
}

fn types(mut bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        found.push(bytes[3]);
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        bytes = bytes.get(9 + usize::try_from(length).unwrap()..).unwrap_or_default();
    }
    found
}

/// Each of these is refused, nothing of it is a request at the backend, and the next client is served.
async fn all_are_refused(cases: &[(&str, Vec<u8>)]) {
    for (name, frames) in cases {
        let backend = Backend::start().await;
        let node = node(&backend, "", "").await;
        let came = exchange(&node, frames).await;
        assert!(came.iter().any(|kind| REFUSED.contains(kind) || *kind == HEADERS), "{name}: {came:?}");
        assert_eq!(backend.all(), "", "{name}: the backend heard of it");
        assert_eq!(statuses(&send(&node, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await), [200], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_written_by_hand_arrive_as_one_request() {
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    let came = exchange(&node, &post(&[("content-length", "5")], &["he", "llo"])).await;
    assert!(came.contains(&HEADERS) && !came.iter().any(|kind| REFUSED.contains(kind)), "{came:?}");
    assert_eq!(backend.request_lines(), ["POST /x"]);
    assert_eq!(backend.field("content-length").as_deref(), Some("5"));
    assert!(backend.all().ends_with("\r\n\r\nhello"), "{}", backend.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_go_on_without_end_cut_the_connection() {
    // CVE-2024-27919 (memory), CVE-2024-30255 (time): CONTINUATION frames without end, full or empty.
    let full = block(&[("a", "0123456789012345678901234567890123456789")]).repeat(350);
    for (name, piece) in [("full", &full[..]), ("empty", b"")] {
        let backend = Backend::start().await;
        let node = node(&backend, "header_max = 16384", "").await;
        let (mut read, mut write) = connect(&node).await.into_split();
        write.write_all(&frame(HEADERS, END_STREAM, &block(&POST))).await.unwrap();
        let many = frame(CONTINUATION, NONE, piece).repeat(10);
        let mut sent = 0;
        // Far more than buffers between the two can hold.
        while sent < 64 << 20 && sent / many.len() < 1_000_000 {
            match timeout(Duration::from_secs(20), write.write_all(&many))
                .await
                .expect("it reads or hangs up")
            {
                Ok(()) => sent += many.len(),
                Err(_) => break,
            }
        }
        let mut answer = Vec::new();
        let ended = timeout(Duration::from_secs(20), read.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{name}: the connection stays open after {sent} bytes");
        assert!(sent < 8 << 20, "{name}: {sent} bytes were taken");
        assert_eq!(backend.all(), "", "{name}");
        assert_eq!(statuses(&send(&node, "GET /fine HTTP/1.1\r\nHost: x\r\n\r\n").await), [200], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_before_its_length_is_no_request_and_takes_nothing_of_the_next() {
    // CVE-2026-33555: a backend that waits for the rest would find it in the request of somebody else.
    all_are_refused(&[
        ("nothing of 5 bytes", post(&[("content-length", "5")], &[])),
        ("lengths that differ", post(&[("content-length", "5"), ("content-length", "6")], &["hello"])),
        ("no number", post(&[("content-length", "+5")], &["hello"])),
    ])
    .await;
    for (name, length, data) in [("too little", "100", &["he", "llo"]), ("too much", "5", &["hello", HIDDEN])]
    {
        let backend = Backend::start().await;
        let node = node(&backend, "", "").await;
        exchange(&node, &post(&[("content-length", length)], data)).await;
        for _ in 0..3 {
            let answers = send(&node, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert_eq!(statuses(&answers), [200], "{name}: {answers}");
        }
        let is_both = |bytes: &String| bytes.contains("/x ") && bytes.contains("/next ");
        let connections = backend.connections();
        assert!(!connections.iter().any(is_both), "{name}: the connection was used again: {connections:?}");
        assert!(!backend.all().contains("/hidden"), "{name}: {}", backend.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_http2_says_twice_is_passed_on_once() {
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    exchange(&node, &post(&[("content-length", "5"), ("content-length", "5")], &["hello"])).await;
    assert_eq!(backend.field("content-length").as_deref(), Some("5"));
    assert!(backend.all().ends_with("\r\n\r\nhello"), "{}", backend.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_whose_length_nobody_said_arrives_with_its_body() {
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "x")];
    exchange(&node, &request(&get, &["hello"])).await;
    assert_eq!(backend.field("transfer-encoding").as_deref(), Some("chunked"));
    assert!(backend.all().ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{}", backend.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_line_of_http1_could_hold_is_refused() {
    // The downgrades of "HTTP/2: The Sequel is Always Worse" (PortSwigger, 2021): lines, codings and fields of a connection.
    let path = |path: &'static str| {
        request(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")], &[])
    };
    let method = |method: &'static str| {
        request(&[(":method", method), (":scheme", "http"), (":path", "/x"), (":authority", "x")], &[])
    };
    let authority = |authority: &'static str| {
        request(&[(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", authority)], &[])
    };
    all_are_refused(&[
        ("a coding", post(&[("transfer-encoding", "chunked")], &["0\r\n\r\n", HIDDEN])),
        ("connection", post(&[("connection", "x")], &[])),
        ("upgrade", post(&[("upgrade", "h2c")], &[])),
        ("a line in a value", post(&[("foo", "b\r\nhidden: x")], &[])),
        ("LF in a value", post(&[("foo", "b\nhidden: x")], &[])),
        ("NUL in a value", post(&[("foo", "b\0c")], &[])),
        ("a line in a name", post(&[("foo: b\r\nhidden", "x")], &[])),
        ("a colon in a name", post(&[("transfer-encoding: chunked", "x")], &[])),
        ("a capital letter in a name", post(&[("Foo", "x")], &[])),
        ("a space in a name", post(&[("transfer-encoding ", "chunked")], &[])),
        ("an empty name", post(&[("", "x")], &[])),
        ("two paths", post(&[(":path", "/hidden")], &[])),
        ("a line in the path", path("/x HTTP/1.1\r\nHost: x\r\n\r\nGET /hidden")),
        ("a space in the path", path("/x HTTP/1.1")),
        ("a path without a slash", path("hidden")),
        ("no path", path("")),
        ("a line in the method", method("GET /hidden HTTP/1.1\r\nHost: x\r\n\r\nGET")),
        ("a space in the method", method("GET /hidden")),
        ("a line in the host", authority("x\r\nhidden: x")),
        ("a path in the host", authority("x/hidden")),
        ("a user in the host", authority("hidden@x")),
        ("another host in a field", post(&[("host", "y")], &[])),
    ])
    .await;
}
