//! Merging: several services are asked, and their answers become one JSON object.
//!
//! ```text
//!            ┌─► part ─────────────┐
//!  request ──┼─► part ──┬──────────┼─► shapes ─► one document in declared order ─► answer
//!            │          └─► part ──┤   (a pure function, document.rs)
//!            └─► part ─────────────┘
//! ```
//!
//! All parts are asked at once, except that one which takes a value from an earlier answer waits for that. Which came
//! first never shows in the answer. A required part that fails makes the whole fail; one that is not is left out or has its
//! fallback, and `X-Gateway-Completed: false` says so.
//!
//! It is *not* where anything is changed at a service: parts only ask, and several changes are a transaction.

mod check;
mod document;
mod fields;
mod missing;
mod parts;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::SetOnce;

pub use fields::is_never_passed;
pub use parts::{Label, MergeRoute, OnConflict, Part, StatusRule};
pub use shape::{Filter, Renames, Shape};
pub use values::{Piece, Question, Reference};

use super::backend::{Call, Failure};
use super::caller::Caller;
use super::json;
use super::upload::Upload;
use super::{Gateway, Matched, headers};
use crate::budget::{Budget, Permit};
use check::{BadText, check};
use document::{Document, Refused, Text, document};
use missing::Missing;

/// A call that is late ends by itself, so that this is known of its instance and counts for the breaker of the service. It
/// is cut only if it does not.
const NOTICED_WITHIN: Duration = Duration::from_millis(10);

/// What came of asking for a part.
struct Heard {
    /// The fields of its answer that the client gets.
    fields: HeaderMap,
    came: Result<Came, Missing>,
}

/// A part that came. It counts in the budget for as long as it is kept.
struct Came {
    status: StatusCode,
    text: Text<String>,
    permit: Permit,
}

/// One request whose parts are asked for.
struct Asking<'a> {
    gateway: &'a Gateway,
    matched: &'a Matched<'a, MergeRoute>,
    /// The query of the client.
    query: Option<&'a str>,
    fields: HeaderMap,
    client: &'a Caller,
    /// What came of each part so far.
    heard: &'a [SetOnce<Heard>],
}

/// The merged answer, which counts until it has been sent, however slowly it is read.
struct Merged {
    text: Vec<u8>,
    _permits: Vec<Permit>,
}

impl AsRef<[u8]> for Merged {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Gateway {
    /// Answers a request from all parts, or with a problem: 502 `part_failed` or `merge_conflict`, 504 `part_late`, 503
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
        let heard: Vec<_> = parts.iter().map(|_| SetOnce::new()).collect();
        let (gateway, query, heard_so_far) = (self, request.uri.query(), &heard);
        let asking = Asking { gateway, matched, query, fields, client, heard: heard_so_far };
        join_all(parts.iter().zip(&heard).map(|(part, heard)| asking.hear(part, heard))).await;
        let heard: Vec<_> = heard.into_iter().filter_map(SetOnce::into_inner).collect();
        answer(self, matched, heard)
    }
}

