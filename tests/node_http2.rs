//! HTTP/2 without TLS, by prior knowledge, on the public listener of a real node.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, Version};
use kit::{Answer, Gate, Node, Stub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ROUTES: &str = r#"
    [[routes]]
    id = "transfer"
    match = { methods = ["POST"], path = "/transfers" }
    [routes.transaction]
    branches = [ { service = "accounts", path = "/debit" } ]

    [[routes]]
    id = "api"
    match = { host = "api.example.com", path = "/{*rest}" }
    forward = { service = "accounts" }

    [[routes]]
    id = "all"
    match = { path = "/{*rest}" }
    forward = { service = "accounts", path = "/any/{rest}" }
"#;

async fn node(section: &str, stub: &Stub) -> Node {
    let mut node = Node::with_section(section, &(kit::service("accounts", stub, false) + ROUTES));
    node.start().await;
    node
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

/// A connection whose frames a test sends itself.
async fn connect(node: &Node) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(node.listen()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(async move { drop(connection.await) });
    sender.ready().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://api.example.com{path}")).body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_all_kinds_go_through_and_the_host_is_that_of_the_target() {
    let stub = Stub::start().await;
    let node = node("", &stub).await;
    let answer = client().get(node.url("/x?y=1")).send().await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    let committed = client().post(node.url("/transfers")).body("{}").send().await.unwrap();
    assert_eq!(committed.status(), StatusCode::OK);
    let seen = stub.calls_to("/any/x").pop().unwrap();
    assert_eq!(seen.path, "/any/x?y=1");
    assert!(seen.header("via").starts_with("2.0 unanimous-"), "{seen:?}");

    let mut sender = connect(&node).await;
    let request = Request::get("http://api.example.com/hosted")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    let seen = stub.calls_to("/hosted").pop().unwrap();
    assert_eq!((seen.header("x-forwarded-host"), seen.header("cookie")), ("api.example.com", "a=1; b=2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_connection_and_a_slow_one_holds_up_none() {
    let stub = Stub::start().await;
    let gate = Gate::closed();
    stub.always("/slow", Answer::ok().behind(&gate));
    let node = node("", &stub).await;
    let mut sender = connect(&node).await;
    let (slow, _) = sender.send_request(get("/slow"), true).unwrap();
    let quick = (0..50).map(|number| sender.send_request(get(&format!("/{number}")), true).unwrap().0);
    for answer in join_all(quick.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    gate.open();
    assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_left_unread_costs_the_client_its_connection() {
    let stub = Stub::start().await;
    stub.always("/big", Answer::big(4 << 20));
    let node = node("answer_timeout = \"500ms\"", &stub).await;
    let mut sender = connect(&node).await;
    let (answer, _) = sender.send_request(get("/big"), true).unwrap();
    // Its window is never opened again.
    let mut body = answer.await.unwrap().into_body();
    let unread = async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), unread).await.expect("the connection is cut");
    node.get("/still/here").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lets_a_byte_of_its_answer_in_now_and_then_loses_its_connection() {
    let stub = Stub::start().await;
    stub.always("/big", Answer::big(4 << 20));
    let node = node("answer_timeout = \"500ms\"", &stub).await;
    let mut sender = connect(&node).await;
    let (answer, _) = sender.send_request(get("/big"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let sipping = async {
        while body.data().await.is_some_and(|chunk| chunk.is_ok()) {
            // What fills the window is read; from then on it grows by a byte.
            drop(body.flow_control().release_capacity(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), sipping).await.expect("the connection is cut");
    node.get("/still/here").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_costs_its_stream_and_not_the_connection() {
    let stub = Stub::start().await;
    let node = node("body_timeout = \"400ms\"", &stub).await;
    let mut sender = connect(&node).await;
    let request = Request::post("http://api.example.com/up").body(()).unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    let dripping = async {
        while body.send_data(Bytes::from_static(b"#"), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(kit::PATIENCE, answer) => answer.expect("it is told").unwrap(),
        () = dripping => unreachable!(),
    };
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    let (answer, _) = sender.send_request(get("/quick"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_streams_without_end_is_disconnected() {
    let stub = Stub::start().await;
    let node = node("", &stub).await;
    let mut sender = connect(&node).await;
    let flood = async {
        loop {
            match sender.send_request(get("/x"), true) {
                Ok((answer, _)) => drop(answer),
                Err(_) => return,
            }
            match sender.ready().await {
                Ok(ready) => sender = ready,
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), flood).await.expect("it is told to go away");
    node.get("/still/here").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_preface_does_not_hold_a_seat_for_long() {
    let stub = Stub::start().await;
    let node = node("header_timeout = \"300ms\"", &stub).await;
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_and_answers_what_it_has_taken() {
    let stub = Stub::start().await;
    let gate = Gate::closed();
    stub.always("/slow", Answer::ok().behind(&gate));
    let mut node = node("drain = \"0s\"", &stub).await;
    let mut sender = connect(&node).await;
    let (answer, _) = sender.send_request(get("/slow"), true).unwrap();
    stub.wait_for("/slow", 1).await;
    node.signal("TERM").await;
    let mut gone = sender.clone();
    kit::until("GOAWAY", async || match gone.clone().ready().await {
        Ok(ready) => {
            gone = ready;
            gone.send_request(get("/more"), true).is_err()
        }
        Err(_) => true,
    })
    .await;
    gate.open();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    drop(sender);
    assert!(node.wait().await.success());
}
