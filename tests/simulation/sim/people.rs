//! Those who talk to the node: clients, participants that ask what became of something, an operator.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use unanimous::coordinator::{Begin, Coordinator, Fate, Handle, Refused, Start};
use unanimous::participant::Work;
use unanimous::plan::{Body, ClientKey, Plan, PlannedBranch, Trace, TransactionId};
use unanimous::txn::{Branch, Decision, Operation};

use super::chance::Faults;
use super::invariants::{Broken, g4, g5, g8};
use super::network::Network;
use super::participant::{ShareId, State};
use super::scenario::{Crash, Request};
use super::world::{Sim, World};

type Node = Coordinator<Network>;

/// Sends one request until it is answered, or its patience is at an end.
pub async fn client(sim: Sim, node: Node, number: usize) {
    loop {
        let Some(wait) = sim.world().until_next_try(number) else { return };
        sleep(wait).await;
        if !sim.is_alive() {
            return;
        }
        ask(&sim, &node, number).await;
    }
}

async fn ask(sim: &Sim, node: &Node, number: usize) {
    let begin = sim.world().begin(number, node.journal().now());
    let reply_within = sim.world().settings.reply_within;
    let start = node.begin(begin).await;
    let by_key = match &start {
        Ok(Start::Open(handle)) => Some((handle.id, true)),
        Ok(Start::Done(id, _)) => Some((*id, true)),
        Err(Refused::KeyReused(id)) => Some((*id, false)),
        Ok(Start::New(_)) | Err(_) => None,
    };
    if let Some((id, is_same)) = by_key.filter(|_| sim.is_alive()) {
        let mut world = sim.world();
        if !is_same {
            // It will not be told, however often it asks.
            world.requests[number].tries = 0;
        }
        let request = world.requests[number].clone();
        let result = g8::answered(&mut world, &request, id, is_same);
        drop(world);
        sim.expect(result);
    }
    match start {
        Ok(Start::New(handle)) => hear(sim, number, handle, reply_within).await,
        Ok(Start::Open(handle)) if handle.now().told.is_none() => sim.world().summary.key_refused += 1,
        Ok(Start::Open(handle)) => {
            sim.world().summary.replayed += 1;
            hear(sim, number, handle, reply_within).await;
        }
        Ok(Start::Done(id, past)) => {
            sim.world().summary.replayed += 1;
            tell(sim, number, id, past.decision);
        }
        Err(Refused::KeyReused(_) | Refused::KeyBusy(_)) => sim.world().summary.key_refused += 1,
        Err(
            Refused::Overloaded(_) | Refused::ServiceOverloaded(..) | Refused::Crowded(_) | Refused::Draining,
        ) => {
            sim.world().summary.refused_overload += 1;
        }
        Err(
            error @ (Refused::KeySettled(_)
            | Refused::TooLarge(_)
            | Refused::Plan(_)
            | Refused::Read(_)
            | Refused::DiskNearlyFull),
        ) => {
            let result = g5::failed(&sim.world(), &format!("request {number} is refused: {error}"));
            sim.expect(result);
        }
    }
}

async fn hear(sim: &Sim, number: usize, mut handle: Handle, reply_within: Duration) {
    sim.world().requests[number].id = Some(handle.id);
    let began = Instant::now();
    let told = handle.outcome(reply_within).await.and_then(|view| view.told);
    sim.world().requests[number].took = Some(began.elapsed());
    if let Some(decision) = told {
        // Of those who wait for the same transaction tokio wakes some one first, and no seed decides which.
        sleep(Duration::from_millis(1 + number as u64)).await;
        tell(sim, number, handle.id, *decision.get());
    }
}

/// The answer leaves the node, if that is still alive; whether it is heard is another matter.
fn tell(sim: &Sim, number: usize, id: TransactionId, decision: Decision) {
    if !sim.is_alive() {
        return;
    }
    if sim.world().dies_at_answer() {
        sim.note(|| format!("the node dies before it answers request {number}"));
        return sim.kill();
    }
    let mut world = sim.world();
    let result = g4::told(&mut world, id, decision);
    world.hear(number, id, decision);
    drop(world);
    sim.expect(result);
}

