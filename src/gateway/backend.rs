//! Calls to services: whether one may be made, and what the client is told where there is no answer.
//!
//! A service whose breaker is open, or that has as many calls as it can do, is not asked. Which of its endpoints is
//! asked, and whether another follows, is in `tries`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::LengthLimitError;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::Instant;

use super::caller::TRACEPARENT;
use super::key::key;
use super::pace::TooSlow;
use super::pattern::Params;
use super::pools::{Busy, Pool, Pools, Round, Shed, Went, now};
use super::problem::Problem;
use super::shares::{Share, Shares};
use super::tries::{Tries, went};
use super::upload::Upload;
use crate::balance::{RetryRule, is_harmless};
use crate::clients::{Forwarders, Speaks};
use crate::discovery::{Discovery, Endpoint};
use crate::trace::span::Called;
use crate::trace::{Context, Span};

/// The field by which a service that is declared idempotent knows a request again.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All services, and the connections to them.
pub(super) struct Backends {
    discovery: Arc<dyn Discovery>,
    clients: Forwarders,
    answered: Answered,
    waiting: Shares,
    /// Each service, and those who stand in for it, in the order in which they are asked.
    of_each: BTreeMap<String, Vec<Candidate>>,
    /// For as long as anybody uses them, instances are checked.
    _pools: Arc<Pools>,
}

/// A service that may be called, and what is known of it.
struct Candidate {
    name: String,
    pool: Arc<Pool>,
}

/// Told the name of a service whenever it has answered with no 5xx: whoever waits for that has not to wait longer.
pub type Answered = Arc<dyn Fn(&str) + Send + Sync>;

/// One call to a service.
pub(super) struct Call<'a> {
    /// Whose call it is, for the log.
    pub(super) route: &'a str,
    pub(super) service: &'a str,
    pub(super) method: Method,
    /// Path and query, as they are sent.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) upload: Upload,
    /// The longest wait for the head of the answer, from the moment the request stopped moving, over all tries.
    pub(super) timeout: Duration,
    /// And for one try.
    pub(super) try_timeout: Option<Duration>,
    /// When it is tried again although it may have been sent.
    pub(super) retry: Option<&'a RetryRule>,
    /// Where it goes, for a service that is balanced by hash.
    pub(super) key: Option<u64>,
    /// The trace that it belongs to.
    pub(super) context: Context,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// As many clients wait for it as may; nothing was sent.
    #[error("is waited for by half of the clients that may be connected (node.connections_max); try again")]
    Crowded,
    /// Too many requests to it failed of late; worth a new attempt after this time. Nothing was sent.
    #[error("fails too often and is left alone for a while; try again later")]
    BreakerOpen(Duration),
    /// It has as many calls as it can do at once; nothing was sent.
    #[error("has as many requests as it can do at once; try again")]
    Full,
    /// No endpoint could be reached; nothing was sent.
    #[error("could not be reached")]
    Unreachable,
    /// The connection broke, or what came was no HTTP, after the request may have been sent.
    #[error("gave no answer that could be read; whether it acted on the request is not known")]
    Broken,
    /// The answer did not come in time.
    #[error("did not answer in time")]
    Late,
    /// The client's body broke off on the way.
    #[error("was not sent the whole request, because its body broke off")]
    BodyBroke,
    /// The client's body came too slowly, or not to its end while there was time.
    #[error("was not sent the whole request, because its body comes too slowly")]
    BodySlow,
    /// The client's body turned out to be longer than is taken.
    #[error("was not sent the whole request, because its body is too long")]
    BodyTooLong,
}

/// What a client holds while it waits for the last byte of an answer: its place, and the instance that it keeps busy.
#[derive(Debug)]
pub(super) struct Held {
    _share: Share,
    pub(super) giver: Giver,
}

/// The instance that an answer comes from. That it has done well is known when the answer is whole.
#[derive(Debug)]
pub(super) struct Giver {
    busy: Busy,
    pool: Arc<Pool>,
    route: String,
    /// Whether it is still to be said how the instance did.
    is_open: bool,
}

