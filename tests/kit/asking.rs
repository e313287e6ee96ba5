//! What a test asks a node: as a client, as an operator, and on the command line.

use std::process::Output;

use http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::node::{Node, program};
use super::web::{self, Reply};

impl Node {
    /// The address of `path` for clients.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// The address of `path` for operators.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// `GET` as a client.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, &self.url(path), &[], None).await
    }

    /// `POST` of JSON as a client.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body).await
    }

    /// `POST` of JSON as a client, with headers such as `("Idempotency-Key", "\"k\"")`.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.try_post(path, headers, body).await.expect("the node answers")
    }

    /// The same where the node may be killed meanwhile; `None` where no whole answer came.
    pub async fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Option<Reply> {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        web::send(&self.client, Method::POST, &self.url(path), &headers, Some(body.to_string())).await.ok()
    }

    /// `GET` as an operator.
    pub async fn admin(&self, path: &str) -> Reply {
        self.send(Method::GET, &self.admin_url(path), &[], None).await
    }

    /// `POST` of JSON as an operator.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, &self.admin_url(path), &headers, Some(body.to_string())).await
    }

    /// Any request at all; panics where no whole answer comes.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Reply {
        match web::send(&self.client, method, url, headers, body).await {
            Ok(reply) => reply,
            Err(error) => panic!("no answer from {url}: {error:?}; the node said:\n{}", self.stderr()),
        }
    }

    /// Sends exactly these bytes on a connection of its own, and gives all that comes back until its end.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.listen()).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut answer)).await;
        // Where it is reset, what came before that counts.
        let _ = read.expect("the connection ends");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The log, a record an entry, as the admin listener gives it.
    pub async fn log(&self) -> Vec<Value> {
        web::lines(&self.admin("/v1/log").await.expect(200).text)
    }

    /// The names of the records of one transaction, in order: `["begun", "preparing", "decided", "ended"]`.
    pub async fn records(&self, transaction: &str) -> Vec<String> {
        let of_it = |record: &Value| record["transaction"] == transaction;
        let name = |record: Value| record["record"].as_str().unwrap().to_owned();
        self.log().await.into_iter().filter(of_it).map(name).collect()
    }

    /// What is in doubt now, as the admin listener gives it.
    pub async fn in_doubt(&self) -> Vec<Value> {
        web::list(&self.admin("/v1/transactions?in_doubt=true").await.expect(200).text)
    }

    /// What the metric `unanimous_NAME` says; where it has labels, the name ends with them.
    pub async fn metric(&self, name: &str) -> String {
        let text = self.admin("/metrics").await.expect(200).text;
        let value = |line: &str| {
            Some(line.strip_prefix("unanimous_")?.strip_prefix(name)?.strip_prefix(' ')?.to_owned())
        };
        text.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until nothing is in doubt.
    pub async fn settled(&self) {
        super::until("nothing is in doubt", async || self.in_doubt().await.is_empty()).await;
    }

    /// `state` of a transaction as the public listener gives it; empty where it does not know it.
    pub async fn state(&self, transaction: &str) -> String {
        let reply = self.get(&format!("/v1/transactions/{transaction}")).await;
        let told: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        told["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the transaction is in this state.
    pub async fn wait_for_state(&self, transaction: &str, state: &str) {
        let what = format!("transaction {transaction} is {state}");
        super::until(&what, async || self.state(transaction).await == state).await;
    }

    /// Waits until an operator has to look at the transaction.
    pub async fn wait_for_parked(&self, transaction: &str) {
        let path = format!("/v1/transactions/{transaction}");
        let what = format!("transaction {transaction} is parked");
        super::until(&what, async || self.get(&path).await.json()["parked"] == true).await;
    }

    /// Runs another command of the program to its end: `node.cli(&["verify", "--data-dir", ..])`.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        program().args(arguments).output().await.unwrap()
    }
}