/// A participant asks what became of what it holds, and does as it is told.
pub async fn inquirer(sim: Sim, node: Node) {
    loop {
        let wait = sim.world().chance.within(50..2_000);
        sleep(Duration::from_millis(wait)).await;
        let (share, any) = {
            let mut world = sim.world();
            let share = if world.settings.services_ask { world.some_share() } else { None };
            (share, world.some_transaction())
        };
        if let Some((service, share)) = share {
            inquire(&sim, &node, service, share).await;
        }
        if let Some(id) = any {
            drop(question(&sim, &node, id).await);
        }
    }
}

/// Asks what became of a transaction; gives the answer and what it decides, unless the node is dead.
async fn question(sim: &Sim, node: &Node, id: TransactionId) -> Option<(Fate, Option<Decision>)> {
    let fate = node.fate(id).await;
    if !sim.is_alive() {
        return None;
    }
    let told = {
        let mut world = sim.world();
        world.summary.asked += 1;
        match &fate {
            Ok(fate) => g4::asked(&mut world, id, fate, node.journal().now()),
            Err(error) => g5::failed(&world, error).map(|()| None),
        }
    };
    let decision = told.as_ref().ok().copied().flatten();
    sim.expect(told.map(drop));
    Some((fate.ok()?, decision))
}

/// Asks for one share.
pub async fn inquire(sim: &Sim, node: &Node, service: usize, share: ShareId) {
    let (id, branch) = share;
    let Some((fate, decision)) = question(sim, node, id).await else { return };
    let operation = match (decision, fate) {
        (Some(decision), _) => Some(decision.operation()),
        // Whoever is told that nothing is known any more has waited longer than the retention: people decide.
        (None, Fate::NeverSeen | Fate::Expired | Fate::GivenUp | Fate::SettledByHand) => {
            Some(Operation::Abort)
        }
        (None, Fate::Open(_) | Fate::Done(_) | Fate::Unsettled | Fate::OtherNode) => None,
    };
    let mut world = sim.world();
    world.note(|| {
        let answer = operation.map_or("nothing yet", Operation::name);
        format!("service-{service} asks for {id}/{branch}: {answer}")
    });
    // Whoever asks does as it is told.
    let faults = Faults { contradiction: 0, ..world.faults.clone() };
    let outrage = operation.and_then(|operation| {
        let service = world.services.get_mut(service)?;
        service.receive(share, operation, &faults).err()
    });
    drop(world);
    let broken =
        |what| Broken { promise: "G4", what: format!("{id}/{branch} was told by an answer: {what}") };
    sim.expect(outrage.map_or(Ok(()), |what| Err(broken(what))));
}

/// Looks at what is parked, asks the service, and says what became of it; or has it told again.
pub async fn operator(sim: Sim, node: Node) {
    loop {
        sleep(Duration::from_millis(400)).await;
        for view in node.open_transactions().into_iter().filter(unanimous::coordinator::View::is_parked) {
            if !sim.is_alive() {
                return;
            }
            let shown = g4::shown_parked(&mut sim.world(), view.id);
            sim.expect(shown);
            for branch in view.txn.telling().parked.iter() {
                let wish = sim.world().wish(&view.plan.branch(branch).service, (view.id, branch));
                match wish {
                    None => {}
                    Some(None) => drop(node.retry(view.id).await),
                    Some(Some(decision)) => {
                        // Asked is enough: the node may die just when it has written it down.
                        sim.world().settle(view.id, branch);
                        let (who, why) = ("an operator".to_owned(), "looked".to_owned());
                        let done = node.resolve(view.id, branch, decision, who, why).await;
                        if sim.is_alive() {
                            let open = node.open_transactions();
                            let result = g4::settled(&mut sim.world(), view.id, branch, done.is_ok(), &open);
                            sim.expect(result);
                        }
                    }
                }
            }
        }
    }
}

impl World {
    fn until_next_try(&mut self, number: usize) -> Option<Duration> {
        let now = self.now();
        let again = self.chance.within(100..3_000);
        let request = self.requests.get_mut(number)?;
        request.tries = request.tries.checked_sub(1)?;
        let wait = if request.at > now { request.at - now } else { again };
        Some(Duration::from_millis(wait))
    }

