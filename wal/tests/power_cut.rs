//! Power cuts on what a real process asked of the disk.
//!
//! ```text
//! a child works with a log ──► recorder ──► recording: writes, lengths, syncs, names, and what was promised
//!   (ptrace, see tracer/)                       │
//!                                             world: at each moment, what is certain and what is not
//!                                               │
//!          judge: opens it with the real ◄── states: of what is not certain, all, nothing, parts, torn, reordered
//!          log, finds what was promised
//! ```
//!
//! `UNANIMOUS_POWER_CUT=long` makes many more states, and says how far it is. Where a state is wrong, what was kept
//! and dropped in it is printed, and a command that makes it again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;
mod tracer;

#[path = "power_cut/choice.rs"]
mod choice;
#[path = "power_cut/image.rs"]
mod image;
#[path = "power_cut/judge.rs"]
mod judge;
#[path = "power_cut/recorder.rs"]
mod recorder;
#[path = "power_cut/recording.rs"]
mod recording;
#[path = "power_cut/run.rs"]
mod run;
#[path = "power_cut/state.rs"]
mod state;
#[path = "power_cut/workload.rs"]
mod workload;
#[path = "power_cut/world.rs"]
mod world;

use std::path::{Path, PathBuf};

use choice::Effort;
use judge::Verdict;
use nix::sys::signal::Signal;
use recorder::Recorder;
use recording::Recording;
use run::{LOG, Plan, Tally, Wrong};
use state::{Data, Names, Spec};
use workload::Life;
use world::World;

const DIRECTORY: &str = "UNANIMOUS_POWER_CUT_DIRECTORY";
const LIFE: &str = "UNANIMOUS_POWER_CUT_LIFE";

/// What is done with one log.
struct Trial {
    name: &'static str,
    lives: Vec<Life>,
    plan: Plan,
    /// How many of its states are started from by a process that is recorded in its turn, and what is made of that.
    again: usize,
    plan_again: Plan,
}

#[test]
fn every_power_cut_leaves_what_was_acknowledged() {
    let (trials, wanted) = match std::env::var("UNANIMOUS_POWER_CUT") {
        Ok(words) if words == "long" => (long(), vec![Verdict::Begun, Verdict::Sound, Verdict::CutOff]),
        Ok(words) => return make_again(&words),
        Err(_) => (short(), vec![Verdict::Begun, Verdict::Sound]),
    };
    let mut all = Tally::default();
    for trial in trials {
        all.add(attempt(&trial));
    }
    println!("{} states, {} wrong: {:?}", all.states, all.wrong.len(), all.verdicts);
    assert!(all.wrong.is_empty(), "{} states are wrong; see above", all.wrong.len());
    for verdict in wanted {
        assert!(all.verdicts.contains_key(&verdict), "no state was {verdict:?}, so this shows too little");
    }
}

/// Some seconds: a part of the states close to the first promise and to a name that is not certain, and a few others.
fn short() -> Vec<Trial> {
    let killed = Life { single: 4, together: 2, is_killed: true, ..Life::NONE };
    let lives = vec![killed, Life { single: 1, ..Life::NONE }];
    let close = Effort { torn: 1, scattered: 1, names: 2 };
    let plan = Plan { close, far: close, one_of: 8, share: 4, seed: 1, is_long: false };
    vec![Trial { name: "short", lives, plan, again: 1, plan_again: Plan { one_of: 16, ..plan } }]
}

/// Some minutes: every moment of a log of small records, and many of logs in which sled collects its garbage.
fn long() -> Vec<Trial> {
    let close = Effort { torn: 6, scattered: 4, names: 8 };
    let plan = Plan {
        close,
        far: Effort { torn: 6, scattered: 4, names: 0 },
        one_of: 1,
        share: 1,
        seed: 1,
        is_long: true,
    };
    let few = Effort { torn: 1, scattered: 1, names: 2 };
    let plan_again = Plan { close: few, far: few, one_of: 2, ..plan };
    let small = |name, single, together| {
        let lives = vec![
            Life { single, together, ..Life::NONE },
            Life { single: single / 2, together: together / 2, is_killed: true, ..Life::NONE },
            Life { single: single / 4, together: together / 4, ..Life::NONE },
            Life::NONE,
        ];
        Trial { name, lives, plan, again: 8, plan_again }
    };
    let mut trials = vec![small("small", 10, 3), small("single", 120, 2), small("together", 4, 16)];
    let bulks = [("bulk-30", 30), ("bulk-50", 50), ("bulk-70", 70), ("bulk-85", 85)];
    trials.extend(bulks.map(|(name, bulk)| {
        let lives = vec![
            Life { single: 2, ..Life::NONE },
            Life { single: 1, bulk, ..Life::NONE },
            Life { single: 1, is_killed: true, ..Life::NONE },
            Life { bulk: 6, ..Life::NONE },
            Life::NONE,
        ];
        let plan = Plan { close: few, far: few, one_of: 24, ..plan };
        Trial { name, lives, plan, again: 1, plan_again: Plan { one_of: 32, ..plan } }
    }));
    trials
}

