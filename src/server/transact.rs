//! One request of a transaction route, from body to answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use tokio::time::timeout;

use super::key::{self, Asked};
use super::public::{Public, Serving};
use super::reply::{self, Told};
use crate::budget::{BufferError, Halves};
use crate::coordinator::{Begin, Handle, Start};
use crate::gateway::{Caller, Matched, PlannedCall, Problem, Share, TransactionRoute, headers_for_work};
use crate::participant::Participants;
use crate::participant::Work;
use crate::participant::options::{CallBody, TransactionOptions};
use crate::plan::{Body as PlanBody, Plan, PlannedBranch};
use crate::trace::Span;

/// Does what the request asks at every branch or at none, and says which; a problem where nothing was begun.
pub(super) async fn transact<P: Participants>(
    public: &Arc<Public<P>>,
    serving: &Serving,
    matched: &Matched<'_, TransactionRoute>,
    request: Request<Body>,
    client: &Caller,
    span: &mut Span,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (services, key) = (matched.route.services(), key::of(&parts.headers)?);
    let own_max = serving.guards.of(matched.id).and_then(|guard| guard.body_max);
    let body_max = own_max.map_or(public.body_max, |own| own.min(public.body_max));
    // What says itself that it is too long need not be waited for, and what cannot be begun now need not be read.
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > body_max {
        return Err(Problem::body_too_large(body_max));
    }
    public.coordinator.would_begin(matched.id, key.as_deref(), &services)?;
    if declared > serving.gateway.left_for(&services) {
        return Err(no_room());
    }
    let reading = serving.gateway.read_for(&services, body.into_data_stream(), body_max);
    let bodies =
        timeout(public.body_timeout, reading).await.map_err(|_| slow_body(public.body_timeout))??;
    let begin = public.plan(serving, matched, &parts, &bodies, key, client)?;
    // Each work call holds its own, for as long as it is not answered.
    drop(bodies);
    let reply_within = matched.route.reply_within;
    Ok(match public.coordinator.begin(begin).await? {
        Start::New(handle) => {
            // The calls name it as the one that they are a part of.
            span.becomes(handle.id.span());
            settle(public, handle, reply_within, false).await
        }
        Start::Open(handle) if handle.now().told.is_none() => reply::undecided(handle.id),
        Start::Open(handle) => settle(public, handle, reply_within, true).await,
        Start::Done(id, past) => Told::past(id, &past).answer(true),
    })
}

/// Waits for the decision and, for a while, for the confirmations. Where too many clients wait for one of the services
/// already, the answer is given at once: the outcome is settled.
async fn settle<P>(
    public: &Public<P>,
    mut handle: Handle,
    reply_within: Duration,
    is_replay: bool,
) -> Response {
    let Some(decided) = handle.outcome(Duration::ZERO).await else { return reply::unknown(handle.id) };
    let services = decided.plan.services_of(decided.txn.waits_for());
    let shares: Option<Vec<Share>> = services.iter().map(|service| public.waiting.take(service)).collect();
    let patience = if shares.is_some() { reply_within } else { Duration::ZERO };
    match handle.outcome(patience).await.as_ref().and_then(Told::of) {
        Some(told) => told.answer(is_replay),
        None => reply::unknown(handle.id),
    }
}

impl<P: Participants> Public<P> {
    fn plan(
        &self,
        serving: &Serving,
        matched: &Matched<'_, TransactionRoute>,
        parts: &Parts,
        bodies: &BTreeMap<&str, Bytes>,
        key: Option<String>,
        client: &Caller,
    ) -> Result<Begin, Problem> {
        let body = bodies.values().next().expect("a transaction has a branch");
        let (path, query) = (matched.path.as_str(), parts.uri.query());
        let asked = Asked { method: &parts.method, path, query, body };
        let key = key.map(|key| key::standing_for(key, &asked));
        let calls = matched.route.plan(&matched.params, query, parts.headers.get(CONTENT_TYPE), body)?;
        let headers = work_headers(&parts.headers, client);
        let mut plan = Plan {
            route: matched.id.to_owned(),
            deadline: self.coordinator.journal().now().plus(matched.route.timeout),
            branches: Vec::with_capacity(calls.len()),
            bodies: Vec::new(),
            key,
            trace: client.trace(),
        };
        let mut works = Vec::with_capacity(calls.len());
        for call in calls {
            let options = serving.services.get(&call.service).ok_or_else(|| no_protocol(&call.service))?;
            let body = bodies.get(call.service.as_str()).expect("it was read for every service of the route");
            works.push(work(&call, body, &headers));
            let branch = planned(call, options, &mut plan.bodies, &self.kept)?;
            plan.branches.push(branch);
        }
        Ok(Begin { plan, works })
    }
}

/// The headers of a work call: the client's end-to-end ones, and for whom it is made.
pub(crate) fn work_headers(original: &HeaderMap, client: &Caller) -> HeaderMap {
    let mut headers = headers_for_work(original);
    client.add_to(&mut headers);
    headers
}

/// What a work call carries.
pub(crate) fn work(call: &PlannedCall, body: &Bytes, headers: &HeaderMap) -> Work {
    let mut headers = headers.clone();
    let content_type = call.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
    Work { headers, body: body.slice_ref(&call.body) }
}

/// One branch as the log has it, with where its calls go and what they carry.
pub(crate) fn planned(
    call: PlannedCall,
    options: &TransactionOptions,
    bodies: &mut Vec<PlanBody>,
    kept: &Halves,
) -> Result<PlannedBranch, Problem> {
    let body = match options.body {
        CallBody::Envelope => None,
        CallBody::Request => {
            let is_same =
                |known: &PlanBody| known.content_type == call.content_type && known.bytes == call.body;
            let place = if let Some(place) = bodies.iter().position(is_same) {
                place
            } else {
                // A copy, which counts elsewhere than the body that came: a transaction in doubt may be held for days.
                let bytes = kept.of(&call.service).copy(&call.body).ok_or_else(no_room)?;
                bodies.push(PlanBody { content_type: call.content_type, bytes });
                bodies.len() - 1
            };
            Some(u8::try_from(place).expect("there are at most 64 branches, and so bodies"))
        }
    };
    Ok(PlannedBranch {
        service: call.service,
        method: call.method.to_string(),
        work: call.path,
        prepare: options.prepare.clone(),
        commit: options.commit.clone(),
        abort: options.abort.clone(),
        body,
    })
}

fn no_room() -> Problem {
    BufferError::<Infallible>::NoBudget.into()
}

fn no_protocol(service: &str) -> Problem {
    let detail = format!("service `{service}` has no [services.{service}.transaction] section");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bad_plan", detail)
}

fn slow_body(patience: Duration) -> Problem {
    let detail = format!("the body did not come within {patience:?}; nothing was begun");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_body", detail)
}
