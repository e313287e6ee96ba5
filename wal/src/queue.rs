//! What waits for the next commit, in order, and who waits for its answer.
//!
//! ```text
//!  append ── permit ──► waiting ── take ──► in flight ── finish ──► answered
//!                          └───────── fail ────┴──────────────────► answered Poisoned
//! ```
//!
//! Not a channel, because the watchdog must be able to answer everybody while the only receiver hangs in a sync.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::poisoned::Poisoned;
use crate::request::{Answer, Append, Batch, Glance, Request};

#[cfg(test)]
mod tests;

/// Payload bytes that weigh as much as one more place in the queue, so that its memory is bounded as well.
const BYTES_PER_PLACE: usize = 16 * 1024;

/// Framed bytes that one commit takes at most, unless a single record is longer: bounds its time and sled's buffer.
const COMMIT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    room: Semaphore,
    places: u32,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    waited: usize,
    others: usize,
    first_waited_at: Option<Instant>,
    last_waited_at: Option<Instant>,
    first_at: Option<Instant>,
    in_flight: Vec<Answer>,
    failed: Option<Poisoned>,
    /// All handles are gone: what is queued is written, and then it ends.
    abandoned: bool,
    waker: Option<(usize, Waker)>,
}

impl Queue {
    /// A queue for `places` records of the usual size.
    pub(crate) fn new(places: u32) -> Self {
        let room = Semaphore::new(usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS));
        Self { state: Mutex::default(), room, places }
    }

    /// Waits for room, then queues a record.
    pub(crate) async fn append(
        &self,
        payload: Vec<u8>,
        is_waited_for: bool,
    ) -> Result<oneshot::Receiver<Result<Lsn, Poisoned>>, Poisoned> {
        let weight = u32::try_from(1 + payload.len() / BYTES_PER_PLACE).unwrap_or(u32::MAX);
        let places = weight.min(self.places);
        let Ok(permit) = self.room.acquire_many(places).await else { return Err(self.failure()) };
        // Given back when the record is taken out of the queue.
        permit.forget();
        let (answer, receiver) = oneshot::channel();
        self.push(Request::Append(Append { payload, answer, is_waited_for, places }))?;
        Ok(receiver)
    }

    /// Queues something that takes no room.
    pub(crate) fn push(&self, request: Request) -> Result<(), Poisoned> {
        let now = Instant::now();
        let waker = {
            let mut state = self.state();
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            match &request {
                Request::Append(append) if append.is_waited_for => {
                    state.waited += 1;
                    state.first_waited_at.get_or_insert(now);
                    state.last_waited_at = Some(now);
                }
                Request::Append(_) => {}
                Request::Retire { .. } | Request::Close { .. } => state.others += 1,
            }
            state.first_at.get_or_insert(now);
            state.waiting.push_back(request);
            state.take_waker_if_due()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    pub(crate) fn glance(&self) -> Glance {
        let state = self.state();
        Glance {
            len: state.waiting.len(),
            waited: state.waited,
            is_urgent: state.others > 0 || state.abandoned || state.failed.is_some(),
            since: state.first_waited_at.or(state.first_at),
        }
    }

    /// Whether nothing can be queued any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().failed.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Takes what one commit can hold. `None` once the log has failed, or nobody can ask for anything any more.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut places = 0;
        {
            let mut state = self.state();
            if state.failed.is_some() || (state.abandoned && state.waiting.is_empty()) {
                return None;
            }
            let mut bytes = 0;
            while let Some(request) = state.waiting.pop_front() {
                match request {
                    Request::Append(append)
                        if bytes > 0 && bytes + append.payload.len() > COMMIT_BYTES_MAX =>
                    {
                        state.waiting.push_front(Request::Append(append));
                        break;
                    }
                    Request::Append(append) => {
                        bytes += append.payload.len();
                        places += append.places;
                        batch.waited += usize::from(append.is_waited_for);
                        batch.payloads.push(append.payload);
                        state.in_flight.push(append.answer);
                    }
                    Request::Retire { .. } | Request::Close { .. } => {
                        state.others -= 1;
                        batch.then = Some(request);
                        break;
                    }
                }
            }
            batch.span = state.span();
            state.forget_the_taken(batch.waited);
        }
        self.room.add_permits(usize::try_from(places).expect("no more places than the queue has"));
        Some(batch)
    }

    /// The commit is durable: gives those who are to be told. `None` if they were told otherwise in the meantime.
    pub(crate) fn finish(&self) -> Option<Vec<Answer>> {
        let mut state = self.state();
        let answers = std::mem::take(&mut state.in_flight);
        if state.failed.is_some() { None } else { Some(answers) }
    }

    /// Ends everything: whoever waits gets the reason, and so does whoever comes later. Only the first reason counts;
    /// gives whether this was it.
    pub(crate) fn fail(&self, reason: &Poisoned) -> bool {
        let (answers, waiting, waker) = {
            let mut state = self.state();
            if state.failed.is_some() {
                return false;
            }
            state.failed = Some(reason.clone());
            (
                std::mem::take(&mut state.in_flight),
                std::mem::take(&mut state.waiting),
                state.waker.take().map(|(_, waker)| waker),
            )
        };
        self.room.close();
        for answer in answers {
            let _ = answer.send(Err(reason.clone()));
        }
        for request in waiting {
            // Whoever hung up does not need the answer.
            match request {
                Request::Append(append) => drop(append.answer.send(Err(reason.clone()))),
                Request::Retire { done, .. } | Request::Close { done } => {
                    drop(done.send(Err(reason.clone())));
                }
            }
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Nobody can append any more.
    pub(crate) fn abandon(&self) {
        let waker = {
            let mut state = self.state();
            state.abandoned = true;
            state.waker.take()
        };
        if let Some((_, waker)) = waker {
            waker.wake();
        }
    }

    /// Waits until more than `len` requests wait, or one that cannot wait.
    pub(crate) async fn more_than(&self, len: usize) {
        poll_fn(|context| self.poll_more_than(len, context)).await;
    }

    /// As [`more_than`](Self::more_than), for a thread that polls by hand.
    pub(crate) fn poll_more_than(&self, len: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_due(len) {
            return Poll::Ready(());
        }
        state.waker = Some((len, context.waker().clone()));
        Poll::Pending
    }

    /// Why nothing can be queued any more.
    pub(crate) fn failure(&self) -> Poisoned {
        self.state().failed.clone().unwrap_or_else(Poisoned::stopped)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way, so that a poisoned lock still guards a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_due(&self, len: usize) -> bool {
        self.waiting.len() > len || self.others > 0 || self.abandoned || self.failed.is_some()
    }

    fn take_waker_if_due(&mut self) -> Option<Waker> {
        let (len, _) = self.waker.as_ref()?;
        if self.is_due(*len) { self.waker.take().map(|(_, waker)| waker) } else { None }
    }

    fn span(&self) -> Duration {
        let ends = self.last_waited_at.zip(self.first_waited_at);
        ends.map_or(Duration::ZERO, |(last, first)| last.saturating_duration_since(first))
    }

    fn forget_the_taken(&mut self, waited: usize) {
        self.waited -= waited;
        let now = || Some(Instant::now());
        // What stays behind could have gone with this commit: it does not wait longer for the next than others.
        self.first_at = if self.waiting.is_empty() { None } else { now() };
        self.first_waited_at = if self.waited == 0 { None } else { now() };
    }
}
