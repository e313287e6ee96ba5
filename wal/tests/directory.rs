//! The directory of a log: what it may hold, what must never be forgotten, and damage to the files of sled.

mod common;

use std::os::unix::fs::FileExt;

use common::{a_copy, copy_tree, files_below, flip, lsn, payload, start, try_read};
use unanimous_wal::verify::verify;
use unanimous_wal::{DamageKind, Lsn, OpenError, Options};

#[tokio::test]
async fn a_marker_that_was_removed_is_no_reason_to_forget_acknowledged_records() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::remove_file(directory.path().join("INIT")).unwrap();
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.contains("`INIT`") && refused.contains("is missing"), "{refused}");
    let report = verify(directory.path()).unwrap();
    assert!(
        report.damage.unwrap().to_string().contains("is missing"),
        "no reason to say that there is no log"
    );
    let accepting = Options { accept_damage: true, ..Options::default() };
    assert_eq!(
        try_read(directory.path(), accepting).unwrap().1.len(),
        1,
        "the witness knows which log it is"
    );
    assert!(try_read(directory.path(), Options::default()).is_ok());
}

#[tokio::test]
async fn records_without_marker_and_witness_are_not_taken_for_a_creation_that_was_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    for file in ["INIT", "witness"] {
        std::fs::remove_file(directory.path().join(file)).unwrap();
    }
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.contains("`INIT`") && refused.contains("is missing"), "{refused}");
    // A copy that an earlier repair put aside does not make it somebody else's directory.
    std::fs::create_dir(directory.path().join("aside-1")).unwrap();
    let accepting = Options { accept_damage: true, ..Options::default() };
    assert_eq!(try_read(directory.path(), accepting).unwrap().1.len(), 1);
}

/// A log of an earlier program has no `start-N` either, which would say that there was one.
#[tokio::test]
async fn a_ring_with_records_in_it_is_no_creation_that_was_interrupted_and_an_empty_one_may_be() {
    for records in [0, 1] {
        let directory = tempfile::tempdir().unwrap();
        let (wal, _) = start(directory.path());
        for n in 1..=records {
            wal.append(payload(n, 10), ()).await.unwrap();
        }
        wal.close().await.unwrap();
        std::fs::remove_dir_all(directory.path().join("store")).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
            if entry.file_name() != "ring" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let opened = try_read(directory.path(), Options::default());
        assert_eq!(opened.is_ok(), records == 0, "{opened:?}");
        if let Err(refused) = opened {
            assert!(refused.contains("`INIT`"), "{refused}");
        }
    }
}

/// Not one that is missing: what it says may be true.
#[tokio::test]
async fn a_marker_or_a_witness_that_cannot_be_read_is_an_error_of_its_own() {
    for name in ["INIT", "witness"] {
        let directory = tempfile::tempdir().unwrap();
        let (wal, _) = start(directory.path());
        wal.close().await.unwrap();
        let path = directory.path().join(name);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let refused = try_read(directory.path(), Options::default()).unwrap_err();
        assert!(refused.contains("could not read") && refused.contains(name), "{refused}");
    }
}

#[tokio::test]
async fn a_log_that_was_started_is_never_wiped_whatever_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    for file in ["INIT", "witness", "ring"] {
        std::fs::remove_file(directory.path().join(file)).unwrap();
    }
    // The header of the first segment, without which none of its blocks is looked at.
    let data = directory.path().join("store/db");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&data, &bytes).unwrap();
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.contains("`INIT`") && refused.contains("is missing"), "{refused}");
    assert!(std::fs::read(&data).unwrap() == bytes, "and nothing was changed");
}

