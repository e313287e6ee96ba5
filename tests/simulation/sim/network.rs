//! The network between the node and the services: it loses, delays, repeats and reorders.
//!
//! What was sent goes on its way although the node that sent it is dead. The limits on calls in flight are those of the
//! program ([`Services`]).

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use unanimous::clients::Speaks;
use unanimous::discovery::{Discovery, Endpoint, Sources};
use unanimous::participant::answer::meaning;
use unanimous::participant::options::{CallBody, Retry, TransactionOptions};
use unanimous::participant::services::Services;
use unanimous::participant::{Answer, Call, Outcome, Participants, Reply};
use unanimous::txn::{Operation, Vote};
use unanimous_wal::Durable;

use super::invariants;
use super::participant::{Response, State};
use super::scenario::Crash;
use super::world::{Flight, Message, Sim, World};

/// The node's end of the network.
#[derive(Clone)]
pub struct Network {
    sim: Sim,
    services: Arc<Services>,
    /// Those who wait for each service to answer again, in the order in which they came.
    waiting: Arc<Mutex<BTreeMap<String, Vec<watch::Sender<u64>>>>>,
    patience: Duration,
}

/// What became of a call that was sent.
enum Sent {
    /// No byte left.
    Never,
    /// The answer comes here, or nothing does.
    Off(oneshot::Receiver<Response>),
}

impl Network {
    pub fn new(sim: &Sim) -> Self {
        let world = sim.world();
        let settings = &world.settings;
        let options = |has_prepare: bool| TransactionOptions {
            speaks: Speaks::Http1,
            prepare: has_prepare.then(|| "/tx/prepare".to_owned()),
            commit: "/tx/commit".to_owned(),
            abort: "/tx/abort".to_owned(),
            body: CallBody::Envelope,
            timeout: settings.call_timeout,
            retry: settings.retry,
            calls_max: settings.calls_max,
        };
        let known = world.services.iter().map(|service| (service.name.clone(), options(service.has_prepare)));
        let nowhere: Arc<dyn Discovery> = Arc::new(Sources::new([], None));
        let services = Arc::new(Services::new(known, &nowhere));
        Self { sim: sim.clone(), services, waiting: Arc::default(), patience: settings.call_timeout }
    }

    fn send(&self, call: &Call) -> Option<Sent> {
        if !self.sim.is_alive() {
            return None;
        }
        let service = self.sim.world().services.iter().position(|service| service.name == call.service());
        let message = Message {
            service: service.expect("plans name services of this world"),
            transaction: call.transaction,
            branch: call.branch,
            operation: call.operation,
            attempt: call.attempt,
        };
        let dies = self.sim.world().dies_at_call();
        if dies == Some(false) {
            self.sim.note(|| format!("the node dies before it sends {message}"));
            self.sim.kill();
            return None;
        }
        invariants::before_call(&self.sim, message);
        let sent = self.sim.world().send(message);
        self.sim.sent.notify_one();
        if dies == Some(true) {
            self.sim.note(|| format!("the node dies right after it sent {message}"));
            self.sim.kill();
        }
        Some(sent)
    }

