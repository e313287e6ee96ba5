//! The task of one transaction: event, transition, log, effect.

mod answers;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use unanimous_wal::Durable;

use super::registry::Stand;
use super::speaker::{Heard, speak};
use super::upkeep::apart_max;
use super::view::View;
use super::{NotDone, Phase, Seats, Shared};
use crate::clock::Timestamp;
use crate::crash::{self, Edge};
use crate::discovery::Endpoint;
use crate::journal::AppendError;
use crate::journal::record::{Carried, Record, Remark};
use crate::journal::replay::Logged;
use crate::participant::{Answer, Call, Participants, Work};
use crate::plan::{Plan, Reply, TransactionId};
use crate::txn::{Branch, Decision, Effect, Event, Operation, Step, Transition, Txn};

/// What others ask of a running transaction.
pub(crate) enum Message {
    /// Tell the branches again, now.
    Retry(oneshot::Sender<Result<(), NotDone>>),
    /// An operator settles a parked branch.
    Resolve {
        branch: Branch,
        decision: Decision,
        actor: String,
        reason: String,
        answer: oneshot::Sender<Result<View, NotDone>>,
    },
    /// Write the whole state again, so that older blocks can go.
    Carry(oneshot::Sender<()>),
}

/// A branch can be owed work, prepare and one of commit and abort, and an operator may repeat one.
const CALLS_WAITING_MAX: usize = 8;

/// One transaction and all it needs.
pub(crate) struct Running<P> {
    shared: Arc<Shared<P>>,
    seats: Seats,
    id: TransactionId,
    plan: Arc<Plan>,
    txn: Txn,
    works: Vec<Work>,
    /// The last call to each branch and who was asked to do its work, by number.
    branches: Vec<Spoken>,
    heard: mpsc::Receiver<Heard>,
    mouth: mpsc::Sender<Heard>,
    speakers: JoinSet<()>,
    wake_at: Option<Timestamp>,
    is_all_told: bool,
    has_answers: bool,
    entered: Instant,
    /// When the record was written that it is found by.
    found_by: Timestamp,
}

/// What was said to one branch.
#[derive(Default)]
struct Spoken {
    calls: Option<mpsc::Sender<Durable<Call>>>,
    last: Option<Durable<Call>>,
    asked: Option<Endpoint>,
}

impl<P: Participants> Running<P> {
    pub(crate) fn new(shared: Arc<Shared<P>>, seats: Seats, works: Vec<Work>) -> Self {
        let View { id, plan, txn, .. } = seats.view.borrow().clone();
        let (mouth, heard) = mpsc::channel(plan.branches.len());
        let branches = plan.branches.iter().map(|_| Spoken::default()).collect();
        let (speakers, entered) = (JoinSet::new(), Instant::now());
        let (wake_at, is_all_told, has_answers, found_by) = (None, false, false, id.time());
        Self {
            shared,
            seats,
            id,
            plan,
            txn,
            works,
            branches,
            heard,
            mouth,
            speakers,
            wake_at,
            is_all_told,
            has_answers,
            entered,
            found_by,
        }
    }

    /// The whole life of a new transaction.
    pub(crate) async fn begin(mut self) {
        let begun = Record::Begun(self.plan.clone());
        crash::point(Edge::Before, begun.name());
        let outcome = match self.shared.journal.append(self.id, begun, self.txn.owed()).await {
            Ok(effects) => {
                crash::point(Edge::After, "begun");
                self.run(effects);
                self.live().await
            }
            Err(error) => Err(error),
        };
        self.leave(outcome);
    }

    /// The rest of the life of a transaction that a restarted node found in its log.
    pub(crate) async fn resume(mut self, logged: Durable<Logged>) {
        let owed = logged.map(|logged| logged.txn.owed());
        let outcome = match self.advance(Event::Restarted, Remark::default()).await {
            Ok(true) => self.live().await,
            Ok(false) => {
                self.run(owed);
                self.live().await
            }
            Err(error) => Err(error),
        };
        self.leave(outcome);
    }

    async fn live(&mut self) -> Result<(), AppendError> {
        while !self.txn.state().is_final() {
            if std::mem::take(&mut self.is_all_told) {
                self.advance(Event::AllTold, Remark::default()).await?;
                continue;
            }
            // Once it is decided, no deadline counts any more.
            let wake_at = self.wake_at.filter(|_| self.txn.decision().is_none());
            let until_wake = wake_at.map(|time| time.since(self.shared.journal.now()));
            tokio::select! {
                // An answer that is here counts, also where the deadline passes at this very moment.
                biased;
                Some(heard) = self.heard.recv() => self.hear(heard).await?,
                Some(message) = self.seats.messages.recv() => self.obey(message).await?,
                () = sleep(until_wake.unwrap_or_default()), if until_wake.is_some() => self.wake().await?,
                () = self.seats.audience.cancelled(), if self.has_answers && !self.keeps_for_key() => self.forget_answers(),
            }
        }
        Ok(())
    }

