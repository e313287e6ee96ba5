//! The kit of the benchmarks: processes, participants as cheap as can be, and clients that never pause.
//!
//! ```text
//!  load (closed loop) ──► gateway (a process) ──► participant (a process, or a task of the benchmark)
//!                              └──► log on disk, or a store that keeps nothing
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`wire`] | HTTP/1.1, no more of it than both ends here speak |
//! | [`participant`] | answers every call with the same few bytes |
//! | [`node`] | a gateway as a process, and what the system says of it |
//! | [`load`] | clients in a closed loop, and how long they waited |
//! | [`roles`] | the other processes of a comparison |
//! | [`nothing`] | a store that keeps nothing |
#![allow(dead_code, reason = "each benchmark uses a part of the kit")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod nothing;
pub(crate) mod participant;
pub(crate) mod roles;
pub(crate) mod wire;

use std::error::Error;

/// Whatever kept a benchmark from running.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Whether the caller wants a short run, with coarser figures.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// The middle one; of an even number the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a figure beside the goal it has to meet.
pub(crate) fn goal(what: &str, figure: &str, goal: &str, is_met: bool) {
    let verdict = if is_met { "met" } else { "MISSED" };
    println!("{what:<70} {figure:>14}   goal {goal:<12} {verdict}");
}

/// Where the log of a benchmark goes: on the disk of the build, because `/tmp` may be memory.
pub(crate) fn directory() -> Result<tempfile::TempDir, Failure> {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(target)?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(target)?)
}

/// Runs a benchmark on one thread, so that it takes as little as it can from what it measures.
pub(crate) fn run(bench: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(bench)
}
