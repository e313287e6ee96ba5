//! The answers that the gateway makes up itself when it cannot give a backend's: RFC 9457 problems.
//!
//! `code` is the stable part, for programs; `detail` is for people and may change. Neither ever names
//! the address of a backend, only the service as the configuration calls it.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

/// When those who are refused for want of room are to come again, in seconds. Each is told another moment, so that those who were
/// refused together do not come back together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
const COME_AGAIN: RangeInclusive<u8> = 1..=3;

/// The answer to an OPTIONS that no route wants for itself: 204, with what may be asked in `Allow`.
#[must_use]
pub fn what_may_be_asked(allow: &[Method]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    // Methods are tokens, of which every field may consist.
    response.headers_mut().extend(HeaderValue::from_str(&list(allow)).ok().map(|list| (ALLOW, list)));
    response
}

/// Says that an error is the gateway's own and not of a backend, and has its code: whoever reads only heads can tell them apart.
pub(super) const GATEWAY_ERROR: HeaderName = HeaderName::from_static("x-gateway-error");

/// An error that the gateway answers with, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// What went wrong, for programs: lower case, never renamed.
    pub code: &'static str,
    /// What went wrong this time and what to do, for people.
    pub detail: String,
    /// More members of the JSON object.
    pub extra: Vec<(&'static str, Value)>,
    /// More header fields of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with nothing extra.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), extra: Vec::new(), headers: Vec::new() }
    }

    /// 404 `no_route`.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_route", "no route of this gateway matches the request")
    }

    /// 405 `method_not_allowed`, with the methods that would have matched in `Allow`.
    #[must_use]
    pub fn method_not_allowed(allow: &[Method]) -> Self {
        let list = list(allow);
        let detail = format!("this path takes {list}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        problem.with_header(ALLOW, &list)
    }

    /// 501 `not_implemented`: a gateway is no tunnel, and an answer to TRACE would show what it adds (RFC 9110, 9.3.6 and
    /// 9.3.8).
    #[must_use]
    pub fn not_implemented(method: &Method) -> Self {
        let detail = format!("this gateway does not do {method}");
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
    }

    /// 503 `overloaded`, with a `Retry-After` of 1 to 3 s: nothing was begun.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        let when = fastrand::u8(COME_AGAIN).to_string();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).with_header(RETRY_AFTER, &when)
    }

    /// 503 `breaker_open`, with a `Retry-After` of about `after`: nothing was sent.
    #[must_use]
    pub fn breaker_open(detail: impl Into<String>, after: Duration) -> Self {
        // Not all at the moment at which it opens, as above.
        let when = after.as_secs().saturating_add(fastrand::u8(COME_AGAIN).into()).to_string();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "breaker_open", detail).with_header(RETRY_AFTER, &when)
    }

    /// 413 `body_too_large`.
    #[must_use]
    pub fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!("the body is longer than the {bytes_max} bytes that are taken here");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// The same problem with one member more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    /// The same problem with one header field more; one that cannot be sent is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// What RFC 9457 calls the title: with type `about:blank`, the phrase of the status.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!("about:blank"));
        members.insert("title".to_owned(), json!(self.title()));
        members.insert("status".to_owned(), json!(self.status.as_u16()));
        members.insert("detail".to_owned(), json!(self.detail));
        members.insert("code".to_owned(), json!(self.code));
        members.extend(self.extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Value::Object(members)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(GATEWAY_ERROR, HeaderValue::from_static(self.code));
        headers.extend(self.headers);
        response
    }
}

/// `GET, HEAD`.
fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_a_code() {
        let problem = Problem::not_found().with("hint", "x");
        assert_eq!(
            problem.to_json().to_string(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no route of this gateway matches the request","code":"no_route","hint":"x"}"#
        );
    }

    #[test]
    fn those_who_are_refused_together_are_not_told_to_come_back_together() {
        let told = || Problem::overloaded("no room").into_response().headers()[RETRY_AFTER].clone();
        let all: BTreeSet<_> = (0..1_000).map(|_| told().to_str().unwrap().to_owned()).collect();
        assert_eq!(all, BTreeSet::from(["1", "2", "3"].map(str::to_owned)));
    }

    #[test]
    fn a_method_that_is_not_allowed_names_those_that_are() {
        let response = Problem::method_not_allowed(&[Method::GET, Method::HEAD]).into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[GATEWAY_ERROR], "method_not_allowed");
    }
}