    /// The product's promise, in one function: nothing happens before the log has it.
    async fn advance(&mut self, event: Event, mut remark: Remark) -> Result<bool, AppendError> {
        match self.txn.on(event) {
            Step::Advance { transition, next, effects } => {
                if transition == Transition::Ended {
                    self.stay_findable().await?;
                }
                remark.kept = self.keep(transition);
                let record = Record::of(transition, &next, remark.clone());
                let name = record.name();
                crash::point(Edge::Before, name);
                let effects = self.shared.journal.append(self.id, record, effects).await?;
                crash::point(Edge::After, name);
                self.enter(next, transition, remark);
                self.run(effects);
                Ok(true)
            }
            Step::Remember(next) => {
                self.stand_at(next);
                self.seats.view.send_modify(|view| view.txn = next);
                Ok(false)
            }
            Step::Ignore => Ok(false),
            Step::Violation(violation) => {
                tracing::warn!(transaction = %self.id, %violation, "an event does not fit the transaction");
                Ok(false)
            }
        }
    }

    /// Does what the log now stands behind.
    fn run(&mut self, effects: Durable<Vec<Effect>>) {
        for effect in effects.into_each() {
            match *effect.get() {
                Effect::Call(operation, branch) => self.call(effect.map(|_| (operation, branch))),
                Effect::Tell(decision) => {
                    let told = effect.map(|_| decision);
                    self.seats.view.send_modify(|view| view.told = Some(told));
                }
                Effect::WakeAt(time) => self.wake_at = Some(time),
                Effect::End => self.is_all_told = true,
            }
        }
    }

    fn call(&mut self, wanted: Durable<(Operation, Branch)>) {
        let (operation, branch) = *wanted.get();
        let spoken = self.branches.get_mut(branch.index()).expect("effects name branches of the plan");
        let work =
            (operation == Operation::Work).then(|| self.works.get_mut(branch.index()).map(std::mem::take));
        let call = wanted.map(|_| Call {
            transaction: self.id,
            plan: self.plan.clone(),
            branch,
            operation,
            attempt: 1,
            work: work.flatten(),
            endpoint: spoken.asked.clone(),
        });
        // Work is never said twice, and its body is not to be kept.
        spoken.last = (operation != Operation::Work).then(|| call.clone());
        let calls = spoken.calls.get_or_insert_with(|| {
            let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
            let speaker = speak(
                self.shared.participants.clone(),
                waiting,
                self.mouth.clone(),
                self.seats.nudge.clone(),
            );
            self.speakers.spawn(speaker);
            calls
        });
        // Full only where an operator repeats a call faster than it can be made: then it is being made.
        let _ = calls.try_send(call);
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), AppendError> {
        let Heard { branch, operation, answer, asked } = heard;
        if operation == Operation::Work {
            self.branches.get_mut(branch.index()).expect("a branch of the plan").asked = asked;
        }
        let (event, remark) = match answer {
            Answer::Done { vote, reply } => {
                let event = match operation {
                    Operation::Work => Event::Worked(branch, vote),
                    Operation::Prepare => Event::Voted(branch, vote),
                    Operation::Commit | Operation::Abort => Event::Confirmed(branch),
                };
                if operation == Operation::Work {
                    self.remember(branch, reply);
                }
                (event, Remark::default())
            }
            Answer::No(reply) => {
                let event = Event::Refused(branch, reply.status);
                self.remember(branch, reply);
                (event, Remark::default())
            }
            Answer::Contradiction(reply) => self.contradicted(branch, operation, &reply),
            Answer::Lost(loss, reply) => {
                if let Some(reply) = reply {
                    self.remember(branch, reply);
                }
                (Event::Lost(branch, loss), Remark::default())
            }
            Answer::AskAgain(_) => return Ok(()),
        };
        self.advance(event, remark).await.map(drop)
    }

    async fn obey(&mut self, message: Message) -> Result<(), AppendError> {
        match message {
            Message::Retry(answer) => {
                self.retry();
                let _ = answer.send(Ok(()));
            }
            Message::Carry(done) => {
                self.carry().await?;
                // Whoever asked may have gone; what was written is written all the same.
                let _ = done.send(());
            }
            Message::Resolve { branch, decision, actor, reason, answer } => {
                let remark = Remark { actor, reason, kept: None };
                let resolved = self.advance(Event::Resolved(branch, decision), remark).await?;
                let view = self.seats.view.borrow().clone();
                let _ = answer.send(if resolved { Ok(view) } else { Err(NotDone::NotParked(branch)) });
            }
        }
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), AppendError> {
        self.advance(Event::Clock(self.shared.journal.now()), Remark::default()).await.map(drop)
    }

