//! The headers and bodies of a call (contract section 5).

use ::http::Method;
use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use bytes::Bytes;
use std::fmt::Display;
use std::time::Duration;

use super::Call;
use crate::discovery::Endpoint;
use crate::txn::{Operation, Vote};

/// What every call says of the node that makes it.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Where participants reach this node: `http://gateway:8000`.
    pub advertise: String,
    /// A number that grows at every start of the node.
    pub epoch: u64,
}

/// A call as it goes on the wire.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// `call` as it goes to `endpoint`; `span` is its own in the transaction's trace.
#[must_use]
pub fn message(call: &Call, sender: &Sender, endpoint: &Endpoint, span: u64) -> Message {
    let url = format!("{endpoint}{}", call.plan.branch(call.branch).path(call.operation));
    Message { method: method(call), url, headers: headers(call, sender, span), body: body(call) }
}

/// The method of `call`.
#[must_use]
pub fn method(call: &Call) -> Method {
    match call.operation {
        Operation::Work => call.plan.branch(call.branch).method.parse().unwrap_or(Method::POST),
        Operation::Prepare | Operation::Commit | Operation::Abort => Method::POST,
    }
}

/// The headers of `call`, those of the client's request included where it is a work call.
#[must_use]
pub fn headers(call: &Call, sender: &Sender, span: u64) -> HeaderMap {
    let mut headers = call.work.as_ref().map(|work| work.headers.clone()).unwrap_or_default();
    let (id, branch, operation) = (call.transaction, call.branch, call.operation.name());
    let status_url = format!("{}/v1/transactions/{id}", sender.advertise);
    set(&mut headers, "transaction-id", id);
    set(&mut headers, "transaction-branch", branch);
    set(&mut headers, "transaction-operation", operation);
    set(&mut headers, "transaction-attempt", call.attempt);
    set(&mut headers, "transaction-coordinator", status_url);
    set(&mut headers, "transaction-epoch", sender.epoch);
    set(&mut headers, "idempotency-key", format!("\"{id}/{branch}/{operation}\""));
    set(&mut headers, "traceparent", call.plan.trace.parent(span));
    if let Some(content_type) = content_type(call) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers
}

/// The body of `call`.
#[must_use]
pub fn body(call: &Call) -> Bytes {
    match (&call.work, call.plan.body(call.branch)) {
        (Some(work), _) => work.body.clone(),
        (None, Some(body)) => body.bytes.clone(),
        (None, None) => envelope(call).into(),
    }
}

/// The vote that an answer's headers give.
#[must_use]
pub fn vote(headers: &HeaderMap) -> Vote {
    let vote = headers.get("transaction-vote").map(HeaderValue::as_bytes).unwrap_or_default();
    if vote.trim_ascii().eq_ignore_ascii_case(b"read-only") { Vote::ReadOnly } else { Vote::Yes }
}

/// How long an answer asks us to wait, where it says so in seconds (RFC 9110, 10.2.3).
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn envelope(call: &Call) -> String {
    let (id, branch, operation) = (call.transaction, call.branch, call.operation.name());
    format!(r#"{{"transaction":"{id}","branch":{branch},"operation":"{operation}"}}"#)
}

fn content_type(call: &Call) -> Option<HeaderValue> {
    match (call.operation, call.plan.body(call.branch)) {
        // A work call has the client's own `Content-Type` among its headers.
        (Operation::Work, _) => None,
        (_, Some(body)) => HeaderValue::try_from(body.content_type.as_deref()?).ok(),
        (_, None) => Some(HeaderValue::from_static("application/json")),
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: impl Display) {
    let value = HeaderValue::try_from(value.to_string());
    headers.insert(name, value.expect("ids, numbers and checked URLs are valid header values"));
}