    /// Tells those who wait that the service answers again. Each has a channel of its own, because tokio wakes those
    /// who share one in an order that no seed decides.
    fn wake(&self, service: &str, count: u64) {
        let mut waiting = self.waiting();
        let waiting = waiting.entry(service.to_owned()).or_default();
        waiting.retain(|wakes| !wakes.is_closed());
        for wakes in waiting {
            wakes.send_if_modified(|known| std::mem::replace(known, count) != count);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Vec<watch::Sender<u64>>>> {
        self.waiting.lock().expect("no code panics while it holds this lock")
    }

    async fn attempt(&self, call: &Call) -> Outcome {
        match self.send(call) {
            // A dead node hears nothing.
            None => std::future::pending().await,
            Some(Sent::Never) => {
                sleep(Duration::from_millis(1)).await;
                Outcome::NeverSent
            }
            Some(Sent::Off(answer)) => match timeout(self.patience, answer).await {
                Ok(Ok(response)) => answered(response),
                Ok(Err(_)) => Outcome::Broken(None),
                Err(_) => Outcome::Late,
            },
        }
    }
}

impl Participants for Network {
    type Permit = Option<OwnedSemaphorePermit>;

    async fn permit(&self, service: &str, operation: Operation) -> Self::Permit {
        Some(self.services.get(service)?.permit(operation).await)
    }

    fn is_crowded(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|service| service.is_crowded())
    }

    async fn deliver(&self, call: Durable<Call>, _permit: Self::Permit) -> (Answer, Option<Endpoint>) {
        let call = call.get();
        let outcome = self.attempt(call).await;
        let service = self.services.get(call.service()).expect("it is of this world");
        service.heard(&outcome);
        self.wake(call.service(), *service.recoveries().borrow());
        let asked = (outcome != Outcome::NeverSent).then(|| Endpoint::new(call.service()));
        (meaning(call.operation, outcome), asked)
    }

    fn recoveries(&self, service: &str) -> watch::Receiver<u64> {
        let count = *self.services.get(service).expect("it is of this world").recoveries().borrow();
        let (wakes, is_woken) = watch::channel(count);
        self.waiting().entry(service.to_owned()).or_default().push(wakes);
        is_woken
    }

    fn retry(&self, service: &str) -> Retry {
        self.services.get(service).expect("it is of this world").options.retry
    }
}

/// Lets what is on the wire arrive, for as long as it is polled.
pub async fn carry(sim: Sim) {
    loop {
        let next = sim.world().until_arrival();
        let arrival = async {
            match next {
                Some(after) => sleep_until(Instant::now() + after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = arrival => {}
            () = sim.sent.notified() => continue,
        }
        loop {
            let arrived = sim.world().arrived();
            let Some(flight) = arrived else { break };
            arrive(&sim, flight);
        }
    }
}

fn arrive(sim: &Sim, flight: Flight) {
    match flight {
        // The node may have died, or have lost patience.
        Flight::Answer(response, to) => drop(to.send(response)),
        Flight::Call(message, reply) => {
            let outrage = sim.world().receive(message, reply).err();
            sim.expect(outrage.map_or(Ok(()), Err));
        }
    }
}

impl World {
    /// Whether the node dies at this call, and if so whether after it is sent.
    fn dies_at_call(&mut self) -> Option<bool> {
        match &mut self.crash {
            Crash::AtCall(left, after) => {
                *left -= 1;
                (*left == 0).then_some(*after)
            }
            Crash::Never | Crash::At(_) | Crash::AfterChange(_) | Crash::AtAnswer(_) => None,
        }
    }

    fn send(&mut self, message: Message) -> Sent {
        self.summary.calls += 1;
        self.seen.entry(message.transaction).or_default().is_real = true;
        let (down_until, is_dead) =
            self.services.get(message.service).map_or((0, false), |it| (it.down_until, it.is_dead));
        if down_until > self.now() || self.chance.hits(self.faults.never_sent) {
            self.note(|| format!("{message}: no byte of it leaves"));
            return Sent::Never;
        }
        let (to, answer) = oneshot::channel();
        if self.chance.hits(self.faults.duplicated) {
            let after = self.delay() + self.chance.within(0..10_000);
            self.summary.duplicated += 1;
            self.fly(after, Flight::Call(message, None));
        }
        if is_dead || self.chance.hits(self.faults.call_lost) {
            self.note(|| format!("{message}: lost on the way"));
            self.summary.lost += 1;
            self.silent.push(to);
        } else {
            self.note(|| format!("{message}"));
            let after = self.delay();
            self.fly(after, Flight::Call(message, Some(to)));
        }
        Sent::Off(answer)
    }

    fn until_arrival(&self) -> Option<Duration> {
        let now = self.now();
        self.wire.keys().next().map(|(at, _)| Duration::from_millis(at.saturating_sub(now)))
    }

    fn arrived(&mut self) -> Option<Flight> {
        let now = self.now();
        self.wire.first_entry().filter(|first| first.key().0 <= now).map(OccupiedEntry::remove)
    }

    fn receive(
        &mut self,
        message: Message,
        reply: Option<oneshot::Sender<Response>>,
    ) -> Result<(), invariants::Broken> {
        let (now, faults) = (self.now(), self.faults.clone());
        let crashes = self.chance.hits(faults.participant_crash);
        let crash_first = self.chance.hits(500);
        let service = self.services.get_mut(message.service).expect("it was found by its name");
        if service.is_dead || service.down_until > now {
            return Ok(());
        }
        if crashes && crash_first {
            self.crash_service(message.service);
            return Ok(());
        }
        let stumble = self.chance.hits(faults.server_error).then(|| self.chance.hits(500));
        let put_off = self.chance.hits(faults.ask_again).then(|| self.chance.hits(500));
        let response = if put_off == Some(true) {
            Response { status: 425, vote: Vote::Yes }
        } else if stumble == Some(true) {
            Response { status: 503, vote: Vote::Yes }
        } else {
            self.serve(message, &faults)?
        };
        if crashes {
            self.crash_service(message.service);
            return Ok(());
        }
        // It did what it was asked, and yet does not say so.
        let response = match (put_off, stumble) {
            (Some(false), _) => Response { status: 425, vote: Vote::Yes },
            (_, Some(false)) => Response { status: 500, vote: Vote::Yes },
            (None | Some(true), None | Some(true)) => response,
        };
        self.note(|| format!("    {message} is answered {}", response.status));
        if let Some(reply) = reply {
            self.answer(response, reply);
        }
        Ok(())
    }

    fn serve(
        &mut self,
        message: Message,
        faults: &super::chance::Faults,
    ) -> Result<Response, invariants::Broken> {
        let share = (message.transaction, message.branch);
        let service = self.services.get_mut(message.service).expect("it was found by its name");
        let before = service.shares.get(&share).map(|share| share.state);
        let response = service
            .receive(share, message.operation, faults)
            .map_err(|outrage| invariants::Broken { promise: "G2", what: format!("{message}: {outrage}") })?;
        if message.operation == Operation::Work && before == Some(State::Aborted) {
            self.summary.late_work += 1;
        }
        Ok(response)
    }

    fn crash_service(&mut self, number: usize) {
        let longest = if self.chance.hits(100) { 40_000 } else { 3_000 };
        let down = self.chance.within(0..longest);
        self.summary.participant_crashes += 1;
        let until = self.now() + down;
        let service = self.services.get_mut(number).expect("it was found by its name");
        service.crash();
        service.down_until = until;
        let name = service.name.clone();
        self.note(|| format!("    {name} crashes and is down for {down} ms"));
    }

    fn answer(&mut self, response: Response, to: oneshot::Sender<Response>) {
        if self.chance.hits(self.faults.answer_lost) {
            self.summary.lost += 1;
            self.silent.push(to);
        } else if self.chance.hits(self.faults.broken) {
            self.summary.lost += 1;
        } else {
            let after = self.delay();
            self.fly(after, Flight::Answer(response, to));
        }
    }
}

fn answered(Response { status, vote }: Response) -> Outcome {
    let body = Bytes::from_static(b"{}");
    Outcome::Answered { reply: Reply { status, content_type: None, body }, vote, retry_after: None }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service, transaction, branch, operation, attempt } = self;
        write!(f, "{} of {transaction}/{branch} to service-{service}, attempt {attempt}", operation.name())
    }
}
