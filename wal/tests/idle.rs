//! A log of which nobody wants anything takes no processor. In a process of its own, because its threads are counted.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]
mod common;

use std::fs;
use std::time::Duration;

use common::{payload, start};

/// The ticks, of 10 ms each, that the threads of the log have run.
fn ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let stats = tasks.filter_map(|task| fs::read_to_string(task.join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(wal-"))
        .map(|stat| {
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let times = fields.split_whitespace().skip(11).take(2);
            times.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
        })
        .sum()
}

#[tokio::test]
async fn an_idle_log_takes_no_processor() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    for n in 1..=20 {
        wal.append(payload(n, 100), ()).await.unwrap();
    }
    wal.retire(common::lsn(10)).await.unwrap();
    // Until the witness is settled.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ran = ticks() - before;
    assert!(ran < 20, "the threads of the log ran for {ran} ticks of a second");
    wal.close().await.unwrap();
}
