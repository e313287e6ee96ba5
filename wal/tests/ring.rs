//! Two copies of the last blocks: either is enough, both are made whole, and no contradiction is guessed away.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]
#![allow(clippy::disallowed_methods, reason = "the end of the test is the end of its tasks")]

mod common;

use common::{ACCEPT, a_copy, copy_tree, flip, lose_ring, lsn, payload, read, start, start_sim, try_read};
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::{self, Operation, SimDisk};
use unanimous_wal::verify::verify;
use unanimous_wal::{Copies, DamageKind, Lsn, Options, PAYLOAD_MAX, ReadAllError, RingState};

/// Pages of the head of a ring, which come before its entries.
const HEAD_PAGES: u64 = 2;

/// A log of five blocks, one record in each.
async fn five_records(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    append(&disk, 1..=5).await;
    disk
}

async fn append(disk: &SimDisk, numbers: impl IntoIterator<Item = u64>) {
    let (wal, _) = start_sim(disk);
    for n in numbers {
        wal.append(payload(n, 50), ()).await.unwrap();
    }
    wal.close().await.unwrap();
}

fn key(n: u64) -> BlockKey {
    BlockKey::of(lsn(n))
}

fn copies(disk: &SimDisk) -> Copies {
    read(sim::open(disk, Options::default()).unwrap()).unwrap().0.copies().clone()
}

/// How often the ring was begun.
fn sequence(disk: &SimDisk) -> u64 {
    let mut sequence = 0;
    disk.damage_ring(|page, head| {
        if page == 0 {
            sequence = u64::from_le_bytes(head[8..16].try_into().unwrap());
        }
    });
    sequence
}

fn whole() -> Copies {
    Copies { ring: RingState::Whole, only_in_ring: None, is_store_damaged: false }
}

fn damage_of(disk: &SimDisk) -> DamageKind {
    match read(sim::open(disk, Options::default()).unwrap()) {
        Err(ReadAllError::Damage(damage)) => damage.kind().clone(),
        other => panic!("{other:?}"),
    }
}

/// Puts the checksums right of a block with one frame, so that it is whole whatever it says.
fn make_whole(block: &mut [u8]) {
    let sum = |parts: [&[u8]; 2]| crc32fast::hash(&parts.concat()).to_le_bytes();
    let of_frame = sum([&block[40..46], &block[50..]]);
    block[46..50].copy_from_slice(&of_frame);
    let of_block = sum([&block[..36], &block[40..]]);
    block[36..40].copy_from_slice(&of_block);
}

/// Flips a bit in the entry that is that many pages behind the head.
fn damage_entry(disk: &SimDisk, place: u64) {
    disk.damage_ring(|page, bytes| {
        if page == HEAD_PAGES + place {
            bytes[60] ^= 1;
        }
    });
}

#[tokio::test]
async fn any_block_that_the_store_lost_or_holds_damaged_is_put_back_from_the_ring() {
    for n in 1..=5 {
        for harm in 0..4 {
            let disk = five_records(n).await;
            let before = disk.durable(key(1));
            let (_, other) = before.iter().find(|(at, _)| *at != key(n)).unwrap();
            assert_eq!(copies(&disk), whole());
            disk.damage(key(n), |bytes| match harm {
                0 => bytes[45] ^= 1,
                1 => bytes.truncate(20),
                2 => bytes.clear(),
                // A write that went astray: a whole block, and another one.
                _ => bytes.clone_from(other),
            });
            let found = copies(&disk);
            assert_eq!((found.only_in_ring, found.is_store_damaged), (Some((lsn(n), lsn(n))), true));
            assert!(found.faults()[0].contains(&format!("records {n} to {n}")), "{:?}", found.faults());
            let (wal, records) = start_sim(&disk);
            assert_eq!(records, (1..=5).map(|n| (lsn(n), payload(n, 50))).collect::<Vec<_>>());
            wal.close().await.unwrap();
            assert_eq!(disk.durable(key(1)), before, "block {n} is in the store as it was");
            assert_eq!(copies(&disk), whole());
        }
    }
}

#[tokio::test]
async fn the_store_may_have_lost_everything_that_the_ring_holds() {
    let disk = five_records(1).await;
    for n in 1..=5 {
        disk.damage(key(n), Vec::clear);
    }
    assert_eq!(copies(&disk).only_in_ring, Some((lsn(1), lsn(5))));
    assert_eq!(start_sim(&disk).1.len(), 5);
    lose_ring(&disk);
    assert_eq!(start_sim(&disk).1.len(), 5, "and the store has it again by itself");
}