/// Participants take a smaller epoch for that of a node which has been replaced.
#[tokio::test]
async fn the_epoch_grows_also_where_the_witness_is_lost_and_nothing_was_written_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    for epoch in 2..=5 {
        let (wal, _) = start(directory.path());
        assert_eq!(wal.epoch(), epoch);
        wal.close().await.unwrap();
    }
    std::fs::remove_file(directory.path().join("witness")).unwrap();
    let accepting = Options { accept_damage: true, ..Options::default() };
    let wal = try_read(directory.path(), accepting).unwrap().0.start().unwrap();
    assert_eq!(wal.epoch(), 6);
    wal.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_end_that_was_given_up_is_known_until_another_record_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    for n in 1..=3 {
        wal.append(payload(n, 1000), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    std::fs::remove_file(directory.path().join("ring")).unwrap();
    assert!(flip(&directory.path().join("store/db"), b"payload-00000003") > 0);
    let accepting = Options { accept_damage: true, ..Options::default() };
    // It ends after the cut, before anything was appended.
    let (readable, records) = try_read(directory.path(), accepting).unwrap();
    assert_eq!((records.len(), readable.given_up().is_some()), (2, true));
    readable.start().unwrap().close().await.unwrap();
    let (readable, _) = try_read(directory.path(), Options::default()).unwrap();
    assert!(readable.given_up().is_some(), "whoever starts next has to say it");
    let wal = readable.start().unwrap();
    wal.append(payload(3, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    assert_eq!(try_read(directory.path(), Options::default()).unwrap().0.given_up(), None);
}

#[tokio::test]
async fn a_log_that_may_only_be_read_can_be_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    // Whoever runs the tests as root may write all the same, and sees that the copy may be written.
    for file in ["store/db", "store/conf", "witness", "INIT"] {
        let path = directory.path().join(file);
        let mut rights = std::fs::metadata(&path).unwrap().permissions();
        rights.set_readonly(true);
        std::fs::set_permissions(&path, rights).unwrap();
    }
    assert!(verify(directory.path()).unwrap().is_sound());
    std::fs::remove_dir_all(directory.path().join("store")).unwrap();
    assert!(verify(directory.path()).unwrap().copies.unwrap().is_store_damaged, "the ring has it all");
    std::fs::remove_file(directory.path().join("ring")).unwrap();
    assert!(verify(directory.path()).unwrap().damage.unwrap().to_string().contains("`store` is missing"));
}

#[tokio::test]
async fn a_creation_that_was_interrupted_begins_afresh() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("store/blobs")).unwrap();
    std::fs::write(directory.path().join("store/conf"), b"half").unwrap();
    std::fs::write(directory.path().join("witness"), vec![0; 100]).unwrap();
    let (wal, records) = start(directory.path());
    assert!(records.is_empty());
    wal.append(payload(1, 10), ()).await.unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.txt"), b"years of work").unwrap();
    let refused = unanimous_wal::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(&refused, OpenError::Foreign { stranger, .. } if stranger == "thesis.txt"));
    assert_eq!(files_below(directory.path()).len(), 1, "not even a lock is left there");
}

#[tokio::test]
async fn a_disk_of_its_own_is_an_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("lost+found")).unwrap();
    start(directory.path()).0.close().await.unwrap();
    assert!(directory.path().join("lost+found").exists());
}

#[test]
fn a_place_where_no_directory_can_be_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = unanimous_wal::open(&file.path().join("log"), Options::default()).unwrap_err().to_string();
    assert!(
        refused.starts_with("could not ") && refused.contains(file.path().to_str().unwrap()),
        "{refused}"
    );
}

#[tokio::test]
async fn room_is_kept_for_a_full_disk_and_does_not_stand_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let room = wal.room().unwrap();
    assert!(room.free > 0 && room.is_kept && room.reserve == 64 * 1024 * 1024, "{room:?}");
    wal.close().await.unwrap();
    let ballast = directory.path().join("ballast");
    assert_eq!(std::fs::metadata(&ballast).unwrap().len(), 64 * 1024 * 1024);
    std::fs::remove_file(&ballast).unwrap();
    start(directory.path()).0.close().await.unwrap();
    assert!(ballast.exists(), "made again at the next start");
}

#[tokio::test]
async fn a_marker_of_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).0.close().await.unwrap();
    let path = directory.path().join("INIT");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("format 1", "format 2")).unwrap();
    let refused = unanimous_wal::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(&refused, OpenError::Damage(damage) if matches!(damage.kind(), DamageKind::Marker(_))));
    let body = text.replace("format 1", "format 2");
    let body = body.split_once("checksum").unwrap().0;
    std::fs::write(&path, format!("{body}checksum {:08x}\n", crc32fast::hash(body.as_bytes()))).unwrap();
    let refused = unanimous_wal::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerVersion(_)), "{refused}");
}

