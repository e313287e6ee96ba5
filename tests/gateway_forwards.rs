//! Plain forwarding through real sockets: what the backend really gets, and what the client does.

mod gateway_support;

use gateway_support::*;

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
