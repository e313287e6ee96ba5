//! Transactions a second with the log on sled and with a store that keeps nothing, both in one run.
//!
//! `cargo bench --bench transactions [-- --quick]`
//!
//! Both gateways run from the beginning to the end of a voting style and get the load in turn, so that a
//! machine that slows down slows both; the ratios are medians over these pairs.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod kit;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kit::load::{self, count};
use kit::node::{Choice, Node, Plan};
use kit::roles::{self, LogKind, Participant};
use kit::{Failure, goal, median};
use tokio::time::Instant;

/// Clients at once.
const CLIENTS: [usize; 4] = [1, 8, 64, 256];

/// Before the first measurement of a gateway: connections, caches, allocator.
const WARM_UP: Duration = Duration::from_millis(500);

/// The log's own count of its syncs, and the time they took together.
const SYNCS: &str = "unanimous_log_syncs_total";
const SECONDS: &str = "unanimous_log_sync_duration_seconds_sum";

/// One turn of load on one gateway.
struct Turn {
    per_second: f64,
    p50: f64,
    p99: f64,
    syncs: f64,
    /// What one commit of the log took, sync included.
    commit: f64,
    cpu: f64,
}

/// All turns with so many clients.
#[derive(Default)]
struct Cell {
    sled: Vec<Turn>,
    nothing: Vec<Turn>,
    /// Two appends with a sync each, in microseconds.
    raw: Vec<f64>,
}

fn main() -> Result<(), Failure> {
    if roles::play()? { Ok(()) } else { kit::run(bench()) }
}

async fn bench() -> Result<(), Failure> {
    let participant = Participant::start()?;
    for asks in [true, false] {
        println!(
            "\n{}",
            if asks {
                "participants are asked to prepare"
            } else {
                "the answer to the work call is the vote"
            }
        );
        println!(
            "{:>7} {:>9} {:>10} {:>9} {:>9} {:>10} {:>10} {:>12}",
            "clients", "log", "txn/s", "p50 ms", "p99 ms", "syncs/txn", "sync us", "CPU us/txn"
        );
        style(&participant, asks).await?;
    }
    Ok(())
}

async fn style(participant: &Participant, asks: bool) -> Result<(), Failure> {
    let (one, two) = (kit::directory()?, kit::directory()?);
    let choice = Choice { participant: participant.address, asks, reply_within: "5s", retention: "24h" };
    let sled = roles::start(&Plan::new(one.path(), &choice)?, LogKind::Sled).await?;
    let nothing = roles::start(&Plan::new(two.path(), &choice)?, LogKind::Nothing).await?;
    for node in [&sled, &nothing] {
        load::run(node.plan.listen, "/transfers", 200, 8, WARM_UP).await?;
    }
    let (rounds, span) =
        if kit::is_quick() { (3, Duration::from_millis(700)) } else { (7, Duration::from_secs(2)) };
    let mut cells = Vec::new();
    for clients in CLIENTS {
        let mut cell = Cell::default();
        for round in 0..rounds {
            let is_even = round % 2 == 0;
            if is_even {
                cell.sled.push(turn(&sled, clients, span).await?);
            }
            cell.nothing.push(turn(&nothing, clients, span).await?);
            if !is_even {
                cell.sled.push(turn(&sled, clients, span).await?);
            }
            if clients == 1 {
                cell.raw.push(two_raw_syncs(one.path())?);
            }
        }
        cell.print(clients);
        cells.push((clients, cell));
    }
    for (clients, cell) in &cells {
        cell.judge(*clients);
    }
    Ok(())
}

async fn turn(node: &Node, clients: usize, span: Duration) -> Result<Turn, Failure> {
    let (cpu, before, began) = (node.cpu()?, node.metric(SYNCS).await?, node.metric(SECONDS).await?);
    let seen = load::run(node.plan.listen, "/transfers", 200, clients, span).await?;
    let (cpu, synced) = (node.cpu()? - cpu, node.metric(SYNCS).await? - before);
    let commit = (node.metric(SECONDS).await? - began) * 1e6 / synced.max(1.0);
    if seen.strange > 0 {
        return Err(format!("{} answers were not 200: {}", seen.strange, node.plan.said()).into());
    }
    let total = count(seen.waits.len());
    let millis = |part| seen.quantile(part).as_secs_f64() * 1e3;
    let (p50, p99) = (millis(0.5), millis(0.99));
    Ok(Turn {
        per_second: seen.per_second(),
        p50,
        p99,
        syncs: synced / total,
        commit,
        cpu: cpu * 1e6 / total,
    })
}

impl Cell {
    fn print(&self, clients: usize) {
        for (name, turns) in [("sled", &self.sled), ("nothing", &self.nothing)] {
            let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
            println!(
                "{clients:>7} {name:>9} {:>10.0} {:>9.2} {:>9.2} {:>10.3} {:>10.0} {:>12.0}",
                of(|turn| turn.per_second),
                of(|turn| turn.p50),
                of(|turn| turn.p99),
                of(|turn| turn.syncs),
                of(|turn| turn.commit),
                of(|turn| turn.cpu)
            );
        }
    }

    /// The figures that have a goal, each a median over pairs of neighbours in time.
    fn judge(&self, clients: usize) {
        let pairs = || self.sled.iter().zip(&self.nothing);
        if clients == 1 {
            let added =
                pairs().zip(&self.raw).map(|((sled, nothing), raw)| (sled.p50 - nothing.p50) * 1e3 / raw);
            let (times, raw) = (median(added.collect()), median(self.raw.clone()));
            println!("two raw append+fdatasync, one after the other: {raw:.0} us");
            let what = "1 client: added p50 of the log / two raw fdatasyncs";
            goal(what, &format!("{times:.2}"), "<= 2.5", times <= 2.5);
            let each = pairs()
                .zip(&self.raw)
                .map(|((sled, nothing), raw)| (sled.p50 - nothing.p50) * 1e3 / sled.syncs / (raw / 2.0));
            let what = "1 client: the same for each sync / one raw fdatasync";
            println!("{what:<70} {:>14.2}", median(each.collect()));
        }
        let ratio = median(pairs().map(|(sled, nothing)| sled.per_second / nothing.per_second).collect());
        let what = format!("{clients} clients: transactions/s, sled / nothing");
        if clients == 64 {
            goal(&what, &format!("{ratio:.2}"), ">= 0.80", ratio >= 0.80);
            let syncs = median(self.sled.iter().map(|turn| turn.syncs).collect());
            let what = "64 clients: syncs per committed transaction";
            goal(what, &format!("{syncs:.3}"), "<= 0.25", syncs <= 0.25);
        } else {
            println!("{what:<70} {ratio:>14.2}");
        }
    }
}

/// What the disk itself takes for two records, in microseconds: the median of many.
fn two_raw_syncs(directory: &Path) -> Result<f64, Failure> {
    let mut file = File::options().create(true).append(true).open(directory.join("raw"))?;
    let record = [7; 512];
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        for _ in 0..2 {
            file.write_all(&record)?;
            file.sync_data()?;
        }
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(took))
}
