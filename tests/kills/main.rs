//! SIGKILLs of the gateway and of its banks at random instants, in one run with real processes and a bad network.
//!
//! Nothing may be torn, nobody may be lied to, and no key may begin two transactions. The seed decides who pays
//! whom and what is killed when; a failure prints it with the command that repeats the run. For more of it:
//! `cargo run --release --example kills -- --kills 2000`.

#![allow(unreachable_pub, reason = "the attack is a module of two crates, a test and a program")]
#![allow(dead_code, reason = "the program uses all of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod attack;
mod soak;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use attack::Lines;
use attack::proxy::{Faults, Tally};
use soak::sample::Reading;
use soak::{Watch, plot, write_csv};
use tempfile::TempDir;
use unanimous::cli::demo::harness::{self, Event, Extent, HarnessError, Options, Report, Watcher};
use verdict::{Verdict, sentences};

/// A run that comes near is too slow for everybody.
const LONGEST: Duration = Duration::from_mins(3);

/// `UNANIMOUS_SEED`, or one of chance.
fn seed() -> u64 {
    let given = std::env::var("UNANIMOUS_SEED").ok();
    given.map_or_else(
        || u64::from(fastrand::u32(..)),
        |text| text.parse().expect("UNANIMOUS_SEED is a number"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_instants_tear_nothing_and_make_no_answer_a_lie() {
    let loopback = Options::new(env!("CARGO_BIN_EXE_unanimous").into(), "".into(), seed());
    let options = Options { extent: Extent::AtLeast(1_200), kills: 25, bank_kills: 8, ..loopback };
    let report = survive(options, tempfile::tempdir().unwrap(), &|_| ()).await;
    println!("{}", Verdict { report: &report, tally: Tally::default() });
    let kills: usize = report.crashes.iter().map(|crash| crash.kills).sum();
    assert_eq!((kills, report.bank_kills), (25, 8), "all kills were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_loses_tears_and_is_cut_makes_no_difference_to_the_promise() {
    let seed = seed();
    let faults = Faults { loss: 3.0, slow: Duration::from_millis(10) };
    let lines = Arc::new(Lines::lay(faults, None, seed).await.unwrap());
    let loopback = Options::new(env!("CARGO_BIN_EXE_unanimous").into(), "".into(), seed);
    let directory = tempfile::tempdir().unwrap();
    let watch = Watch::new(directory.path().join("gateway"));
    let options = Options {
        extent: Extent::AtLeast(600),
        others: 2,
        kills: 6,
        bank_kills: 3,
        cuts: 3,
        network: lines.clone(),
        ..loopback
    };
    let watcher = |event: Event<'_>| watch.on(event);
    let report = tokio::select! {
        report = survive(options, directory, &watcher) => report,
        () = watch.take_samples() => unreachable!("it never ends"),
    };
    let tally = lines.tally();
    println!("{}", Verdict { report: &report, tally });
    assert!(tally.bad() > 20, "the network was good: {tally:?}");
    let waited: usize = report.partitions.iter().map(|partition| partition.in_doubt).sum();
    assert!(report.partitions.len() == 3 && waited > 0, "nothing waited behind: {:?}", report.partitions);
    look_at_the_samples(&watch);
}

/// The samples of the soak are real, and can be kept.
fn look_at_the_samples(watch: &Watch) {
    let (samples, directory) = (watch.samples(), tempfile::tempdir().unwrap());
    let (csv, svg) = (directory.path().join("soak.csv"), directory.path().join("soak.svg"));
    write_csv(&samples, &csv).unwrap();
    plot::draw(&samples, &svg).unwrap();
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), samples.len() + 1);
    assert!(std::fs::read_to_string(&svg).unwrap().contains("resident memory"));
    if cfg!(target_os = "linux") {
        let reading = samples.last().expect("the run is longer than five seconds").reading;
        let Reading { memory, disk, descriptors, threads, tasks, .. } = reading;
        let all = [memory, disk, descriptors, threads, tasks];
        assert!(all.iter().all(|figure| *figure > 1.0), "{reading:?}");
    }
}

/// Runs it in this directory, which is kept and named where a promise was broken.
async fn survive(options: Options, directory: TempDir, watcher: Watcher<'_>) -> Report {
    let repeat = format!("UNANIMOUS_SEED={} cargo test --test kills -- --nocapture", options.seed);
    let options =
        Options { data_dir: directory.path().to_owned(), patience: Duration::from_secs(40), ..options };
    let ran = tokio::time::timeout(LONGEST, harness::run(&options, watcher)).await;
    match ran {
        Ok(Ok(report)) if Verdict { report: &report, tally: Tally::default() }.problems().is_empty() => {
            report
        }
        failed => {
            let kept = directory.keep();
            panic!("repeat with: {repeat}\nall is kept in {}\n{}", kept.display(), explain(failed));
        }
    }
}

fn explain(failed: Result<Result<Report, HarnessError>, tokio::time::error::Elapsed>) -> String {
    match failed {
        Ok(Ok(report)) => Verdict { report: &report, tally: Tally::default() }.to_string(),
        Ok(Err(error)) => sentences(&error),
        Err(_) => format!("the run took longer than {LONGEST:?}"),
    }
}