#[tokio::test]
async fn a_ring_that_is_damaged_is_named_and_filled_again() {
    let lost = "it ends at record 4, and record 5 was acknowledged";
    for (place, words) in [(0, "before record 2"), (2, "before record 4"), (4, lost)] {
        let disk = five_records(1).await;
        damage_entry(&disk, place);
        let RingState::Damaged(why) = copies(&disk).ring else { panic!("entry {place}") };
        assert!(why.contains(words), "{why}");
        start_sim(&disk).0.close().await.unwrap();
        assert_eq!(copies(&disk), whole());
        disk.damage(key(place + 1), Vec::clear);
        assert_eq!(start_sim(&disk).1.len(), 5, "it has the record again that it had lost");
    }
}

#[tokio::test]
async fn one_head_of_two_is_enough_and_without_both_the_ring_begins_anew() {
    let disk = five_records(1).await;
    let before = disk.ring_pages_written();
    disk.damage_ring(|page, bytes| bytes[9] ^= u8::from(page == 0));
    let one = RingState::Damaged("one of its two heads cannot be read".to_owned());
    assert_eq!(copies(&disk).ring, one);
    disk.damage(key(3), Vec::clear);
    assert_eq!(copies(&disk).only_in_ring, Some((lsn(3), lsn(3))), "its entries still count");
    disk.damage_ring(|page, bytes| bytes[9] ^= u8::from(page == 1));
    assert_eq!(damage_of(&disk), DamageKind::Gap { expected: lsn(3), found: lsn(4) });
    assert_eq!(disk.ring_pages_written(), before, "nothing was changed by looking");
    let disk = five_records(1).await;

    for is_zeroed in [false, true] {
        disk.damage_ring(|page, bytes| match (page < HEAD_PAGES, is_zeroed) {
            (true, true) => bytes.fill(0),
            (true, false) => bytes[9] ^= 1,
            (false, _) => {}
        });
        assert_eq!(copies(&disk).ring, RingState::Damaged("its head cannot be read".to_owned()));
        start_sim(&disk).0.close().await.unwrap();
        assert_eq!(copies(&disk), whole());
    }
    lose_ring(&disk);
    assert_eq!(copies(&disk).ring, RingState::Missing);
    assert!(copies(&disk).faults().is_empty(), "a log of an earlier version has none");
}

#[tokio::test]
async fn a_ring_of_another_length_is_named_and_made_anew() {
    let disk = five_records(1).await;
    damage_entry(&disk, 2);
    start_sim(&disk).0.close().await.unwrap();
    assert_eq!(sequence(&disk), 2);
    disk.damage_ring(|page, bytes| {
        if page < HEAD_PAGES {
            bytes[28] -= 1;
            let sum = crc32fast::hash(&bytes[..60]).to_le_bytes();
            bytes[60..64].copy_from_slice(&sum);
        }
    });
    assert_eq!(copies(&disk).ring, RingState::Damaged("it is 63 pages long and should be 64".to_owned()));
    start_sim(&disk).0.close().await.unwrap();
    assert_eq!(copies(&disk), whole());
    // The old head must never be taken for the newer one.
    assert_eq!(sequence(&disk), 3);
}

/// While it begins anew there is one copy only.
#[tokio::test]
async fn a_ring_that_is_whole_or_lacks_only_the_last_commit_does_not_begin_anew() {
    let disk = five_records(1).await;
    append(&disk, [6]).await;
    assert_eq!(sequence(&disk), 1);
    let (wal, _) = start_sim(&disk);
    // Only the store gets it.
    disk.fail_once(Operation::SyncRing, 1);
    wal.append(payload(7, 50), ()).await.unwrap_err();
    disk.crash();
    assert_eq!(copies(&disk).ring, RingState::Unfinished);
    let (wal, records) = start_sim(&disk);
    assert_eq!(records.len(), 7);
    wal.close().await.unwrap();
    assert_eq!((copies(&disk), sequence(&disk)), (whole(), 1));
}

#[tokio::test]
async fn what_both_copies_lost_is_damage_as_before() {
    let disk = five_records(1).await;
    disk.damage(key(3), |bytes| bytes[45] ^= 1);
    damage_entry(&disk, 2);
    assert_eq!(damage_of(&disk), DamageKind::BlockChecksum);
    disk.damage(key(3), Vec::clear);
    assert_eq!(damage_of(&disk), DamageKind::Gap { expected: lsn(3), found: lsn(4) });
    // Also where only the last record of all is left, and only in the ring.
    let disk = five_records(1).await;
    disk.damage(key(4), Vec::clear);
    disk.damage(key(5), Vec::clear);
    damage_entry(&disk, 3);
    assert_eq!(damage_of(&disk), DamageKind::Gap { expected: lsn(4), found: lsn(5) });
    let disk = five_records(1).await;
    disk.damage(key(5), Vec::clear);
    damage_entry(&disk, 4);
    assert_eq!(damage_of(&disk), DamageKind::Missing { acknowledged: lsn(5), found: Some(lsn(4)) });
    let (readable, records) = read(sim::open(&disk, ACCEPT).unwrap()).unwrap();
    assert_eq!(records.len(), 4);
    readable.start().unwrap().close().await.unwrap();
    assert_eq!(copies(&disk), whole());
}

