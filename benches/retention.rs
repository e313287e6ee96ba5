//! Ten minutes of load with a short retention and one transaction in doubt: disk and memory must level off.
//!
//! `cargo bench --bench retention [-- --quick]` (90 seconds)
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::load::{self, count};
use kit::node::{Choice, Node, Plan, disk};
use kit::participant::{Control, serve};
use kit::{Failure, goal, median};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

const CLIENTS: usize = 16;

/// The second half may need so much more than the first: sled frees whole segments, and the load varies.
const TOLERANCE: f64 = 1.25;

/// Less than this, in MiB, is no growth: sled takes its file in segments of 8 MiB, and reuses the first of them only
/// after some five. A short run on a slow machine does not get that far.
const FLOOR: f64 = 48.0;

/// What the system says at one time.
struct Sample {
    disk: f64,
    memory: f64,
}

fn main() -> Result<(), Failure> {
    kit::run(bench())
}

async fn bench() -> Result<(), Failure> {
    let is_quick = kit::is_quick();
    let (retention, span, step) = if is_quick {
        ("5s", Duration::from_secs(90), Duration::from_secs(5))
    } else {
        ("30s", Duration::from_mins(10), Duration::from_secs(20))
    };
    let control = Arc::new(Control::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let participant = listener.local_addr()?;
    TaskTracker::new().spawn(serve(listener, control));
    let directory = kit::directory()?;
    let choice = Choice { participant, asks: true, reply_within: "100ms", retention };
    let plan = Plan::new(directory.path(), &choice)?;
    let mut node = Node::spawn(&plan)?;
    node.ready().await?;
    // Its second branch never confirms, so it stays in doubt until the end.
    load::exactly(plan.listen, "/stuck", 202, 1, 1).await?;

    println!("retention {retention}, {CLIENTS} clients, one transaction in doubt throughout");
    println!(
        "{:>6} {:>12} {:>10} {:>12} {:>12} {:>10}",
        "s", "txn so far", "txn/s", "records MiB", "disk MiB", "RSS MiB"
    );
    let (started, mut total, mut samples) = (Instant::now(), 0, Vec::new());
    while started.elapsed() < span {
        let seen = load::run(plan.listen, "/transfers", 200, CLIENTS, step).await?;
        total += seen.waits.len();
        let sample = Sample { disk: mebi(disk(&plan.data())?), memory: node.memory("VmRSS")? };
        let records = node.metric("unanimous_log_bytes").await? / 1_048_576.0;
        println!(
            "{:>6.0} {total:>12} {:>10.0} {records:>12.1} {:>12.1} {:>10.1}",
            started.elapsed().as_secs_f64(),
            seen.per_second(),
            sample.disk,
            sample.memory
        );
        samples.push(sample);
    }
    let in_doubt = node.metric("unanimous_transactions_in_doubt").await?;
    goal("in doubt at the end", &format!("{in_doubt}"), "= 1", (in_doubt - 1.0).abs() < 0.5);
    judge("disk", &samples.iter().map(|sample| sample.disk).collect::<Vec<_>>());
    judge("memory", &samples.iter().map(|sample| sample.memory).collect::<Vec<_>>());
    Ok(())
}

/// Compares the last third with the third before it: what levels off does not grow any more.
fn judge(what: &str, samples: &[f64]) {
    let third = samples.len() / 3;
    let part = |from: usize| median(samples.iter().skip(from).take(third).copied().collect());
    let (middle, last) = (part(third), part(2 * third));
    let ratio = last / middle;
    let what = format!("{what}: last third / the one before ({middle:.1} to {last:.1} MiB)");
    let is_level = ratio <= TOLERANCE || last <= FLOOR;
    goal(&what, &format!("{ratio:.2}"), &format!("<= {TOLERANCE}"), is_level);
}

fn mebi(bytes: u64) -> f64 {
    count(usize::try_from(bytes).unwrap_or(usize::MAX)) / 1_048_576.0
}
