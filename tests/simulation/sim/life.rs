//! One life of the node, in a runtime of its own: what runs in it dies with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use unanimous::clock::{Clock, Timestamp};
use unanimous::coordinator::Coordinator;
use unanimous::journal::replay::Found;
use unanimous::journal::{Journal, Poisoned};
use unanimous::recovery;
use unanimous::recovery::table::Verdict;
use unanimous_wal::block;
use unanimous_wal::frame::Kind;
use unanimous_wal::sim::{Operation, SimDisk};

use super::invariants::{self, g2, g3, g5, g6, g7};
use super::network::{self, Network};
use super::people;
use super::scenario::{Crash, Request};
use super::world::{Sim, World};

/// The time of day when a run begins: some day in 2027.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Now and then somebody sets the clock, by so much.
const SKEW_MS: i64 = 2_000;

/// What a life is for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Everything goes wrong, until the crash or for so many milliseconds.
    Storm(u64),
    /// One service is dead; whoever does not need it must not notice.
    Isolation(usize),
    /// Nothing goes wrong any more, and everything must end.
    Calm,
    /// The log is read once more, and holds nothing unfinished.
    Look,
}

/// However long the waits have become, everything ends within this once nothing fails any more.
const CALM: Duration = Duration::from_mins(5);

/// A node that starts has started or given up within this.
const START: Duration = Duration::from_secs(10);

/// Runs a node until it dies or has served its purpose.
pub fn live(sim: &Sim, purpose: Purpose, crash: Crash) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing that could be missing");
    let skew = {
        let mut world = sim.world();
        fastrand::seed(world.chance.within(0..u64::MAX));
        world.chance.one_of(&[0, 0, 0, -SKEW_MS, SKEW_MS])
    };
    runtime.block_on(async {
        sim.world().begin_life(crash);
        sim.note(|| format!("== the node starts: {purpose:?}, {crash:?}, its clock is off by {skew} ms"));
        let is_served = node(sim, purpose, skew).await;
        sim.expect(g3::in_life(purpose, is_served));
        sim.world().end_life();
    });
}

/// Whether it came to the end of its purpose.
async fn node(sim: &Sim, purpose: Purpose, skew: i64) -> bool {
    let mut tasks = JoinSet::new();
    let Some((journal, mut found)) = start(sim, purpose, skew, &mut tasks).await else { return false };
    let network = Network::new(sim);
    let options = sim.world().settings.coordinator;
    let node = Coordinator::new(journal.clone(), network, options, Arc::new(|_| {}), &mut found);
    recovery::resume(&node, found);
    tasks.spawn(network::carry(sim.clone()));
    let upkeep = node.clone();
    tasks.spawn(async move { upkeep.keep_up().await });
    tasks.spawn(people::operator(sim.clone(), node.clone()));
    tasks.spawn(people::inquirer(sim.clone(), node.clone()));
    let serve = async {
        match purpose {
            Purpose::Storm(until) => storm(sim, &node, until).await,
            Purpose::Isolation(dead) => isolation(sim, &node, dead).await,
            Purpose::Calm => calm(sim, &node).await,
            Purpose::Look => {}
        }
    };
    let mut is_served = false;
    tokio::select! {
        biased;
        () = died(sim) => sim.note(|| "== the node dies".to_owned()),
        poisoned = journal.failed() => log_failed(sim, &poisoned),
        () = failed_long_ago(sim) => sim.expect(g5::after_failure(false)),
        () = serve => is_served = true,
    }
    if is_served {
        sim.note(|| "== the node has served its purpose".to_owned());
    }
    if journal.wal().low() > unanimous_wal::Lsn::FIRST {
        sim.world().summary.retired += 1;
    }
    is_served
}

/// The log gave up, and the node stops.
fn log_failed(sim: &Sim, why: &Poisoned) {
    sim.note(|| format!("== the log failed, and the node stops: {why}"));
    let result = g5::failed(&sim.world(), why);
    sim.expect(result);
}

