//! The first error is the last: nobody is told yes after it, and nobody waits for ever.

#![allow(clippy::disallowed_methods, reason = "the end of the test is the end of its tasks")]
#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]

mod common;

use std::time::Duration;

use common::{lsn, payload, read, start_sim};
use tokio::time::timeout;
use unanimous_wal::sim::{self, Operation, SimDisk};
use unanimous_wal::{Lsn, Options, Wal};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_failed_sync_answers_every_waiter_and_every_later_one() {
    for operation in Operation::OF_A_COMMIT {
        let disk = SimDisk::new(3);
        let (wal, _) = start_sim(&disk);
        wal.append(payload(1, 10), ()).await.unwrap();
        // So long that the next commit syncs the witness too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (_, synced) = {
            disk.fail(operation, 1);
            wal.append_lazily(payload(2, 10), ()).await.unwrap()
        };
        let waiters: Vec<_> = (3..10).map(|n| wal.append(payload(n, 10), ())).collect();
        for waiter in waiters {
            let refused = timeout(SOON, waiter).await.unwrap().unwrap_err().to_string();
            assert!(
                refused.contains("the simulated disk") && refused.contains("the node must stop"),
                "{refused}"
            );
        }
        timeout(SOON, synced).await.unwrap().unwrap_err();
        timeout(SOON, wal.poisoned()).await.unwrap();
        wal.append(payload(11, 10), ()).await.unwrap_err();
        wal.append_lazily(payload(12, 10), ()).await.unwrap_err();
        wal.retire(Lsn::FIRST).await.unwrap_err();
        assert_eq!(wal.high(), Some(Lsn::FIRST), "nothing counts as durable that was not synced");
        wal.close().await.unwrap_err();
        disk.crash();
        let (_, records) = start_sim(&disk);
        assert_eq!(records[0].1, payload(1, 10));
    }
}

#[tokio::test]
async fn whoever_waits_for_a_retirement_hears_what_failed() {
    for operation in [Operation::Read, Operation::Remove] {
        let disk = SimDisk::new(3);
        let (wal, _) = start_sim(&disk);
        for n in 1..=3 {
            wal.append(payload(n, 10), ()).await.unwrap();
        }
        disk.fail(operation, 1);
        let words = timeout(SOON, wal.retire(lsn(3))).await.unwrap().unwrap_err().to_string();
        assert!(words.contains("the simulated disk"), "{operation:?}: {words}");
    }
    // It stands behind a commit that failed. On threads it depends on the moment what whoever waits sees first.
    for _ in 0..40 {
        let disk = SimDisk::new(3);
        let (wal, _) = start_sim(&disk);
        wal.append(payload(1, 10), ()).await.unwrap();
        disk.fail(Operation::Put, 1);
        let (_, retired) = tokio::join!(wal.append(payload(2, 10), ()), wal.retire(lsn(1)));
        let words = retired.unwrap_err().to_string();
        assert!(words.contains("the simulated disk"), "{words}");
    }
    // It had given way to one. In a task each is told before the failure is told to all.
    let disk = SimDisk::new(3);
    let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
    let (wal, commits) = readable.start_in_task().unwrap();
    tokio::spawn(commits);
    for n in 1..=200 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    disk.fail(Operation::Put, 1);
    let (retired, _) = tokio::join!(wal.retire(lsn(200)), wal.append(payload(1000, 10), ()));
    let words = retired.unwrap_err().to_string();
    assert!(words.contains("the simulated disk"), "{words}");
}

#[tokio::test]
async fn a_commit_that_hangs_is_a_commit_that_failed() {
    for operation in [Operation::Sync, Operation::SyncRing] {
        hang_in(operation).await;
    }
}

async fn hang_in(operation: Operation) {
    let disk = SimDisk::new(4);
    let options = Options { commit_limit: Duration::from_millis(200), ..Options::default() };
    let (readable, _) = read(sim::open(&disk, options).unwrap()).unwrap();
    let wal = readable.start().unwrap();
    wal.append(payload(1, 10), ()).await.unwrap();
    disk.hang(operation);
    let in_flight = wal.append(payload(2, 10), ());
    let behind = async {
        while !disk.is_hanging() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        wal.append(payload(3, 10), ()).await
    };
    let (in_flight, behind) = timeout(SOON, async { tokio::join!(in_flight, behind) }).await.unwrap();
    assert!(in_flight.unwrap_err().to_string().contains("not come back from the disk within 0.2 s"));
    behind.unwrap_err();
    timeout(SOON, wal.poisoned()).await.unwrap();
    assert!(disk.is_hanging(), "the answers came although the sync still hangs");
    disk.release();
    wal.append(payload(4, 10), ()).await.unwrap_err();
    assert_eq!(wal.high(), Some(Lsn::FIRST), "a late success is no success");
}

