//! One request and its answer, from the first byte to the last: for the metrics, and a line of the access log.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode, Version};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use super::metrics::Metrics;
use super::reply::TRANSACTION_ID;
use crate::gateway::Caller;

/// What is known of a request before it is answered. When it goes, the answer has been sent or nobody waits for it any more.
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    started: Instant,
    line: Option<Line>,
    answer: Option<Answer>,
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
        Self { metrics: metrics.clone(), started: Instant::now(), line, answer: None }
    }

    /// The same answer, observed to its end. `route` is empty where none matched.
    pub(super) fn ends_with(mut self, route: &str, answer: Response) -> Response {
        let transaction = answer.headers().get(TRANSACTION_ID).map(text).unwrap_or_default();
        self.answer = Some(Answer {
            route: route.to_owned(),
            status: answer.status(),
            transaction,
            bytes: 0,
            is_whole: answer.body().is_end_stream(),
        });
        self.metrics.request(route, answer.status());
        answer.map(|body| Body::new(Observed { body, exchange: self }))
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
        if let Some(Line { method, path, version, client, request_id }) = &self.line {
            tracing::info!(
                target: "unanimous::access",
                %method, path, ?version, status = status.as_u16(), route, bytes, is_whole, ?took, client, request_id,
                transaction, "answered"
            );
        }
    }
}

struct Observed {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let is_end = self.body.is_end_stream();
        if let Some(answer) = &mut self.exchange.answer {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    answer.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    answer.is_whole = is_end;
                }
                Poll::Ready(None) => answer.is_whole = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn text(value: &http::HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}
