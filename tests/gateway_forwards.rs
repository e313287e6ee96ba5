//! Plain forwarding through real sockets: what the backend really gets, and what the client does.

mod gateway_support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway_support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Reads until `expected` has come.
async fn read_until(stream: &mut TcpStream, expected: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(expected) {
        assert_ne!(soon(stream.read_buf(&mut text)).await.expect("reads"), 0, "the connection ended");
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("writes");
}

async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.expect("accepts").0
}

/// A POST of `body`, on a connection of its own.
async fn post(address: SocketAddr, body: &str) -> String {
    let length = body.len();
    let head =
        format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    raw(address, &format!("{head}{body}")).await
}

#[tokio::test]
async fn the_first_part_of_an_answer_arrives_before_the_last_is_sent() {
    let (listener, address) = listener().await;
    let mut client = TcpStream::connect(forwarding_to(&[address]).await).await.unwrap();
    send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut backend = accept(&listener).await;
    send(&mut backend, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    read_until(&mut client, "first").await;
    send(&mut backend, "6\r\nsecond\r\n0\r\n\r\n").await;
    read_until(&mut client, "second").await;
}

#[tokio::test]
async fn the_first_part_of_a_request_arrives_before_the_last_is_sent() {
    let (listener, address) = listener().await;
    let mut client = TcpStream::connect(forwarding_to(&[address]).await).await.unwrap();
    send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    let mut backend = accept(&listener).await;
    read_until(&mut backend, "first").await;
    send(&mut client, "6\r\nsecond\r\n0\r\n\r\n").await;
    read_until(&mut backend, "second").await;
    send(&mut backend, OK).await;
    read_until(&mut client, "ok").await;
}

#[tokio::test]
async fn a_body_of_known_length_keeps_its_length() {
    let (backend, record) = recorder(OK).await;
    assert_eq!(status(&post(forwarding_to(&[backend]).await, "hello").await), "200");
    let request = &seen(&record)[0];
    assert!(has_line(request, "content-length: 5"), "{request}");
    assert!(!request.to_lowercase().contains("transfer-encoding"), "{request}");
    assert!(request.ends_with("\r\n\r\nhello"), "{request}");
}

#[tokio::test]
async fn a_request_with_two_lengths_goes_out_with_one() {
    let (backend, record) = recorder(OK).await;
    let request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    raw(forwarding_to(&[backend]).await, request).await;
    let request = seen(&record).concat().to_lowercase();
    assert!(!request.contains("content-length"), "{request}");
    assert!(request.contains("hello"), "{request}");
}

#[tokio::test]
async fn a_request_goes_out_with_path_query_and_the_host_of_the_backend() {
    let (backend, record) = recorder(OK).await;
    get(forwarding_to(&[backend]).await, "/a%2fb/%7ec?x=1&y=%20", &[]).await;
    let request = &seen(&record)[0];
    assert!(request.starts_with("GET /a%2Fb/~c?x=1&y=%20 HTTP/1.1\r\n"), "{request}");
    assert!(has_line(request, &format!("host: {backend}")), "{request}");
}

#[tokio::test]
async fn a_path_of_the_route_is_filled_from_the_request() {
    let (backend, record) = recorder(OK).await;
    let route = "[[routes]]\nid = \"r\"\nmatch = { path = \"/a/{id}\" }\n\
                 forward = { service = \"s\", path = \"/b/{id}?only={id}\" }\n";
    let gateway = gateway(&config(&[backend], route)).await;
    get(gateway, "/a/x%2F..x&y?z=1", &[]).await;
    let request = &seen(&record)[0];
    assert!(request.starts_with("GET /b/x%2F..x&y?only=x%2F..x%26y HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn fields_of_the_clients_connection_stay_on_it() {
    let (backend, record) = recorder(OK).await;
    let fields = [
        "Connection: keep-alive, X-Hop, X-Forwarded-For",
        "X-Hop: 1",
        "TE: gzip",
        "Upgrade: h2c",
        "Keep-Alive: 5",
        "Proxy-Authorization: Basic eA==",
        "X-End: 2",
    ];
    get(forwarding_to(&[backend]).await, "/", &fields).await;
    let request = seen(&record)[0].to_lowercase();
    for gone in ["x-hop", "te:", "upgrade", "keep-alive", "proxy-authorization", "connection:"] {
        assert!(!request.contains(gone), "{gone}: {request}");
    }
    assert!(has_line(&request, "x-end: 2"), "{request}");
    assert!(has_line(&request, "x-forwarded-for: 127.0.0.1"), "{request}");
}

#[tokio::test]
async fn fields_of_the_backends_connection_stay_on_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                  Keep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\nX-End: 2\r\n\r\nok";
    let (backend, _) = recorder(answer).await;
    let answer = get(forwarding_to(&[backend]).await, "/", &[]).await.to_lowercase();
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    assert!(has_line(&answer, "x-end: 2"), "{answer}");
    assert!(has_line(&answer, "via: 1.1 unanimous"), "{answer}");
}

#[tokio::test]
async fn a_client_cannot_claim_what_only_the_gateway_may_say() {
    let (backend, record) = recorder(OK).await;
    let claims = [
        "Transaction-Id: 1",
        "Transaction_Vote: read-only",
        "X-Forwarded-For: 6.6.6.6",
        "X_Forwarded_Proto: https",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Forwarded-Host: evil",
    ];
    get(forwarding_to(&[backend]).await, "/", &claims).await;
    let request = seen(&record)[0].to_lowercase();
    for gone in ["transaction", "6.6.6.6", "evil", "https", "x_"] {
        assert!(!request.contains(gone), "{gone}: {request}");
    }
    for ours in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: api.example.com",
        "via: 1.1 unanimous",
    ] {
        assert!(has_line(&request, ours), "{ours}: {request}");
    }
}

#[tokio::test]
async fn endpoints_are_asked_in_turn() {
    let ((one, one_saw), (two, two_saw)) = (recorder(OK).await, recorder(OK).await);
    let gateway = forwarding_to(&[one, two]).await;
    for _ in 0..4 {
        assert_eq!(status(&get(gateway, "/", &[]).await), "200");
    }
    assert_eq!((seen(&one_saw).len(), seen(&two_saw).len()), (2, 2));
}

#[tokio::test]
async fn a_call_that_was_never_sent_moves_to_the_next_endpoint_with_its_body() {
    let (alive, record) = recorder(OK).await;
    let gateway = forwarding_to(&[nobody().await, nobody().await, alive]).await;
    for _ in 0..3 {
        assert_eq!(status(&post(gateway, "money").await), "200");
    }
    assert_eq!(seen(&record).iter().filter(|request| request.ends_with("\r\n\r\nmoney")).count(), 3);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_moves_to_the_next_endpoint() {
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Nobody accepts: once two connections wait, Linux leaves a third one hanging.
    let _waiting = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    let (alive, record) = recorder(OK).await;
    let route = "[[routes]]\nid = \"all\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"s\" }\n";
    let config = format!("node = {{ connect_timeout = \"200ms\" }}\n{}", config(&[address, alive], route));
    assert_eq!(status(&post(gateway(&config).await, "money").await), "200");
    assert_eq!(seen(&record).len(), 1);
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_is_the_clients_fault() {
    let (listener, address) = listener().await;
    let gateway = forwarding_to(&[address]).await;
    let request =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n";
    let answer = raw(gateway, request).await;
    drop(listener);
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(body(&answer).contains(r#""code":"body_broke_off""#), "{answer}");
}

#[tokio::test]
async fn a_call_that_may_have_been_sent_is_never_sent_again() {
    let ((breaks, first_saw), (fine, second_saw)) = (recorder("").await, recorder(OK).await);
    let gateway = forwarding_to(&[breaks, fine]).await;
    let answer = post(gateway, "money").await;
    assert_eq!(status(&answer), "502");
    assert!(body(&answer).contains("whether it acted on the request is not known"), "{answer}");
    assert_eq!((seen(&first_saw).len(), seen(&second_saw).len()), (1, 0));
}

#[tokio::test]
async fn a_service_that_nobody_answers_for_is_unreachable() {
    let gone = nobody().await;
    let answer = get(forwarding_to(&[gone]).await, "/", &[]).await;
    assert_eq!(status(&answer), "502");
    assert!(has_line(&answer, "content-type: application/problem+json"), "{answer}");
    assert_eq!(
        body(&answer),
        r#"{"type":"about:blank","title":"Bad Gateway","status":502,"detail":"the service s could not be reached","code":"unreachable","service":"s"}"#
    );
    assert!(!answer.contains(&gone.port().to_string()), "{answer}");
}

#[tokio::test]
async fn a_service_that_hangs_is_late() {
    let (listener, address) = listener().await;
    let gateway = forwarding_to(&[address]).await;
    let answer = get(gateway, "/", &[]).await;
    drop(listener);
    assert_eq!(status(&answer), "504");
    assert!(body(&answer).contains(r#""code":"late""#), "{answer}");
}

#[tokio::test]
async fn a_slow_upload_is_not_late_while_it_moves() {
    let (backend, record) = recorder(OK).await;
    let mut client = TcpStream::connect(forwarding_to(&[backend]).await).await.unwrap();
    send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(&mut client, "x").await;
    }
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(status(&answer), "200");
    assert!(seen(&record)[0].ends_with("xxxx"));
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (backend, record) = recorder(redirect).await;
    let answer = get(forwarding_to(&[backend]).await, "/", &[]).await;
    assert_eq!(status(&answer), "302");
    assert!(has_line(&answer, "location: http://127.0.0.1:1/"), "{answer}");
    assert_eq!(seen(&record).len(), 1);
}

#[tokio::test]
async fn a_head_request_stays_one_and_keeps_the_length_it_asks_about() {
    let (backend, record) =
        recorder("HTTP/1.1 200 OK\r\nContent-Length: 42\r\nConnection: close\r\n\r\n").await;
    let gateway = forwarding_to(&[backend]).await;
    let answer = raw(gateway, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(seen(&record)[0].starts_with("HEAD / "));
    assert!(has_line(&answer, "content-length: 42"), "{answer}");
    assert_eq!(body(&answer), "");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unreachable() {
    let (backend, _) = recorder("garbage\r\n\r\n").await;
    assert_eq!(status(&get(forwarding_to(&[backend]).await, "/", &[]).await), "502");
}

#[tokio::test]
async fn a_backend_cannot_switch_the_protocol() {
    let (backend, _) =
        recorder("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
    assert_eq!(status(&get(forwarding_to(&[backend]).await, "/", &[]).await), "502");
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let (backend, record) = recorder(OK).await;
    let route = "[[routes]]\nid = \"r\"\nmatch = { path = \"/a\", methods = [\"GET\", \"PUT\"] }\nforward = { service = \"s\" }\n";
    let gateway = gateway(&config(&[backend], route)).await;
    let answer = get(gateway, "/b", &[]).await;
    assert_eq!(status(&answer), "404");
    assert!(body(&answer).contains(r#""code":"no_route""#), "{answer}");
    let answer = raw(gateway, "DELETE /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), "405");
    assert!(has_line(&answer, "allow: GET, PUT, HEAD"), "{answer}");
    assert!(body(&answer).contains(r#""code":"method_not_allowed""#), "{answer}");
    assert!(seen(&record).is_empty());
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_400_and_reaches_nobody() {
    let (backend, record) = recorder(OK).await;
    let gateway = forwarding_to(&[backend]).await;
    for path in [
        "/a/../b",
        "/a/%2e%2e/b",
        "/a\\b",
        "/a%5Cb",
        "/a%00",
        "//a",
        "/a//b",
        "/%zz",
        "/..;/a",
        "/a%2f..%2fb",
    ] {
        let answer = get(gateway, path, &[]).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
        assert!(body(&answer).contains(r#""code":"bad_path""#), "{path}: {answer}");
    }
    assert!(seen(&record).is_empty());
}

#[tokio::test]
async fn a_request_for_two_hosts_is_400() {
    let (backend, record) = recorder(OK).await;
    let gateway = forwarding_to(&[backend]).await;
    let answer = raw(gateway, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), "400", "{answer}");
    let answer = raw(gateway, "GET http://a/ HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(seen(&record).is_empty());
}
