//! The public listener: what clients send through the gateway, and what participants ask.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Version};

use http_body_util::Limited;

use super::exchange::Exchange;
use super::framing;
use super::metrics::Metrics;
use super::node::Setup;
use super::reply;
use super::transact::transact;
use crate::budget::Halves;
use crate::coordinator::Coordinator;
use crate::discovery::Discovery;
use crate::gateway::guard::{GuardBook, Limiters, preflight_of};
use crate::gateway::{
    Answered, Caller, CleanPath, Gateway, GatewayOptions, Pools, Problem, REQUEST_ID, Routed, Shares, Trust,
    what_may_be_asked,
};
use crate::participant::Participants;
use crate::participant::options::TransactionOptions;
use crate::plan::TransactionId;
use crate::trace::{Span, Spans};

/// Where participants and clients ask what became of a transaction.
const TRANSACTIONS: &str = "/v1/transactions/";

/// All that the public listener needs.
pub struct Public<P> {
    /// What the configuration says. A request keeps to the one that it met.
    pub serving: ArcSwap<Serving>,
    /// The transactions.
    pub coordinator: Coordinator<P>,
    /// Whether each request has a line in the log.
    pub access_log: bool,
    /// Whom it believes.
    pub trust: Trust,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The most bytes of a body that is held whole.
    pub body_max: usize,
    /// The longest a client may take to send such a body.
    pub body_timeout: Duration,
    /// The bytes of bodies that open transactions keep for their commits and aborts.
    pub kept: Halves,
    /// How many clients may wait for each service.
    pub waiting: Shares,
    /// Whether the node is about to go: its clients are to find another.
    pub leaving: Arc<AtomicBool>,
    /// Where spans go.
    pub spans: Spans,
}

/// What one configuration says.
pub struct Serving {
    /// The routes.
    pub gateway: Gateway,
    /// What stands before the routes.
    pub guards: GuardBook,
    /// The services that keep the participant protocol.
    pub services: HashMap<String, TransactionOptions>,
}

/// What all configurations of a node share.
pub struct Wires {
    /// Limits on calls to backends.
    pub options: GatewayOptions,
    /// The bytes of bodies that may be held.
    pub bodies: Halves,
    /// What is known of the backends, and the connections to them.
    pub pools: Arc<Pools>,
    /// Told whenever a service has answered.
    pub answered: Answered,
    /// How many clients may wait for each service.
    pub waiting: Shares,
    /// Who came how often.
    pub limiters: Limiters,
}

impl Wires {
    /// What `setup` says, for the requests that meet it. From here on the backends are called as it says.
    #[must_use]
    pub fn serving(&self, setup: &Setup, discovery: &Arc<dyn Discovery>) -> Serving {
        self.pools.configure(setup.policies.clone(), discovery.clone());
        let gateway = Gateway::new(
            setup.routes.clone(),
            self.options,
            self.bodies.clone(),
            discovery.clone(),
            self.pools.clone(),
            self.answered.clone(),
            self.waiting.clone(),
        );
        let guards = GuardBook::new(&setup.guards, &self.limiters);
        Serving { gateway, guards, services: setup.participants.clone().into_iter().collect() }
    }
}

impl<P: Participants> Public<P> {
    /// Answers one request that `peer` has sent.
    pub async fn answer(self: Arc<Self>, request: Request<Body>, peer: SocketAddr) -> Response {
        let (parts, body) = request.into_parts();
        let version = parts.version;
        let mut response = self.clone().answer_from(parts, body, peer).await;
        // In HTTP/2 the connection itself says that it ends.
        let is_kept = version <= Version::HTTP_11 && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if is_kept && self.leaving.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer_from(self: Arc<Self>, parts: Parts, body: Body, peer: SocketAddr) -> Response {
        match self.trust.caller(&parts, peer, &self.spans) {
            Ok(client) => {
                let mut exchange = Exchange::begins(&self.metrics, &parts, &client, self.access_log);
                let mut response = self.answer_to(&mut exchange, &client, parts, body).await;
                response.headers_mut().insert(REQUEST_ID, client.request_id);
                exchange.ends_with(response)
            }
            Err(problem) => {
                self.metrics.request("", problem.status);
                problem.into_response()
            }
        }
    }

    /// The answer; `exchange` learns which route gives it.
    async fn answer_to(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        client: &Caller,
        parts: Parts,
        body: Body,
    ) -> Response {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Problem::not_implemented(&parts.method).into_response();
        }
        // RFC 9112, 3.2: what a request without it is meant for, two parties can read in two ways.
        if parts.version == Version::HTTP_11 && !parts.headers.contains_key(HOST) {
            let detail = "a request of HTTP/1.1 needs a Host field";
            return Problem::new(StatusCode::BAD_REQUEST, "bad_host", detail).into_response();
        }
        if let Some(refusal) = framing::refusal(parts.version, &parts.headers) {
            return refusal;
        }
        if let Some(id) = transaction_asked(parts.uri.path()) {
            return self.fate(&parts.method, &id).await;
        }
        let serving = self.serving.load_full();
        if let Some((route, answer)) = serving.preflight(&parts).await {
            exchange.matched(&route);
            return answer;
        }
        let routed = serving.gateway.route(&parts);
        let Some(id) = routed.id() else { return refusal(routed) };
        exchange.matched(id);
        let span = exchange.span();
        span.takes(id, || serving.gateway.routes().pattern_of(id).map(ToString::to_string));
        let Some(guard) = serving.guards.of(id) else {
            return self.follow(&serving, routed, client, span, Request::from_parts(parts, body)).await;
        };
        let (visit, entered) = guard.enters(client, &parts);
        let answer = match entered {
            Ok(()) => {
                let body = match guard.body_max {
                    None => body,
                    Some(bytes_max) => Body::new(Limited::new(body, bytes_max)),
                };
                self.follow(&serving, routed, client, span, Request::from_parts(parts, body)).await
            }
            Err(problem) => {
                self.metrics.kept_out(guard.route(), problem.code);
                problem.into_response()
            }
        };
        guard.leaves(visit, answer).await
    }

