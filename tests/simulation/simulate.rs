//! The deterministic simulation as a program: as many seeds as wanted, or one with its history.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 1000000
//! cargo run --release --example simulate -- --seed 4711
//! ```

#![allow(unreachable_pub, reason = "the simulation is a module of two crates, a test and a program")]
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was found is printed")]

mod sim;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sim::summary::Summary;
use tokio::time::Instant;

/// Runs the real coordinator in a simulated world that fails in every way it may, and checks every promise.
///
/// Each seed is one run and repeats itself exactly. Exit code 1 when a promise was broken.
#[derive(Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many threads; each runs seeds of its own.
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    jobs: usize,
    /// Stop at the first promise that is broken.
    #[arg(long)]
    first: bool,
    /// Run only this seed and print all that happened.
    #[arg(long, conflicts_with_all = ["seeds", "from", "jobs"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => one(seed),
        None => many(&options),
    }
}

fn one(seed: u64) -> ExitCode {
    let run = sim::run(seed, true);
    print!("{}", run.history);
    if let Some(broken) = run.broken {
        eprintln!("seed {seed}: {broken}");
        return ExitCode::FAILURE;
    }
    eprintln!("seed {seed}: every promise was kept");
    ExitCode::SUCCESS
}

fn many(options: &Options) -> ExitCode {
    let began = Instant::now();
    let (next, end) = (AtomicU64::new(options.from), options.from.saturating_add(options.seeds));
    let (sum, failed) = (Mutex::new(Summary::default()), Mutex::new(Vec::<u64>::new()));
    let bar = progress(options.seeds);
    let worker = || {
        let mut mine = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || (options.first && !failed.lock().expect("no worker panics").is_empty()) {
                break;
            }
            let run = sim::run(seed, false);
            mine.add(&run.summary);
            bar.inc(1);
            if let Some(broken) = run.broken {
                bar.suspend(|| {
                    eprintln!("seed {seed}: {broken}");
                    eprintln!("  again: cargo run --release --example simulate -- --seed {seed}");
                });
                failed.lock().expect("no worker panics").push(seed);
            }
        }
        sum.lock().expect("no worker panics").add(&mine);
    };
    thread::scope(|scope| {
        (0..options.jobs.max(1)).for_each(|_| drop(scope.spawn(worker)));
    });
    bar.finish_and_clear();
    print!("{}", sum.into_inner().expect("no worker panics"));
    let failed = failed.into_inner().expect("no worker panics");
    println!("{} seeds in {:.0?}, {} of them broke a promise", options.seeds, began.elapsed(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn progress(seeds: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} seeds, {per_sec}, {eta} left")
            .expect("the template is right");
    let bar = ProgressBar::new(seeds).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
