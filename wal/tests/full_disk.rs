//! A full disk, a real one: nothing is lost, nothing is left behind, and the reserve is there to be used.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]

mod common;
#[path = "../../tests/kit/disk.rs"]
#[allow(dead_code, clippy::unwrap_used, unreachable_pub, reason = "a file of the kit of other tests")]
mod disk;
#[path = "../../tests/kit/skipped.rs"]
#[allow(unreachable_pub, reason = "a file of the kit of other tests")]
mod skipped;

use std::fs;
use std::path::Path;

use common::{payload, start, try_read};
use disk::{Kind, SmallDisk};
use unanimous_wal::Options;

const MIB: u64 = 1024 * 1024;

/// A log of one record, closed again.
async fn log_of_one(log: &Path) {
    let (wal, _) = start(log);
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_refused_for_want_of_room_takes_none() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let Some(disk) = SmallDisk::mount(&log, Kind::Tmpfs, 128 * MIB) else { return };
    log_of_one(&log).await;
    // At its second opening sled fills the segment that it writes to, and from then on needs room for a snapshot alone.
    start(&log).0.close().await.unwrap();
    fs::remove_file(log.join("ballast")).unwrap();
    disk.fill(0);
    for _ in 0..3 {
        let refused = try_read(&log, Options::default()).unwrap_err();
        assert!(refused.contains("make room on the disk"), "{refused}");
        let unfinished = fs::read_dir(log.join("store")).unwrap().filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "generating")
        });
        assert_eq!(unfinished.count(), 0, "sled leaves a snapshot that is half written");
    }
    disk.clear();
    assert_eq!(start(&log).1.len(), 1);
}

#[tokio::test]
async fn the_reserve_goes_on_a_full_disk_and_what_it_leaves_is_not_free_for_everybody() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let Some(disk) = SmallDisk::mount(&log, Kind::Tmpfs, 128 * MIB) else { return };
    log_of_one(&log).await;
    disk.fill(0);
    assert!(log.join("ballast").exists() && disk.free() == 0);
    let (wal, records) = start(&log);
    assert_eq!(records.len(), 1);
    wal.append(payload(2, 10), ()).await.unwrap();
    let room = wal.room().unwrap();
    assert!(!log.join("ballast").exists() && !room.is_kept, "{room:?}");
    assert_eq!((room.reserve, room.free), (16 * MIB, 0), "an eighth of the disk");
    disk.clear();
    let room = wal.room().unwrap();
    assert!(room.is_kept && room.free > 64 * MIB && log.join("ballast").exists(), "{room:?}");
    wal.close().await.unwrap();
    assert_eq!(start(&log).1.len(), 2);
}
