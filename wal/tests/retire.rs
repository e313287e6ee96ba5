//! Old blocks go in order, whole, and stay gone.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{lsn, payload, start, start_sim};
use unanimous_wal::Lsn;
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::SimDisk;

#[tokio::test]
async fn whole_blocks_below_the_bound_go_and_the_newest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    for n in 1..=100 {
        wal.append(payload(n, 100), ()).await.unwrap();
    }
    let all = wal.stats();
    wal.retire(lsn(41)).await.unwrap();
    assert_eq!((wal.low(), wal.high()), (lsn(41), Some(lsn(100))));
    assert_eq!((wal.stats().blocks, wal.stats().bytes), (60, all.bytes * 60 / 100));
    let first = wal.read(Lsn::FIRST).next().unwrap().unwrap();
    assert_eq!(first, (lsn(41), payload(41, 100)));
    wal.retire(lsn(7)).await.unwrap();
    assert_eq!(wal.low(), lsn(41), "it never goes back");
    wal.retire(lsn(9999)).await.unwrap();
    assert_eq!((wal.low(), wal.stats().blocks), (lsn(100), 1));
    wal.append(payload(101, 100), ()).await.unwrap();
    wal.close().await.unwrap();
    let (wal, records) = start(directory.path());
    assert_eq!(records, [(lsn(100), payload(100, 100)), (lsn(101), payload(101, 100))]);
    assert_eq!((wal.low(), wal.stats().blocks), (lsn(100), 2));
}

#[tokio::test]
async fn a_block_that_holds_the_bound_stays_whole() {
    let disk = SimDisk::new(1);
    let (wal, _) = start_sim(&disk);
    for n in 1..=9 {
        drop(wal.append_lazily(payload(n, 10), ()).await.unwrap());
    }
    wal.append(payload(10, 10), ()).await.unwrap();
    wal.append(payload(11, 10), ()).await.unwrap();
    wal.retire(lsn(5)).await.unwrap();
    assert_eq!(wal.low(), Lsn::FIRST);
    wal.retire(lsn(11)).await.unwrap();
    assert_eq!(wal.low(), lsn(11));
}

#[tokio::test]
async fn retiring_an_empty_log_does_nothing() {
    let (wal, _) = start_sim(&SimDisk::new(1));
    wal.retire(lsn(5)).await.unwrap();
    assert_eq!((wal.low(), wal.high()), (Lsn::FIRST, None));
    assert_eq!(wal.append(vec![], ()).await.unwrap().lsn(), Some(Lsn::FIRST));
}

#[tokio::test]
async fn a_reader_passes_over_what_is_retired_under_it() {
    let disk = SimDisk::new(1);
    let (wal, _) = start_sim(&disk);
    for n in 1..=10 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    let mut reader = wal.read(Lsn::FIRST);
    assert_eq!(reader.next().unwrap().unwrap().0, lsn(1));
    wal.retire(lsn(8)).await.unwrap();
    assert_eq!(reader.map(|record| record.unwrap().0.get()).collect::<Vec<_>>(), [8, 9, 10]);
}

#[tokio::test]
async fn retired_blocks_that_come_back_after_power_loss_stay_invisible() {
    let mut came_back = 0;
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let (wal, _) = start_sim(&disk);
        for n in 1..=10 {
            wal.append(payload(n, 10), ()).await.unwrap();
        }
        wal.retire(lsn(6)).await.unwrap();
        disk.crash();
        came_back += usize::from(disk.keys().len() > 5);
        let (wal, records) = start_sim(&disk);
        assert_eq!(records.iter().map(|(lsn, _)| lsn.get()).collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
        assert_eq!((wal.low(), disk.keys().len()), (lsn(6), 5));
    }
    assert!(came_back > 5, "only {came_back} came back, so this test shows nothing");
}

/// Of a block that is gone since the reader looked it does not say that it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_overtaken_again_and_again_meets_no_gap() {
    let disk = SimDisk::new(1);
    let (wal, _) = start_sim(&disk);
    for n in 1..=2_000 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    let (reading, reads) = (wal.clone(), Arc::new(AtomicU64::new(0)));
    let counted = reads.clone();
    let reader = tokio::task::spawn_blocking(move || {
        while reading.low() < lsn(2_000) {
            let first = reading.read(Lsn::FIRST).next().expect("the newest stays").unwrap().0;
            assert!(first <= lsn(2_000));
            counted.fetch_add(1, Relaxed);
        }
    });
    for n in 2..=2_000 {
        // The one who reads has begun, and is never left far behind.
        while reads.load(Relaxed) <= n / 100 && !reader.is_finished() {
            tokio::task::yield_now().await;
        }
        wal.retire(lsn(n)).await.unwrap();
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn a_reader_says_what_is_missing_from_a_log_that_runs() {
    let disk = SimDisk::new(1);
    let (wal, _) = start_sim(&disk);
    for n in 1..=5 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    disk.damage(BlockKey::of(lsn(3)), Vec::clear);
    let mut reader = wal.read(lsn(2));
    assert_eq!(reader.next().unwrap().unwrap().0, lsn(2));
    let error = reader.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("record 3"), "{error}");
}
