//! `examples/two-systems`: one request, two systems, all or nothing, with exactly the answers of its README.

mod kit;

use kit::{Caller, Node, Process};
use serde_json::json;

async fn system(name: &str, port: u16) -> Process {
    let address = format!("127.0.0.1:{port}");
    Process::start(&kit::example("two-systems"), &[name, &address], &format!("http://{address}/")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_keeps_the_protocol_with_the_request_as_the_body_of_every_call() {
    let port = kit::free_port();
    let _system = system("system1", port).await;
    let url = format!("http://127.0.0.1:{port}");
    let order = json!({"order": 17});

    let caller = Caller::new(&url);
    for (operation, path) in
        [("work", "process"), ("commit", "commit"), ("commit", "commit"), ("work", "process")]
    {
        caller.call(operation, &format!("/api/{path}"), &order).await.expect(200);
    }
    caller.call("abort", "/api/abort", &order).await.expect(409);

    let late = Caller::new(&url);
    late.call("abort", "/api/abort", &order).await.expect(200);
    late.call("work", "/api/process", &order).await.expect(409);
    late.call("commit", "/api/commit", &order).await.expect(409);
    Caller::new(&url).call("work", "/api/process", &json!({"refuse": "system1"})).await.expect(409);
    Caller::new(&url).call("work", "/api/process", &json!({"refuse": "system2"})).await.expect(200);
}

#[test]
fn it_says_how_it_is_used() {
    let output = std::process::Command::new(kit::example("two-systems")).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"usage: "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_systems_do_it_or_both_do_not() {
    let (one, two) = (kit::free_port(), kit::free_port());
    let _systems = (system("system1", one).await, system("system2", two).await);
    let mut node = Node::from_file("examples/two-systems/unanimous.toml", &[("9101", one), ("9102", two)]);
    node.start().await;

    let told = node.post("/api/transaction", &json!({"order": 17})).await.expect(200);
    let id = told.transaction().to_owned();
    let expected = json!({
        "status": "success",
        "transaction": {"id": id, "state": "committed"},
        "response": {
            "system1": {"system": "system1", "call": "process", "done": true},
            "system2": {"system": "system2", "call": "process", "done": true},
        },
    });
    assert_eq!(told.json(), expected);

    let told = node.post("/api/transaction", &json!({"order": 18, "refuse": "system2"})).await.expect(409);
    let body = told.json();
    assert_eq!(body["status"], "failure");
    assert_eq!(body["reason"], json!({"kind": "refused", "service": "system2", "branch": 1, "status": 409}));
    assert_eq!(body["response"]["system2"], json!({"system": "system2", "call": "process", "done": false}));
    node.wait_for_state(told.transaction(), "aborted").await;
}
