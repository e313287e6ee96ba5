//! The tries of one call: at which endpoint, how long each may take, and whether another follows.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout_at};

use super::backend::{Call, Failure, IDEMPOTENCY_KEY};
use super::caller::REQUEST_ID;
use super::pools::{Busy, Pool, Round, Slot, Went, now};
use super::{cause, headers};
use crate::balance::{Ended, Reason, Repeat};
use crate::clients::Forwarder;

/// A call whose body is still on its way after this time gives its place in the limit of the service back: it waits
/// for its client. Otherwise a few clients that send slowly could hold all places.
const UPLOAD_WITHIN: Duration = Duration::from_secs(1);

/// An answer, and the instance that is busy with it.
pub(super) type Answer = (Response<Incoming>, Busy);

/// One call with all its tries.
pub(super) struct Tries<'a> {
    client: &'a Forwarder,
    call: &'a Call<'a>,
    pool: &'a Arc<Pool>,
    round: Round,
    slot: Option<Slot>,
    begun: Instant,
    /// All tries, and those that may have reached the service.
    made: u32,
    sent: u8,
}

impl<'a> Tries<'a> {
    /// A call that the service lets in; `begun`: when it came.
    pub(super) fn new(
        client: &'a Forwarder,
        call: &'a Call<'a>,
        pool: &'a Arc<Pool>,
        round: Round,
        slot: Slot,
        begun: Instant,
    ) -> Self {
        Self { client, call, pool, round, slot: Some(slot), begun, made: 0, sent: 0 }
    }

    /// The answer: of the first try that is good, or else of the last that may have reached the service.
    pub(super) async fn run(mut self) -> Result<Answer, Failure> {
        let mut last: Option<Result<Answer, Failure>> = None;
        let mut again = None;
        while let Some(busy) = self.round.next(self.pool, self.call.key, now()) {
            if let Some(reason) = again.take() {
                self.pool.retried(reason);
            }
            let answer = self.try_at(&busy).await;
            let ended = ended(answer.as_ref());
            let wait = answer.as_ref().ok().and_then(retry_after);
            // That nobody could be reached any more says less than what was heard before.
            if last.is_none() || ended != Some(Ended::NeverSent) {
                last = Some(answer.map(|answer| (answer, busy)));
            }
            let Some(reason) = ended.and_then(|ended| self.why_again(ended, wait)) else { break };
            again = Some(reason);
            match reason {
                Reason::NeverSent => {}
                Reason::Broken | Reason::Late | Reason::Status => {
                    sleep(wait.unwrap_or_default()).await;
                    self.round.begin_again_if_all_are_tried();
                }
            }
        }
        last.unwrap_or(Err(Failure::Unreachable))
    }

    async fn try_at(&mut self, busy: &Busy) -> Result<Response<Incoming>, Failure> {
        let endpoint = &busy.peer().endpoint;
        let mut span = self.call.span(self.pool.service(), endpoint, self.made);
        self.made += 1;
        let Some(request) = self.call.request(endpoint, self.pool.policy().speaks, &span) else {
            span.failed(Failure::Unreachable.word());
            return Err(Failure::Unreachable);
        };
        let begun = Instant::now();
        let answer = self.in_time(begun, self.client.request(request)).await;
        let took = begun.max(self.call.upload.last_moved()).elapsed();
        let answer = match answer {
            Ok(Ok(mut answer)) => match headers::one_framing(answer.headers_mut()) {
                Some(()) => Ok(answer),
                None => Err(self.failed(Failure::Broken, "a transfer coding")),
            },
            Ok(Err(error)) => {
                tracing::debug!(service = self.call.service, %endpoint, error = super::backend::chain(&error), "a call failed");
                Err(self.failed(Failure::of(&error), cause::of_call(&error)))
            }
            Err(failure) => Err(self.failed(failure, "no answer in time")),
        };
        match &answer {
            Ok(answer) => span.answered(answer.status().as_u16()),
            Err(failure) => span.failed(failure.word()),
        }
        if let Some(went) = went(answer.as_ref()) {
            self.pool.tried(busy.peer(), went, took, now());
            let is_telling = went == Went::Well || matches!(answer, Err(Failure::Late));
            if is_telling && let Some(slot) = self.slot.as_mut() {
                slot.took(took);
            }
        }
        self.sent = self.sent.saturating_add(u8::from(ended(answer.as_ref()) != Some(Ended::NeverSent)));
        answer
    }

