//! G7: one slow or dead participant delays only the transactions it takes part in.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{Answer, Gate, Node, Reply, Stub};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn route(id: &str, service: &str) -> String {
    format!(
        r#"
        [[routes]]
        id = "{id}"
        match = {{ methods = ["POST"], path = "/{id}" }}
        [routes.transaction]
        timeout = "30s"
        reply_within = "5s"
        branches = [ {{ service = "{service}", path = "/work" }} ]
        "#
    )
}

/// Eight clients, each with this many transactions over healthy services.
async fn traffic(node: &Arc<Node>, each: usize) -> Duration {
    let (started, mut clients) = (Instant::now(), JoinSet::new());
    for _ in 0..8 {
        let node = node.clone();
        clients.spawn(async move {
            for _ in 0..each {
                node.post("/well", &json!({"n": 1})).await.expect(200);
            }
        });
    }
    clients.join_all().await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_hangs_delays_nobody_else() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    // A small limit of calls in flight, so that those of the ill service are surely used up.
    let limited =
        kit::service("ill", &ill, true).replace("timeout = \"1s\"", "timeout = \"60s\"\ncalls_max = 4");
    let config =
        [kit::service("well", &well, true), limited, route("well", "well"), route("ill", "ill")].concat();
    ill.always("/work", Answer::hang());
    let mut node = Node::new(&config);
    node.start().await;
    let node = Arc::new(node);
    traffic(&node, 5).await;
    let without = traffic(&node, 20).await;
    let mut stuck = JoinSet::new();
    // As many as may wait for it, with those in flight; more would be refused.
    for count in 1..=12 {
        let of_client = node.clone();
        stuck.spawn(async move { of_client.post("/ill", &json!({})).await });
        kit::until("it is open", async || node.in_doubt().await.len() >= count).await;
    }
    ill.wait_for("/work", 4).await;
    // The machine is shared: the better of three says what is possible.
    let mut best = traffic(&node, 20).await;
    for _ in 0..2 {
        best = best.min(traffic(&node, 20).await);
    }
    assert_eq!(ill.count("/work"), 4, "no more than its limit are in flight");
    assert!(stuck.try_join_next().is_none(), "those of the ill service wait");
    let ratio = without.as_secs_f64() / best.as_secs_f64();
    assert!(ratio >= 0.7, "without the ill one {without:?}, with it {best:?}: {ratio:.2}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_wait_for_a_dead_participant_leave_room_for_others() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let services = kit::service("well", &well, true) + &kit::service("ill", &ill, true);
    let config = services + &route("well", "well") + &route("ill", "ill").replace("\"5s\"", "\"10ms\"");
    let mut node = Node::with_section("open_transactions_max = 10", &config);
    node.start().await;
    // Each of its aborts waits for ever.
    ill.always("/work", Answer::status(500));
    ill.always("/tx/abort", Answer::status(500));
    let mut refused = None;
    for _ in 0..6 {
        refused = Some(node.post("/ill", &json!({})).await);
    }
    let refused = refused.unwrap().expect(503);
    assert!(refused.text.contains("5 open transactions need the service ill"), "{}", refused.text);
    assert_ne!(refused.header("retry-after"), "");
    for _ in 0..10 {
        node.post("/well", &json!({})).await.expect(200);
    }
    assert_eq!(node.in_doubt().await.len(), 5);
}

/// A route over both, so that the healthy service takes part beside the ill one.
fn route_over_both() -> String {
    route("both", "well").replace("branches = [", r#"branches = [ { service = "ill", path = "/work" },"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_done_its_part_beside_a_dead_one_has_room_for_more() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let services = kit::service("well", &well, true) + &kit::service("ill", &ill, true);
    let config = services + &route("well", "well") + &route_over_both().replace("\"5s\"", "\"10ms\"");
    let mut node = Node::with_section("open_transactions_max = 10", &config);
    node.start().await;
    ill.always("/work", Answer::status(500));
    ill.always("/tx/abort", Answer::status(500));
    for _ in 0..5 {
        node.post("/both", &json!({})).await.expect(502);
    }
    let refused = node.post("/both", &json!({})).await.expect(503);
    assert!(refused.text.contains("5 open transactions need the service ill"), "{}", refused.text);
    well.wait_for("/tx/abort", 5).await;
    for _ in 0..10 {
        node.post("/well", &json!({})).await.expect(200);
    }
    assert_eq!(node.in_doubt().await.len(), 5);
    // What a restart finds waits for the dead one alone too, once the other has confirmed again.
    node.crash().await;
    kit::until("the healthy one has confirmed again", async || {
        node.post("/well", &json!({})).await.status == 200
    })
    .await;
    node.post("/both", &json!({})).await.expect(503);
}

/// Three requests with bodies of which two have room: the third is refused. The body, and the two that wait.
async fn bodies_for_two(node: &Arc<Node>, path: &'static str, ill: &Stub) -> (Value, JoinSet<Reply>) {
    let body = json!({"text": "x".repeat(200_000)});
    let mut stuck = JoinSet::new();
    for so_many in 1..=2 {
        let (node, body) = (node.clone(), body.clone());
        stuck.spawn(async move { node.post(path, &body).await });
        ill.wait_for("/work", so_many).await;
    }
    let refused = node.post(path, &body).await.expect(503);
    assert_eq!(refused.json()["code"], "overloaded");
    (body, stuck)
}

/// Eight requests with bodies wait for one service; another has room for its own.
async fn another_has_room_while_it_hangs_at(path: &str) {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let patient = kit::service("ill", &ill, true).replace("timeout = \"1s\"", "timeout = \"60s\"");
    let config = kit::service("well", &well, true) + &patient + &route("well", "well") + &route("ill", "ill");
    let mut node = Node::with_section("body_max = 300_000\nbody_budget = 1_000_000", &config);
    node.start().await;
    ill.always(path, Answer::hang());
    let (node, body) = (Arc::new(node), json!({"text": "x".repeat(200_000)}));
    let mut stuck = JoinSet::new();
    for so_many in 1..=8 {
        let (node, body) = (node.clone(), body.clone());
        stuck.spawn(async move { node.post("/ill", &body).await });
        ill.wait_for(path, so_many).await;
    }
    node.post("/well", &body).await.expect(200);
    assert!(stuck.try_join_next().is_none(), "the eight still wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_held_for_a_participant_that_hangs_at_prepare() {
    another_has_room_while_it_hangs_at("/tx/prepare").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_held_for_a_participant_that_hangs_at_commit() {
    another_has_room_while_it_hangs_at("/tx/commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_for_one_service_leave_room_for_others() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let services = kit::service("well", &well, true) + &kit::service("ill", &ill, true);
    let config = services + &route("well", "well") + &route("ill", "ill");
    let mut node = Node::with_section("body_max = 300_000\nbody_budget = 1_000_000", &config);
    node.start().await;
    let address = node.url("").trim_start_matches("http://").to_owned();
    let mut unfinished = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = "POST /ill HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
        stream.write_all(&[head.as_bytes(), &vec![b'x'; 199_000]].concat()).await.unwrap();
        unfinished.push(stream);
    }
    // Those that have no room are told so; the others are waited for.
    let mut refused = 0;
    for stream in &mut unfinished {
        let answer = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
        refused += usize::from(answer.is_ok());
    }
    assert!(refused >= 3, "no more than two of five have room: {refused} were refused");
    node.post("/well", &json!({"text": "x".repeat(200_000)})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_answering_only_at_the_end_leaves_room_too() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let (one, two) = (Stub::start().await, Stub::start().await);
    let patient = kit::service("one", &one, false) + &kit::service("two", &two, false);
    let patient = patient.replace("timeout = \"1s\"", "timeout = \"60s\"");
    let services = kit::service("well", &well, true) + &kit::service("ill", &ill, false) + &patient;
    let beside = |other: &str| route_over_both().replace("well", other).replace("both", other);
    let config = services + &route("well", "well") + &beside("one") + &beside("two");
    let mut node = Node::with_section("open_transactions_max = 10", &config);
    node.start().await;
    ill.always("/tx/commit", Answer::status(500));
    // Neither of the others is ill: they take a moment, in which nobody waits for the ill one.
    let gate = Gate::closed();
    one.always("/work", Answer::ok().behind(&gate));
    two.always("/work", Answer::ok().behind(&gate));
    let node = Arc::new(node);
    let mut begun = JoinSet::new();
    let mut open = 0;
    while open < 8 {
        let (node, path) = (node.clone(), if open % 2 == 0 { "/one" } else { "/two" });
        begun.spawn(async move { node.post(path, &json!({})).await });
        tokio::select! {
            _ = ill.wait_for("/work", open + 1) => open += 1,
            // It was still waited for in the five before.
            refused = begun.join_next() => drop(refused.unwrap().unwrap().expect(503)),
        }
    }
    let refused = node.post("/one", &json!({})).await.expect(503);
    assert!(refused.text.contains("8 open transactions need the service ill"), "{}", refused.text);
    gate.open();
    ill.wait_for("/tx/commit", 8).await;
    for _ in 0..10 {
        node.post("/well", &json!({})).await.expect(200);
    }
    assert_eq!(node.in_doubt().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_calls_that_were_answered_leave_room_though_another_branch_hangs() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let patient = kit::service("ill", &ill, true).replace("timeout = \"1s\"", "timeout = \"60s\"");
    let config = kit::service("well", &well, true) + &patient + &route("well", "well") + &route_over_both();
    let mut node = Node::with_section("body_max = 300_000\nbody_budget = 1_000_000", &config);
    node.start().await;
    ill.always("/work", Answer::hang());
    let node = Arc::new(node);
    let (body, _stuck) = bodies_for_two(&node, "/both", &ill).await;
    kit::until("what the healthy one held is given back", async || {
        node.post("/well", &body).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_held_for_a_participant_that_hangs_leave_room_for_others() {
    let (well, ill) = (Stub::start().await, Stub::start().await);
    let services = kit::service("well", &well, true) + &kit::service("ill", &ill, true);
    let config = services + &route("well", "well") + &route("ill", "ill");
    let mut node = Node::with_section("body_max = 300_000\nbody_budget = 1_000_000", &config);
    node.start().await;
    ill.always("/work", Answer::hang());
    let node = Arc::new(node);
    let (body, _stuck) = bodies_for_two(&node, "/ill", &ill).await;
    node.post("/well", &body).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_work_does_not_starve_what_is_decided() {
    let stub = Stub::start().await;
    let limited =
        kit::service("s", &stub, false).replace("timeout = \"1s\"", "timeout = \"60s\"\ncalls_max = 2");
    let mut node = Node::new(&[limited, route("r", "s")].concat());
    node.start().await;
    let node = Arc::new(node);
    // The first commit is answered only on its second try; by then new work has taken every place.
    stub.next("/tx/commit", [Answer::status(503).after(Duration::from_millis(300))]);
    let mut first = JoinSet::new();
    first.spawn({
        let node = node.clone();
        async move { node.post("/r", &json!({"n": 0})).await }
    });
    stub.wait_for("/tx/commit", 1).await;
    stub.always("/work", Answer::hang());
    let mut stuck = JoinSet::new();
    for _ in 0..10 {
        let node = node.clone();
        stuck.spawn(async move { node.post("/r", &json!({})).await });
    }
    stub.wait_for("/work", 3).await;
    let reply = tokio::time::timeout(Duration::from_secs(5), first.join_next())
        .await
        .expect("it is not starved")
        .unwrap()
        .unwrap();
    reply.expect(200);
    assert_eq!(stub.count("/work"), 3);
}