    /// Does what the route says.
    async fn follow(
        self: &Arc<Self>,
        serving: &Serving,
        routed: Routed<'_>,
        client: &Caller,
        span: &mut Span,
        request: Request<Body>,
    ) -> Response {
        match routed {
            Routed::Forward(matched) => serving.gateway.forward(&matched, request, client).await,
            Routed::Merge(matched) => {
                let (parts, _) = request.into_parts();
                serving.gateway.merge(&matched, &parts, client).await
            }
            Routed::Transaction(matched) => {
                let response = transact(self, serving, &matched, request, client, span).await;
                response.unwrap_or_else(IntoResponse::into_response)
            }
            Routed::Redirect(matched) => matched.answer(&request.into_parts().0),
            Routed::Respond(matched) => matched.answer(),
            Routed::NotFound | Routed::MethodNotAllowed(_) | Routed::Options(_) | Routed::BadRequest(_) => {
                refusal(routed)
            }
        }
    }

    async fn fate(&self, method: &Method, id: &str) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Problem::method_not_allowed(&[Method::GET, Method::HEAD]).into_response();
        }
        fate_of(&self.coordinator, id).await
    }
}

impl Serving {
    /// The answer to a browser that asks whether a web page may send a request, where the route of that request says so.
    async fn preflight(&self, request: &Parts) -> Option<(String, Response)> {
        let method = preflight_of(request)?;
        let mut asked = request.clone();
        asked.method = method;
        let routed = self.gateway.route(&asked);
        let id = routed.id()?;
        Some((id.to_owned(), self.guards.of(id)?.preflight(request).await?))
    }
}

/// What follows [`TRANSACTIONS`] in a path that begins with it, however it is encoded: a path that means the same as
/// this one must not find its way to a service.
fn transaction_asked(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return path.strip_prefix(TRANSACTIONS).map(Cow::Borrowed);
    }
    let path = CleanPath::parse(path).ok()?;
    path.as_str().strip_prefix(TRANSACTIONS).map(|id| Cow::Owned(id.to_owned()))
}

/// What is said where no route takes it.
fn refusal(routed: Routed<'_>) -> Response {
    match routed {
        Routed::MethodNotAllowed(allow) => Problem::method_not_allowed(&allow).into_response(),
        Routed::BadRequest(problem) => problem.into_response(),
        Routed::Options(allow) => what_may_be_asked(&allow),
        Routed::Forward(_)
        | Routed::Merge(_)
        | Routed::Transaction(_)
        | Routed::Redirect(_)
        | Routed::Respond(_)
        | Routed::NotFound => Problem::not_found().into_response(),
    }
}

/// What became of the transaction that somebody names.
pub(super) async fn fate_of<P: Participants>(coordinator: &Coordinator<P>, id: &str) -> Response {
    let Ok(id) = id.parse::<TransactionId>() else {
        let detail = "the last part of the path is no UUID, and so no transaction";
        return Problem::new(StatusCode::NOT_FOUND, "never_seen", detail).into_response();
    };
    match coordinator.fate(id).await {
        Ok(fate) => match reply::fate(id, &fate) {
            Ok(found) => reply::of_transaction(id, found),
            Err(problem) => problem.into_response(),
        },
        Err(error) => Problem::from(error).into_response(),
    }
}
