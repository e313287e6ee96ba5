//! The three retry classes, their budget, and the timeouts of one try and of all.

mod gateway_support;
mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use gateway_support::{body, gateway, get, has_line, raw, status};
use kit::{Answer, Stub};
use tokio::time::Instant;

/// One service at these instances with more keys, and one route with more keys.
fn config(instances: &[&Stub], service: &str, forward: &str) -> String {
    let endpoints: Vec<_> = instances.iter().map(|stub| format!("{:?}", stub.url(""))).collect();
    format!(
        "[node]\nconnect_timeout = \"100ms\"\n[services.s]\nendpoints = [{}]\n{service}\n[[routes]]\nid = \"all\"\n\
         match = {{ path = \"/{{*rest}}\" }}\nforward = {{ service = \"s\", timeout = \"5s\", {forward} }}\n",
        endpoints.join(", ")
    )
}

const ON_BROKEN: &str = "retry = { on = [\"broken\"] }";

async fn ask(gateway: SocketAddr, method: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    raw(gateway, &format!("{head}{body}")).await
}

/// An instance that reads each request and hangs up, and one that works; the first has the first turn.
async fn one_breaks() -> (Stub, Stub) {
    let (breaks, works) = (Stub::start().await, Stub::start().await);
    breaks.always("/", Answer::cut());
    (breaks, works)
}

#[tokio::test]
async fn what_may_have_been_done_is_not_tried_again_unless_the_route_says_so() {
    let (breaks, works) = one_breaks().await;
    let answer = ask(gateway(&config(&[&breaks, &works], "", "")).await, "GET", "", "").await;
    assert_eq!((status(&answer), works.count("/")), ("502", 0), "{answer}");
    let answer = ask(gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await, "GET", "", "").await;
    assert_eq!((status(&answer), works.count("/")), ("200", 1), "{answer}");
}

#[tokio::test]
async fn a_method_that_does_harm_when_done_twice_is_never_tried_again() {
    for method in ["POST", "PATCH"] {
        let (breaks, works) = one_breaks().await;
        let gateway = gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await;
        let answer = ask(gateway, method, "Idempotency-Key: \"k\"\r\n", "money").await;
        assert_eq!((status(&answer), works.count("/")), ("502", 0), "{method}: {answer}");
        assert!(body(&answer).contains("whether it acted on the request is not known"), "{answer}");
    }
}

#[tokio::test]
async fn with_a_key_a_service_that_heeds_keys_is_asked_again_whatever_the_method() {
    let (breaks, works) = one_breaks().await;
    let gateway = gateway(&config(&[&breaks, &works], "idempotent = true", ON_BROKEN)).await;
    let answer = ask(gateway, "POST", "Idempotency-Key: \"k\"\r\n", "money").await;
    assert_eq!(status(&answer), "200", "{answer}");
    let again = works.calls_to("/");
    assert_eq!((again[0].text(), again[0].header("idempotency-key")), ("money".to_owned(), "\"k\""));
    works.always("/", Answer::cut());
    let answer = ask(gateway, "POST", "", "money").await;
    let calls = breaks.count("/") + works.count("/");
    assert_eq!((status(&answer), calls), ("502", 3), "without a key: {answer}");
}

#[tokio::test]
async fn every_try_has_the_whole_body() {
    let (breaks, works) = one_breaks().await;
    let gateway = gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await;
    let small = "x".repeat(60_000);
    let answer = ask(gateway, "PUT", "", &small).await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert_eq!((breaks.calls_to("/")[0].text(), works.calls_to("/")[0].text()), (small.clone(), small));
}

#[tokio::test]
async fn a_body_that_came_in_chunks_is_whole_at_every_try_too() {
    let (breaks, works) = one_breaks().await;
    let gateway = gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await;
    let request = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    assert_eq!(status(&raw(gateway, request).await), "200");
    assert_eq!(works.calls_to("/")[0].text(), "abcde");
}

#[tokio::test]
async fn a_body_that_is_too_long_to_be_kept_is_sent_once_and_never_empty() {
    let (breaks, works) = one_breaks().await;
    let gateway = gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await;
    let answer = ask(gateway, "PUT", "", &"x".repeat(70_000)).await;
    assert_eq!(status(&answer), "502", "{answer}");
    assert_eq!((breaks.calls_to("/")[0].text().len(), works.count("/")), (70_000, 0));
}