impl Asking<'_> {
    /// Asks for one part and keeps what came.
    async fn hear(&self, part: &Part, place: &SetOnce<Heard>) {
        let mut fields = HeaderMap::new();
        let came = self.part(part, &mut fields).await;
        // Nobody else has this place.
        let _ = place.set(Heard { fields, came });
    }

    /// Asks for one part and reads it whole, all within its timeout, which begins when what it needs has come.
    async fn part(&self, part: &Part, fields: &mut HeaderMap) -> Result<Came, Missing> {
        for needed in part.waits_for() {
            let Some(heard) = self.heard.get(needed) else { continue };
            if heard.wait().await.came.is_err() {
                return Err(Missing::Dependency);
            }
        }
        let answer_of = |place| self.heard.get(place).and_then(SetOnce::get).and_then(Heard::json);
        let params = &self.matched.params;
        let target = values::target(part, params, self.query, answer_of)?;
        let body = part.question.body(params, answer_of)?;
        let budget = self.gateway.bodies.of(&part.service);
        let mut headers = self.fields.clone();
        let upload = match body {
            None => Upload::none(),
            Some(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                Upload::new(Body::from(budget.copy(body.as_bytes()).ok_or(Missing::NoBudget)?), None)
            }
        };
        let timeout = part.timeout.unwrap_or(self.matched.route.timeout);
        let method = part.question.method.clone();
        let key = self.gateway.backends.key(&part.service, &headers, &self.matched.params);
        let (route, service, try_timeout, retry) = (self.matched.id, &part.service, None, None);
        let context = self.client.context.clone();
        let call = Call {
            route,
            service,
            method,
            target,
            headers,
            upload,
            timeout,
            try_timeout,
            retry,
            key,
            context,
        };
        let answer = async {
            let (answer, mut held) = self.gateway.backends.send(&call).await.map_err(Missing::Failed)?;
            *fields = fields::passed(part, answer.headers());
            let came = self.read(part, answer, &budget).await;
            if matches!(came, Err(Missing::BadAnswer(missing::BROKE_OFF))) {
                held.giver.broke_off("closed before its end");
            }
            came
        };
        let late = Err(Missing::Failed(Failure::Late));
        tokio::time::timeout(timeout + NOTICED_WITHIN, answer).await.unwrap_or(late)
    }

    async fn read(
        &self,
        part: &Part,
        answer: http::Response<Incoming>,
        budget: &Budget,
    ) -> Result<Came, Missing> {
        let status = answer.status();
        if !status.is_success() {
            return Err(Missing::Refused(status));
        }
        // It was asked for as it is. What is packed is never unpacked here: a few bytes could become any number.
        if answer.headers().get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
            return Err(Missing::BadAnswer("encoded_answer"));
        }
        let content_type = answer.headers().get(CONTENT_TYPE).cloned();
        let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
        let bytes_max = part.answer_max.unwrap_or(self.gateway.options.answer_max);
        let (body, mut permit) = budget.collect(answer.into_body().into_data_stream(), bytes_max).await?;
        let text = Text::of(content_type, body)?;
        // A body that is not JSON grows when it is written as a string.
        if !permit.grow(text.len().saturating_sub(permit.held())) {
            return Err(Missing::NoBudget);
        }
        Ok(Came { status, text, permit })
    }
}

impl Heard {
    /// The answer, where it came and is JSON.
    fn json(&self) -> Option<&str> {
        match &self.came.as_ref().ok()?.text {
            Text::Json(text) => Some(text),
            Text::Wrapped(_) => None,
        }
    }
}

impl Text<String> {
    /// A body as JSON: to the letter where it is JSON, `null` where it is empty, else wrapped.
    fn of(content_type: Option<&str>, body: Bytes) -> Result<Self, Missing> {
        if body.is_empty() {
            return Ok(Self::Json("null".to_owned()));
        }
        if !content_type.is_none_or(json::is_json) {
            return Ok(Self::wrapped(content_type, &body));
        }
        // Without a copy: nobody else has the bytes.
        let text = match String::from_utf8(body.into()) {
            Ok(text) => text,
            Err(error) => return Self::no_json(content_type, error.as_bytes()),
        };
        match check(&text) {
            Ok(()) => {
                let trimmed = text.trim_ascii();
                Ok(Self::Json(if trimmed.len() == text.len() { text } else { trimmed.to_owned() }))
            }
            Err(BadText::NotJson) => Self::no_json(content_type, text.as_bytes()),
            Err(BadText::DuplicateKey) => Err(Missing::BadAnswer("duplicate_key")),
            Err(BadText::TooDeep) => Err(Missing::BadAnswer("too_deep")),
        }
    }

    /// What calls itself JSON and is none has been cut or is broken: nobody can do anything with it.
    fn no_json(content_type: Option<&str>, body: &[u8]) -> Result<Self, Missing> {
        if content_type.is_some() {
            return Err(Missing::BadAnswer("not_json"));
        }
        Ok(Self::wrapped(content_type, body))
    }

    fn wrapped(content_type: Option<&str>, body: &[u8]) -> Self {
        Self::Wrapped(json::wrapped(content_type, body).get().to_owned())
    }

    fn as_deref(&self) -> Text<&str> {
        match self {
            Self::Json(text) => Text::Json(text),
            Self::Wrapped(text) => Text::Wrapped(text),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Json(text) | Self::Wrapped(text) => text.len(),
        }
    }
}

