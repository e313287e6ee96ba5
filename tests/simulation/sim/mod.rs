//! A deterministic simulation: one seed is one run of the real coordinator in a world that fails in every way it may.
//!
//! ```text
//!  people ──► Coordinator ─► txn ─► Journal ─► wal ─► SimDisk        the real program, one thread, paused clock
//!                  │                                    │ loses what was not synced, fails, goes dark
//!                  └──► Network ──► services            │
//!                       loses, delays, repeats          └──► ledger ──► invariants G1 .. G8
//! ```
//!
//! A run is a few lives of one node: storms that end with a crash between any two things that others can notice, then
//! one with a dead service, then one in which nothing fails and everything must end. From the instant of a crash
//! nothing that the node still does reaches the disk, the wire or a client; so the crash is exact although its
//! tasks are dropped a little later. Not in it: HTTP, sled, and threads; those have tests of their own.
//!
//! | file | holds |
//! |---|---|
//! | [`chance`], [`scenario`] | what a seed decides |
//! | [`world`] | what outlives a node |
//! | [`life`] | one start of the node, to its end |
//! | [`network`], [`participant`] | the wire, and the services behind it |
//! | [`people`] | clients, participants that ask, an operator |
//! | [`ledger`] | what the disk holds, read without the program's opinion |
//! | [`invariants`] | the promises, one file each |
//! | [`panics`] | panics, of which none is a way to go on |
//! | [`history`], [`summary`] | what happened, for people |

pub mod chance;
pub mod history;
pub mod invariants;
pub mod ledger;
pub mod life;
pub mod network;
pub mod panics;
pub mod participant;
pub mod people;
pub mod scenario;
pub mod summary;
pub mod world;

use self::invariants::Broken;
use self::life::Purpose;
use self::scenario::Crash;
use self::summary::Summary;
use self::world::{Sim, World};

/// What came of one seed.
pub struct Run {
    pub summary: Summary,
    pub broken: Option<Broken>,
    /// Empty unless it was asked for.
    pub history: String,
}

/// Runs one seed.
pub fn run(seed: u64, with_history: bool) -> Run {
    let sim = Sim::new(World::new(seed, with_history));
    if let Some(what) = panics::during(|| story(&sim)) {
        // Whatever else was noticed may follow from it.
        sim.world().broken = None;
        sim.expect(Err(Broken { promise: "a panic", what }));
    }
    let mut world = sim.world();
    world.count();
    let history = world.history.to_string();
    Run { summary: world.summary, broken: world.broken.clone(), history }
}

/// The lives of the node, until a promise is broken.
fn story(sim: &Sim) {
    let (storms, longest) = {
        let mut world = sim.world();
        if world.is_long { (8, 30_000) } else { (world.chance.within(1..5), 12_000) }
    };
    for _ in 0..storms {
        let (crash, millis) = {
            let mut world = sim.world();
            let (crash, millis) = (Crash::any(&mut world.chance, longest), world.chance.within(500..longest));
            // A second crash in the middle of what the first one made necessary.
            let is_whole = world.disk.is_synced() && !life::ends_torn(&world.disk);
            let again = (!is_whole && world.chance.hits(500)).then(|| world.chance.within(1..12));
            (again.map_or(crash, Crash::AfterChange), millis)
        };
        life::maybe_fail_disk(sim);
        if !step(sim, Purpose::Storm(millis), crash) {
            return;
        }
    }
    let dead = sim.world().dead_service();
    if let Some(dead) = dead
        && !step(sim, Purpose::Isolation(dead), Crash::Never)
    {
        return;
    }
    let _ = step(sim, Purpose::Calm, Crash::Never) && step(sim, Purpose::Look, Crash::Never);
}

fn step(sim: &Sim, purpose: Purpose, crash: Crash) -> bool {
    life::live(sim, purpose, crash);
    life::between(sim);
    sim.world().broken.is_none()
}

impl World {
    /// Which service is to be dead for a while; where few transactions may be open, none is.
    fn dead_service(&mut self) -> Option<usize> {
        let count = self.services.len() as u64;
        let chosen = usize::try_from(self.chance.within(0..count)).expect("it is an index");
        (self.chance.hits(300) && self.settings.coordinator.open_transactions_max > 100).then_some(chosen)
    }

    fn count(&mut self) {
        let is = |decision| move |seen: &&world::Seen| seen.is_real && seen.decision == Some(decision);
        self.summary.runs = 1;
        self.summary.transactions = self.seen.values().filter(|seen| seen.is_real).count() as u64;
        self.summary.committed =
            self.seen.values().filter(is(unanimous::txn::Decision::Commit)).count() as u64;
        self.summary.aborted = self.seen.values().filter(is(unanimous::txn::Decision::Abort)).count() as u64;
    }
}