#[tokio::test]
async fn only_statuses_that_are_listed_are_tried_again() {
    let stub = Stub::start().await;
    let gateway = gateway(&config(&[&stub], "", "retry = { on = [503] }")).await;
    stub.next("/", [Answer::status(503), Answer::ok(), Answer::status(500)]);
    assert_eq!(status(&ask(gateway, "GET", "", "").await), "200");
    assert_eq!((status(&ask(gateway, "GET", "", "").await), stub.count("/")), ("500", 3));
}

#[tokio::test]
async fn where_every_try_fails_the_client_gets_the_last_answer() {
    let stub = Stub::start().await;
    stub.always("/", Answer::json(503, serde_json::json!({"why": "closed"})));
    let gateway = gateway(&config(&[&stub], "", "retry = { on = [503], tries = 3 }")).await;
    let answer = ask(gateway, "GET", "", "").await;
    assert_eq!((status(&answer), body(&answer), stub.count("/")), ("503", "{\"why\":\"closed\"}", 3));
}

#[tokio::test]
async fn retry_after_is_waited_for_where_there_is_time_and_passed_on_where_there_is_not() {
    let stub = Stub::start().await;
    let gateway = gateway(&config(&[&stub], "", "retry = { on = [503] }")).await;
    stub.next("/", [Answer::status(503).header("retry-after", "1")]);
    let begun = Instant::now();
    assert_eq!(status(&ask(gateway, "GET", "", "").await), "200");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    for later in ["60", "Fri, 31 Dec 2060 23:59:59 GMT"] {
        stub.forget();
        stub.next("/", [Answer::status(503).header("retry-after", later)]);
        let answer = ask(gateway, "GET", "", "").await;
        assert_eq!((status(&answer), stub.count("/")), ("503", 1), "{answer}");
        assert!(has_line(&answer, &format!("retry-after: {later}")), "{answer}");
    }
}

#[tokio::test]
async fn a_try_that_is_late_gives_way_to_another() {
    let (hangs, works) = (Stub::start().await, Stub::start().await);
    hangs.always("/", Answer::hang());
    let forward = "try_timeout = \"500ms\", retry = { on = [\"late\"] }";
    let gateway = gateway(&config(&[&hangs, &works], "", forward)).await;
    let begun = Instant::now();
    assert_eq!(status(&ask(gateway, "GET", "", "").await), "200");
    assert!(begun.elapsed() >= Duration::from_millis(500) && begun.elapsed() < Duration::from_secs(4));
    assert_eq!((hangs.count("/"), works.count("/")), (1, 1));
}

#[tokio::test]
async fn all_tries_together_take_no_longer_than_the_timeout() {
    let stub = Stub::start().await;
    stub.always("/", Answer::hang());
    let forward = "try_timeout = \"300ms\", retry = { on = [\"late\"], tries = 10 }";
    let config = config(&[&stub], "", forward).replace("\"5s\"", "\"1s\"");
    let gateway = gateway(&config).await;
    let begun = Instant::now();
    assert_eq!(status(&ask(gateway, "GET", "", "").await), "504");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!((3..=4).contains(&stub.count("/")), "{}", stub.count("/"));
}

#[tokio::test]
async fn what_has_begun_to_come_is_never_tried_again() {
    let (breaks, works) = (Stub::start().await, Stub::start().await);
    breaks.always("/", Answer::cut_midway());
    let gateway = gateway(&config(&[&breaks, &works], "", ON_BROKEN)).await;
    let answer = get(gateway, "/", &[]).await;
    assert_eq!((status(&answer), works.count("/")), ("200", 0), "{answer}");
    assert!(body(&answer).len() < 1_000, "half of it, and the end of the connection");
}

#[tokio::test]
async fn retries_are_a_fifth_of_the_requests() {
    let stub = Stub::start().await;
    stub.always("/", Answer::cut());
    let budget = "retries = { percent = 20, per_second = 0 }";
    let gateway = gateway(&config(&[&stub], budget, "retry = { on = [\"broken\"], tries = 5 }")).await;
    for _ in 0..50 {
        assert_eq!(status(&ask(gateway, "GET", "", "").await), "502");
    }
    assert_eq!(stub.count("/"), 60);
}

#[tokio::test]
async fn that_the_others_cannot_be_reached_does_not_hide_that_one_may_have_done_it() {
    let (breaks, gone) = (Stub::start().await, Stub::stopped());
    breaks.always("/", Answer::cut());
    let gateway = gateway(&config(&[&breaks, &gone], "", "retry = { on = [\"broken\"], tries = 3 }")).await;
    let answer = ask(gateway, "GET", "", "").await;
    assert_eq!(status(&answer), "502", "{answer}");
    assert!(body(&answer).contains("whether it acted on the request is not known"), "{answer}");
}
