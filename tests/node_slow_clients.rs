//! Clients that take their time: they lose their own request, and hold up nobody else's.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use kit::{Answer, Node, Stub};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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

/// Says this now and then until it is told something; the status line of that, or nothing where the connection was cut.
async fn drip(stream: TcpStream, piece: &str) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let dripping = async {
        while writer.write_all(piece.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut told = vec![0; 4096];
    let count = tokio::select! {
        count = timeout(kit::PATIENCE, reader.read(&mut told)) => count.expect("it is told, or cut").unwrap_or(0),
        () = dripping => unreachable!(),
    };
    String::from_utf8_lossy(&told[..count]).lines().next().unwrap_or_default().to_owned()
}

/// Routes to `stub`: one as it is by default, and one on which clients may take their time.
fn streaming(stub: &Stub) -> String {
    kit::service("streams", stub, false)
        + r#"
        [[routes]]
        id = "upload"
        match = { path = "/upload" }
        forward = { service = "streams" }
        [[routes]]
        id = "talk"
        match = { path = "/talk" }
        forward = { service = "streams", body_rate_min = 0 }
        "#
}

const HEAD: &str = "HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
const CHUNK: &str = "1\r\n#\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_that_drips_is_cut_and_nobody_else_is_blamed() {
    let stub = Stub::start().await;
    let mut node = Node::with_section("body_timeout = \"400ms\"", &streaming(&stub));
    node.start().await;
    // A byte now and then puts the deadline of the route off, but does not earn the time it takes. Neither does silence.
    for piece in [CHUNK, ""] {
        let mut client = connect(&node).await;
        client.write_all(format!("POST /upload {HEAD}{CHUNK}").as_bytes()).await.unwrap();
        let began = Instant::now();
        assert_eq!(drip(client, piece).await, "HTTP/1.1 408 Request Timeout");
        assert!(began.elapsed() >= Duration::from_millis(300), "it had its time: {:?}", began.elapsed());
    }
    // Faster than 500 bytes a second: as long as it likes.
    let mut client = connect(&node).await;
    client.write_all(format!("POST /upload {HEAD}").as_bytes()).await.unwrap();
    for _ in 0..20 {
        client.write_all(format!("64\r\n{}\r\n", "#".repeat(100)).as_bytes()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(drip(client, "0\r\n\r\n").await, "HTTP/1.1 200 OK");
    assert_eq!(stub.calls_to("/upload").pop().unwrap().text().len(), 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_in_the_midst_of_its_body_is_late_itself_and_its_service_is_not_blamed() {
    let stub = Stub::start().await;
    let strict = "breaker = { error_percent = 1, requests_min = 1, open = \"1h\", open_max = \"1h\" }\n\
                  [services.streams.transaction]";
    let config = streaming(&stub).replace("[services.streams.transaction]", strict);
    let short = "forward = { service = \"streams\", timeout = \"300ms\" }";
    let mut node = Node::new(&config.replacen("forward = { service = \"streams\" }", short, 1));
    node.start().await;
    let mut client = connect(&node).await;
    client.write_all(format!("POST /upload {HEAD}{CHUNK}").as_bytes()).await.unwrap();
    assert_eq!(drip(client, "").await, "HTTP/1.1 408 Request Timeout");
    node.get("/upload").await.expect(200);
    // Where a service has the whole request and says nothing, it is to blame.
    stub.always("/upload", Answer::hang());
    node.get("/upload").await.expect(504);
    node.get("/upload").await.expect(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_let_its_clients_take_their_time() {
    let stub = Stub::start().await;
    let mut node = Node::with_section("body_timeout = \"200ms\"", &streaming(&stub));
    node.start().await;
    let mut client = connect(&node).await;
    client.write_all(format!("POST /talk {HEAD}").as_bytes()).await.unwrap();
    for _ in 0..4 {
        client.write_all(CHUNK.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(drip(client, "0\r\n\r\n").await, "HTTP/1.1 200 OK");
    assert_eq!(stub.calls_to("/talk").pop().unwrap().text(), "####");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_backend_does_not_take_what_it_sends_is_not_slow() {
    const LENGTH: usize = 30_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[services.lazy]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"lazy\"\nmatch = {{ path = \"/lazy\" }}\n\
         forward = {{ service = \"lazy\" }}\n",
        listener.local_addr().unwrap()
    );
    let mut node = Node::with_section("body_timeout = \"300ms\"", &config);
    node.start().await;
    let lazy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        sleep(Duration::from_secs(2)).await;
        let mut taken = Vec::new();
        while taken.len() < LENGTH && stream.read_buf(&mut taken).await.is_ok_and(|count| count > 0) {}
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
    };
    let client = async {
        let mut client = connect(&node).await;
        let head = format!("POST /lazy HTTP/1.1\r\nhost: x\r\ncontent-length: {LENGTH}\r\n\r\n");
        client.write_all(&[head.as_bytes(), &vec![b'#'; LENGTH]].concat()).await.unwrap();
        drip(client, "").await
    };
    let (told, ()) = tokio::join!(client, lazy);
    assert_eq!(told, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_while_its_answer_is_being_sent_costs_the_connection() {
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[services.chat]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"chat\"\nmatch = {{ path = \"/chat\" }}\n\
         forward = {{ service = \"chat\" }}\n",
        listener.local_addr().unwrap()
    );
    let mut node = Node::with_section("body_timeout = \"400ms\"", &config);
    node.start().await;
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut taken = Vec::new();
        stream.read_buf(&mut taken).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nok").await.unwrap();
        while stream.read_buf(&mut taken).await.is_ok_and(|count| count > 0) {}
    });
    let mut client = connect(&node).await;
    client.write_all(format!("POST /chat {HEAD}{CHUNK}").as_bytes()).await.unwrap();
    let mut head = [0; 15];
    timeout(kit::PATIENCE, client.read_exact(&mut head)).await.expect("it is answered").unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let (mut reader, mut writer) = client.into_split();
    tasks.spawn(async move {
        while writer.write_all(CHUNK.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(3), reader.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is cut, and not left to the 90 bytes of its answer: {}", rest.len());
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_a_byte_now_and_then_does_not_keep_its_place() {
    let stub = Stub::start().await;
    stub.always("/upload", Answer::big(30_000_000));
    let mut node = Node::with_section("connections_max = 1\nanswer_timeout = \"500ms\"", &streaming(&stub));
    node.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    // The smallest window that the system gives.
    socket.set_recv_buffer_size(1).unwrap();
    let mut client = socket.connect(node.listen().parse().unwrap()).await.unwrap();
    client.write_all(b"GET /upload HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let reading = async {
        while client.read_u8().await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let nobody = node.url("/nobody");
    let served = kit::until("its place is free", async || {
        node.send(Method::GET, &nobody, &[("connection", "close")], None).await.status == 404
    });
    tokio::select! {
        () = served => {}
        () = async { reading.await; std::future::pending::<()>().await } => {}
    }
}