async fn start(sim: &Sim, purpose: Purpose, skew: i64, tasks: &mut JoinSet<()>) -> Option<(Journal, Found)> {
    let (disk, options) = {
        let world = sim.world();
        (world.disk.clone(), world.settings.log)
    };
    let clock = Arc::new(Wall { since: Instant::now(), base: sim.world().now(), skew });
    let opened = async {
        let log = unanimous_wal::sim::open(&disk, unanimous_wal::Options::default())
            .map_err(|error| error.to_string())?;
        let spawn = |commits| drop(tasks.spawn(commits));
        Journal::start_in_task(log, &options, clock, "simulated", spawn)
            .await
            .map_err(|error| error.to_string())
    };
    let Ok(opened) = timeout(START, opened).await else {
        sim.expect(g5::after_failure(false));
        return None;
    };
    match opened {
        Ok((journal, found)) => {
            at_start(sim, &journal, &found);
            if let Purpose::Look = purpose {
                sim.expect(g3::at_rest(&found));
            }
            Some((journal, found))
        }
        Err(_) if disk.is_dark() || disk.failed().is_some() => None,
        Err(error) => {
            let what = format!("a log that nobody damaged cannot be opened: {error}");
            sim.expect(Err(invariants::Broken { promise: "G6", what }));
            None
        }
    }
}

fn at_start(sim: &Sim, journal: &Journal, found: &Found) {
    let mut world = sim.world();
    let verdict =
        |wanted| found.unfinished.iter().filter(|it| recovery::verdict_of(it) == wanted).count() as u64;
    world.summary.found_undecided += verdict(Verdict::Abort);
    world.summary.found_decided += verdict(Verdict::Tell);
    // What a power cut left of what was not synced is durable now, and so is `opened`.
    let looked = invariants::on_disk(&mut world);
    world.acknowledged = Some(journal.follow());
    if world.is_over() {
        return;
    }
    let result =
        looked.and_then(|()| g6::at_start(&world, journal)).and_then(|()| g3::at_start(&world, found));
    drop(world);
    sim.expect(result);
}

async fn storm(sim: &Sim, node: &Coordinator<Network>, millis: u64) {
    let mut clients = clients(sim, node, 0);
    sleep(Duration::from_millis(millis)).await;
    let drains = sim.world().chance.hits(500);
    if drains {
        sim.world().summary.drains += 1;
        node.drain();
        let _ = timeout(Duration::from_secs(1), node.finished()).await;
        clients.shutdown().await;
        close(sim, node).await;
    }
}

async fn close(sim: &Sim, node: &Coordinator<Network>) {
    if let Err(why) = node.journal().clone().close().await {
        log_failed(sim, &why);
    }
}

async fn isolation(sim: &Sim, node: &Coordinator<Network>, dead: usize) {
    let all = {
        let mut world = sim.world();
        world.note(|| format!("-- all is well, but service-{dead} is dead"));
        world.heal();
        world.services[dead].is_dead = true;
        world.requests.len()
    };
    let clients = clients(sim, node, 0);
    sleep(Duration::from_secs(20)).await;
    let healthy: Vec<usize> = (all..all + 3).collect();
    {
        let mut world = sim.world();
        let at = world.now();
        let World { services, chance, requests, .. } = &mut *world;
        requests.extend(
            healthy.iter().map(|_| Request::without(dead, at + chance.within(0..500), services, chance)),
        );
    }
    let more = self::clients(sim, node, all);
    sleep(Duration::from_secs(12)).await;
    let open: Vec<_> = node.open_transactions().into_iter().map(|view| view.id).collect();
    let result = g7::isolated(&sim.world(), &healthy, &open);
    sim.world().summary.isolated += healthy.len() as u64;
    sim.world().services[dead].is_dead = false;
    drop((clients, more));
    sim.expect(result);
}

async fn calm(sim: &Sim, node: &Coordinator<Network>) {
    {
        let mut world = sim.world();
        world.note(|| "-- all is well from here on".to_owned());
        world.heal();
        // Whoever has a key, and may still ask, asks until it is told.
        let patient = |request: &&mut Request| request.key.is_some() && request.tries > 0;
        world.requests.iter_mut().filter(patient).for_each(|request| request.tries = u32::MAX);
    }
    let mut clients = clients(sim, node, 0);
    let everything = async {
        while clients.join_next().await.is_some() {}
        node.finished().await;
        // Copies of calls may still be under way.
        while !sim.world().wire.is_empty() {
            sleep(Duration::from_millis(500)).await;
        }
        if sim.world().settings.services_ask {
            settle(sim, node).await;
        }
    };
    let is_in_time = timeout(CALM, everything).await.is_ok();
    let open = node.open_transactions().len();
    if is_in_time && sim.is_alive() {
        close(sim, node).await;
    }
    let mut world = sim.world();
    let result = invariants::on_disk(&mut world)
        .and_then(|()| g3::at_end(&world, is_in_time, open))
        .and_then(|()| g2::at_end(&world));
    drop(world);
    sim.expect(result);
}

