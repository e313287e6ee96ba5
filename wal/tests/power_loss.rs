//! Power cuts on a simulated disk, under a paused clock: what was acknowledged is there, in order, as it was.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]
#![allow(clippy::disallowed_methods, reason = "the end of the test is the end of its tasks")]

mod common;

use std::sync::{Arc, Mutex};

use common::{payload, read};
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::{self, SimDisk};
use unanimous_wal::{Lsn, Options, Wal};

/// Starts the log of a disk as a task of this runtime, and gives what it held.
fn start_in_task(disk: &SimDisk) -> (Wal, common::Records) {
    let (readable, records) = read(sim::open(disk, Options::default()).unwrap()).unwrap();
    let (wal, committer) = readable.start_in_task().unwrap();
    drop(tokio::spawn(committer));
    (wal, records)
}

#[tokio::test(start_paused = true)]
async fn the_committer_runs_as_a_task_under_a_paused_clock() {
    let disk = SimDisk::new(1);
    let (wal, _) = start_in_task(&disk);
    let began = tokio::time::Instant::now();
    wal.append(payload(1, 10), ()).await.unwrap();
    assert!(began.elapsed().is_zero(), "whoever is alone does not wait");
    let (_, synced) = wal.append_lazily(payload(2, 10), ()).await.unwrap();
    synced.await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 10, "a lazy record waits for company that does not come");
    let others: Vec<_> = (3..20).map(|n| wal.append(payload(n, 10), ())).collect();
    for other in others {
        other.await.unwrap();
    }
    wal.close().await.unwrap();
    assert_eq!(start_in_task(&disk).1.len(), 19);
}

/// A sync of the witness a commit would be a third one, for nothing.
#[tokio::test(start_paused = true)]
async fn the_witness_is_synced_every_100_ms_while_commits_go_on() {
    let disk = SimDisk::new(3);
    let (wal, _) = start_in_task(&disk);
    let before = disk.witness_syncs();
    for n in 1..=100 {
        wal.append(payload(n, 10), ()).await.unwrap();
        tokio::time::advance(std::time::Duration::from_millis(10)).await;
    }
    assert!((9..=11).contains(&(disk.witness_syncs() - before)), "{}", disk.witness_syncs() - before);
}

/// What the witness says of the last commit is synced also where none follows, so that it convicts a disk that lost it.
#[tokio::test(start_paused = true)]
async fn a_tenth_of_a_second_after_a_commit_the_witness_knows_of_it_for_good() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let (wal, _) = start_in_task(&disk);
        wal.append(payload(1, 10), ()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(101)).await;
        disk.crash();
        disk.damage(BlockKey::of(Lsn::FIRST), Vec::clear);
        common::lose_ring(&disk);
        let lost = read(sim::open(&disk, Options::default()).unwrap()).unwrap_err();
        assert!(lost.to_string().contains("acknowledged"), "seed {seed}: {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_acknowledged_record_is_lost_by_any_of_200_power_cuts() {
    for seed in 0..200_u64 {
        let disk = SimDisk::new(seed);
        let mut before: common::Records = Vec::new();
        let mut epoch = 0;
        for life in 0..4 {
            let (wal, records) = start_in_task(&disk);
            assert!(records.starts_with(&before), "seed {seed}: life {life} lost something");
            assert!(
                records.iter().map(|(lsn, _)| lsn.get()).eq(1..=records.len() as u64),
                "seed {seed}: a gap"
            );
            assert!(wal.epoch() > epoch, "seed {seed}: the epoch was not raised");
            epoch = wal.epoch();
            before = append_until_the_cut(&disk, &wal, seed * 10 + life).await;
        }
    }
}

/// Clients append while the power goes at some moment; gives what must be there afterwards.
async fn append_until_the_cut(disk: &SimDisk, wal: &Wal, seed: u64) -> common::Records {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let clients = (0..5).map(|client| {
        let (wal, acknowledged) = (wal.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for n in 0..6 {
                let bytes = payload(client * 100 + n, if n == 3 { 150_000 } else { 40 });
                if n % 3 == 1 {
                    drop(wal.append_lazily(bytes, ()).await);
                } else if let Ok(durable) = wal.append(bytes.clone(), ()).await {
                    let lsn = durable.lsn().unwrap();
                    acknowledged.lock().unwrap().push((lsn, bytes));
                }
                tokio::time::sleep(std::time::Duration::from_micros(300 * (client + 1))).await;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // From before the first append to after the last one.
    tokio::time::sleep(std::time::Duration::from_micros(seed * 7919 % 12_000)).await;
    let high = wal.high().map_or(0, Lsn::get);
    let running: Vec<_> = wal.read(Lsn::FIRST).map(Result::unwrap).collect();
    assert_eq!(running.len() as u64, high);
    disk.crash();
    for client in clients {
        client.abort();
    }
    for (lsn, bytes) in acknowledged.lock().unwrap().iter() {
        assert!(
            running.contains(&(*lsn, bytes.clone())),
            "record {lsn} was acknowledged before it was durable"
        );
    }
    running
}

#[tokio::test(start_paused = true)]
async fn the_power_may_go_right_after_any_change_also_while_the_log_is_made() {
    for nth in 1..30 {
        let disk = SimDisk::new(nth);
        disk.darken(nth);
        let acknowledged = write_into_the_dark(&disk).await;
        assert!(disk.is_dark(), "after change {nth} the power is gone");
        disk.crash();
        let (_, records) = start_in_task(&disk);
        assert!(records.starts_with(&acknowledged), "cut after change {nth}");
        let durable = disk.durable(BlockKey::of(Lsn::FIRST)).len();
        assert!(durable >= acknowledged.len(), "each of these was a block of its own");
    }
}

/// Makes a log and appends to it until that fails; gives what was acknowledged.
async fn write_into_the_dark(disk: &SimDisk) -> common::Records {
    let mut acknowledged = Vec::new();
    let Ok((readable, _)) =
        sim::open(disk, Options::default()).map_err(drop).and_then(|log| read(log).map_err(drop))
    else {
        return acknowledged;
    };
    let Ok((wal, committer)) = readable.start_in_task() else { return acknowledged };
    drop(tokio::spawn(committer));
    for n in 0..20 {
        let bytes = payload(n, 40);
        match wal.append(bytes.clone(), ()).await {
            Ok(durable) => acknowledged.push((durable.lsn().unwrap(), bytes)),
            Err(_) => break,
        }
    }
    acknowledged
}

#[tokio::test(start_paused = true)]
async fn the_power_may_go_again_while_a_record_that_was_never_whole_is_cut_off() {
    let mut torn = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (wal, _) = start_in_task(&disk);
        wal.append(payload(1, 40), ()).await.unwrap();
        // Four blocks, each of which is written and synced in both copies; the power goes when the third is written.
        disk.darken(10);
        assert!(wal.append(payload(2, 250_000), ()).await.is_err());
        disk.crash();
        torn += usize::from(disk.keys().len() > 2);
        // The first change of the next start is the cut.
        disk.darken(1);
        let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
        drop(readable.start_in_task());
        disk.crash();
        let (_, records) = start_in_task(&disk);
        assert_eq!(records.len(), 1, "seed {seed}");
    }
    assert!(torn > 20, "the cut takes several blocks only where some were left: {torn}");
}
