//! Participants over HTTP: one attempt at one call, with reqwest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Response};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use unanimous_wal::Durable;

use super::answer::{Answer, Outcome, is_no, meaning};
use super::options::Retry;
use super::services::{Service, Services};
use super::wire::{self, Message, Sender};
use super::{Call, Participants, Reply};
use crate::budget::Halves;
use crate::clients::Clients;
use crate::discovery::Endpoint;
use crate::trace::span::Called;
use crate::trace::{Span, Spans};
use crate::txn::Operation;

/// Told of every attempt, for the metrics.
pub type Observer = Arc<dyn Fn(&Attempt<'_>) + Send + Sync>;

/// One attempt that is over.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The service that was called.
    pub service: &'a str,
    /// What it was asked to do.
    pub operation: Operation,
    /// `ok`, `no`, `error`, `never_sent`, `broken` or `late`.
    pub result: &'static str,
    /// From the first byte sent to the last received.
    pub took: Duration,
}

/// The production implementation.
#[derive(Clone)]
pub struct HttpParticipants {
    clients: Clients,
    services: Arc<Services>,
    sender: Arc<Sender>,
    observer: Observer,
    spans: Spans,
    reply_max: usize,
    answers: Halves,
}

impl HttpParticipants {
    /// Participants reached through `clients`; each call has a span, that goes to `spans`. A work answer may have at most `reply_max` bytes, and all that are held together as many as `answers` has.
    #[must_use]
    pub fn new(
        clients: Clients,
        services: Arc<Services>,
        sender: Sender,
        observer: Observer,
        spans: Spans,
        reply_max: usize,
        answers: Halves,
    ) -> Self {
        Self { clients, services, sender: Arc::new(sender), observer, spans, reply_max, answers }
    }

    /// Tries the endpoints in turn until one may have received the call.
    async fn attempt(&self, call: &Call, service: &Service) -> (Outcome, Option<Endpoint>) {
        let client = self.clients.of(service.options.speaks);
        for endpoint in service.endpoints(call) {
            let mut span = self.span(call, &endpoint);
            let sent = self.send(client, call, &endpoint, span.id());
            let outcome = timeout(service.options.timeout, sent).await.unwrap_or(Outcome::Late);
            end(&mut span, &outcome);
            if outcome != Outcome::NeverSent {
                return (outcome, Some(endpoint));
            }
        }
        (Outcome::NeverSent, None)
    }

    /// The span of one call to one endpoint: a part of that of the request which began the transaction.
    fn span(&self, call: &Call, endpoint: &Endpoint) -> Span {
        let planned = call.plan.branch(call.branch);
        let (what, service) = (Some(call.operation.name()), call.service());
        let (endpoint, target) = (endpoint.as_str(), planned.path(call.operation));
        let (method, before) = (&wire::method(call), call.attempt.saturating_sub(1));
        let context = self.spans.of_calls(call.plan.trace, call.transaction.span());
        let mut span = context.call(&Called { what, service, endpoint, method, target, before });
        span.say(|| {
            [
                ("unanimous.transaction.id", call.transaction.to_string().as_str().into()),
                ("unanimous.transaction.branch", call.branch.to_string().as_str().into()),
                ("unanimous.transaction.operation", call.operation.name().into()),
            ]
        });
        span
    }

    async fn send(&self, client: &Client, call: &Call, endpoint: &Endpoint, span: u64) -> Outcome {
        let Message { method, url, headers, body } = wire::message(call, &self.sender, endpoint, span);
        let request = client.request(method, url).headers(headers).body(body);
        match request.send().await {
            Ok(response) => self.receive(call, response).await,
            // Only a failure to connect is known to have sent nothing (and a URL that is none).
            Err(error) if error.is_connect() || error.is_builder() => Outcome::NeverSent,
            Err(_) => Outcome::Broken(None),
        }
    }

    async fn receive(&self, call: &Call, response: Response) -> Outcome {
        let (vote, retry_after) = (wire::vote(response.headers()), wire::retry_after(response.headers()));
        let status = response.status().as_u16();
        let content_type = response.headers().get(::http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let room = self.answers.of(call.service());
        let body = match (call.operation, room.read(response.bytes_stream(), self.reply_max).await) {
            (_, Ok(body)) => body,
            // The client gets what was done, so that must be whole. Of all others only the status counts, and that has
            // been received: a no is a no.
            (Operation::Work, Err(error)) if !is_no(status) => {
                let (transaction, service) = (call.transaction, call.service());
                tracing::warn!(%transaction, service, status, %error, "an answer is not taken");
                return Outcome::Broken(Some(status));
            }
            (_, Err(_)) => Bytes::new(),
        };
        let reply = Reply { status, content_type, body };
        Outcome::Answered { reply, vote, retry_after }
    }

    fn observe(&self, call: &Call, outcome: &Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Answered { reply, .. } => match reply.status {
                200..=299 => "ok",
                400..=499 => "no",
                _ => "error",
            },
            Outcome::NeverSent => "never_sent",
            Outcome::Broken(_) => "broken",
            Outcome::Late => "late",
        };
        (self.observer)(&Attempt { service: call.service(), operation: call.operation, result, took });
    }
}

fn end(span: &mut Span, outcome: &Outcome) {
    match outcome {
        Outcome::Answered { reply, .. } => span.answered(reply.status),
        Outcome::NeverSent => span.failed("unreachable"),
        Outcome::Broken(status) => {
            if let Some(status) = status {
                span.answered(*status);
            }
            span.failed("broken");
        }
        Outcome::Late => span.failed("late"),
    }
}

impl Participants for HttpParticipants {
    /// None for a service that the configuration no longer has.
    type Permit = Option<OwnedSemaphorePermit>;

    async fn permit(&self, service: &str, operation: Operation) -> Self::Permit {
        Some(self.services.get(service)?.permit(operation).await)
    }

    fn is_crowded(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|service| service.is_crowded())
    }

    async fn deliver(&self, call: Durable<Call>, _permit: Self::Permit) -> (Answer, Option<Endpoint>) {
        let call = call.get();
        let Some(service) = self.services.get(call.service()) else {
            tracing::error!(
                transaction = %call.transaction, service = call.service(),
                "the configuration no longer has this service, and a transaction in doubt needs it: put it back"
            );
            return (meaning(call.operation, Outcome::NeverSent), None);
        };
        let started = tokio::time::Instant::now();
        let (outcome, asked) = self.attempt(call, &service).await;
        self.observe(call, &outcome, started.elapsed());
        service.heard(&outcome);
        (meaning(call.operation, outcome), asked)
    }

    fn recoveries(&self, service: &str) -> watch::Receiver<u64> {
        self.services.get(service).map_or_else(|| watch::channel(0).1, |service| service.recoveries())
    }

    fn retry(&self, service: &str) -> Retry {
        self.services.get(service).map_or_else(Retry::default, |service| service.options.retry)
    }
}
