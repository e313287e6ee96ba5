//! One request and its answer, from the first byte to the last: for the metrics, and a line of the access log.

use std::sync::Arc;
use std::task::Poll;

use axum::body::HttpBody as _;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::metrics::Metrics;
use super::reply::TRANSACTION_ID;
use crate::gateway::{Caller, Polled, looking_on};
use crate::trace::Span;

/// What the access log says in place of a status where the client hung up before there was one, as in nginx.
const CLIENT_GONE: u16 = 499;

/// What is known of a request before it is answered. When it goes, the answer has been sent or nobody waits for it any more.
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    started: Instant,
    /// Empty where none matched, or none has yet.
    route: String,
    line: Option<Line>,
    answer: Option<Answer>,
    /// From the head of the request to the last byte of the answer.
    span: Span,
    /// Of such an answer only the head is sent.
    is_head: bool,
}

/// What the access log says of a request; the query is left out, because people put secrets there.
struct Line {
    method: Method,
    path: String,
    version: Version,
    client: String,
    request_id: String,
}

/// What came of it.
struct Answer {
    status: StatusCode,
    transaction: String,
    bytes: u64,
    is_whole: bool,
}

impl Exchange {
    /// A request has come; `is_logged` is whether the access log has a line for each.
    pub(super) fn begins(metrics: &Arc<Metrics>, request: &Parts, client: &Caller, is_logged: bool) -> Self {
        metrics.in_flight(1);
        let line = is_logged.then(|| Line {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            version: request.version,
            client: client.address.to_string(),
            request_id: text(&client.request_id),
        });
        let span = client.context.request(&request.method, || {
            vec![
                ("url.path", request.uri.path().into()),
                ("url.scheme", "http".into()),
                ("client.address", client.address.to_string().as_str().into()),
                ("unanimous.request_id", text(&client.request_id).as_str().into()),
            ]
        });
        let is_head = request.method == Method::HEAD;
        let (metrics, route) = (metrics.clone(), String::new());
        Self { metrics, started: Instant::now(), route, line, answer: None, span, is_head }
    }

    /// The span of the request.
    pub(super) fn span(&mut self) -> &mut Span {
        &mut self.span
    }

    /// It is this route's.
    pub(super) fn matched(&mut self, route: &str) {
        route.clone_into(&mut self.route);
    }

    /// The same answer, observed to its end.
    pub(super) fn ends_with(mut self, answer: Response) -> Response {
        let transaction = answer.headers().get(TRANSACTION_ID).map(text).unwrap_or_default();
        self.span.answered(answer.status().as_u16());
        if !transaction.is_empty() {
            self.span.say(|| [("unanimous.transaction.id", transaction.as_str().into())]);
        }
        self.answer = Some(Answer {
            status: answer.status(),
            transaction,
            bytes: 0,
            is_whole: answer.body().is_end_stream(),
        });
        self.metrics.request(&self.route, answer.status());
        looking_on(answer, move |polled, is_end| self.sends(polled, is_end))
    }

    fn sends(&mut self, polled: &Polled, is_end: bool) {
        let Some(answer) = &mut self.answer else { return };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                answer.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                answer.is_whole = is_end;
            }
            Poll::Ready(None) => answer.is_whole = true,
            Poll::Ready(Some(Err(_))) => self.metrics.broke_off(&self.route),
            Poll::Pending => {}
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.in_flight(-1);
        let (route, took) = (&self.route, self.started.elapsed());
        self.metrics.request_took(route, took);
        match &self.answer {
            Some(answer) if !answer.is_whole && !self.is_head => self.span.failed("answer_broke_off"),
            Some(_) => {}
            None => self.metrics.client_gone(route),
        }
        let Some(Line { method, path, version, client, request_id }) = &self.line else { return };
        let took_seconds = took.as_secs_f64();
        if let Some(Answer { status, transaction, bytes, is_whole }) = &self.answer {
            tracing::info!(
                target: "unanimous::access",
                %method, path, ?version, status = status.as_u16(), route, bytes, is_whole, took_seconds, client, request_id,
                transaction, "answered"
            );
        } else {
            tracing::info!(
                target: "unanimous::access",
                %method, path, ?version, status = CLIENT_GONE, route, bytes = 0, is_whole = false, took_seconds, client,
                request_id, "no answer: the client has gone"
            );
        }
    }
}

fn text(value: &http::HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}
