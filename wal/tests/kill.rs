//! SIGKILL at random instants: whatever was acknowledged is there after the next start.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{lsn, payload, start, try_read};
use tokio::time::Instant;
use unanimous_wal::{Lsn, Options};

const KILLS: u64 = 30;

/// Tells the child which directory is meant; without it the test that is the child does nothing.
const DIRECTORY: &str = "UNANIMOUS_WAL_KILL_TEST_DIRECTORY";

#[test]
fn thirty_kills_at_random_instants_lose_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = u64::from(std::process::id()) | 1;
    let seed = random;
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(kill | 1);
        // A quarter of them hit the opening; the others count from the first record on, however slow the machine is.
        let is_early = kill % 4 == 0;
        let life = Duration::from_micros((random >> 33) % if is_early { 30_000 } else { 200_000 });
        let acked = run_and_kill(directory.path(), life, is_early);
        acknowledged = acknowledged.max(acked.unwrap_or(0));
        let (log, records) = try_read(directory.path(), Options::default()).unwrap();
        let context = format!("kill {kill} of the run with seed {seed}");
        assert!(log.high().map_or(0, Lsn::get) >= acknowledged, "{context}: acknowledged ones are lost");
        for (expected, (number, bytes)) in (log.low().get()..).zip(&records) {
            assert_eq!((*number, bytes), (lsn(expected), &payload(expected, length(expected))), "{context}");
        }
    }
    assert!(acknowledged > 100, "only {acknowledged} were acknowledged, so this test shows nothing");
}

/// The child, which is killed: appends, retires, and says what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (wal, _) = start(directory.as_ref());
    let mut out = std::io::stdout().lock();
    for n in wal.high().map_or(1, |high| high.get() + 1).. {
        let durable = wal.append(payload(n, length(n)), ()).await.unwrap();
        assert_eq!(durable.lsn(), Some(lsn(n)));
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
        if n % 40 == 0 && n > 100 {
            wal.retire(lsn(n - 100)).await.unwrap();
        }
    }
}

/// Mostly short records, now and then one that needs several blocks.
fn length(n: u64) -> usize {
    if n.is_multiple_of(17) { 200_000 } else { 120 }
}

fn run_and_kill(directory: &std::path::Path, life: Duration, is_early: bool) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (says_first, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let numbers = lines.map_while(Result::ok);
        let numbers = numbers.filter_map(|line| line.rsplit_once("acknowledged ")?.1.parse().ok());
        let numbers = numbers.inspect(|_: &u64| {
            let _ = says_first.send(());
        });
        numbers.max()
    });
    if !is_early {
        let _ = first.recv_timeout(Duration::from_secs(30));
    }
    let began = Instant::now();
    while began.elapsed() < life && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}
