//! Damage is found, named and never read as if nothing had happened.

mod common;

use common::{lsn, payload, read, start, start_sim, try_read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::{self, SimDisk};
use unanimous_wal::store::Slot;
use unanimous_wal::verify::verify;
use unanimous_wal::{Damage, DamageKind, OpenError, Options, PAYLOAD_MAX, ReadAllError};

const ACCEPT: Options =
    Options { queue_max: 64, commit_limit: std::time::Duration::from_secs(5), accept_damage: true };

/// A log of five blocks, one record in each.
async fn five_records() -> SimDisk {
    let disk = SimDisk::new(7);
    let (wal, _) = start_sim(&disk);
    for n in 1..=5 {
        wal.append(payload(n, 50), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    disk
}

fn key(n: u64) -> BlockKey {
    BlockKey::of(lsn(n))
}

fn damage_of(disk: &SimDisk) -> Damage {
    match read(sim::open(disk, Options::default()).unwrap()) {
        Err(ReadAllError::Damage(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_flipped_bit_of_every_block_is_named_with_its_record() {
    let disk = five_records().await;
    for n in 1..=5 {
        let mut len = 0;
        disk.damage(key(n), |bytes| len = bytes.len());
        for bit in (0..len * 8).step_by(7) {
            disk.damage(key(n), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(damage_of(&disk).lsn(), Some(lsn(n)), "bit {bit}");
            disk.damage(key(n), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
    }
    assert_eq!(start_sim(&disk).1.len(), 5, "and without damage it is read");
}

#[tokio::test]
async fn a_cut_block_is_named() {
    let disk = five_records().await;
    disk.damage(key(3), |bytes| bytes.truncate(60));
    let damage = damage_of(&disk);
    assert_eq!((damage.lsn(), damage.kind()), (Some(lsn(3)), &DamageKind::BlockChecksum));
    let words = damage.to_string();
    assert!(
        words.contains("record 3") && words.contains("unanimous verify") && words.contains("restore"),
        "{words}"
    );
}

#[tokio::test]
async fn a_missing_block_in_the_middle_is_a_gap() {
    let disk = five_records().await;
    disk.damage(key(3), Vec::clear);
    assert_eq!(damage_of(&disk).kind(), &DamageKind::Gap { expected: lsn(3), found: lsn(4) });
}

#[tokio::test]
async fn a_missing_block_at_the_beginning_is_a_gap() {
    let disk = five_records().await;
    disk.damage(key(1), Vec::clear);
    assert_eq!(damage_of(&disk).kind(), &DamageKind::Gap { expected: lsn(1), found: lsn(2) });
}

#[tokio::test]
async fn a_missing_block_at_the_end_is_seen_by_the_witness() {
    let disk = five_records().await;
    disk.damage(key(5), Vec::clear);
    let missing = DamageKind::Missing { acknowledged: lsn(5), found: Some(lsn(4)) };
    assert_eq!(damage_of(&disk).kind(), &missing);
}

#[tokio::test]
async fn an_empty_store_beside_a_witness_that_saw_records_is_damage() {
    let disk = five_records().await;
    for n in 1..=5 {
        disk.damage(key(n), Vec::clear);
    }
    assert_eq!(damage_of(&disk).kind(), &DamageKind::Missing { acknowledged: lsn(5), found: None });
}

#[tokio::test]
async fn a_block_of_another_log_breaks_the_chain() {
    let (disk, other) = (five_records().await, SimDisk::new(8));
    let (wal, _) = start_sim(&other);
    for n in 1..=5 {
        wal.append(payload(n + 100, 50), ()).await.unwrap();
    }
    let mut strange = Vec::new();
    other.damage(key(3), |bytes| strange.clone_from(bytes));
    disk.damage(key(3), |bytes| *bytes = strange);
    let damage = damage_of(&disk);
    assert_eq!((damage.lsn(), damage.kind()), (Some(lsn(3)), &DamageKind::Chain));
}

#[tokio::test]
async fn a_block_under_the_key_of_another_is_misplaced() {
    let disk = five_records().await;
    let mut second = Vec::new();
    disk.damage(key(2), |bytes| second.clone_from(bytes));
    disk.damage(key(3), |bytes| *bytes = second);
    assert_eq!(damage_of(&disk).kind(), &DamageKind::Misplaced);
}

#[tokio::test]
async fn a_newer_version_is_refused_also_where_damage_would_be_accepted() {
    let disk = five_records().await;
    disk.damage(key(5), |bytes| {
        bytes[4] = 2;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..36]);
        sum.update(&bytes[40..]);
        let sum = sum.finalize().to_le_bytes();
        bytes[36..40].copy_from_slice(&sum);
    });
    let refused = read(sim::open(&disk, ACCEPT).unwrap()).unwrap_err();
    assert!(matches!(refused, ReadAllError::NewerVersion(_)));
    assert!(refused.to_string().contains("written by a newer version"), "{refused}");
}

#[tokio::test]
async fn one_damaged_slot_of_the_witness_is_survived_and_two_are_damage() {
    let disk = five_records().await;
    disk.damage_witness(Slot::A, |bytes| bytes[20] ^= 1);
    assert_eq!(start_sim(&disk).1.len(), 5);
    disk.damage_witness(Slot::A, |bytes| bytes[20] ^= 1);
    disk.damage_witness(Slot::B, |bytes| bytes[20] ^= 1);
    assert_eq!(damage_of(&disk).kind(), &DamageKind::Witness);
    let (readable, records) = read(sim::open(&disk, ACCEPT).unwrap()).unwrap();
    assert_eq!((records.len(), readable.high()), (5, Some(lsn(5))));
}

#[tokio::test]
async fn damage_that_is_accepted_leaves_the_records_before_it_and_the_log_goes_on() {
    let disk = five_records().await;
    disk.damage(key(4), |bytes| bytes[45] ^= 1);
    let (readable, records) = read(sim::open(&disk, ACCEPT).unwrap()).unwrap();
    assert_eq!(records.iter().map(|(lsn, _)| lsn.get()).collect::<Vec<_>>(), [1, 2, 3]);
    let wal = readable.start().unwrap();
    assert_eq!(wal.append(payload(44, 50), ()).await.unwrap().lsn(), Some(lsn(4)));
    wal.close().await.unwrap();
    let (_, records) = start_sim(&disk);
    assert_eq!(records.last(), Some(&(lsn(4), payload(44, 50))));
}

#[tokio::test]
async fn a_long_record_torn_at_the_end_is_cut_off_unless_it_was_acknowledged() {
    let mut cut = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (wal, _) = start_sim(&disk);
        wal.append(payload(1, 50), ()).await.unwrap();
        disk.fail(sim::Operation::Sync, 1);
        wal.append(payload(2, PAYLOAD_MAX), ()).await.unwrap_err();
        disk.crash();
        let (wal, records) = start_sim(&disk);
        let whole = records.len() == 2;
        let parts = usize::from(!whole);
        cut += parts;
        assert_eq!(records[0], (lsn(1), payload(1, 50)));
        let next = wal.append(payload(9, 50), ()).await.unwrap();
        assert_eq!(next.lsn(), Some(lsn(2 + u64::from(whole))));
        wal.close().await.unwrap();
        assert_eq!(start_sim(&disk).1.len(), records.len() + 1);
    }
    assert!(cut > 10, "only {cut} were torn");
}

#[tokio::test]
async fn a_long_record_that_was_acknowledged_and_lost_a_part_is_damage() {
    // Without its last part it looks like one that was never finished, but for the witness.
    let missing = DamageKind::Missing { acknowledged: lsn(1), found: None };
    for (part, kind) in [(0, DamageKind::Incomplete), (3, DamageKind::Incomplete), (7, missing)] {
        let disk = SimDisk::new(1);
        let (wal, _) = start_sim(&disk);
        wal.append(payload(1, 500_000), ()).await.unwrap();
        wal.close().await.unwrap();
        disk.damage(BlockKey { part, ..key(1) }, Vec::clear);
        assert_eq!(damage_of(&disk).kind(), &kind, "part {part}");
    }
}

#[tokio::test]
async fn a_marker_that_was_removed_is_no_reason_to_forget_acknowledged_records() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::remove_file(directory.path().join("INIT")).unwrap();
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.contains("`INIT`") && refused.contains("is missing"), "{refused}");
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
    assert!(!directory.path().join("store").exists());
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
        let data = std::fs::File::options().write(true).open(copy.path().join("store/db")).unwrap();
        let at = u64::try_from(written * trial / 40).unwrap();
        match trial % 4 {
            0 => data.write_all_at(&[0xa5], at).unwrap(),
            1 => data.write_all_at(&[0; 512], at).unwrap(),
            2 => data.write_all_at(&[0x5a; 4096], at).unwrap(),
            _ => data.set_len(at).unwrap(),
        }
        let report = verify(copy.path()).unwrap();
        match try_read(copy.path(), Options::default()) {
            Ok((_, records)) => {
                assert!(records == expected, "trial {trial} lost something silently");
                assert!(report.is_sound(), "trial {trial}: {report:?}");
            }
            Err(words) => {
                named += 1;
                assert!(words.contains("cannot be read"), "trial {trial}: {words}");
                assert!(!report.is_sound(), "trial {trial}: {words}");
            }
        }
    }
    assert!(named >= 10, "only {named} of 40 were found");
}

#[tokio::test]
async fn a_half_written_snapshot_of_sled_is_cleared_away() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::write(directory.path().join("store/snap.00FFFFFFFFFFFFFF.generating"), vec![0; 8192]).unwrap();
    assert_eq!(start(directory.path()).1.len(), 1);
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

#[tokio::test]
async fn verify_changes_nothing_and_tells_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    for n in 1..=3 {
        wal.append(payload(n, 10), ()).await.unwrap();
    }
    let node = wal.node();
    wal.close().await.unwrap();
    let before = snapshot_of(directory.path());
    let report = verify(directory.path()).unwrap();
    assert_eq!((report.node, report.epoch, report.low, report.high), (node, 1, Some(lsn(1)), Some(lsn(3))));
    assert_eq!((report.counts.records, report.is_sound()), (3, true));
    let mut dumped = Vec::new();
    let snapshot = unanimous_wal::verify::read_only(directory.path()).unwrap();
    let summary = snapshot.read_all(|lsn, payload| {
        dumped.push((lsn, payload.to_vec()));
        Ok::<_, std::convert::Infallible>(())
    });
    assert_eq!((summary.unwrap().high, dumped.len()), (Some(lsn(3)), 3));
    assert!(snapshot_of(directory.path()) == before);
    assert!(matches!(verify(&directory.path().join("nowhere")), Err(OpenError::Absent { .. })));
}

fn snapshot_of(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot_of(&path));
        } else {
            files.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
