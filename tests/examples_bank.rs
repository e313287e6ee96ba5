//! `examples/bank.py` keeps the participant protocol. Needs `python3`; says so where there is none.

mod kit;

use kit::{Caller, Node, Process};
use serde_json::json;

async fn bank(port: u16, file: &str) -> Process {
    let port = port.to_string();
    let url = format!("http://127.0.0.1:{port}/accounts");
    Process::start("python3", &["examples/bank.py", &port, file], &url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_py_does_each_thing_once_however_often_it_is_called_and_killed() {
    if kit::missing("python3") {
        return;
    }
    let (directory, port) = (tempfile::tempdir().unwrap(), kit::free_port());
    let file = directory.path().join("bank.db").to_str().unwrap().to_owned();
    let url = format!("http://127.0.0.1:{port}");
    let running = bank(port, &file).await;

    let debit = json!({"account": "alice", "amount": 60});
    let caller = Caller::new(&url);
    for _ in 0..2 {
        caller.work("/debit", &debit).await.expect(200);
        assert_eq!(caller.tell("prepare").await, 200);
    }
    Caller::new(&url).work("/debit", &debit).await.expect(409); // 60 of the 100 are held
    running.kill().await;

    let running = bank(port, &file).await;
    assert_eq!([caller.tell("commit").await, caller.tell("commit").await], [200, 200]);
    assert_eq!(caller.tell("prepare").await, 200, "a late repeat");
    assert_eq!(caller.tell("abort").await, 409, "it is committed");
    running.kill().await;

    let _running = bank(port, &file).await;
    assert_eq!(kit::get(&format!("{url}/accounts")).await, json!({"alice": 40, "bob": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_py_refuses_work_that_comes_after_its_abort() {
    if kit::missing("python3") {
        return;
    }
    let (directory, port) = (tempfile::tempdir().unwrap(), kit::free_port());
    let file = directory.path().join("bank.db").to_str().unwrap().to_owned();
    let url = format!("http://127.0.0.1:{port}");
    let running = bank(port, &file).await;
    let credit = json!({"account": "bob", "amount": 5});

    let caller = Caller::new(&url);
    assert_eq!(caller.tell("abort").await, 200);
    running.kill().await;
    let _running = bank(port, &file).await;
    caller.work("/credit", &credit).await.expect(409);
    assert_eq!([caller.tell("abort").await, caller.tell("commit").await], [200, 409]);

    let unknown = Caller::new(&url);
    assert_eq!([unknown.tell("prepare").await, unknown.tell("commit").await], [409, 409]);
    Caller::new(&url).work("/credit", &json!({"account": "nobody", "amount": 5})).await.expect(409);

    let undone = Caller::new(&url);
    undone.work("/debit", &json!({"account": "bob", "amount": 100})).await.expect(200);
    assert_eq!([undone.tell("abort").await, undone.tell("abort").await], [200, 200]);
    assert_eq!(kit::get(&format!("{url}/accounts")).await, json!({"alice": 100, "bob": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_moves_money_between_two_banks_through_the_gateway() {
    if kit::missing("python3") {
        return;
    }
    let (directory, north, south) = (tempfile::tempdir().unwrap(), kit::free_port(), kit::free_port());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let _north = bank(north, &file("north.db")).await;
    let _south = bank(south, &file("south.db")).await;
    let ports = [("9001", north), ("9002", south)];
    let mut node = Node::from_file("examples/bank.toml", &ports);
    node.start().await;

    let transfer = |amount: u64| json!({"from": {"account": "alice", "amount": amount}, "to": {"account": "bob", "amount": amount}});
    let told = node.post("/transfers", &transfer(30)).await.expect(200).json();
    assert_eq!((&told["status"], &told["transaction"]["state"]), (&json!("success"), &json!("committed")));
    assert_eq!(told["response"], json!({"north": {"status": "success"}, "south": {"status": "success"}}));

    let told = node.post("/transfers", &transfer(500)).await.expect(409).json();
    assert_eq!((&told["status"], &told["reason"]["service"]), (&json!("failure"), &json!("north")));
    node.settled().await;
    let accounts = node.get("/accounts").await.expect(200).json();
    assert_eq!(accounts["north"], json!({"alice": 70, "bob": 100}));
    assert_eq!(accounts["south"], json!({"alice": 100, "bob": 130}));
}