    /// Says that there is no answer, and why.
    fn failed(&self, failure: Failure, kind: &'static str) -> Failure {
        // What a client does to its own request is no trouble of ours.
        let is_of_the_service = ended(Err(&failure)).is_some();
        if is_of_the_service && let Some(left_out) = self.pool.seldom.may_say(kind, now()) {
            let Call { service, route, headers, .. } = self.call;
            let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
            tracing::warn!(service, route, request_id, kind, left_out, "a service {failure}");
        }
        failure
    }

    /// Waits for the head of the answer; a body that is still moving puts the deadline off. Where there is one that does not
    /// come, the client is late, and not the service.
    async fn in_time<T>(&mut self, begun: Instant, answer: impl Future<Output = T>) -> Result<T, Failure> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let deadline = self.deadline(begun);
            let is_sending = self.slot.is_some() && !self.call.upload.is_over();
            let look = if is_sending { deadline.min(begun + UPLOAD_WITHIN) } else { deadline };
            match timeout_at(look, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) if look < deadline => {
                    if !self.call.upload.is_over() {
                        self.slot = None;
                    }
                }
                Err(_) if self.deadline(begun) > deadline => {}
                Err(_) if self.call.upload.is_awaited() => return Err(Failure::BodySlow),
                Err(_) => return Err(Failure::Late),
            }
        }
    }

    /// When this try has taken too long, or all of them together.
    fn deadline(&self, begun: Instant) -> Instant {
        let of_all = self.deadline_of_all();
        let moved = || begun.max(self.call.upload.last_moved());
        self.call.try_timeout.map_or(of_all, |of_one| of_all.min(moved() + of_one))
    }

    /// Why there is another try, if there is one.
    fn why_again(&self, ended: Ended, wait: Option<Duration>) -> Option<Reason> {
        let policy = self.pool.policy();
        let repeat = Repeat {
            rule: self.call.retry,
            method: &self.call.method,
            is_keyed: policy.idempotent && self.call.headers.contains_key(IDEMPOTENCY_KEY),
            has_body_still: self.call.upload.is_still_there(),
            tries: self.sent,
        };
        let reason = repeat.after(ended)?;
        let begins = Instant::now().checked_add(wait.unwrap_or_default());
        let is_time = begins.is_some_and(|begins| begins < self.deadline_of_all());
        (is_time && self.pool.may_retry(reason, now())).then_some(reason)
    }

    fn deadline_of_all(&self) -> Instant {
        self.begun.max(self.call.upload.last_moved()) + self.call.timeout
    }
}

/// How a try ended; `None` where that is the client's affair.
fn ended(answer: Result<&Response<Incoming>, &Failure>) -> Option<Ended> {
    match answer {
        Ok(answer) => Some(Ended::Answered(answer.status().as_u16())),
        Err(Failure::Unreachable) => Some(Ended::NeverSent),
        Err(Failure::Broken) => Some(Ended::Broken),
        Err(Failure::Late) => Some(Ended::Late),
        Err(
            Failure::Crowded
            | Failure::BreakerOpen(_)
            | Failure::Full
            | Failure::BodyBroke
            | Failure::BodySlow
            | Failure::BodyTooLong,
        ) => None,
    }
}

/// How a try went, for those who judge the instance; `None` where it says nothing of it.
pub(super) fn went(answer: Result<&Response<Incoming>, &Failure>) -> Option<Went> {
    match ended(answer)? {
        Ended::Answered(status) if status == StatusCode::TOO_MANY_REQUESTS.as_u16() => Some(Went::Refused),
        // 501 and 505 are said of the request: whoever asks for what there is not must not get an instance ejected.
        Ended::Answered(501 | 505) => Some(Went::Well),
        Ended::NeverSent | Ended::Broken | Ended::Late | Ended::Answered(500..) => Some(Went::Failed),
        Ended::Answered(_) => Some(Went::Well),
    }
}

/// How long the service wants to be left alone, where it says so. What is not in seconds (a date) is for the client.
fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok().and_then(|text| text.trim().parse().ok());
    Some(seconds.map_or(Duration::MAX, Duration::from_secs))
}
