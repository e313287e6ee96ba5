//! A `WebSocket` and other upgrades, through a real node: when a tunnel opens, what it outlives, and what closes it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Node, PATIENCE};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const WISH: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A backend that answers each head with these bytes and from then on sends back what it gets, in upper case.
struct Shouter {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Shouter {
    async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let kept = heads.clone();
        tokio_util::task::TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio_util::task::TaskTracker::new().spawn(async move {
                    let head = head(&mut stream).await;
                    kept.lock().unwrap().push(head);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let said = buffer[..count].to_ascii_uppercase();
                        if stream.write_all(&said).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn config(&self) -> String {
        format!(
            "[services.s]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"chat\"\nmatch = {{ path = \"/chat\" }}\n\
             forward = {{ service = \"s\" }}\n",
            self.address
        )
    }

    async fn node(&self, section: &str) -> Node {
        let mut node = Node::with_section(section, &self.config());
        node.start().await;
        node
    }
}

/// Reads to the end of a head, and not a byte further.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, stream.read_u8()).await.unwrap() {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A tunnel through the node, and what was answered to the wish for it.
async fn open(node: &Node) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    stream.write_all(WISH.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    (stream, answer)
}

/// What comes back for what is said.
async fn say(stream: &mut TcpStream, said: &str) -> String {
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut heard = vec![0; said.len()];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    String::from_utf8(heard).unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_secs(5), stream.read(&mut [0])).await;
    read.is_ok_and(|read| read.map_or(true, |count| count == 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_agree_and_then_speak_as_they_like() {
    let shouter = Shouter::answering(GRANT).await;
    let node = shouter.node("").await;
    let (mut stream, answer) = open(&node).await;
    let answer = answer.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    for line in
        ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="]
    {
        assert_eq!(answer.split("\r\n").filter(|found| found == &line).count(), 1, "{line}: {answer}");
    }
    assert_eq!(say(&mut stream, "hello").await, "HELLO");
    assert_eq!(
        say(&mut stream, "GET /v1/transactions/x HTTP/1.1\r\n\r\n").await,
        "GET /V1/TRANSACTIONS/X HTTP/1.1\r\n\r\n"
    );
    let seen = shouter.heads.lock().unwrap()[0].to_lowercase();
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(seen.split("\r\n").any(|found| found == line), "{line}: {seen}");
    }
    drop(stream);
    kit::until("it is counted as answered", async || node.metric("http_requests_in_flight").await == "0")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_before_the_backend_agreed_waits_for_it() {
    let shouter = Shouter::answering(GRANT).await;
    let node = shouter.node("").await;
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    stream.write_all(format!("{WISH}early").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(say(&mut stream, "later").await, "EARLY", "in order, and nothing lost");
    // And where it does not agree, that is the next request: none.
    let refuser = Shouter::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let node = refuser.node("").await;
    let answers = node.raw(format!("{WISH}GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 404 "), "{answers}");
    assert_eq!(refuser.heads.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_tunnels_alone_also_where_their_route_is_gone() {
    let shouter = Shouter::answering(GRANT).await;
    let node = shouter.node("").await;
    let (mut stream, _) = open(&node).await;
    assert_eq!(say(&mut stream, "before").await, "BEFORE");
    for config in [shouter.config().replace("\"/chat\"", "\"/other\""), String::new()] {
        node.configure("", &config);
        node.admin_post("/v1/reload", &json!({})).await.expect(200);
        assert_eq!(say(&mut stream, "after").await, "AFTER");
    }
    node.get("/chat").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_has_a_place_for_as_long_as_it_is_open() {
    let shouter = Shouter::answering(GRANT).await;
    let node = shouter.node("connections_max = 1").await;
    let (mut stream, _) = open(&node).await;
    node.get("/chat").await.expect(503);
    assert_eq!(say(&mut stream, "hello").await, "HELLO", "nobody takes its place");
    drop(stream);
    kit::until("its place is free", async || node.get("/other").await.status == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_in_which_nobody_speaks_is_closed() {
    let shouter = Shouter::answering(GRANT).await;
    let node = shouter.node("tunnel_idle = \"300ms\"").await;
    let (mut stream, _) = open(&node).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(say(&mut stream, "hello").await, "HELLO");
    }
    assert!(is_closed(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_gives_tunnels_the_time_of_requests_in_flight() {
    let shouter = Shouter::answering(GRANT).await;
    let mut node = shouter.node("drain = \"0s\"\nfinish = \"1s\"").await;
    let (mut stream, _) = open(&node).await;
    node.signal("TERM").await;
    assert_eq!(say(&mut stream, "still").await, "STILL");
    assert!(is_closed(&mut stream).await);
    assert!(node.wait().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_agrees_to_what_nobody_wished_for_is_broken() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let shouter = Shouter::answering(answer).await;
        let node = shouter.node("").await;
        let (mut stream, answer) = open(&node).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        stream.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(!head(&mut stream).await.is_empty(), "it goes on as HTTP");
    }
}