    /// Those that wait are asked at once, and those that are parked once more.
    fn retry(&mut self) {
        self.seats.nudge.notify_waiters();
        let told = self.seats.view.borrow().told.clone();
        for branch in self.txn.telling().parked.iter() {
            let spoken = self.branches.get_mut(branch.index()).expect("a branch of the plan");
            if let (Some(calls), Some(call)) = (&spoken.calls, spoken.last.take()) {
                let again = call.map(Call::again);
                spoken.last = Some(again.clone());
                let _ = calls.try_send(again);
            } else if let Some(told) = told.clone() {
                // A restart owes a parked branch nothing, so that nothing was said to it since.
                self.call(told.map(|decision| (decision.operation(), branch)));
            }
        }
    }

    async fn carry(&mut self) -> Result<(), AppendError> {
        let since = *self.shared.journal.wal().follow().borrow() + 1;
        let View { plan, kept, parked, resolved, .. } = self.seats.view.borrow().clone();
        let carried = Carried { plan, txn: self.txn.durable(), kept, parked };
        let carried = match resolved.as_slice() {
            [] => Record::Carried(Box::new(carried)),
            _ => Record::CarriedResolved(Box::new(carried), resolved),
        };
        crash::point(Edge::Before, carried.name());
        match self.shared.journal.append(self.id, carried, ()).await {
            Ok(_) => crash::point(Edge::After, "carried"),
            // One that an earlier build began may be too long for it. Its records stay where they are.
            Err(error @ AppendError::Unloggable(_)) => {
                tracing::warn!(transaction = %self.id, %error, "the log before it is kept until it has ended");
                return Ok(());
            }
            Err(error @ AppendError::Poisoned(_)) => return Err(error),
        }
        self.shared.registry.carried(self.id, since);
        self.found_by = self.shared.journal.now();
        Ok(())
    }

    /// It is told of from its end on for the retention; what it is found by must not be much older than its end.
    async fn stay_findable(&mut self) -> Result<(), AppendError> {
        let apart = self.shared.journal.now().since(self.found_by);
        if apart > apart_max(self.shared.journal.retention()) {
            self.carry().await?;
        }
        Ok(())
    }

    fn contradicted(&self, branch: Branch, operation: Operation, reply: &Reply) -> (Event, Remark) {
        let (service, status) = (&self.plan.branch(branch).service, reply.status);
        let reason = format!("{service} answered {} with {status}: {}", operation.name(), excerpt(reply));
        tracing::error!(transaction = %self.id, %branch, %reason, "parked: an operator must look");
        (Event::Contradicted(branch, status), Remark { reason, ..Remark::default() })
    }

    fn stand_at(&mut self, next: Txn) {
        self.txn = next;
        self.shared.registry.stands(self.id, Stand::of(&next));
    }

    fn enter(&mut self, next: Txn, transition: Transition, remark: Remark) {
        let left = self.txn.state();
        self.stand_at(next);
        self.seats.view.send_modify(|view| {
            view.txn = next;
            match transition {
                Transition::Decided { .. } => view.kept = remark.kept,
                Transition::Parked(..) => view.parked = Some(remark.reason),
                Transition::Resolved(branch, outcome) => view.resolved.push((branch, outcome)),
                Transition::Preparing { .. } | Transition::Acked(_) | Transition::Ended => {}
            }
            if next.telling().parked.is_empty() {
                view.parked = None;
            }
        });
        if left.name() != next.state().name() {
            let ended = next.state().is_final().then(|| next.decision()).flatten();
            (self.shared.observer)(&Phase { name: left.name(), took: self.entered.elapsed(), ended });
            self.entered = Instant::now();
        }
    }

    fn leave(self, outcome: Result<(), AppendError>) {
        match outcome {
            Ok(()) => {}
            Err(AppendError::Poisoned(_)) => {
                // The node is about to stop; what is in memory must not be asked for any more.
                tracing::error!(transaction = %self.id, "the log failed; recovery will go on with this transaction");
            }
            Err(error @ AppendError::Unloggable(_)) => {
                tracing::error!(transaction = %self.id, %error, "a record could not be written");
            }
        }
        self.shared.registry.remove(self.id);
    }
}

/// The beginning of an answer's body, for a sentence.
fn excerpt(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).chars().take(200).collect()
}
