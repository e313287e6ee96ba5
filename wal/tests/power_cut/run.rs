//! Makes states of a recording and has them judged, on all processors.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::choice::{self, Effort};
use crate::common;
use crate::judge::{Promises, Verdict, judge};
use crate::recording::{Kind, Op, Recording};
use crate::state::{Spec, Tree, chance};
use crate::world::World;

/// The directory of the log, in the one in which everything is recorded.
pub(crate) const LOG: &str = "log";

/// What is longer than the longest block of a log is several of them, and may be there in part.
const LONG: std::ops::Range<usize> = 65 * 1024..1024 * 1024;

/// How much is made of a recording.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Where names are not certain, around the first promises, and where some blocks of a record may be there.
    pub(crate) close: Effort,
    /// Everywhere else, at one moment of so many.
    pub(crate) far: Effort,
    pub(crate) one_of: u64,
    /// Of all these states one of so many is judged.
    pub(crate) share: u64,
    pub(crate) seed: u64,
    /// Prints how far it is.
    pub(crate) is_long: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) states: u64,
    pub(crate) verdicts: BTreeMap<Verdict, u64>,
    pub(crate) wrong: Vec<Wrong>,
    /// Some of the states.
    pub(crate) some: Vec<Spec>,
    /// Those with an end that was cut off.
    pub(crate) cut_off: Vec<Spec>,
    /// What is being judged, and since when.
    at_work: BTreeMap<usize, (Spec, Instant)>,
}

/// A state that does not hold what was promised.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) spec: Spec,
    pub(crate) reason: String,
}

struct Task {
    spec: Spec,
    tree: Tree,
    promises: Promises,
}

/// After so many there is no need to look for more.
const WRONG_MAX: usize = 5;

/// Nothing that a start does takes so long, however busy the machine is.
const HANGS: Duration = Duration::from_mins(5);

/// Judges the states of a recording, each of them once.
pub(crate) fn run(recording: &Recording, plan: &Plan) -> Tally {
    let tally = Mutex::new(Tally::default());
    let (send, receive) = sync_channel(4);
    let receive = Mutex::new(receive);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let work = |worker| {
            let (receive, tally) = (&receive, &tally);
            move || work(worker, receive, tally)
        };
        let workers: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        produce(recording, plan, &send, &tally);
        drop(send);
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
            lock(&tally).abort_if_one_hangs();
        }
    });
    tally.into_inner().unwrap()
}

fn produce(recording: &Recording, plan: &Plan, tasks: &SyncSender<Task>, tally: &Mutex<Tally>) {
    let mut world = World::new(recording);
    let mut seen = HashSet::new();
    let mut said = Instant::now();
    while let Some(moment) = world.advance() {
        let is_close = !world.renames.is_empty() || world.promises.count() <= 3 || has_long_write(&world);
        if !is_close && chance(&(plan.seed, moment), plan.one_of) != 0 {
            continue;
        }
        let effort = if is_close { plan.close } else { plan.far };
        for spec in choice::states(&world, moment, effort, plan.seed ^ moment) {
            let tree = spec.build(&world, false);
            let is_new = seen.insert((tree.digest(), world.promises.count()));
            if is_new && chance(&(tree.digest(), spec.moment), plan.share) == 0 {
                hand_over(Task { spec, tree, promises: world.promises.clone() }, tasks, tally);
            }
        }
        let mut tally = lock(tally);
        // One of those that were made last: the others are more of a kind.
        tally.some.extend(choice::states(&world, moment, effort, plan.seed ^ moment).last());
        tally.abort_if_one_hangs();
        if tally.wrong.len() >= WRONG_MAX {
            return;
        }
        if plan.is_long && said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            println!(
                "  moment {moment} of {}: {} states, {} wrong",
                recording.end(),
                tally.states,
                tally.wrong.len()
            );
        }
    }
}

/// Waits for somebody who takes it, and looks meanwhile whether all of them hang.
fn hand_over(mut task: Task, tasks: &SyncSender<Task>, tally: &Mutex<Tally>) {
    while let Err(refused) = tasks.try_send(task) {
        let TrySendError::Full(back) = refused else { panic!("nobody takes a task any more") };
        task = back;
        lock(tally).abort_if_one_hangs();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn has_long_write(world: &World<'_>) -> bool {
    let is_long = |op: &&Op| matches!(&op.kind, Kind::Write { bytes, .. } if LONG.contains(&bytes.len()));
    world.writes.iter().any(is_long)
}

fn work(worker: usize, tasks: &Mutex<Receiver<Task>>, tally: &Mutex<Tally>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = common::in_memory();
    loop {
        let next = lock(tasks).recv();
        let Ok(Task { spec, tree, promises }) = next else { break };
        lock(tally).at_work.insert(worker, (spec, Instant::now()));
        let state = place.path().join("state");
        let verdict = make_and_judge(&state, &tree, &promises, &runtime);
        fs::remove_dir_all(&state).unwrap();
        let mut tally = lock(tally);
        tally.at_work.remove(&worker);
        tally.states += 1;
        match verdict {
            Ok(verdict) => {
                *tally.verdicts.entry(verdict).or_default() += 1;
                tally.cut_off.extend((verdict == Verdict::CutOff).then_some(spec));
            }
            Err(reason) => tally.wrong.push(Wrong { spec, reason }),
        }
    }
}

pub(crate) fn make_and_judge(
    state: &Path,
    tree: &Tree,
    promises: &Promises,
    runtime: &tokio::runtime::Runtime,
) -> Result<Verdict, String> {
    fs::create_dir(state).unwrap();
    tree.save(state);
    // To reserve 64 MiB is most of what a start costs here, and nothing depends on it: mostly it is done already.
    let ballast = state.join(LOG).join("ballast");
    if state.join(LOG).exists() && !ballast.exists() && chance(&tree.digest(), 8) > 0 {
        fs::write(ballast, " ").unwrap();
    }
    judge(&state.join(LOG), promises, runtime)
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.states += other.states;
        self.wrong.extend(other.wrong);
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }

    /// No test can end while one of its threads does not.
    fn abort_if_one_hangs(&self) {
        for (spec, since) in self.at_work.values() {
            if since.elapsed() > HANGS {
                println!("the start from state {spec} hangs");
                std::process::abort();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