    fn begin(&mut self, number: usize, now: unanimous::clock::Timestamp) -> Begin {
        let request = self.requests[number].clone();
        self.note(|| {
            format!(
                "request {number} asks for {}, {:?}, key {:?}",
                request.route, request.branches, request.key
            )
        });
        let bodies = if request.body == 0 { Vec::new() } else { vec![body(request.body)] };
        let branches: Vec<_> =
            request.branches.iter().map(|service| self.branch(*service, &request)).collect();
        let works = branches.iter().map(|_| Work::default()).collect();
        let fingerprint = [request.fingerprint; 32];
        let plan = Plan {
            route: request.route.to_owned(),
            deadline: now.plus(self.settings.deadline),
            branches,
            bodies,
            key: request.key.map(|key| ClientKey { key, fingerprint }),
            trace: Trace::begin(1),
        };
        Begin { plan, works }
    }

    fn branch(&self, service: usize, request: &Request) -> PlannedBranch {
        let service = &self.services[service];
        PlannedBranch {
            service: service.name.clone(),
            method: "POST".to_owned(),
            work: "/work".to_owned(),
            prepare: service.has_prepare.then(|| "/tx/prepare".to_owned()),
            commit: "/tx/commit".to_owned(),
            abort: "/tx/abort".to_owned(),
            body: (request.body > 0).then_some(0),
        }
    }

    fn dies_at_answer(&mut self) -> bool {
        match &mut self.crash {
            Crash::AtAnswer(left) => {
                *left -= 1;
                *left == 0
            }
            Crash::Never | Crash::At(_) | Crash::AfterChange(_) | Crash::AtCall(..) => false,
        }
    }

    fn hear(&mut self, number: usize, id: TransactionId, decision: Decision) {
        match decision {
            Decision::Commit => self.summary.told_committed += 1,
            Decision::Abort => self.summary.told_aborted += 1,
        }
        let is_deaf = self.chance.hits(self.faults.client_deaf);
        self.note(|| {
            let heard = if is_deaf { ", and does not hear it" } else { "" };
            format!("request {number} is told that {id} is {}{heard}", decision.outcome())
        });
        let asks_again = self.chance.hits(200);
        let request = &mut self.requests[number];
        if !is_deaf {
            (request.told, request.id) = (Some(decision), Some(id));
            // Now and then a client asks again although it knows.
            request.tries = if asks_again { request.tries.min(1) } else { 0 };
        }
    }

    fn some_share(&mut self) -> Option<(usize, ShareId)> {
        let all: Vec<_> = self.unsettled();
        (!all.is_empty())
            .then(|| all[usize::try_from(self.chance.within(0..all.len() as u64)).expect("an index")])
    }

    fn settle(&mut self, id: TransactionId, branch: Branch) {
        self.summary.resolved += 1;
        self.seen.entry(id).or_default().settled.push(branch);
        self.note(|| format!("an operator settles {id}/{branch}"));
    }

    /// Now and then, any transaction that there ever was.
    fn some_transaction(&mut self) -> Option<TransactionId> {
        let count = self.seen.len() as u64;
        let nth = if count == 0 { 0 } else { self.chance.within(0..count) };
        let id = self.seen.keys().nth(usize::try_from(nth).expect("an index")).copied();
        id.filter(|_| self.chance.hits(300))
    }

    /// What the services wait for.
    pub fn unsettled(&self) -> Vec<(usize, ShareId)> {
        let of = |(number, service): (usize, &super::participant::Service)| {
            service.unsettled().map(|share| (number, share)).collect::<Vec<_>>()
        };
        self.services.iter().enumerate().flat_map(of).collect()
    }

    /// What an operator does with a parked branch: nothing now, have it told again, or say what it became.
    #[expect(clippy::option_option, reason = "nothing, again, or a decision: said above, and used once")]
    fn wish(&mut self, service: &str, share: ShareId) -> Option<Option<Decision>> {
        let acts = self.chance.hits(self.faults.operator);
        let again = self.chance.hits(300);
        let state = self.services.iter().find(|it| it.name == service)?.shares.get(&share)?.state;
        let became = if state == State::Committed { Decision::Commit } else { Decision::Abort };
        acts.then_some(if again { None } else { Some(became) })
    }
}

fn body(length: usize) -> Body {
    Body { content_type: None, bytes: Bytes::from(vec![b'x'; length]) }
}