#[tokio::test]
async fn two_whole_blocks_that_differ_are_both_named_and_neither_is_believed() {
    let (disk, other) = (five_records(1).await, SimDisk::new(2));
    append(&other, 101..=105).await;
    for n in 1..=5 {
        let (mut own, mut strange) = (Vec::new(), Vec::new());
        other.damage(key(n), |bytes| strange.clone_from(bytes));
        disk.damage(key(n), |bytes| own = std::mem::replace(bytes, strange));
        let DamageKind::Contradiction { store, ring } = damage_of(&disk) else { panic!("block {n}") };
        assert_eq!(ring.to_le_bytes(), own[36..40], "the checksum of the right one is said");
        let words = read(sim::open(&disk, Options::default()).unwrap()).unwrap_err().to_string();
        assert!(words.contains(&format!("record {n}")) && words.contains(&format!("{store:08x}")), "{words}");
        disk.damage(key(n), |bytes| *bytes = own);
    }
    assert_eq!(copies(&disk), whole());
}

#[tokio::test]
async fn a_block_of_a_newer_program_is_not_overwritten_by_what_the_ring_holds() {
    let disk = five_records(1).await;
    disk.damage(key(3), |block| {
        block[4] = 9;
        make_whole(block);
    });
    let refused = read(sim::open(&disk, Options::default()).unwrap()).unwrap_err();
    assert!(matches!(refused, ReadAllError::NewerVersion(_)), "{refused}");
}

/// What follows a hole in the ring was acknowledged to nobody, and may lack what was before it. It must not contradict it.
#[tokio::test]
async fn what_follows_a_hole_and_contradicts_the_store_is_named() {
    let disk = five_records(1).await;
    let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
    let (wal, committer) = readable.start_in_task().unwrap();
    drop(tokio::spawn(committer));
    disk.fail(Operation::Put, 2);
    wal.append(payload(6, 70_000), ()).await.unwrap_err();
    disk.kill();
    damage_entry(&disk, 5);
    disk.damage(key(6), |block| {
        block[100] ^= 1;
        make_whole(block);
    });
    assert_eq!(damage_of(&disk), DamageKind::Chain);
}

#[tokio::test]
async fn a_ring_of_another_log_is_refused() {
    let (disk, other) = (five_records(1).await, five_records(2).await);
    let mut strange = Vec::new();
    other.damage_ring(|page, bytes| strange.push((page, bytes.clone())));
    disk.damage_ring(|page, bytes| {
        *bytes = strange.iter().find(|(at, _)| *at == page).unwrap().1.clone();
    });
    assert_eq!(damage_of(&disk), DamageKind::Ring("belongs to another log than the directory"));
    let (readable, records) = read(sim::open(&disk, ACCEPT).unwrap()).unwrap();
    assert_eq!(records.len(), 5, "without it all is there");
    let RingState::Damaged(why) = &readable.copies().ring else { panic!("{:?}", readable.copies()) };
    assert!(why.contains("belongs to another log"), "{why}");
    readable.start().unwrap().close().await.unwrap();
    assert_eq!(copies(&disk), whole());
}

#[tokio::test]
async fn the_ring_goes_round_and_always_holds_the_last_blocks() {
    let disk = SimDisk::new(1);
    for life in 0..60 {
        let (wal, records) = start_sim(&disk);
        let next = records.len() as u64 + 1;
        for n in next..next + 5 {
            // Up to more than half of the ring, which has 256 KiB.
            let length = [40, 5_000, 60_000, 90, 300_000][usize::try_from((n + life) % 5).unwrap()];
            wal.append(payload(n, length), ()).await.unwrap();
        }
        wal.close().await.unwrap();
        assert_eq!(copies(&disk), whole(), "life {life}");
        let last: Vec<BlockKey> = disk.keys().into_iter().rev().take(2).collect();
        for key in last {
            let mut saved = Vec::new();
            disk.damage(key, |bytes| saved = std::mem::take(bytes));
            let (_, records) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
            assert_eq!(records.len() as u64, next + 4, "life {life}");
            disk.damage(key, |bytes| *bytes = saved);
        }
    }
    let (wal, _) = start_sim(&disk);
    wal.append(payload(301, PAYLOAD_MAX), ()).await.unwrap();
    wal.close().await.unwrap();
    assert_eq!(copies(&disk), whole(), "a record that is longer than the ring goes through it in rounds");
    assert_eq!(start_sim(&disk).1.last().unwrap().1, payload(301, PAYLOAD_MAX));
}

