//! Clients that take their time: they lose their own request, and hold up nobody else's.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use kit::{Node, Stub};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A whole request to begin a transaction, after which the node closes the connection.
const WHOLE: &[u8] =
    b"POST /transfers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{\"sum\":5}";

/// Its last bytes, which a slow client keeps back.
const REST: &[u8] = b"5}";

async fn two(section: &str) -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::with_section(section, &kit::two_branches(&accounts, &ledger));
    node.start().await;
    (node, accounts, ledger)
}

async fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(node.url("").replace("http://", "")).await.unwrap()
}

/// A client that has sent all but the last bytes of its request.
async fn begin_slowly(node: &Node) -> TcpStream {
    let mut stream = connect(node).await;
    stream.write_all(WHOLE.strip_suffix(REST).unwrap()).await.unwrap();
    stream
}

/// What comes until the node closes the connection: the status, and the JSON of the body.
async fn answer(stream: &mut TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    timeout(kit::PATIENCE, reading).await.expect("the node answers and closes the connection").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_is_refused_and_nothing_is_begun() {
    let (node, accounts, ledger) = two("body_timeout = \"300ms\"").await;
    let began = Instant::now();
    let mut silent = begin_slowly(&node).await;
    let (status, problem) = answer(&mut silent).await;
    assert_eq!((status, &problem["code"]), (408, &json!("slow_body")), "{problem}");
    assert!(began.elapsed() >= Duration::from_millis(300), "it had its time: {:?}", began.elapsed());

    // The time is for the whole body: a byte now and then does not prolong it.
    let (mut reader, mut writer) = connect(&node).await.into_split();
    let head = b"POST /transfers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 999\r\n\r\n";
    writer.write_all(head).await.unwrap();
    let trickle = async {
        while writer.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let mut first = [0; 12];
    let told = timeout(kit::PATIENCE, reader.read_exact(&mut first));
    tokio::select! {
        biased;
        told = told => drop(told.expect("it is told").unwrap()),
        () = trickle => panic!("the connection was closed without a word"),
    }
    assert_eq!(&first, b"HTTP/1.1 408");

    assert_eq!((accounts.calls().len(), ledger.calls().len()), (0, 0));
    assert_eq!(node.log().await.len(), 1, "the log holds nothing but that the node was started");
    node.post("/transfers", &json!({"sum": 5})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_slowly_holds_up_no_other() {
    let (node, accounts, _ledger) = two("").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(begin_slowly(&node).await);
    }
    let began = Instant::now();
    for _ in 0..10 {
        node.post("/transfers", &json!({"sum": 1})).await.expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "ten requests took {:?}", began.elapsed());
    assert_eq!(accounts.count("/debit"), 10);
    for stream in &mut slow {
        stream.write_all(REST).await.unwrap();
        assert_eq!(answer(stream).await.0, 200, "slow, and yet in time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_limit_is_refused_and_another_is_served_once_one_closes() {
    let (node, accounts, _ledger) = two("connections_max = 2").await;
    let (mut first, mut second) = (begin_slowly(&node).await, begin_slowly(&node).await);
    kit::until("both are being read", async || {
        let mut third = connect(&node).await;
        third.write_all(WHOLE).await.unwrap();
        let (status, told) = answer(&mut third).await;
        let is_refused = (status, &told["code"]) == (503, &json!("overloaded"));
        if !is_refused {
            // One of them was not heard yet, and gave up its seat.
            (first, second) = (begin_slowly(&node).await, begin_slowly(&node).await);
        }
        is_refused
    })
    .await;
    let so_far = accounts.count("/debit");

    drop(second);
    kit::until("there is a place again", async || {
        let mut third = connect(&node).await;
        third.write_all(WHOLE).await.unwrap();
        answer(&mut third).await.0 == 200
    })
    .await;
    assert_eq!(accounts.count("/debit"), so_far + 1);
    first.write_all(REST).await.unwrap();
    assert_eq!(answer(&mut first).await.0, 200, "those who had a seat kept it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (node, ..) = two("body_max = 1_000").await;
    let body = json!({"text": "x".repeat(2_000_000)});
    for path in ["/transfers", "/nobody"].repeat(20) {
        let wanted = if path == "/transfers" { 413 } else { 404 };
        let reply = node.try_post(path, &[], &body).await;
        assert_eq!(reply.map(|reply| reply.status), Some(wanted), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asked_before_it_sends_is_refused_without_its_body() {
    let (node, ..) = two("body_max = 1_000").await;
    let mut stream = connect(&node).await;
    let head = b"POST /transfers HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9999\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let began = Instant::now();
    assert_eq!(answer(&mut stream).await.0, 413, "and not first 100, which would ask for the body");
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for what will not come");
}

/// The configuration of a route `/hasty` to a backend that answers each request before it has read its body, and never closes.
/// Where it `reads` on, it counts there what has come.
async fn hasty_backend(tasks: &mut JoinSet<()>, reads: Option<Arc<AtomicUsize>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        r#"
        [services.hasty]
        endpoints = ["http://{}"]
        [[routes]]
        id = "hasty"
        match = {{ path = "/hasty" }}
        forward = {{ service = "hasty" }}
        "#,
        listener.local_addr().unwrap()
    );
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_u8().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            while let Some(count) = &reads
                && let Ok(byte) = stream.read_u8().await
            {
                count.fetch_add(usize::from(byte == b'#'), Relaxed);
            }
            open.push(stream);
        }
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_its_answer_holds_its_place_no_longer_though_its_body_never_ends() {
    let mut tasks = JoinSet::new();
    let config = hasty_backend(&mut tasks, None).await;
    // One place, so that nobody is served before the one before has left.
    let mut node = Node::with_section("connections_max = 1", &config);
    node.start().await;
    // The first stops in the midst of its body; the second sends more than anybody has room for.
    for sent in [b"abc".to_vec(), vec![b'x'; 20_000_000]] {
        let (mut reader, mut writer) = connect(&node).await.into_split();
        tasks.spawn(async move {
            let head = b"POST /hasty HTTP/1.1\r\nhost: x\r\ncontent-length: 90000000\r\n\r\n";
            // The node closes the connection when it has waited long enough.
            let _ = writer.write_all(&[head, sent.as_slice()].concat()).await;
            std::future::pending::<()>().await;
        });
        let mut first = [0; 12];
        timeout(kit::PATIENCE, reader.read_exact(&mut first)).await.expect("it is answered").unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        let nobody = node.url("/nobody");
        kit::until("the next one is served", async || {
            node.send(Method::GET, &nobody, &[("connection", "close")], None).await.status == 404
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_moves_after_its_answer_is_carried_to_its_end() {
    let (mut tasks, count) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let mut node = Node::new(&hasty_backend(&mut tasks, Some(count.clone())).await);
    node.start().await;
    let mut stream = connect(&node).await;
    stream.write_all(b"POST /hasty HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    timeout(kit::PATIENCE, stream.read_exact(&mut first)).await.expect("it is answered").unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Twelve seconds, in none of which it stands still for five.
    for _ in 0..12 {
        sleep(Duration::from_secs(1)).await;
        stream.write_all(b"#").await.unwrap();
    }
    kit::until("all of it has come", async || count.load(Relaxed) == 12).await;
}