impl Backends {
    pub(super) fn new<'a>(
        discovery: Arc<dyn Discovery>,
        pools: Arc<Pools>,
        answered: Answered,
        waiting: Shares,
        services: impl Iterator<Item = &'a str>,
    ) -> Self {
        let clients = pools.clients().clone();
        let candidate = |name: &str| Candidate { name: name.to_owned(), pool: pools.pool(name) };
        let candidates = |service: &'a str| {
            let stand_ins = discovery.stand_ins(service);
            let names = std::iter::once(service).chain(stand_ins.iter().map(String::as_str));
            (service.to_owned(), names.map(candidate).collect())
        };
        let of_each = services.map(candidates).collect();
        Self { discovery, clients, answered, waiting, of_each, _pools: pools }
    }

    /// Makes the call at the endpoint that is chosen for it, and at others where it may be tried again: of the service itself,
    /// and where it was not sent there, of the next that stands in for it. The client waits until what it holds is dropped.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<(Response<Incoming>, Held), Failure> {
        let share = self.waiting.take(call.service).ok_or(Failure::Crowded)?;
        let begun = Instant::now();
        let mut first = None;
        for service in self.serving(call.service) {
            match self.send_to(service, call, begun).await {
                Ok((answer, giver)) => return Ok((answer, Held { _share: share, giver })),
                Err(failure @ (Failure::Unreachable | Failure::BreakerOpen(_)))
                    if call.upload.is_still_there() =>
                {
                    first.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(first.unwrap_or(Failure::Unreachable))
    }

    async fn send_to(
        &self,
        service: &Candidate,
        call: &Call<'_>,
        begun: Instant,
    ) -> Result<(Response<Incoming>, Giver), Failure> {
        let (name, pool) = (service.name.as_str(), &service.pool);
        let slot = pool.enter(now(), fastrand::f64())?;
        let members = pool.members(self.discovery.instances(name), now());
        let client = self.clients.of(pool.policy().speaks);
        let answer = Tries::new(client, call, pool, Round::of(members), slot, begun).run().await;
        let went = went(answer.as_ref().map(|(answer, _)| answer));
        let is_open = went == Some(Went::Well);
        if went.is_some() && !is_open {
            pool.outcome(went == Some(Went::Failed), now());
        }
        let (answer, busy) = answer?;
        if !answer.status().is_server_error() {
            (self.answered)(name);
        }
        Ok((answer, Giver { busy, pool: pool.clone(), route: call.route.to_owned(), is_open }))
    }

    /// Whether a line of this kind may be written about a service: how many were left out before it.
    pub(super) fn may_say(&self, service: &str, kind: &'static str) -> Option<u64> {
        let candidate = self.of_each.get(service).and_then(|all| all.first())?;
        candidate.pool.seldom.may_say(kind, now())
    }

    /// What a service and all who stand in for it speak: HTTP/1.1 only where each of them does.
    pub(super) fn speaks(&self, service: &str) -> Speaks {
        let speaks_http2 = |candidate: &Candidate| candidate.pool.policy().speaks == Speaks::Http2;
        let is_one = self.of_each.get(service).is_some_and(|all| all.iter().any(speaks_http2));
        if is_one { Speaks::Http2 } else { Speaks::Http1 }
    }

    /// What of a request says where it goes, where the service is balanced by hash.
    pub(super) fn key(&self, service: &str, headers: &HeaderMap, params: &Params) -> Option<u64> {
        key(&self.of_each.get(service)?.first()?.pool.policy().choice, headers, params)
    }

    /// Whether a request that has this method and these fields does no harm when it is done twice, by whoever may be asked.
    pub(super) fn is_harmless_twice(&self, service: &str, method: &Method, headers: &HeaderMap) -> bool {
        let is_idempotent = |candidate: &Candidate| candidate.pool.policy().idempotent;
        let are_all = || self.of_each.get(service).is_some_and(|all| all.iter().all(is_idempotent));
        is_harmless(method, headers.contains_key(IDEMPOTENCY_KEY) && are_all())
    }

    /// Who is called where `asked` is meant, until one could be: those that have an instance that is well, of the service itself
    /// and those who stand in for it, in order. Where none has, it is the service itself: it has its own way with instances
    /// that are not.
    fn serving(&self, asked: &str) -> impl Iterator<Item = &Candidate> {
        let candidates = self.of_each.get(asked).map_or(&[][..], Vec::as_slice);
        let can_be = |candidate: &&Candidate| {
            let instances = self.discovery.instances(&candidate.name);
            candidates.len() == 1 || candidate.pool.can_be_called(instances, now())
        };
        let mut well = candidates.iter().filter(can_be).peekable();
        let itself = if well.peek().is_none() { candidates.first() } else { None };
        well.chain(itself)
    }
}

impl Giver {
    /// The rest of the answer does not come.
    pub(super) fn broke_off(&mut self, cause: &'static str) {
        if let Some(left_out) = self.pool.seldom.may_say(cause, now()) {
            let (service, route) = (self.pool.service(), &self.route);
            tracing::warn!(service, route, kind = cause, left_out, "an answer broke off");
        }
        self.judge(true);
    }

    /// The instance did its part: what follows is the affair of others.
    pub(super) fn went_well(&mut self) {
        self.judge(false);
    }

    fn judge(&mut self, is_failure: bool) {
        if std::mem::take(&mut self.is_open) {
            self.pool.judged(self.busy.peer(), is_failure, now());
            self.pool.outcome(is_failure, now());
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        // It came whole, or its client did not want the rest.
        self.judge(false);
    }
}

impl Call<'_> {
    /// The span of one try at this endpoint of a service; as many as `before` went before.
    pub(super) fn span(&self, service: &str, endpoint: &Endpoint, before: u32) -> Span {
        let (endpoint, method, target) = (endpoint.as_str(), &self.method, self.target.as_str());
        self.context.call(&Called { what: None, service, endpoint, method, target, before })
    }

    /// The request as it goes to this endpoint, in what it speaks.
    pub(super) fn request(&self, endpoint: &Endpoint, speaks: Speaks, span: &Span) -> Option<Request<Body>> {
        let mut request = Request::new(self.upload.lend());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::try_from(format!("{endpoint}{}", self.target)).ok()?;
        *request.headers_mut() = self.headers.clone();
        let parent = span.parent().and_then(|parent| HeaderValue::try_from(parent).ok());
        request.headers_mut().extend(parent.map(|parent| (TRACEPARENT, parent)));
        // The client library takes a GET or HEAD whose length nobody has said for one without a body, and leaves it out.
        let is_in_chunks = self.upload.is_streamed() && !self.headers.contains_key(CONTENT_LENGTH);
        if speaks == Speaks::Http1 && is_in_chunks {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(request)
    }
}

impl Failure {
    /// What the client is told: 502 `unreachable` (`detail` says whether it may have been sent), 504
    /// `late`, 413 `body_too_large`, 408 `slow_body`, 400 `body_broke_off`, or 503 `overloaded` or `breaker_open`.
    pub(super) fn problem(self, service: &str) -> Problem {
        let detail = format!("the service {service} {self}");
        let (status, code) = match self {
            Self::Crowded | Self::Full => return Problem::overloaded(detail).with("service", service),
            Self::BreakerOpen(after) => return Problem::breaker_open(detail, after).with("service", service),
            Self::Unreachable | Self::Broken => (StatusCode::BAD_GATEWAY, "unreachable"),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "late"),
            Self::BodyBroke => (StatusCode::BAD_REQUEST, "body_broke_off"),
            Self::BodySlow => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            Self::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        };
        Problem::new(status, code, detail).with("service", service)
    }

    /// In one word, for spans.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::BreakerOpen(_) => "breaker_open",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Late => "late",
            Self::BodyBroke => "body_broke_off",
            Self::BodySlow => "slow_body",
            Self::BodyTooLong => "body_too_large",
        }
    }

    /// What the client library says.
    pub(super) fn of(error: &legacy::Error) -> Self {
        let causes = || std::iter::successors(error.source(), |cause| (*cause).source());
        if causes().any(<dyn Error>::is::<LengthLimitError>) {
            Self::BodyTooLong
        } else if causes().any(<dyn Error>::is::<TooSlow>) {
            Self::BodySlow
        } else if causes().any(<dyn Error>::is::<axum::Error>) {
            Self::BodyBroke
        } else if error.is_connect() || causes().any(is_refused_stream) {
            Self::Unreachable
        } else {
            Self::Broken
        }
    }
}

/// Whether a peer says of a stream of HTTP/2 that it has not looked at it (RFC 9113, 8.7).
fn is_refused_stream(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<h2::Error>();
    error.is_some_and(|error| error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

impl From<Shed> for Failure {
    fn from(shed: Shed) -> Self {
        match shed {
            Shed::Breaker(after) => Self::BreakerOpen(after),
            Shed::Limit => Self::Full,
        }
    }
}

/// An error and its causes, for the log.
pub(super) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
