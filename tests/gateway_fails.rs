//! When a call cannot be made or must not be: which endpoint is asked next, and what the client is told.

mod gateway_support;

use std::time::Duration;

use gateway_support::*;
use tokio::net::{TcpSocket, TcpStream};

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
    let gateway = forwarding_within("300ms", &[address]).await;
    let answer = get(gateway, "/", &[]).await;
    drop(listener);
    assert_eq!(status(&answer), "504");
    assert!(body(&answer).contains(r#""code":"late""#), "{answer}");
}

#[tokio::test]
async fn a_slow_upload_is_not_late_while_it_moves() {
    let (backend, record) = recorder(OK).await;
    let mut client = TcpStream::connect(forwarding_within("1s", &[backend]).await).await.unwrap();
    send(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        send(&mut client, "x").await;
    }
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(status(&answer), "200");
    assert!(seen(&record)[0].ends_with("xxxx"));
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
    assert!(has_line(&answer, "allow: GET, PUT, HEAD, OPTIONS"), "{answer}");
    assert!(body(&answer).contains(r#""code":"method_not_allowed""#), "{answer}");
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
