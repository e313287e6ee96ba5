//! Merging in a whole node: what its limits hold, and that nothing goes on for a client that has gone.

mod kit;

use kit::{Answer, Node, Stub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn merging(a: &str, b: &str) -> String {
    format!(
        "[services.a]\nendpoints = [\"{a}\"]\n[services.b]\nendpoints = [\"{b}\"]\n\
         [[routes]]\nid = \"m\"\nmatch = {{ path = \"/m\" }}\n[routes.merge]\n\
         timeout = \"60s\"\nparts = [{{ service = \"a\", path = \"/a\", as = \"a\" }}, {{ service = \"b\", path = \"/b\", as = \"b\" }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_refuses_to_hold_more_than_its_budget_and_gives_back_what_it_held() {
    let (a, b) = (Stub::start().await, Stub::start().await);
    let limits = "body_max = 1000\nbody_budget = 8000\nanswer_max = 100_000";
    let mut node = Node::with_section(limits, &merging(&a.url(""), &b.url("")));
    node.start().await;
    b.always("/b", Answer::big(3_900));
    for _ in 0..5 {
        // More than half of the budget for one service.
        a.next("/a", [Answer::big(4_100)]);
        let refused = node.get("/m").await.expect(503);
        assert_eq!(refused.json()["code"], "overloaded");
        assert!(["1", "2", "3"].contains(&refused.header("retry-after")), "{refused:?}");
        a.next("/a", [Answer::big(3_900)]);
        let whole = node.get("/m").await.expect(200);
        assert_eq!(whole.text.len(), 2 * 3_900 + r#"{"a":,"b":}"#.len(), "all that was held is free again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_the_calls_of_a_node_to_the_parts() {
    let (one, two) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let mut node = Node::new(&merging(&url(&one), &url(&two)));
    node.start().await;
    let address = node.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /m HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut calls = [one.accept().await.unwrap().0, two.accept().await.unwrap().0];
    for call in &mut calls {
        assert!(call.read(&mut [0; 4096]).await.unwrap() > 0, "the call has come");
    }
    // Long before the parts would be late.
    drop(client);
    for call in &mut calls {
        let ended = tokio::time::timeout(kit::PATIENCE, call.read_to_end(&mut Vec::new())).await;
        ended.expect("the node ends the call").ok();
    }
}
