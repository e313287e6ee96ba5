//! Speaks to one branch: one call at a time, repeated where the protocol allows it.
//!
//! The next call begins when the one before it was answered or timed out, so that an abort does not
//! overtake the work it is to undo. Only *waiting* is cut short, for a place among the calls in flight
//! or between two tries: by the next call, by an operator, or because the service answers again.
//!
//! Where several things are ready at once, the first that is written here counts. Nothing is left to chance but
//! the jitter of a wait, so that a simulation can repeat a run.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;
use unanimous_wal::Durable;

use super::backoff;
use crate::discovery::Endpoint;
use crate::participant::{Answer, Call, Participants};
use crate::txn::{Branch, Loss, Operation};

/// An answer that a speaker brings back; never [`Answer::AskAgain`].
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) branch: Branch,
    pub(crate) operation: Operation,
    pub(crate) answer: Answer,
    /// The endpoint that may have received the call.
    pub(crate) asked: Option<Endpoint>,
}

/// Speaks to one branch until nobody has anything left to say to it.
pub(crate) async fn speak<P: Participants>(
    participants: P,
    mut calls: mpsc::Receiver<Durable<Call>>,
    heard: mpsc::Sender<Heard>,
    nudge: Arc<Notify>,
) {
    let mut next = calls.recv().await;
    while let Some(call) = next {
        let (branch, operation) = (call.get().branch, call.get().operation);
        next = match converse(&participants, call, &mut calls, &nudge).await {
            Conversation::Answered(answer, asked) => {
                if heard.send(Heard { branch, operation, answer, asked }).await.is_err() {
                    return;
                }
                calls.recv().await
            }
            Conversation::Superseded(next) => next,
        };
    }
}

/// How asking one thing ended.
enum Conversation {
    Answered(Answer, Option<Endpoint>),
    /// There is something else to say now, or nothing at all any more.
    Superseded(Option<Durable<Call>>),
}

async fn converse<P: Participants>(
    participants: &P,
    mut call: Durable<Call>,
    calls: &mut mpsc::Receiver<Durable<Call>>,
    nudge: &Notify,
) -> Conversation {
    let service = call.get().service().to_owned();
    let (mut may_hurry, mut reached) = (true, None);
    loop {
        // Subscribed before the call, so that no recovery is missed.
        let mut recoveries = participants.recoveries(&service);
        let permit = tokio::select! {
            biased;
            next = calls.recv() => return Conversation::Superseded(next),
            permit = participants.permit(&service, call.get().operation) => permit,
        };
        let (answer, asked) = participants.deliver(call.clone(), permit).await;
        reached = asked.or(reached);
        let patience = match answer {
            Answer::AskAgain(patience) => patience.unwrap_or_default(),
            // An earlier attempt was put off with 425: there may be something to abort.
            Answer::Lost(Loss::NeverSent, reply) if reached.is_some() => {
                return Conversation::Answered(Answer::Lost(Loss::Unreachable(None), reply), reached);
            }
            answer @ (Answer::Done { .. } | Answer::No(_) | Answer::Contradiction(_) | Answer::Lost(..)) => {
                return Conversation::Answered(answer, reached);
            }
        };
        let retry = participants.retry(&service);
        let backoff = backoff::wait(call.get().attempt, retry, &mut fastrand::Rng::new());
        // A participant may ask for more patience than we have, up to the cap, but not for less.
        let wait = patience.min(retry.max).max(backoff);
        tokio::select! {
            biased;
            next = calls.recv() => return Conversation::Superseded(next),
            hurried = pause(wait, may_hurry, &mut recoveries, nudge) => may_hurry = !hurried,
        }
        call = call.map(Call::again);
    }
}

/// Waits; less where the service answers again or an operator says so. True if the service's
/// recovery cut it short: the next wait is then a whole one, so that a service that answers
/// others, and fails only this call, is not asked at their pace.
async fn pause(
    wait: Duration,
    may_hurry: bool,
    recoveries: &mut watch::Receiver<u64>,
    nudge: &Notify,
) -> bool {
    let recovered = async {
        if !may_hurry || recoveries.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = sleep(wait) => false,
        () = nudge.notified() => false,
        () = recovered => true,
    }
}