/// Records, judges all states, and does the same with processes that start from some of them.
fn attempt(trial: &Trial) -> Tally {
    let root = tempfile::tempdir().unwrap();
    let recording = record(root.path(), &[], &trial.lives);
    let mut all = judged(trial.name, &recording, &trial.plan);
    let mut bases = every(&all.some, trial.again);
    bases.extend(every(&all.cut_off, trial.again.div_ceil(4)));
    for (n, base) in (0..).zip(bases) {
        let root = tempfile::tempdir().unwrap();
        let world = World::at(&recording, base.moment);
        base.build(&world, false).save(root.path());
        let life = Life { single: 2, together: 1, is_killed: n % 2 == 1, ..Life::NONE };
        let name = format!("{}-from-{base}", trial.name);
        let recording = record(root.path(), &world.promises.words, &[life]);
        all.add(judged(&name, &recording, &trial.plan_again));
    }
    all
}

/// So many of them, from all parts of the list.
fn every(states: &[Spec], count: usize) -> Vec<Spec> {
    states.iter().step_by((states.len() / count).max(1)).take(count).copied().collect()
}

/// Judges the states of a recording, and says what is wrong and how to see it.
fn judged(name: &str, recording: &Recording, plan: &Plan) -> Tally {
    let tally = run::run(recording, plan);
    if plan.is_long {
        println!("{name}: {} states, {:?}", tally.states, tally.verdicts);
    }
    if tally.wrong.is_empty() {
        return tally;
    }
    let path =
        std::env::temp_dir().join(format!("power-cut-{}-{name}", std::process::id()).replace(':', "_"));
    recording.save(&path).unwrap();
    for Wrong { spec, reason } in &tally.wrong {
        println!("wrong: the log {reason}\nin this state:");
        let world = World::at(recording, spec.moment);
        for fate in spec.build(&world, true).fates() {
            println!("    {fate}");
        }
        println!(
            "to make it again: UNANIMOUS_POWER_CUT={}@{spec} cargo test -p unanimous-wal --test power_cut every -- --nocapture\n",
            path.display()
        );
    }
    tally
}

/// Makes a state of a recording that was kept, leaves it to be looked at, and judges a copy.
fn make_again(words: &str) {
    let (path, spec) = words.split_once('@').expect("`long`, or `RECORDING@STATE` as it was printed");
    let spec: Spec = spec.parse().unwrap();
    let recording = Recording::load(path.as_ref()).unwrap();
    let world = World::at(&recording, spec.moment);
    let tree = spec.build(&world, true);
    for fate in tree.fates() {
        println!("{fate}");
    }
    println!("promised: {:?}", world.promises);
    let state = PathBuf::from(format!("{path}@{spec}").replace(':', "_"));
    std::fs::create_dir_all(&state).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let verdict = run::make_and_judge(&copy.path().join("state"), &tree, &world.promises, &runtime);
    tree.save(&state);
    println!("left in {}: {verdict:?}", state.display());
    verdict.unwrap();
}

/// Records lives of a log below a directory, in which some things were promised before.
fn record(root: &Path, promised: &[String], lives: &[Life]) -> Recording {
    let mut recorder = Recorder::new(root, promised);
    for life in lives {
        let log = root.join(LOG);
        let environment = [(DIRECTORY, log.to_str().unwrap()), (LIFE, &life.to_words())];
        let ended = tracer::watch("child_that_is_recorded", &environment, &mut recorder);
        assert_eq!(ended, if life.is_killed { Err(Signal::SIGKILL) } else { Ok(()) });
        is_complete(root, &recorder.recording());
    }
    recorder.recording()
}

/// The recording, replayed, is what the directory really holds: no call that changes anything was overlooked.
fn is_complete(root: &Path, recording: &Recording) {
    let moment = recording.end();
    let world = World::at(recording, moment);
    let spec = Spec { moment, data: Data::Kept, names: Names::First(world.renames.len()) };
    let replayed = tempfile::tempdir().unwrap();
    spec.build(&world, false).save(replayed.path());
    let [was, is] = [root, replayed.path()].map(|below| {
        let files = common::files_below(below).into_iter();
        files
            .map(|(path, bytes)| (path[below.to_str().unwrap().len()..].to_owned(), bytes))
            .collect::<Vec<_>>()
    });
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&was), names(&is), "the recorder overlooked a name");
    for (was, is) in was.iter().zip(&is) {
        assert!(was == is, "the recorder overlooked what was done to {}", was.0);
    }
}

/// The child, which is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_recorded() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    tracer::wait_until_watched();
    workload::live(directory.as_ref(), Life::from_words(&std::env::var(LIFE).unwrap())).await;
}