/// Damages the files of sled themselves: a flipped byte may be noticed or may not matter, but nothing that was
/// acknowledged is ever missing without a word.
#[tokio::test]
async fn no_damage_to_the_files_of_sled_is_silent() {
    let base = tempfile::tempdir().unwrap();
    let (wal, _) = start(base.path());
    for n in 1..=200 {
        wal.append(payload(n, 300), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    let expected: common::Records = (1..=200).map(|n| (lsn(n), payload(n, 300))).collect();
    let written =
        std::fs::read(base.path().join("store/db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let mut named = 0;
    for trial in 0..40 {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(base.path(), copy.path());
        // With it hardly any of this would be damage.
        std::fs::remove_file(copy.path().join("ring")).unwrap();
        let data = std::fs::File::options().write(true).open(copy.path().join("store/db")).unwrap();
        let at = u64::try_from(written * trial / 40).unwrap();
        match trial % 4 {
            0 => data.write_all_at(&[0xa5], at).unwrap(),
            1 => data.write_all_at(&[0; 512], at).unwrap(),
            2 => data.write_all_at(&[0x5a; 4096], at).unwrap(),
            _ => data.set_len(at).unwrap(),
        }
        let before = files_below(&copy.path().join("store"));
        let report = verify(copy.path()).unwrap();
        match try_read(copy.path(), a_copy()) {
            Ok((_, records)) => {
                assert!(records == expected, "trial {trial} lost something silently");
                assert!(report.is_sound(), "trial {trial}: {report:?}");
            }
            Err(words) => {
                named += 1;
                assert!(words.contains("cannot be read"), "trial {trial}: {words}");
                assert!(!report.is_sound(), "trial {trial}: {words}");
                let after = files_below(&copy.path().join("store"));
                assert!(after == before, "trial {trial}: something was changed");
            }
        }
    }
    assert!(named >= 10, "only {named} of 40 were found");
}

#[tokio::test]
async fn data_that_is_gone_is_not_made_anew() {
    for name in ["store/db", "store"] {
        let directory = tempfile::tempdir().unwrap();
        let (wal, _) = start(directory.path());
        wal.append(payload(1, 10), ()).await.unwrap();
        wal.close().await.unwrap();
        // The ring would make up for it.
        std::fs::remove_file(directory.path().join("ring")).unwrap();
        let path = directory.path().join(name);
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }.unwrap();
        let before = files_below(directory.path());
        let refused = try_read(directory.path(), Options::default()).unwrap_err();
        assert!(refused.contains("cannot be read") && refused.contains("nothing was changed"), "{refused}");
        assert!(files_below(directory.path()) == before, "{name}: something was changed");
    }
}

#[tokio::test]
async fn a_half_written_snapshot_of_sled_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::write(directory.path().join("store/snap.00FFFFFFFFFFFFFF.generating"), vec![0; 8192]).unwrap();
    assert_eq!(start(directory.path()).1.len(), 1);
    assert!(!directory.path().join("aside-1").exists(), "it is no damage that needs a repair");
}

#[tokio::test]
async fn a_damaged_snapshot_of_sled_is_done_without_and_a_copy_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    for n in 1..=2 {
        let (wal, _) = start(directory.path());
        wal.append(payload(n, 10), ()).await.unwrap();
        wal.close().await.unwrap();
    }
    let snapshot =
        std::fs::read_dir(directory.path().join("store")).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = snapshot.filter(|path| path.to_string_lossy().contains("snap.")).max().unwrap();
    std::fs::write(&snapshot, b"nonsense").unwrap();
    assert_eq!(start(directory.path()).1.len(), 2);
    assert!(directory.path().join("aside-1/store/db").exists());
}

/// Without a snapshot sled does not come to its last segment where an earlier one is gone that this one names, and would
/// overwrite it.
#[tokio::test]
async fn a_log_whose_snapshot_is_missing_is_read_or_refused_but_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for life in 0..6 {
        let (wal, _) = start(directory.path());
        for n in 0..8 {
            wal.append(payload(n, 600_000), ()).await.unwrap();
        }
        let high = wal.high().unwrap();
        wal.retire(high).await.unwrap();
        wal.close().await.unwrap();
        // Garbage is overwritten when sled is opened.
        let (readable, expected) = try_read(directory.path(), Options::default()).unwrap();
        drop(readable);
        let copy = tempfile::tempdir().unwrap();
        copy_tree(directory.path(), copy.path());
        std::fs::remove_file(copy.path().join("ring")).unwrap();
        for entry in std::fs::read_dir(copy.path().join("store")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let before = files_below(&copy.path().join("store"));
        match try_read(copy.path(), a_copy()) {
            Ok((_, records)) => assert!(records == expected, "life {life} lost something silently"),
            Err(words) => {
                refused += 1;
                assert!(files_below(&copy.path().join("store")) == before, "life {life}: {words}");
            }
        }
    }
    assert!(refused > 0, "this did not happen, so that the test shows nothing");
}

#[tokio::test]
async fn verify_changes_nothing_and_tells_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).0.close().await.unwrap();
    let report = verify(directory.path()).unwrap();
    assert_eq!((report.low, report.high, report.is_sound()), (Some(Lsn::FIRST), None, true));
    let (wal, _) = start(directory.path());
    for n in 1..=3 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    let node = wal.node();
    wal.close().await.unwrap();
    let before = files_below(directory.path());
    let report = verify(directory.path()).unwrap();
    assert_eq!((report.node, report.epoch, report.low, report.high), (node, 2, Some(lsn(1)), Some(lsn(3))));
    assert_eq!((report.counts.records, report.is_sound()), (3, true));
    assert_eq!((report.counts.blocks, report.counts.bytes > 3 * 60), (3, true));
    assert_eq!(
        (report.torn, report.damage.is_none(), report.copies.unwrap().faults().is_empty()),
        (None, true, true)
    );
    let mut dumped = Vec::new();
    let snapshot = unanimous_wal::verify::read_only(directory.path()).unwrap();
    assert_eq!(snapshot.node(), node);
    let summary = snapshot.read_all(|lsn, payload| {
        dumped.push((lsn, payload.to_vec()));
        Ok::<_, std::convert::Infallible>(())
    });
    let summary = summary.unwrap();
    assert_eq!((summary.node, summary.low, summary.high, dumped.len()), (node, lsn(1), Some(lsn(3)), 3));
    assert!(files_below(directory.path()) == before);
    assert!(matches!(verify(&directory.path().join("nowhere")), Err(OpenError::Absent { .. })));
    assert_eq!(try_read(directory.path(), Options::default()).unwrap().0.node(), node);

    // Of a damaged one it says how far it can be read.
    let damage =
        |record: &[u8], file: &str| assert!(flip(&directory.path().join(file), record) > 0, "{file}");
    let aside = |number| directory.path().join(format!("aside-{number}")).exists();
    damage(b"payload-00000002", "store/db");
    assert!(verify(directory.path()).unwrap().copies.unwrap().is_store_damaged);
    // The ring mends it, and what was damaged is kept for whoever wants to look.
    start(directory.path()).0.close().await.unwrap();
    assert!(aside(1) && verify(directory.path()).unwrap().is_sound());
    damage(b"payload-00000003", "store/db");
    damage(b"payload-00000003", "ring");
    let report = verify(directory.path()).unwrap();
    assert_eq!((report.node, report.low, report.high), (node, Some(lsn(1)), Some(lsn(2))));
    assert_eq!((report.counts.records, report.is_sound(), report.damage.is_some()), (2, false, true));
    let accepting = Options { accept_damage: true, ..Options::default() };
    let readable = try_read(directory.path(), accepting).unwrap().0;
    readable.start().unwrap().close().await.unwrap();
    assert!(aside(2), "also what is given up");
}

