//! A log of a million finished transactions: how fast a node opens it, in how much memory, and how fast
//! it says what became of one of them.
//!
//! `cargo bench --bench history [-- --quick]` (100,000 transactions)
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod kit;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kit::load::count;
use kit::node::{Choice, Node, Plan, disk, get};
use kit::{Failure, goal};
use tokio::time::Instant;
use unanimous::clock::{Clock, SystemClock, Timestamp};
use unanimous::journal::codec::encode;
use unanimous::journal::record::{Entry, Record, Remark};
use unanimous::plan::{Issuer, Plan as Asked, PlannedBranch, Trace, TransactionId};
use unanimous::txn::{Event, Step, Txn, Vote};
use unanimous_wal::Wal;

/// Transactions that ran at once, their records mixed.
const TOGETHER: usize = 64;

/// How fast the log was written, as far as its times say: the more there are in a second, the more a search
/// by time has to tell apart.
const PER_SECOND: u64 = 5_000;

/// How many old transactions are asked for, and as many that never were.
const ASKED: usize = 300;

fn main() -> Result<(), Failure> {
    kit::run(bench())
}

async fn bench() -> Result<(), Failure> {
    let total = if kit::is_quick() { 100_000 } else { 1_000_000 };
    let directory = kit::directory()?;
    let participant = kit::node::free_address()?;
    let choice = Choice { participant, asks: true, reply_within: "5s", retention: "24h" };
    let plan = Plan::new(directory.path(), &choice)?;
    let began = Instant::now();
    let (known, unknown) = write(&plan.data(), total).await?;
    let bytes = count(usize::try_from(disk(&plan.data())?)?) / 1_048_576.0;
    println!("{total} finished transactions written in {:.1?}: {bytes:.0} MiB on disk", began.elapsed());

    for (cache, is_cold) in [("in the file cache", false), ("not in the file cache", true)] {
        if is_cold {
            forget(&plan.data())?;
        }
        let started = Instant::now();
        let mut node = Node::spawn(&plan)?;
        node.ready().await?;
        let seconds = started.elapsed().as_secs_f64();
        let memory = node.memory("VmHWM")?;
        let what = format!("open, the log {cache} ({:.2} s of CPU)", node.cpu()?);
        goal(&what, &format!("{seconds:.2} s"), "< 3 s", seconds < 3.0);
        goal("most memory while it was opened", &format!("{memory:.0} MiB"), "< 500 MiB", memory < 500.0);
        ask(&node, &plan, "an old transaction, cold", &known, "committed", true).await?;
        ask(&node, &plan, "the same ones again", &known, "committed", false).await?;
        ask(&node, &plan, "an id never seen, cold", &unknown, "never_seen", true).await?;
        let memory = node.memory("VmHWM")?;
        goal("most memory in the end", &format!("{memory:.0} MiB"), "< 500 MiB", memory < 500.0);
        node.kill()?;
    }
    Ok(())
}

/// Asks for each of them and says how long 99 of 100 answers took at most.
async fn ask(
    node: &Node,
    plan: &Plan,
    what: &str,
    ids: &[TransactionId],
    expected: &str,
    is_cold: bool,
) -> Result<(), Failure> {
    if is_cold {
        forget(&plan.data())?;
    }
    let mut waits = Vec::new();
    for id in ids {
        let began = Instant::now();
        let (status, body) = get(node.plan.listen, &format!("/v1/transactions/{id}")).await?;
        waits.push(began.elapsed());
        if !body.contains(expected) {
            return Err(format!("{id}: {status} {body}, expected {expected}").into());
        }
    }
    waits.sort();
    let part = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let slowest = waits.last().copied().unwrap_or_default();
    let what = format!("{what}, 99 of 100 (median {:.1?}, slowest {slowest:.1?})", part(50));
    let figure = format!("{:.1} ms", part(99).as_secs_f64() * 1e3);
    goal(&what, &figure, "< 20 ms", part(99) < Duration::from_millis(20));
    Ok(())
}

