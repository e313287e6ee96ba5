//! Measures the log on the disk at hand.
//!
//! ```console
//! cargo run --release -p unanimous-wal --example measure -- appenders <dir> <clients> <seconds> <think-us>
//! cargo run --release -p unanimous-wal --example measure -- fill <dir> <records> <records at a time>
//! cargo run --release -p unanimous-wal --example measure -- open <dir>
//! cargo run --release -p unanimous-wal --example measure -- ring <dir> <rounds>
//! ```
//!
//! `ring` compares a log with the mirror ring and one with the witness alone. They take turns, a hundred commits each.

#![allow(clippy::print_stdout, reason = "it is all that this program is for")]
#![allow(clippy::disallowed_methods, reason = "nothing else runs here that would have to wait for its tasks")]

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unanimous_wal::{Lsn, Options, Wal};

const USAGE: &str = "usage: measure appenders <dir> <clients> <seconds> <think-us>
       measure fill <dir> <records> <records at a time>
       measure open <dir>
       measure ring <dir> <rounds>";

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["appenders", directory, clients, seconds, think] => {
            let think = Duration::from_micros(think.parse()?);
            appenders(Path::new(directory), clients.parse()?, Duration::from_secs(seconds.parse()?), think)
                .await
        }
        ["fill", directory, records, at_a_time] => {
            fill(Path::new(directory), records.parse()?, at_a_time.parse()?).await
        }
        ["open", directory] => open(Path::new(directory)),
        ["ring", directory, rounds] => ring(Path::new(directory), rounds.parse()?).await,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// Closed-loop clients, each of which appends twice and thinks after each.
async fn appenders(directory: &Path, clients: u64, time: Duration, think: Duration) -> Outcome {
    let wal = start(directory)?;
    let end = Instant::now() + time;
    let tasks: Vec<_> =
        (0..clients).map(|client| tokio::spawn(pairs(wal.clone(), client, end, think))).collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await??);
    }
    waits.sort_unstable();
    let stats = wal.stats();
    let at = |per_cent: usize| waits.get(waits.len() * per_cent / 100).copied().unwrap_or_default();
    println!(
        "{clients} clients, think {think:?}: {} pairs/s, syncs per pair {:.3}, wait p50 {:?} p99 {:?}, commit mean {:.0} us",
        stats.appended / 2 / time.as_secs().max(1),
        2.0 * ratio(stats.commits, stats.appended),
        at(50),
        at(99),
        1e6 * stats.commit_seconds_sum / ratio(stats.commits, 1),
    );
    wal.close().await?;
    Ok(())
}

async fn pairs(
    wal: Wal,
    client: u64,
    end: Instant,
    think: Duration,
) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
    let mut waits = Vec::new();
    let mut chance = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while Instant::now() < end {
        for _ in 0..2 {
            let began = Instant::now();
            wal.append(vec![7; 110], ()).await?;
            waits.push(began.elapsed());
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            if !think.is_zero() {
                // From half to one and a half of it, so that clients do not march in step.
                sleep(think / 2 + think * u32::try_from(chance >> 54)? / 1024).await;
            }
        }
    }
    Ok(waits)
}

async fn fill(directory: &Path, records: u64, at_a_time: u64) -> Outcome {
    let wal = start(directory)?;
    let began = Instant::now();
    let mut left = records;
    while left > 0 {
        for _ in 1..at_a_time.min(left) {
            drop(wal.append_lazily(vec![7; 100], ()).await?);
        }
        wal.append(vec![7; 100], ()).await?;
        left -= at_a_time.min(left);
    }
    println!("{records} records in {:?}: {:?}", began.elapsed(), wal.stats());
    wal.close().await?;
    Ok(())
}

fn open(directory: &Path) -> Outcome {
    let began = Instant::now();
    let log = unanimous_wal::open(directory, Options::default())?;
    let opened = began.elapsed();
    let mut bytes = 0;
    let readable = log.read_all(|_, payload| {
        bytes += payload.len();
        Ok::<_, Infallible>(())
    })?;
    let read = began.elapsed().saturating_sub(opened);
    println!("open {opened:?}, read_all {read:?}: {:?}; {}", readable.counts(), memory());
    let high = readable.high().map_or(1, Lsn::get);
    let wal = readable.start()?;
    let mut slowest = Duration::ZERO;
    for n in (1..=high).step_by(usize::try_from(high / 200 + 1)?) {
        let began = Instant::now();
        wal.read(Lsn::new(n).ok_or("zero")?).next().ok_or("no such record")??;
        slowest = slowest.max(began.elapsed());
    }
    println!("slowest of 200 single reads {slowest:?}; {}", memory());
    Ok(())
}

async fn ring(directory: &Path, rounds: u32) -> Outcome {
    let logs = [
        start_with(&directory.join("alone"), Options { mirror: false, ..Options::default() })?,
        start_with(&directory.join("mirrored"), Options::default())?,
    ];
    println!(
        "us a commit    p50 alone  p50 mirrored   p99 alone  p99 mirrored   added p50   added p99   added p50 <= 100 us"
    );
    for records in [1, 16, 64, 256] {
        let mut waits = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (wal, waits) in logs.iter().zip(&mut waits) {
                commits(wal, records, waits).await?;
            }
        }
        let [alone, mirrored] = waits.map(|mut waits| {
            waits.sort_unstable();
            [50, 99].map(|per_cent| {
                waits
                    .get(waits.len() * per_cent / 100)
                    .map_or(0.0, |wait: &Duration| wait.as_secs_f64() * 1e6)
            })
        });
        let ([a50, a99], [m50, m99]) = (alone, mirrored);
        println!(
            "{records:>3} records  {a50:>11.0}  {m50:>12.0}  {a99:>10.0}  {m99:>12.0}  {:>10.0}  {:>10.0}   {}",
            m50 - a50,
            m99 - a99,
            if m50 - a50 <= 100.0 { "met" } else { "MISSED" }
        );
    }
    for wal in logs {
        wal.close().await?;
    }
    Ok(())
}

/// A hundred commits of so many records.
async fn commits(wal: &Wal, records: u32, waits: &mut Vec<Duration>) -> Outcome {
    for _ in 0..100 {
        for _ in 1..records {
            drop(wal.append_lazily(vec![7; 200], ()).await?);
        }
        let began = Instant::now();
        wal.append(vec![7; 200], ()).await?;
        waits.push(began.elapsed());
    }
    Ok(())
}

fn start(directory: &Path) -> Result<Wal, Box<dyn Error + Send + Sync>> {
    start_with(directory, Options::default())
}

fn start_with(directory: &Path, options: Options) -> Result<Wal, Box<dyn Error + Send + Sync>> {
    let log = unanimous_wal::open(directory, options)?;
    Ok(log.read_all(|_, _| Ok::<_, Infallible>(()))?.start()?)
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    lines.collect::<Vec<_>>().join(", ").replace('\t', " ")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