#[tokio::test]
async fn a_start_that_is_interrupted_while_it_mends_mends_at_the_next() {
    for what in 0..3 {
        let mut interrupted = 0;
        for nth in 1..20 {
            let disk = five_records(nth).await;
            match what {
                0 => [2, 3, 5].into_iter().for_each(|n| disk.damage(key(n), Vec::clear)),
                1 => damage_entry(&disk, 2),
                _ => lose_ring(&disk),
            }
            disk.darken(nth);
            let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
            drop(readable.start());
            disk.crash();
            interrupted += usize::from(copies(&disk) != whole());
            let (wal, records) = start_sim(&disk);
            assert_eq!(records.len(), 5, "{what}, the power went after change {nth}");
            wal.close().await.unwrap();
            assert_eq!(copies(&disk), whole());
        }
        assert!(interrupted > 1, "{what}: all was mended before the power went");
    }
}

#[tokio::test]
async fn what_only_one_copy_got_before_the_power_went_is_kept_in_both() {
    let (mut from_ring, mut from_store) = (0, 0);
    for seed in 0..200 {
        let disk = five_records(seed).await;
        let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
        let (wal, committer) = readable.start_in_task().unwrap();
        drop(tokio::spawn(committer));
        // Neither is synced, and the power keeps of each what it likes.
        disk.fail(Operation::Sync, 1);
        wal.append(payload(6, 50), ()).await.unwrap_err();
        disk.crash();
        let found = copies(&disk);
        let in_store = disk.keys().contains(&key(6));
        assert!(!found.is_store_damaged, "seed {seed}: nobody was told of record 6");
        from_ring += usize::from(found.only_in_ring == Some((lsn(6), lsn(6))));
        from_store += usize::from(in_store && found.ring == RingState::Unfinished);
        let (wal, records) = start_sim(&disk);
        assert_eq!(records.len() == 6, in_store || found.only_in_ring.is_some(), "seed {seed}");
        wal.close().await.unwrap();
        assert_eq!(copies(&disk), whole(), "seed {seed}");
        assert_eq!(disk.durable(key(1)).len(), records.len());
    }
    assert!(from_ring > 10 && from_store > 10, "{from_ring} from the ring, {from_store} from the store");
}

/// A long record is written in rounds, each synced in both copies before the next.
#[tokio::test]
async fn whatever_the_ring_lost_of_a_record_that_was_never_written_to_its_end_the_others_are_there() {
    for written in 1..=3 {
        for lost in 0..8 {
            let disk = five_records(written).await;
            let (readable, _) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
            // One after the other: the ring first.
            let (wal, committer) = readable.start_in_task().unwrap();
            drop(tokio::spawn(committer));
            disk.fail(Operation::Put, written);
            wal.append(payload(6, 150_000), ()).await.unwrap_err();
            disk.kill();
            // Its parts, 17 pages each, are behind the five others.
            for (part, place) in [5, 22, 39].into_iter().enumerate() {
                if lost & (1 << part) > 0 {
                    damage_entry(&disk, place);
                }
            }
            let (_, records) = read(sim::open(&disk, Options::default()).unwrap())
                .unwrap_or_else(|error| panic!("{written}, {lost:b}: {error:?}"));
            assert!(records.len() >= 5, "{written}, {lost:b}: {}", records.len());
            // What is to be cut off is not put back before.
            assert!(records.len() == 6 || copies(&disk).only_in_ring.is_none(), "{written}, {lost:b}");
            start_sim(&disk).0.close().await.unwrap();
            assert_eq!(copies(&disk), whole(), "{written}, {lost:b}");
        }
    }
}

#[tokio::test]
async fn a_ring_that_cannot_be_written_is_a_log_that_failed() {
    let disk = five_records(1).await;
    let (wal, _) = start_sim(&disk);
    disk.fail_once(Operation::SyncRing, 1);
    let refused = wal.append(payload(6, 50), ()).await.unwrap_err().to_string();
    assert!(refused.contains("could not sync the mirror ring"), "{refused}");
    wal.append(payload(7, 50), ()).await.unwrap_err();
}