/// Every service asks for what it still holds.
async fn settle(sim: &Sim, node: &Coordinator<Network>) {
    let unsettled = sim.world().unsettled();
    for (service, share) in unsettled {
        people::inquire(sim, node, service, share).await;
    }
}

fn clients(sim: &Sim, node: &Coordinator<Network>, from: usize) -> JoinSet<()> {
    let count = sim.world().requests.len();
    (from..count).map(|number| people::client(sim.clone(), node.clone(), number)).collect()
}

/// Resolves when the node is dead.
async fn died(sim: &Sim) {
    let at = match sim.world().crash {
        Crash::At(millis) => Some(Duration::from_millis(millis)),
        Crash::Never | Crash::AfterChange(_) | Crash::AtCall(..) | Crash::AtAnswer(_) => None,
    };
    let began = Instant::now();
    loop {
        let _ = timeout(at.unwrap_or(Duration::from_millis(250)), sim.over.notified()).await;
        if at.is_some_and(|at| began.elapsed() >= at) {
            sim.kill();
        }
        if sim.world().is_over() {
            return;
        }
    }
}

/// The disk has failed, and the node has not stopped.
async fn failed_long_ago(sim: &Sim) {
    let disk = sim.world().disk.clone();
    while disk.failed().is_none() {
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(1)).await;
}

/// What is between two lives: the power goes, or only the process; and somebody may harm the disk.
pub fn between(sim: &Sim) {
    let mut world = sim.world();
    let (was_killed, failed) = (world.is_over(), world.disk.failed());
    if world.broken.is_some() {
        return;
    }
    match world.crash {
        Crash::At(_) if was_killed => world.summary.crashes_at_a_time += 1,
        Crash::AfterChange(_) if was_killed => world.summary.crashes_at_a_change += 1,
        Crash::AtCall(..) if was_killed => world.summary.crashes_at_a_call += 1,
        Crash::AtAnswer(_) if was_killed => world.summary.crashes_at_an_answer += 1,
        Crash::Never | Crash::At(_) | Crash::AfterChange(_) | Crash::AtCall(..) | Crash::AtAnswer(_) => {}
    }
    world.summary.lives += 1;
    world.summary.failed(failed);
    let is_cut = failed.is_some() || world.chance.hits(600);
    if is_cut {
        world.summary.power_cuts += 1;
        world.note(|| "== the power goes".to_owned());
        world.disk.crash();
        world.summary.torn_records += u64::from(ends_torn(&world.disk));
    } else {
        world.summary.kills += 1;
        world.note(|| "== the process is gone, the machine lives on".to_owned());
        world.disk.kill();
    }
    let is_harmed = world.chance.hits(100);
    let result = if is_harmed { g6::damaged(&mut world, is_cut) } else { Ok(()) };
    drop(world);
    sim.expect(result);
}

/// Whether the log ends with a record of which only the first parts are there.
pub fn ends_torn(disk: &SimDisk) -> bool {
    let last = disk.keys().into_iter().next_back();
    let blocks = last.map(|last| disk.present(last)).unwrap_or_default();
    blocks.iter().any(|(_, bytes)| {
        // One that was harmed is mended by the next start.
        let Ok(block) = block::decode(bytes) else { return false };
        block.frames().any(|(_, frame)| matches!(frame.kind, Kind::First | Kind::Middle))
    })
}

/// Now and then the disk fails in a life.
pub fn maybe_fail_disk(sim: &Sim) {
    let mut world = sim.world();
    if !world.chance.hits(150) {
        return;
    }
    let nth = world.chance.within(1..60);
    let (operation, passes) = (world.chance.one_of(&Operation::OF_A_COMMIT), world.chance.hits(500));
    if passes {
        world.disk.fail_once(operation, nth);
    } else {
        world.disk.fail(operation, nth);
    }
    let how_long = if passes { "once" } else { "for ever" };
    world.note(|| format!("-- the {nth}th {operation:?} will fail, {how_long}"));
}

/// No clock was ever further ahead.
pub fn latest(world: &World) -> Timestamp {
    Timestamp((EPOCH_MS + world.now()).saturating_add_signed(SKEW_MS))
}

/// The clock of the machine.
struct Wall {
    since: Instant,
    base: u64,
    skew: i64,
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).expect("a run is short");
        Timestamp((EPOCH_MS + self.base + elapsed).saturating_add_signed(self.skew))
    }
}