/// Writes the log of a node that finished so many; gives some of their ids, and some that it never gave.
async fn write(data: &Path, total: usize) -> Result<(Vec<TransactionId>, Vec<TransactionId>), Failure> {
    std::fs::create_dir_all(data)?;
    let log = unanimous_wal::open(data, unanimous_wal::Options::default())?;
    let wal = log.read_all(|_, _| Ok::<_, std::convert::Infallible>(()))?.start()?;
    let issuer = Issuer::new(wal.node());
    let span = u64::try_from(total)? * 1000 / PER_SECOND;
    let began = Timestamp(SystemClock.now().0 - span - 60_000);
    let opened = Record::Opened { epoch: wal.epoch(), version: "bench".to_owned() };
    append(&wal, began, TransactionId::NONE, opened.clone()).await?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for group in 0..total / TOGETHER {
        let number = u64::try_from(group * TOGETHER)?;
        let time = Timestamp(began.0 + number * 1000 / PER_SECOND);
        // One in so many is asked for; its neighbour is given to nobody.
        if group % (total / TOGETHER / ASKED).max(1) == 0 && known.len() < ASKED {
            unknown.push(issuer.issue(time, fastrand::u16(..)));
            known.push(issuer.issue(time, fastrand::u16(..)));
            finish(&wal, time, known.split_at(known.len() - 1).1).await?;
        }
        let ids: Vec<_> = (0..TOGETHER).map(|_| issuer.issue(time, fastrand::u16(..))).collect();
        finish(&wal, time, &ids).await?;
    }
    // The last record is waited for, and with it all of them are on the disk.
    let last = Entry {
        time: began.plus(Duration::from_millis(span)),
        transaction: TransactionId::NONE,
        record: opened,
    };
    wal.append(encode(&last)?, ()).await?;
    wal.close().await?;
    Ok((known, unknown))
}

/// Begins all of `ids`, then decides all of them, and so on, as a node under load does.
async fn finish(wal: &Wal, time: Timestamp, ids: &[TransactionId]) -> Result<(), Failure> {
    let asked = asked(time.plus(Duration::from_secs(10)));
    for id in ids {
        append(wal, time, *id, Record::Begun(asked.clone().into())).await?;
    }
    let mut txn = Txn::begin(asked.shape()?);
    for event in story(&asked)? {
        match txn.on(event) {
            Step::Advance { transition, next, .. } => {
                for id in ids {
                    append(wal, time, *id, Record::of(transition, &next, Remark::default())).await?;
                }
                txn = next;
            }
            Step::Remember(next) => txn = next,
            Step::Ignore | Step::Violation(_) => return Err("the story is not one of a run".into()),
        }
    }
    if txn.state().is_final() { Ok(()) } else { Err("the story does not end".into()) }
}

/// What happens to a transaction that commits.
fn story(asked: &Asked) -> Result<Vec<Event>, Failure> {
    let branches: Vec<_> = asked.shape()?.branches.iter().collect();
    let worked = branches.iter().map(|branch| Event::Worked(*branch, Vote::Yes));
    let voted = branches.iter().map(|branch| Event::Voted(*branch, Vote::Yes));
    let confirmed = branches.iter().map(|branch| Event::Confirmed(*branch));
    Ok(worked.chain(voted).chain(confirmed).collect())
}

fn asked(deadline: Timestamp) -> Asked {
    let branch = |service: &str, work: &str| PlannedBranch {
        service: service.to_owned(),
        method: "POST".to_owned(),
        work: work.to_owned(),
        prepare: Some("/prepare".to_owned()),
        commit: "/commit".to_owned(),
        abort: "/abort".to_owned(),
        body: None,
    };
    Asked {
        route: "transfers".to_owned(),
        deadline,
        branches: vec![branch("accounts", "/debit"), branch("ledger", "/credit")],
        bodies: Vec::new(),
        key: None,
        trace: Trace::begin(fastrand::u128(..)),
    }
}

async fn append(wal: &Wal, time: Timestamp, id: TransactionId, record: Record) -> Result<(), Failure> {
    let entry = Entry { time, transaction: id, record };
    wal.append_lazily(encode(&entry)?, ()).await?;
    Ok(())
}

/// Asks the kernel to drop what it keeps of the log in memory, as `dd` can: `nocache` on the whole file.
fn forget(data: &Path) -> Result<(), Failure> {
    for item in std::fs::read_dir(data)? {
        let path = item?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let input = format!("if={}", path.display());
            let dropped =
                Command::new("dd").args([&input, "iflag=nocache", "count=0", "status=none"]).status()?;
            if !dropped.success() {
                return Err("dd could not drop the file cache".into());
            }
        }
    }
    Ok(())
}
