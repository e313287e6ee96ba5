//! What clients were told by a node that failed, compared with what is true after it was started again.

use serde_json::{Value, json};

use super::node::Node;
use super::stub::Stub;
use super::web::Reply;

/// The most that one client asks: many times what a disk that is to fail takes.
const REQUESTS_MAX: usize = 100;

/// A request of one client, and what it was told. `None`: the connection was cut.
#[derive(Debug)]
pub struct Asked {
    pub key: String,
    pub body: Value,
    pub told: Option<Reply>,
}

/// One client: a request after the other, until one is not done.
pub async fn ask_until_one_fails(node: &Node, client: usize) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    while all.len() < REQUESTS_MAX && all.last().is_none_or(|asked| asked.status() == 200) {
        all.push(Asked::ask(node, &format!("{client}-{}", all.len())).await);
    }
    all
}

/// Every call that participants got was for a transaction that is what the call says.
pub async fn calls_are_true(node: &Node, participants: &[&Stub]) {
    for call in participants.iter().flat_map(|participant| participant.calls()) {
        let state = node.state(call.transaction()).await;
        let expected = match call.operation() {
            "commit" => state == "committed",
            "abort" => state == "aborted",
            _ => !state.is_empty(),
        };
        assert!(expected, "{} was called for {}, which is {state:?}", call.path, call.transaction());
    }
}

impl Asked {
    /// Sends `POST /transfers` with this key.
    pub async fn ask(node: &Node, key: &str) -> Self {
        let (key, body) = (format!("\"{key}\""), json!({ "key": key }));
        let told = node.try_post("/transfers", &[("Idempotency-Key", &key)], &body).await;
        Self { key, body, told }
    }

    /// 0 where the connection was cut.
    pub fn status(&self) -> u16 {
        self.told.as_ref().map_or(0, |told| told.status)
    }

    /// What the log says of it, and what its key is answered now, agree with what was told.
    pub async fn is_true(&self, node: &Node) {
        let Self { key, body, told } = self;
        let again = node.post_with("/transfers", &[("Idempotency-Key", key)], body).await;
        let state = node.state(again.transaction()).await;
        assert_eq!(state, if again.status == 200 { "committed" } else { "aborted" }, "{again:?}");
        let Some(told) = told else { return };
        match told.status {
            200 => assert_eq!((told.transaction(), &told.text), (again.transaction(), &again.text)),
            409 | 502 | 504 => {
                assert_eq!((told.transaction(), "aborted"), (again.transaction(), state.as_str()))
            }
            202 => assert_eq!((told.transaction(), 200), (again.transaction(), again.status)),
            503 if told.json()["code"] == "log_failed" => {
                assert_eq!(told.header("location"), format!("/v1/transactions/{}", told.transaction()));
                assert!(!told.header("retry-after").is_empty());
                let known = node.get(told.header("location")).await;
                // Where its beginning never got to the disk nobody was called, and the key began another.
                let expected = if told.transaction() == again.transaction() { 200 } else { 404 };
                known.expect(expected);
            }
            503 => assert_eq!(told.json()["code"], "draining"),
            _ => panic!("{told:?}"),
        }
    }
}
