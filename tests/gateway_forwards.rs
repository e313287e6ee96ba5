//! Plain forwarding through real sockets: what the backend really gets, and what the client does.

mod gateway_support;

use gateway_support::*;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_first_part_of_an_answer_arrives_before_the_last_is_sent() {
    let (listener, address) = listener().await;
    let mut client = TcpStream::connect(forwarding_to(&[address]).await).await.unwrap();
    send(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut backend = accept(&listener).await;
    read_until(&mut backend, "\r\n\r\n").await;
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
    assert!(!request.contains("accept:"), "nothing is said that the client has not said: {request}");
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
