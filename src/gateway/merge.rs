//! Merging: several services are asked at once, and their answers become the members of one object.
//!
//! Members stand in declared order, whichever part was first. A required part that fails makes the
//! whole answer fail; one that is not is left out, and `X-Gateway-Completed: false` says so.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::backend::{Call, Failure};
use super::caller::Caller;
use super::json::{self, Members};
use super::path::BadPath;
use super::problem::Problem;
use super::route::{MergeRoute, Part};
use super::upload::Upload;
use super::{Gateway, Matched, headers};
use crate::budget::BufferError;

/// A part that came.
struct Came {
    value: Box<RawValue>,
    /// What it was made of, which counts in the budget for as long as it is kept.
    body: Bytes,
}

/// The merged answer. Its parts go on counting until it has been sent, however slowly it is read.
struct Merged {
    text: Vec<u8>,
    _bodies: Vec<Bytes>,
}

impl AsRef<[u8]> for Merged {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Why a part is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The service gave no answer.
    Failed(Failure),
    /// It answered, but not with a 2xx.
    Refused(StatusCode),
    /// Its answer broke off or was over the limit.
    BadAnswer(&'static str),
    /// The gateway holds too much already.
    NoBudget,
    /// The request's parameters do not make a path.
    Path(BadPath),
}

impl Gateway {
    /// Answers a request from all parts, or with a problem: 502 `part_failed`, 504 `part_late`, 503
    /// `overloaded`, 400 `bad_path`. `client` is who asks.
    pub async fn merge(
        &self,
        matched: &Matched<'_, MergeRoute>,
        request: &Parts,
        client: &Caller,
    ) -> Response {
        let mut fields = headers::for_part(&request.headers);
        client.add_to(&mut fields);
        let parts = &matched.route.parts;
        let asked = parts.iter().map(|part| self.part(matched, part, request.uri.query(), fields.clone()));
        let came = join_all(asked).await;
        let failed =
            || parts.iter().zip(&came).filter_map(|(part, came)| Some((part, *came.as_ref().err()?)));
        for (part, missing) in failed() {
            let (route, kind) = (matched.id, missing.kind());
            tracing::warn!(route, part = part.name, service = part.service, kind, "a part is missing");
        }
        match problem(failed()) {
            Some(problem) => problem.into_response(),
            None => merged(parts, came),
        }
    }

    /// Asks for one part and reads it whole, all within the timeout of the route.
    async fn part(
        &self,
        matched: &Matched<'_, MergeRoute>,
        part: &Part,
        query: Option<&str>,
        headers: HeaderMap,
    ) -> Result<Came, Missing> {
        let target = part.path.fill(&matched.params).map_err(Missing::Path)?.with_query(query);
        let timeout = matched.route.timeout;
        let (method, upload) = (Method::GET, Upload::none());
        let call = Call { service: &part.service, method, target, headers, upload, timeout };
        let answer = async {
            let (answer, _share) = self.backends.send(&call).await.map_err(Missing::Failed)?;
            self.read(part, answer).await
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Missing::Failed(Failure::Late)))
    }

    async fn read(&self, part: &Part, answer: reqwest::Response) -> Result<Came, Missing> {
        if !answer.status().is_success() {
            return Err(Missing::Refused(answer.status()));
        }
        let content_type = answer.headers().get(CONTENT_TYPE).cloned();
        let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
        let budget = self.bodies.of(&part.service);
        let body = budget.read(answer.bytes_stream(), self.options.answer_max).await?;
        Ok(Came { value: json::member(content_type, &body), body })
    }
}

impl<E> From<BufferError<E>> for Missing {
    fn from(error: BufferError<E>) -> Self {
        match error {
            BufferError::TooLong(_) => Self::BadAnswer("answer_too_large"),
            BufferError::NoBudget => Self::NoBudget,
            BufferError::Broken(_) => Self::BadAnswer("answer_broke_off"),
        }
    }
}

impl Missing {
    /// One entry of `errors`: which part, and why.
    fn entry(self, part: &Part) -> Value {
        let mut entry = json!({ "part": part.name, "service": part.service, "kind": self.kind() });
        if let (Self::Refused(status), Some(members)) = (self, entry.as_object_mut()) {
            members.insert("status".to_owned(), json!(status.as_u16()));
        }
        entry
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Failed(Failure::Late) => "late",
            Self::Failed(
                Failure::Unreachable | Failure::Broken | Failure::BodyBroke | Failure::BodyTooLong,
            ) => "unreachable",
            Self::Refused(_) => "refused",
            Self::BadAnswer(kind) => kind,
            Self::NoBudget | Self::Failed(Failure::Crowded) => "overloaded",
            Self::Path(_) => "bad_path",
        }
    }
}

/// The answer where required parts are missing. The client's own mistake comes first, then our own
/// shortage, then the services.
fn problem<'a>(failed: impl Iterator<Item = (&'a Part, Missing)>) -> Option<Problem> {
    let required: Vec<_> = failed.filter(|(part, _)| part.required).collect();
    let all = |wanted: &str| required.iter().all(|(_, missing)| missing.kind() == wanted);
    let bad_path = required.iter().find_map(|(_, missing)| match missing {
        Missing::Path(reason) => Some(*reason),
        Missing::Failed(_) | Missing::Refused(_) | Missing::BadAnswer(_) | Missing::NoBudget => None,
    });
    let problem = if required.is_empty() {
        return None;
    } else if let Some(reason) = bad_path {
        Problem::from(reason)
    } else if required.iter().any(|(_, missing)| missing.kind() == "overloaded") {
        let detail = "too many bytes of answers are held already, or too many clients wait for a service; try again soon";
        Problem::overloaded(detail)
    } else if all("late") {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "part_late", "a required part did not come in time")
    } else {
        Problem::new(StatusCode::BAD_GATEWAY, "part_failed", "a required part could not be had")
    };
    let errors: Vec<_> = required.iter().map(|(part, missing)| missing.entry(part)).collect();
    Some(problem.with("errors", errors))
}

fn merged(parts: &[Part], came: Vec<Result<Came, Missing>>) -> Response {
    let complete = came.iter().all(Result::is_ok);
    let mut members = Members::default();
    let mut bodies = Vec::new();
    for (part, came) in parts.iter().zip(came) {
        if let Ok(Came { value, body }) = came {
            members.push(&part.name, value);
            bodies.push(body);
        }
    }
    let merged = Merged { text: members.to_json(), _bodies: bodies };
    let mut response = Response::new(Body::from(Bytes::from_owner(merged)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-gateway-completed", HeaderValue::from_static(if complete { "true" } else { "false" }));
    if !complete {
        // What is missing now may be there at the next request.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
