//! Another configuration for a node that runs: what says so, what is taken over, and what is kept.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use kit::{Answer, Gate, Node, Stub};
use serde_json::json;

const TRANSFER: &str = r#"
    [[routes]]
    id = "transfer"
    match = { methods = ["POST"], path = "/transfers" }
    [routes.transaction]
    reply_within = "100ms"
    branches = [ { service = "accounts", path = "/debit" } ]
"#;

/// A configuration whose one difference to others is where `/here` leads.
fn here(stub: &Stub, path: &str) -> String {
    let route = format!(
        "[[routes]]\nid = \"here\"\nmatch = {{ path = \"/here\" }}\nforward = {{ service = \"accounts\", path = \"{path}\" }}\n"
    );
    kit::service("accounts", stub, false) + TRANSFER + &route
}

async fn node(config: &str) -> Node {
    let mut node = Node::new(config);
    node.start().await;
    node
}

async fn reload(node: &Node) -> kit::Reply {
    node.admin_post("/v1/reload", &json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_ways_to_say_so_takes_the_new_routes_over() {
    let stub = Stub::start().await;
    let node = node(&here(&stub, "/one")).await;
    node.get("/here").await.expect(200);
    assert_eq!(stub.count("/one"), 1);

    node.configure("", &here(&stub, "/two"));
    let told = reload(&node).await.expect(200).json();
    assert_eq!((&told["status"], &told["routes"]), (&json!("reloaded"), &json!(2)));
    node.get("/here").await.expect(200);
    assert_eq!(stub.count("/two"), 1);

    // The watch may be quicker than the signal; either will do here, and the process lives on.
    node.configure("", &here(&stub, "/three"));
    node.signal("HUP").await;
    leads_to(&node, &stub, "/three").await;

    node.configure("", &here(&stub, "/four"));
    leads_to(&node, &stub, "/four").await;
    assert_eq!(node.metric("config_last_reload_successful").await, "1");
}

async fn leads_to(node: &Node, stub: &Stub, path: &str) {
    kit::until(path, async || {
        node.get("/here").await.expect(200);
        stub.count(path) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_said_and_the_last_good_configuration_stays() {
    let stub = Stub::start().await;
    let node = node(&here(&stub, "/one")).await;
    node.configure("", &(here(&stub, "/two") + "\n[[routes]]\nid = \"new\"\nmatch = { paht = \"/x\" }\n"));
    let told = reload(&node).await.expect(422).json();
    assert_eq!(told["code"], "bad_config");
    let mistake = told["errors"][0].as_str().unwrap();
    assert!(mistake.contains("unanimous.toml:") && mistake.contains("did you mean `path`"), "{mistake}");
    node.get("/here").await.expect(200);
    assert_eq!((stub.count("/one"), stub.count("/two")), (1, 0));
    assert_eq!(node.metric("config_last_reload_successful").await, "0");
    assert!(node.stderr().contains("the last good one stays"), "{}", node.stderr());
    std::fs::remove_file(node.config()).unwrap();
    reload(&node).await.expect(422);
    node.get("/here").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_to_its_end_keeps_nobody_from_reading_the_next() {
    let stub = Stub::start().await;
    let mut node = node(&here(&stub, "/one")).await;
    // Whoever reads a pipe waits for somebody who writes.
    std::fs::remove_file(node.config()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(node.config()).status().unwrap().success());
    let told = reload(&node).await.expect(422).json();
    assert!(told["errors"][0].as_str().unwrap().contains("was not read within 5s"), "{told}");
    std::fs::remove_file(node.config()).unwrap();
    node.configure("", &here(&stub, "/two"));
    reload(&node).await.expect(200);
    node.get("/here").await.expect(200);
    assert_eq!((stub.count("/one"), stub.count("/two")), (0, 1));
    node.signal("TERM").await;
    assert_eq!(node.wait().await.code(), Some(0), "what still waits for the pipe is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_start_reads_is_named_and_nothing_else_is_taken_over() {
    let stub = Stub::start().await;
    let node = node(&here(&stub, "/one")).await;
    node.configure("body_max = 1000", &("[log]\nretention = \"1h\"\n".to_owned() + &here(&stub, "/two")));
    let told = reload(&node).await.expect(409).json();
    assert_eq!(
        (&told["code"], &told["keys"]),
        (&json!("restart_needed"), &json!(["node.body_max", "log.retention"]))
    );
    node.get("/here").await.expect(200);
    assert_eq!(stub.count("/two"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let stub = Stub::start().await;
    // On a machine with much else to do a commit may take longer than the others here wait for it.
    let here = |path| here(&stub, path).replace("reply_within = \"100ms\"", "reply_within = \"9s\"");
    let node = Arc::new(node(&here("/even")).await);
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = async |client: usize| {
        while !done.load(Ordering::Relaxed) {
            if client.is_multiple_of(2) {
                node.get("/here").await.expect(200);
            } else {
                node.post("/transfers", &json!({})).await.expect(200);
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reloads = async {
        for turn in 0..100 {
            node.configure("", &here(if turn % 2 == 0 { "/odd" } else { "/even" }));
            reload(&node).await.expect(200);
            let before = answered.load(Ordering::Relaxed);
            kit::until("a request", async || answered.load(Ordering::Relaxed) > before).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..6).map(ask)), reloads);
    assert!(stub.count("/odd") > 0 && stub.count("/even") > 0, "both were in force");
    node.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_keeps_to_the_configuration_that_it_met() {
    let stub = Stub::start().await;
    let gate = Gate::closed();
    stub.next("/one", [Answer::ok().behind(&gate)]);
    let node = node(&here(&stub, "/one")).await;
    let asks = async { node.get("/here").await.expect(200) };
    let reloads = async {
        stub.wait_for("/one", 1).await;
        // Its route and its service are gone, and it is answered all the same.
        node.configure("", "");
        reload(&node).await.expect(200);
        node.get("/here").await.expect(404);
        gate.open();
    };
    tokio::join!(asks, reloads);
}

/// Begins a transaction whose commit is not confirmed, for as long as the stub says 503.
async fn begin_in_doubt(node: &Node, stub: &Stub) -> String {
    stub.always("/tx/commit", Answer::status(503));
    node.post("/transfers", &json!({})).await.expect(202).transaction().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_the_paths_that_it_began_with() {
    let stub = Stub::start().await;
    let node = node(&here(&stub, "/one")).await;
    let id = begin_in_doubt(&node, &stub).await;
    node.configure("", &here(&stub, "/one").replace("/tx/commit", "/other/commit"));
    reload(&node).await.expect(200);
    node.post("/transfers", &json!({})).await.expect(200);
    assert_eq!(stub.count("/other/commit"), 1);
    stub.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    assert_eq!(stub.count("/other/commit"), 1, "the older one was told where it was to be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_taken_out_still_hears_what_was_decided_also_after_crashes() {
    let stub = Stub::start().await;
    let mut node = node(&here(&stub, "/one")).await;
    let id = begin_in_doubt(&node, &stub).await;
    node.configure("", "");
    reload(&node).await.expect(200);
    node.get("/here").await.expect(404);
    let calls = stub.count("/tx/commit");
    stub.wait_for("/tx/commit", calls + 2).await;
    // Twice: what a start remembers it has to remember for the next one.
    for _ in 0..2 {
        node.crash().await;
        let calls = stub.count("/tx/commit");
        stub.wait_for("/tx/commit", calls + 1).await;
    }
    assert_eq!(node.state(&id).await, "committing");
    stub.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
    assert!(remembered(&node).contains("accounts"), "{}", remembered(&node));
    node.terminate().await;
    node.start().await;
    assert!(!remembered(&node).contains("accounts"), "nobody needs it any more: {}", remembered(&node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_missing_at_a_start_hears_what_was_decided() {
    let stub = Stub::start().await;
    let mut node = node(&here(&stub, "/one")).await;
    let id = begin_in_doubt(&node, &stub).await;
    node.kill().await;
    node.configure("", "");
    node.start().await;
    stub.always("/tx/commit", Answer::ok());
    node.wait_for_state(&id, "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_and_cannot_be_read_is_put_aside_and_said() {
    let stub = Stub::start().await;
    let mut node = node(&here(&stub, "/one")).await;
    let id = begin_in_doubt(&node, &stub).await;
    node.kill().await;
    std::fs::write(node.data_dir().join("services.toml"), "[services.accounts]\nendpoints = [\n").unwrap();
    node.configure("", "");
    node.start().await;
    assert!(node.stderr().contains("put them back"), "{}", node.stderr());
    let aside = std::fs::read_to_string(node.data_dir().join("services.toml.unreadable")).unwrap();
    assert!(aside.contains("services.accounts"), "{aside}");
    stub.always("/tx/commit", Answer::ok());
    node.configure("", &here(&stub, "/one"));
    reload(&node).await.expect(200);
    node.wait_for_state(&id, "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_moved_is_told_at_its_new_place() {
    let (old, new) = (Stub::start().await, Stub::start().await);
    // Its next turn would be in a minute.
    let patient = |stub| {
        here(stub, "/one").replace("initial = \"10ms\", max = \"100ms\"", "initial = \"60s\", max = \"60s\"")
    };
    let node = node(&patient(&old)).await;
    let id = begin_in_doubt(&node, &old).await;
    node.configure("", &patient(&new));
    reload(&node).await.expect(200);
    node.wait_for_state(&id, "committed").await;
    assert_eq!(new.count("/tx/commit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_cannot_be_remembered_is_refused() {
    let stub = Stub::start().await;
    let node = node(&here(&stub, "/one")).await;
    // A directory stands where the file is to be written first.
    std::fs::create_dir(node.data_dir().join("services.toml.unfinished")).unwrap();
    node.configure("", &here(&stub, "/two").replace("/tx/abort", "/other/abort"));
    let told = reload(&node).await.expect(503).json();
    assert_eq!(told["code"], "not_remembered");
    node.get("/here").await.expect(200);
    assert_eq!(stub.count("/two"), 0);
}

fn remembered(node: &Node) -> String {
    std::fs::read_to_string(node.data_dir().join("services.toml")).unwrap()
}
