//! Calls a participant as the coordinator would: to test a participant without a coordinator.

use http::Method;
use serde_json::{Value, json};

use super::web::{self, Reply};

/// Someone who plays the coordinator of one transaction, of which the participant has branch 0.
#[derive(Debug)]
pub struct Caller {
    base: String,
    transaction: String,
    client: reqwest::Client,
}

impl Caller {
    /// For a new transaction at the participant at `base`, such as `http://127.0.0.1:9001`.
    pub fn new(base: &str) -> Self {
        let transaction = uuid::Uuid::from_u128(fastrand::u128(..)).to_string();
        Self { base: base.to_owned(), transaction, client: web::client() }
    }

    /// The work call.
    pub async fn work(&self, path: &str, body: &Value) -> Reply {
        self.call("work", path, body).await
    }

    /// `prepare`, `commit` or `abort` at `/tx/<operation>` with an envelope; the status it was answered with.
    pub async fn tell(&self, operation: &str) -> u16 {
        let envelope = json!({"transaction": self.transaction, "branch": 0, "operation": operation});
        self.call(operation, &format!("/tx/{operation}"), &envelope).await.status
    }

    /// One call with all the headers of contract section 5.
    pub async fn call(&self, operation: &str, path: &str, body: &Value) -> Reply {
        let id = &self.transaction;
        let headers = [
            ("content-type", "application/json"),
            ("transaction-id", id),
            ("transaction-branch", "0"),
            ("transaction-operation", operation),
            ("transaction-attempt", "1"),
            ("transaction-coordinator", &format!("http://127.0.0.1:1/v1/transactions/{id}")),
            ("transaction-epoch", "1"),
            ("idempotency-key", &format!("\"{id}/0/{operation}\"")),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let url = format!("{}{path}", self.base);
        web::send(&self.client, Method::POST, &url, &headers, Some(body.to_string())).await.unwrap()
    }
}
