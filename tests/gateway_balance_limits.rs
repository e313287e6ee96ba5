//! A service that is not asked: its breaker is open, or it has as much to do as it can.

mod gateway_support;
mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use gateway_support::{beside, body, gateway, get, has_line, read_until, send, status};
use kit::{Answer, Gate, Stub};
use tokio::net::TcpStream;

/// A service at this instance with more keys, and a route to it.
fn config(instance: &Stub, service: &str) -> String {
    format!(
        "[services.s]\nendpoints = [{:?}]\n{service}\n[[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\n\
         forward = {{ service = \"s\", timeout = \"9s\" }}\n",
        instance.url("")
    )
}

const BREAKER: &str = "breaker = { error_percent = 50, requests_min = 4, open = \"3s\", ramp = \"200ms\" }";
const TWO: &str = "limit = { initial = 2, min = 2, max = 2 }";

fn retry_after(answer: &str) -> u64 {
    let field = answer.lines().find_map(|line| line.strip_prefix("retry-after: "));
    field.expect("a Retry-After").parse().expect("in seconds")
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_and_asked_again_when_it_has_recovered() {
    let stub = Stub::start().await;
    stub.always("/", Answer::status(500));
    let gateway = gateway(&config(&stub, BREAKER)).await;
    for _ in 0..4 {
        assert_eq!(status(&get(gateway, "/", &[]).await), "500");
    }
    stub.always("/", Answer::ok());
    let refused = get(gateway, "/", &[]).await;
    assert_eq!((status(&refused), stub.count("/")), ("503", 4), "{refused}");
    assert!(body(&refused).contains(r#""code":"breaker_open","service":"s""#), "{refused}");
    assert!((1..=6).contains(&retry_after(&refused)), "{refused}");
    assert!(!refused.contains(&stub.url("")["http://".len()..]), "no address of a backend: {refused}");
    kit::until("it is asked again", async || status(&get(gateway, "/", &[]).await) == "200").await;
    kit::until("and every request passes", async || {
        let mut all = true;
        for _ in 0..10 {
            all &= status(&get(gateway, "/", &[]).await) == "200";
        }
        all
    })
    .await;
}

#[tokio::test]
async fn what_clients_do_wrong_does_not_open_a_breaker() {
    let stub = Stub::start().await;
    let gateway = gateway(&config(&stub, BREAKER)).await;
    for wrong in [400, 404, 429, 501] {
        stub.always("/", Answer::status(wrong));
        for _ in 0..6 {
            assert_eq!(status(&get(gateway, "/", &[]).await), wrong.to_string());
        }
    }
}

async fn hold(gateway: SocketAddr, stub: &Stub, path: &'static str, count: usize) {
    for number in 1..=count {
        beside(async move { drop(get(gateway, path, &[]).await) });
        stub.wait_for(path, number).await;
    }
}

#[tokio::test]
async fn beyond_the_limit_requests_are_shed() {
    let (stub, gate) = (Stub::start().await, Gate::closed());
    stub.always("/slow", Answer::ok().behind(&gate));
    let gateway = gateway(&config(&stub, TWO)).await;
    hold(gateway, &stub, "/slow", 2).await;
    let refused = get(gateway, "/", &[]).await;
    assert_eq!((status(&refused), stub.count("/")), ("503", 0), "{refused}");
    assert!(body(&refused).contains(r#""code":"overloaded","service":"s""#), "{refused}");
    assert!(body(&refused).contains("the service s has as many requests as it can do at once"), "{refused}");
    assert!((1..=3).contains(&retry_after(&refused)), "{refused}");
    gate.open();
    kit::until("there is room again", async || status(&get(gateway, "/", &[]).await) == "200").await;
}

#[tokio::test]
async fn a_body_that_is_still_coming_takes_no_place_and_is_not_slow() {
    let stub = Stub::start().await;
    stub.always("/stream", Answer::big(1_000_000).slowly(1_000, Duration::from_millis(50)));
    let gateway = gateway(&config(&stub, TWO)).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = TcpStream::connect(gateway).await.unwrap();
        send(&mut client, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(has_line(&read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 200 OK"));
        clients.push(client);
    }
    assert_eq!(status(&get(gateway, "/", &[]).await), "200");
}

#[tokio::test]
async fn clients_that_send_slowly_do_not_hold_all_places() {
    let stub = Stub::start().await;
    let gateway = gateway(&config(&stub, TWO)).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(gateway).await.unwrap();
        send(&mut client, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nslow").await;
        clients.push(client);
    }
    kit::until("others are served", async || status(&get(gateway, "/", &[]).await) == "200").await;
    send(&mut clients[0], "-done").await;
    assert!(has_line(&read_until(&mut clients[0], "\r\n\r\n").await, "HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_part_of_a_merge_that_is_late_counts_too() {
    let stub = Stub::start().await;
    stub.always("/part", Answer::hang());
    let breaker = "breaker = { error_percent = 50, requests_min = 2, open = \"1h\", open_max = \"1h\" }";
    let merge = "[[routes]]\nid = \"merged\"\nmatch = { path = \"/merged\" }\n\
                 merge = { timeout = \"200ms\", parts = [{ service = \"s\", path = \"/part\", as = \"p\" }] }\n";
    let gateway = gateway(&format!("{}{merge}", config(&stub, breaker))).await;
    for _ in 0..2 {
        assert_eq!(status(&get(gateway, "/merged", &[]).await), "504");
    }
    assert_eq!(status(&get(gateway, "/merged", &[]).await), "503");
    assert_eq!(stub.count("/part"), 2);
}