#[test]
fn a_log_of_eight_mebibytes_is_given_a_second_to_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let time = || unanimous_wal::time_to_read(directory.path()).as_secs();
    assert_eq!(time(), 0, "there is none");
    std::fs::create_dir(directory.path().join("store")).unwrap();
    let data = std::fs::File::create(directory.path().join("store/db")).unwrap();
    for (mebibytes, seconds) in [(7, 0), (8, 1), (81, 10)] {
        data.set_len(mebibytes * 1024 * 1024).unwrap();
        assert_eq!(time(), seconds, "{mebibytes} MiB");
    }
}

#[tokio::test]
async fn a_log_without_its_marker_and_its_witness_has_its_number_from_the_ring() {
    let accept = Options { accept_damage: true, ..Options::default() };
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let node = wal.node();
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::remove_file(directory.path().join("witness")).unwrap();
    std::fs::remove_file(directory.path().join("INIT")).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy_tree(directory.path(), copied.path());
    let (readable, records) = try_read(directory.path(), accept).unwrap();
    assert_eq!((readable.node(), records), (node, vec![(lsn(1), payload(1, 10))]));
    drop(readable);
    // A start that is refused has not written down whose log it is.
    std::fs::write(copied.path().join("witness"), std::fs::read(directory.path().join("witness")).unwrap())
        .unwrap();
    let refused = try_read(copied.path(), accept).unwrap_err();
    assert!(refused.contains("is a copy"), "{refused}");
    assert!(!copied.path().join("INIT").exists());
}