/// A directory with records, each of some length, in blocks of their own.
async fn directory(records: u64, length: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    for n in 1..=records {
        wal.append(payload(n, length), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    directory
}

#[tokio::test]
async fn what_sled_cannot_read_any_more_is_read_from_the_ring_and_the_old_files_are_kept() {
    let directory = directory(200, 300).await;
    let data = directory.path().join("store/db");
    assert!(flip(&data, b"payload-00000090") > 0);
    let bytes = std::fs::read(&data).unwrap();
    let report = verify(directory.path()).unwrap();
    assert!(!report.is_sound() && report.damage.is_none(), "{report:?}");
    assert!(report.copies.unwrap().is_store_damaged);
    assert!(std::fs::read(&data).unwrap() == bytes, "looking changes nothing");
    let (wal, records) = start(directory.path());
    assert!(records == (1..=200).map(|n| (lsn(n), payload(n, 300))).collect::<Vec<_>>());
    assert!(std::fs::read(directory.path().join("aside-1/store/db")).unwrap() == bytes);
    wal.append(payload(201, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    assert!(verify(directory.path()).unwrap().is_sound());
    std::fs::remove_file(directory.path().join("ring")).unwrap();
    assert_eq!(start(directory.path()).1.len(), 201, "the store has them all again");
}

#[tokio::test]
async fn a_store_that_is_gone_is_made_again_from_a_ring_that_holds_the_whole_log() {
    let directory = directory(50, 300).await;
    std::fs::remove_dir_all(directory.path().join("store")).unwrap();
    let (wal, records) = start(directory.path());
    assert_eq!(records.len(), 50);
    wal.close().await.unwrap();
    std::fs::remove_file(directory.path().join("ring")).unwrap();
    assert_eq!(start(directory.path()).1.len(), 50);
}

#[tokio::test]
async fn a_ring_that_is_no_ring_any_more_is_named_and_made_again() {
    let directory = directory(50, 300).await;
    let ring = directory.path().join("ring");
    let sound = std::fs::read(&ring).unwrap();
    let half = sound.len() / 400;
    let garbage = vec![0xa5; sound.len()];
    for bytes in [&garbage[..], &garbage[..half], &sound[..half], &[]] {
        std::fs::write(&ring, bytes).unwrap();
        let report = verify(directory.path()).unwrap();
        assert_eq!(report.is_sound(), bytes.is_empty(), "{} bytes: {report:?}", bytes.len());
        let (wal, records) = start(directory.path());
        assert_eq!(records.len(), 50);
        wal.close().await.unwrap();
        assert_eq!(verify(directory.path()).unwrap().copies, Some(whole()));
    }
    std::fs::remove_file(&ring).unwrap();
    assert_eq!(verify(directory.path()).unwrap().copies.unwrap().ring, RingState::Missing);
    start(directory.path()).0.close().await.unwrap();
    assert_eq!(std::fs::metadata(&ring).unwrap().len(), sound.len() as u64);
}

#[tokio::test]
async fn a_ring_beside_an_older_store_and_witness_convicts_them() {
    let directory = directory(10, 300).await;
    let old = tempfile::tempdir().unwrap();
    copy_tree(directory.path(), old.path());
    let (wal, _) = start(directory.path());
    for n in 11..=2_000 {
        drop(wal.append_lazily(payload(n, 4_000), ()).await.unwrap());
    }
    wal.close().await.unwrap();
    std::fs::copy(directory.path().join("ring"), old.path().join("ring")).unwrap();
    let refused = try_read(old.path(), a_copy()).unwrap_err();
    assert!(refused.contains("record 11 should come here, but record "), "{refused}");
    assert!(!verify(old.path()).unwrap().is_sound());
    assert_eq!(start(directory.path()).0.high().map(Lsn::get), Some(2_000));
}

/// Nothing of it may stay in the ring, where the next record gets the number that it had.
#[tokio::test]
async fn a_first_record_that_was_torn_is_cut_off_in_both_copies() {
    let disk = SimDisk::new(3);
    // Where both are written at once, the ring may have got all of it by then.
    let without_ring = Options { mirror: false, ..Options::default() };
    let (readable, _) = read(sim::open(&disk, without_ring).unwrap()).unwrap();
    let wal = readable.start().unwrap();
    disk.fail(Operation::Put, 2);
    wal.append(payload(1, 150_000), ()).await.unwrap_err();
    disk.kill();
    append(&disk, [7]).await;
    assert_eq!(copies(&disk), whole());
    assert_eq!(start_sim(&disk).1, [(lsn(1), payload(7, 50))]);
}
