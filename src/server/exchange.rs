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

/// What is known of a request before it is answered. When it goes, the answer has been sent or nobody waits for it any more.
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    started: Instant,
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
    route: String,
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
        Self { metrics: metrics.clone(), started: Instant::now(), line, answer: None, span, is_head }
    }

    /// The span of the request.
    pub(super) fn span(&mut self) -> &mut Span {
        &mut self.span
    }

    /// The same answer, observed to its end. `route` is empty where none matched.
    pub(super) fn ends_with(mut self, route: &str, answer: Response) -> Response {
        let transaction = answer.headers().get(TRANSACTION_ID).map(text).unwrap_or_default();
        self.span.answered(answer.status().as_u16());
        if !transaction.is_empty() {
            self.span.say(|| [("unanimous.transaction.id", transaction.as_str().into())]);
        }
        self.answer = Some(Answer {
            route: route.to_owned(),
            status: answer.status(),
            transaction,
            bytes: 0,
            is_whole: answer.body().is_end_stream(),
        });
        self.metrics.request(route, answer.status());
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
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.in_flight(-1);
        let took = self.started.elapsed();
        let Some(answer) = &self.answer else {
            // The client hung up before there was one.
            if let Some(Line { method, path, version, client, request_id }) = &self.line {
                tracing::info!(
                    target: "unanimous::access",
                    %method, path, ?version, client, request_id, ?took, "no answer: the client has gone"
                );
            }
            return;
        };
        let Answer { route, status, transaction, bytes, is_whole } = answer;
        self.metrics.request_took(route, took);
        if !is_whole && !self.is_head {
            self.span.failed("answer_broke_off");
        }
        if let Some(Line { method, path, version, client, request_id }) = &self.line {
            tracing::info!(
                target: "unanimous::access",
                %method, path, ?version, status = status.as_u16(), route, bytes, is_whole, ?took, client, request_id,
                transaction, "answered"
            );
        }
    }
}

fn text(value: &http::HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}