/// A log of ten records whose disk may take 200 ms for a call.
async fn ten(disk: &SimDisk) -> Wal {
    ten_within(disk, Duration::from_millis(200)).await
}

async fn ten_within(disk: &SimDisk, commit_limit: Duration) -> Wal {
    let options = Options { commit_limit, ..Options::default() };
    let (readable, _) = read(sim::open(disk, options).unwrap()).unwrap();
    let wal = readable.start().unwrap();
    for n in 1..=10 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    wal
}

#[tokio::test]
async fn a_removal_or_a_read_that_hangs_is_noticed_as_well() {
    let disk = SimDisk::new(6);
    let wal = ten(&disk).await;
    disk.hang(Operation::Remove);
    let refused = timeout(SOON, wal.retire(lsn(8))).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("not come back from the disk within 0.2 s"), "{refused}");
    assert!(disk.is_hanging());
    timeout(SOON, wal.poisoned()).await.unwrap();
    disk.release();

    let disk = SimDisk::new(7);
    let wal = ten(&disk).await;
    disk.hang(Operation::Read);
    let mut reader = wal.read(Lsn::FIRST);
    let reading = std::thread::spawn(move || reader.next());
    timeout(SOON, wal.poisoned()).await.unwrap();
    assert!(disk.is_hanging() && !reading.is_finished());
    wal.append(payload(11, 10), ()).await.unwrap_err();
    disk.release();
    reading.join().unwrap();
}

#[tokio::test]
async fn calls_that_come_back_in_time_are_not_too_late_together() {
    let disk = SimDisk::new(9);
    let wal = ten_within(&disk, Duration::from_secs(2)).await;
    disk.hang(Operation::Read);
    let retiring = tokio::spawn(async move { wal.retire(lsn(8)).await });
    for next in [Some(Operation::Remove), None] {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert!(disk.is_hanging());
        match next {
            Some(operation) => disk.hang(operation),
            None => disk.release(),
        }
    }
    timeout(SOON, retiring).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_log_that_hangs_while_it_is_closed_says_so() {
    for operation in [Operation::Sync, Operation::Close] {
        let disk = SimDisk::new(8);
        let wal = ten(&disk).await;
        drop(wal.append_lazily(payload(11, 10), ()).await.unwrap());
        disk.hang(operation);
        let refused = timeout(SOON, wal.close()).await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("not come back from the disk within 0.2 s"), "{refused}");
        assert!(disk.is_hanging(), "{operation:?}");
        disk.release();
    }
}

#[tokio::test]
async fn a_commit_that_hangs_after_a_pause_is_noticed_as_soon() {
    let disk = SimDisk::new(9);
    let wal = ten(&disk).await;
    // Longer than a call may take, so that the last look was at an idle log.
    tokio::time::sleep(Duration::from_millis(300)).await;
    disk.hang(Operation::Sync);
    timeout(Duration::from_secs(1), wal.append(payload(11, 10), ())).await.unwrap().unwrap_err();
    disk.release();
}

#[tokio::test]
async fn an_idle_log_is_not_taken_for_a_hanging_one() {
    let disk = SimDisk::new(4);
    // On a busy machine a call that does not hang takes its time too.
    let options = Options { commit_limit: Duration::from_millis(500), ..Options::default() };
    let (readable, _) = read(sim::open(&disk, options).unwrap()).unwrap();
    let wal = readable.start().unwrap();
    wal.append(payload(1, 10), ()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    wal.append(payload(2, 10), ()).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_holds_back_whoever_appends() {
    let disk = SimDisk::new(5);
    let options = Options { queue_max: 2, ..Options::default() };
    let (readable, _) = read(sim::open(&disk, options).unwrap()).unwrap();
    let wal = readable.start().unwrap();
    disk.hang(Operation::Sync);
    let first = tokio::spawn({
        let wal = wal.clone();
        async move { wal.append(payload(1, 10), ()).await.map(drop) }
    });
    while !disk.is_hanging() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for n in 2..=3 {
        drop(wal.append_lazily(payload(n, 10), ()).await.unwrap());
    }
    let held = wal.append_lazily(payload(4, 10), ());
    timeout(Duration::from_millis(50), held).await.unwrap_err();
    disk.release();
    first.await.unwrap().unwrap();
    wal.append(payload(5, 10), ()).await.unwrap();
    assert_eq!(wal.stats().queued, 0);
}