/// The answer from what came.
fn answer(gateway: &Gateway, matched: &Matched<'_, MergeRoute>, heard: Vec<Heard>) -> Response {
    let route = matched.route;
    let texts =
        heard.iter().map(|heard| heard.came.as_ref().map(|came| came.text.as_deref()).map_err(Clone::clone));
    let made = document(route, texts.collect());
    let missing = match &made {
        Ok(Document { missing, .. }) | Err(Refused::Missing(missing)) => missing.as_slice(),
        Err(Refused::Clash(_) | Refused::TooMany(_)) => &[],
    };
    let statuses: Vec<Result<StatusCode, Missing>> = heard
        .iter()
        .zip(missing)
        .map(|(heard, missing)| {
            let status = heard.came.as_ref().map_or(StatusCode::BAD_GATEWAY, |came| came.status);
            missing.clone().map_or(Ok(status), Err)
        })
        .collect();
    say_what_is_missing(gateway, matched, missing);
    let text = match made {
        Ok(Document { text, .. }) => text,
        Err(Refused::Missing(_)) => return refusal(route, &heard, &statuses),
        Err(Refused::Clash(clash)) => {
            tracing::warn!(route = matched.id, member = clash.member, "two parts give one member");
            return missing::conflict(route, &clash).into_response();
        }
        Err(Refused::TooMany(place)) => {
            let part = route.parts.get(place).or(route.parts.last());
            return part.map_or_else(missing::overloaded, missing::too_many).into_response();
        }
    };
    let status = missing::status(route.status, &statuses);
    let fields = fields_for(status, &heard, &statuses);
    let mut permits: Vec<_> = heard.into_iter().filter_map(|heard| Some(heard.came.ok()?.permit)).collect();
    let held: usize = permits.iter().map(Permit::held).sum();
    // For what it has beside the texts of the parts.
    let mut more = gateway.bodies.of_all([]).permit();
    if !more.grow(text.len().saturating_sub(held)) {
        return missing::overloaded().into_response();
    }
    permits.push(more);
    let body = Body::from(Bytes::from_owner(Merged { text, _permits: permits }));
    let is_complete = statuses.iter().all(Result::is_ok);
    whole(body, status, fields, is_complete)
}

/// A client that asks for what there is not must not fill the log.
fn say_what_is_missing(gateway: &Gateway, matched: &Matched<'_, MergeRoute>, missing: &[Option<Missing>]) {
    for (part, missing) in matched.route.parts.iter().zip(missing) {
        let Some(missing) = missing else { continue };
        let (route, kind, status) = (matched.id, missing.kind(), missing.refused().map(|code| code.as_u16()));
        let (part, service) = (&part.name, &part.service);
        if missing.is_perhaps_the_clients() {
            tracing::debug!(route, part, service, kind, status, "a part is missing");
        } else if let Some(left_out) = gateway.backends.may_say(service, kind) {
            tracing::warn!(route, part, service, kind, status, left_out, "a part is missing");
        }
    }
}

/// The fields of the parts that are in an answer with `status`, and of a refusal that it has the status of: a 401 is to
/// come with its `WWW-Authenticate`.
fn fields_for(status: StatusCode, heard: &[Heard], parts: &[Result<StatusCode, Missing>]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (heard, part) in heard.iter().zip(parts) {
        if part.is_ok() || *part == Err(Missing::Refused(status)) {
            fields::add(&mut fields, &heard.fields);
        }
    }
    fields
}

fn refusal(route: &MergeRoute, heard: &[Heard], parts: &[Result<StatusCode, Missing>]) -> Response {
    let problem = missing::problem(route, parts);
    let (status, mut response) = (problem.status, problem.into_response());
    if matches!(route.status, StatusRule::Worst | StatusRule::First) {
        // What came is not in it.
        let refused: Vec<_> = parts.iter().map(|part| part.clone().and(Err(Missing::Dependency))).collect();
        let mut fields = fields_for(status, heard, &refused);
        fields.remove(CACHE_CONTROL);
        response.headers_mut().extend(fields);
    }
    response
}

fn whole(body: Body, status: StatusCode, fields: HeaderMap, is_complete: bool) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(fields);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .insert("x-gateway-completed", HeaderValue::from_static(if is_complete { "true" } else { "false" }));
    if !is_complete {
        // What is missing now may be there at the next request.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
