//! Calls to services: which endpoint is asked, and which other when that one was never reached.
//!
//! Endpoints are asked in turn. A call that was never sent, because no connection came about, moves to
//! the next; once a byte may have left, nothing is ever tried again here: the gateway cannot know
//! whether a repeat would do harm.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use http_body_util::LengthLimitError;
use reqwest::{Client, Request, Response, Url};
use tokio::time::Instant;

use super::options::GatewayOptions;
use super::problem::Problem;
use super::shares::{Share, Shares};
use super::upload::Upload;
use crate::discovery::{Discovery, Endpoint};

/// All services, and the connections to them.
pub(super) struct Backends {
    discovery: Arc<dyn Discovery>,
    client: Client,
    answered: Answered,
    waiting: Shares,
    /// How many calls each service has had: whose turn it is.
    turns: BTreeMap<String, AtomicUsize>,
}

/// Told the name of a service whenever it has answered with no 5xx: whoever waits for that has not to wait longer.
pub type Answered = Arc<dyn Fn(&str) + Send + Sync>;

/// One call to a service.
pub(super) struct Call<'a> {
    pub(super) service: &'a str,
    pub(super) method: Method,
    /// Path and query, as they are sent.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) upload: Upload,
    /// The longest wait for the head of the answer, from the moment the request stopped moving.
    pub(super) timeout: Duration,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// As many clients wait for it as may; nothing was sent.
    #[error("is waited for by half of the clients that may be connected (node.connections_max); try again")]
    Crowded,
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
    /// The client's body turned out to be longer than is taken.
    #[error("was not sent the whole request, because its body is too long")]
    BodyTooLong,
}

/// The client for all calls to services. It follows no redirect, uses no proxy of the environment, adds
/// nothing of its own and repeats nothing: each of these is for the gateway to decide.
pub fn client(options: &GatewayOptions) -> reqwest::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.pool_idle)
        .tcp_nodelay(true)
        .http1_only()
        .build()
}

impl Backends {
    pub(super) fn new<'a>(
        discovery: Arc<dyn Discovery>,
        client: Client,
        answered: Answered,
        waiting: Shares,
        services: impl Iterator<Item = &'a str>,
    ) -> Self {
        let turns = services.map(|service| (service.to_owned(), AtomicUsize::new(0))).collect();
        Self { discovery, client, answered, waiting, turns }
    }

    /// Makes the call at the endpoint whose turn it is, or, as long as it was never sent, at the next. The client waits until
    /// the share is dropped.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<(Response, Share), Failure> {
        let share = self.waiting.take(call.service).ok_or(Failure::Crowded)?;
        for endpoint in self.in_turn(call.service) {
            let request = call.request(&endpoint).ok_or(Failure::Unreachable)?;
            let error = match call.in_time(self.client.execute(request)).await? {
                Ok(response) => {
                    if !response.status().is_server_error() {
                        (self.answered)(call.service);
                    }
                    return Ok((response, share));
                }
                Err(error) => error,
            };
            let failure = Failure::of(&error);
            tracing::warn!(service = call.service, "a service {failure}");
            tracing::debug!(service = call.service, %endpoint, error = chain(&error), "a call failed");
            if !(failure == Failure::Unreachable && call.upload.is_untouched()) {
                return Err(failure);
            }
        }
        Err(Failure::Unreachable)
    }

    /// All endpoints of a service, beginning with the one whose turn it is.
    fn in_turn(&self, service: &str) -> Vec<Endpoint> {
        let instances = self.discovery.instances(service);
        let turn = self.turns.get(service).map_or(0, |turns| turns.fetch_add(1, Ordering::Relaxed));
        let start = turn.checked_rem(instances.len()).unwrap_or(0);
        let in_turn = instances.iter().cycle().skip(start).take(instances.len());
        in_turn.map(|instance| instance.endpoint.clone()).collect()
    }
}

impl Call<'_> {
    fn request(&self, endpoint: &Endpoint) -> Option<Request> {
        let url = Url::parse(&format!("{endpoint}{}", self.target)).ok()?;
        let mut request = Request::new(self.method.clone(), url);
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = self.upload.lend();
        Some(request)
    }

    /// Waits for the head of the answer; a body that is still moving puts the deadline off.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut answer = std::pin::pin!(answer);
        loop {
            let deadline = begun.max(self.upload.last_moved()) + self.timeout;
            match tokio::time::timeout_at(deadline, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) if self.upload.last_moved() + self.timeout > deadline => {}
                Err(_) => return Err(Failure::Late),
            }
        }
    }
}

impl Failure {
    /// What the client is told: 502 `unreachable` (`detail` says whether it may have been sent), 504
    /// `late`, 413 `body_too_large`, 400 `body_broke_off`, or 503 `overloaded`.
    pub(super) fn problem(self, service: &str) -> Problem {
        let detail = format!("the service {service} {self}");
        let (status, code) = match self {
            Self::Crowded => return Problem::overloaded(detail).with("service", service),
            Self::Unreachable | Self::Broken => (StatusCode::BAD_GATEWAY, "unreachable"),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "late"),
            Self::BodyBroke => (StatusCode::BAD_REQUEST, "body_broke_off"),
            Self::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        };
        Problem::new(status, code, detail).with("service", service)
    }

    fn of(error: &reqwest::Error) -> Self {
        let causes = || std::iter::successors(error.source(), |cause| (*cause).source());
        if causes().any(<dyn Error>::is::<LengthLimitError>) {
            Self::BodyTooLong
        } else if causes().any(<dyn Error>::is::<axum::Error>) {
            Self::BodyBroke
        } else if error.is_connect() {
            Self::Unreachable
        } else {
            Self::Broken
        }
    }
}

/// An error and its causes, for the log.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
