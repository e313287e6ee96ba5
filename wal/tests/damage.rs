//! Damage is found, named and never read as if nothing had happened.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;

use common::{ACCEPT, lose_ring, lsn, payload, read, start_sim};
use unanimous_wal::block::BlockKey;
use unanimous_wal::sim::{self, SimDisk};
use unanimous_wal::store::Slot;
use unanimous_wal::{Damage, DamageKind, OpenError, Options, PAYLOAD_MAX, ReadAllError};

/// A log of five blocks, one record in each, and no other copy of them.
async fn five_records() -> SimDisk {
    let disk = SimDisk::new(7);
    let (wal, _) = start_sim(&disk);
    for n in 1..=5 {
        wal.append(payload(n, 50), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    lose_ring(&disk);
    disk
}

fn key(n: u64) -> BlockKey {
    BlockKey::of(lsn(n))
}

fn lose_witness(disk: &SimDisk) {
    for slot in [Slot::A, Slot::B] {
        disk.damage_witness(slot, |bytes| bytes.fill(7));
    }
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
    let words = OpenError::from(damage).to_string();
    assert!(
        words.contains("record 3")
            && words.contains("unanimous verify")
            && words.contains("unanimous salvage"),
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
    let damage = damage_of(&disk);
    assert_eq!(damage.kind(), &missing);
    assert!(damage.to_string().contains("record 4"), "{damage}");
}

#[tokio::test]
async fn an_empty_store_beside_a_witness_that_saw_records_is_damage() {
    let disk = five_records().await;
    for n in 1..=5 {
        disk.damage(key(n), Vec::clear);
    }
    let damage = damage_of(&disk);
    assert_eq!(damage.kind(), &DamageKind::Missing { acknowledged: lsn(5), found: None });
    assert!(damage.to_string().contains("nothing"), "{damage}");
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
async fn a_log_whose_lost_witness_was_accepted_has_one_again() {
    let disk = five_records().await;
    let (wal, _) = start_sim(&disk);
    wal.retire(lsn(3)).await.unwrap();
    wal.close().await.unwrap();
    lose_ring(&disk);
    lose_witness(&disk);
    let wal = read(sim::open(&disk, ACCEPT).unwrap()).unwrap().0.start().unwrap();
    // The last start before it left no block.
    assert_eq!((wal.low(), wal.high(), wal.epoch()), (lsn(3), Some(lsn(5)), 2));
    wal.close().await.unwrap();

    let (wal, records) = start_sim(&disk);
    assert_eq!((records.len(), wal.low()), (3, lsn(3)));
    wal.close().await.unwrap();
    lose_ring(&disk);
    disk.damage(key(5), Vec::clear);
    let known = DamageKind::Missing { acknowledged: lsn(5), found: Some(lsn(4)) };
    assert_eq!(damage_of(&disk).kind(), &known);
}

/// After a cut the first thing written down may be all there is of the new witness.
#[tokio::test]
async fn a_power_cut_while_a_witness_is_made_anew_leaves_none_or_a_true_one() {
    let mut made = 0;
    for changes in 1.. {
        let disk = five_records().await;
        lose_witness(&disk);
        let (readable, _) = read(sim::open(&disk, ACCEPT).unwrap()).unwrap();
        disk.darken(changes);
        if readable.start().is_ok() {
            break;
        }
        disk.crash();
        match read(sim::open(&disk, Options::default()).unwrap()) {
            Err(ReadAllError::Damage(damage)) => assert_eq!(damage.kind(), &DamageKind::Witness),
            other => {
                assert_eq!(other.unwrap().1.len(), 5);
                lose_ring(&disk);
                disk.damage(key(5), Vec::clear);
                assert!(matches!(damage_of(&disk).kind(), DamageKind::Missing { .. }));
                made += 1;
            }
        }
    }
    assert!(made > 0);
}

#[tokio::test]
async fn the_witness_of_a_newer_version_is_not_written_over_whatever_else_is_damaged() {
    let disk = five_records().await;
    for slot in [Slot::A, Slot::B] {
        disk.damage_witness(slot, |bytes| {
            bytes[4] += 1;
            let (fields, sum) = bytes.split_last_chunk_mut::<4>().unwrap();
            *sum = crc32fast::hash(fields).to_le_bytes();
        });
    }
    disk.damage(key(4), |bytes| bytes[45] ^= 1);
    let refused = read(sim::open(&disk, ACCEPT).unwrap()).unwrap_err();
    assert!(matches!(refused, ReadAllError::NewerVersion(_)), "{refused:?}");
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
    let (mut cut, mut torn) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (wal, _) = start_sim(&disk);
        wal.append(payload(1, 50), ()).await.unwrap();
        disk.fail(sim::Operation::Sync, 1);
        wal.append(payload(2, PAYLOAD_MAX), ()).await.unwrap_err();
        disk.crash();
        let (readable, records) = read(sim::open(&disk, Options::default()).unwrap()).unwrap();
        let whole = records.len() == 2;
        // Of some no part ever got to the disk.
        assert!(readable.torn().is_none_or(|at| !whole && at == lsn(2)) && readable.given_up().is_none());
        torn += usize::from(readable.torn().is_some());
        let wal = readable.start().unwrap();
        let parts = usize::from(!whole);
        cut += parts;
        assert_eq!(records[0], (lsn(1), payload(1, 50)));
        let next = wal.append(payload(9, 50), ()).await.unwrap();
        assert_eq!(next.lsn(), Some(lsn(2 + u64::from(whole))));
        wal.close().await.unwrap();
        assert_eq!(start_sim(&disk).1.len(), records.len() + 1);
    }
    assert!(cut > 10 && torn > 5, "of {cut} that were lost only {torn} were torn");
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
        lose_ring(&disk);
        disk.damage(BlockKey { part, ..key(1) }, Vec::clear);
        assert_eq!(damage_of(&disk).kind(), &kind, "part {part}");
    }
}
