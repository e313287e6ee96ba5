//! Two thousand seeds of the deterministic simulation, and proof that it repeats itself and reaches everything.
//!
//! For more of them: `cargo run --release --example simulate -- --seeds 1000000`. A seed that fails prints the command
//! that repeats it with its whole history.

#![allow(unreachable_pub, reason = "the simulation is a module of two crates, a test and a program")]
#![allow(clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was found is printed")]

mod sim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::summary::Summary;

/// How many seeds a plain test runs.
const SEEDS: u64 = 2_000;

#[test]
fn no_promise_is_broken_in_two_thousand_storms_and_they_reach_everything() {
    let next = AtomicU64::new(0);
    let worker = || {
        let mut sum = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return sum;
            }
            sum.add(&survive(seed));
        }
    };
    let sum = thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(worker)).collect();
        let mut sum = Summary::default();
        for worker in workers {
            sum.add(&worker.join().expect("it says itself why"));
        }
        sum
    });
    println!("{sum}");
    for (name, count) in sum.counts() {
        assert!(count > 0, "{name}: not once in {SEEDS} seeds; the storm does not reach it any more");
    }
}

#[test]
fn a_seed_repeats_itself_to_the_last_word() {
    for seed in 0..300 {
        let (first, second) = (sim::run(seed, true), sim::run(seed, true));
        assert_eq!(first.history, second.history, "seed {seed}");
        assert_eq!(first.summary, second.summary, "seed {seed}");
    }
}

fn survive(seed: u64) -> Summary {
    let run = sim::run(seed, false);
    if let Some(broken) = run.broken {
        panic!(
            "seed {seed}: {broken}\n\nagain, with its history: cargo run --example simulate -- --seed {seed}\n\n{}",
            sim::run(seed, true).history
        );
    }
    run.summary
}
