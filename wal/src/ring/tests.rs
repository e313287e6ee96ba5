//! The ring on a simulated disk, where it has 64 pages: what is written into it, and what is believed of it.

use super::*;
use crate::damage::DamageKind;
use crate::frame;
use crate::pack::{Packer, Tail};
use crate::store::sim::{SimDisk, SimStore};

const NODE: u32 = 7;

/// Of such records a block holds one and takes eight pages, so that half of the ring takes four of them.
const EIGHT_PAGES: usize = 8 * 4096 - entry::ENTRY_HEADER_LEN - block::HEADER_LEN - frame::HEADER_LEN;

fn lsn(n: u64) -> Lsn {
    Lsn::new(n).unwrap()
}

fn key(n: u64) -> BlockKey {
    BlockKey::of(lsn(n))
}

/// A store with so many blocks, one record of that length in each.
fn store(count: usize, length: usize) -> (SimStore, Vec<Packed>) {
    let store = SimDisk::new(1).open();
    let mut packer = Packer::new(Tail { next: Lsn::FIRST, checksum: 0 }, 1);
    let mut blocks = Vec::new();
    for _ in 0..count {
        packer.push(&vec![7; length]);
        blocks.extend(packer.take());
    }
    for block in &blocks {
        store.put(block.key, &block.bytes).unwrap();
    }
    (store, blocks)
}

/// A ring with the blocks before this one.
fn ring_before(store: &SimStore, end: BlockKey) -> Ring {
    Ring::renew(store, NODE, 0, key(1)..end).unwrap()
}

fn held(store: &SimStore) -> Held {
    Held::read(store, NODE).unwrap()
}

/// The records that are in the ring.
fn records(store: &SimStore) -> Vec<u64> {
    held(store).from(key(1)).map(|(key, _)| key.first.get()).collect()
}

/// Writes an entry at some page, whatever it says of itself.
fn forge(store: &SimStore, ring: Ring, page: u64, entry: Entry<'_>) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    store.write_ring(ring.offset(page), &bytes).unwrap();
}

#[test]
fn a_round_takes_as_many_blocks_as_half_of_the_ring() {
    let (store, blocks) = store(6, EIGHT_PAGES);
    let (now, later) = ring_before(&store, key(1)).round(&blocks);
    assert_eq!((now, later), blocks.split_at(4));
}

#[test]
fn a_ring_that_begins_gets_the_last_blocks_that_are_kept_and_no_more_than_it_takes() {
    let (store, _) = store(20, EIGHT_PAGES);
    Ring::renew(&store, NODE, 0, key(1)..key(21)).unwrap();
    assert_eq!(records(&store), [13, 14, 15, 16, 17, 18, 19, 20]);
    Ring::renew(&store, NODE, 1, key(5)..key(9)).unwrap();
    assert_eq!(records(&store), [5, 6, 7, 8]);
}

#[test]
fn what_a_ring_lacks_at_its_end_is_added_if_one_round_takes_it() {
    let (store, _) = store(10, EIGHT_PAGES);
    let ring = ring_before(&store, key(4));
    assert_eq!(ring.catch_up(&store, key(3), key(9)).unwrap(), None, "five blocks are more than half of it");
    assert_eq!(records(&store), [1, 2, 3]);
    let ring = ring.catch_up(&store, key(3), key(8)).unwrap().unwrap();
    assert_eq!(records(&store), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((held(&store).ring(), held(&store).sequence()), (Some(ring), 1), "it is the same ring");
}

#[test]
fn nothing_is_added_to_a_ring_that_ends_with_a_block_which_the_store_has_not() {
    let (store, _) = store(6, 10);
    let ring = ring_before(&store, key(4));
    store.remove_below(key(5), 10).unwrap();
    assert_eq!(ring.catch_up(&store, key(3), key(7)).unwrap(), None);
}

#[test]
fn a_ring_whose_first_head_alone_was_written_is_unfinished() {
    let (store, _) = store(3, 10);
    let head = Head { id: 1, node: NODE, pages: 64, sequence: 1, is_filled: false };
    store.write_ring(0, &head.encode()).unwrap();
    assert_eq!(held(&store).state(Some(key(3)), Some(lsn(3))), RingState::Unfinished);
}

#[test]
fn an_entry_counts_only_in_its_own_place_and_behind_the_beginning_of_its_commit() {
    for (page, place, begin, counts) in
        [(1, 1, 0, true), (1, 65, 64, true), (2, 1, 0, false), (1, 1, 2, false)]
    {
        let (store, blocks) = store(1, 10);
        let ring = ring_before(&store, key(1));
        let block = &blocks[0].bytes;
        forge(&store, ring, page, Entry { ring: ring.id, place, begin, is_copied: false, block });
        assert_eq!(!records(&store).is_empty(), counts, "place {place} on page {page}, begun at {begin}");
    }
}

#[test]
fn an_entry_without_a_block_is_missing_and_one_of_a_newer_program_is_named() {
    let (store, blocks) = store(1, 10);
    let ring = ring_before(&store, key(1));
    let entry = Entry { ring: ring.id, place: 0, begin: 0, is_copied: false, block: b"no block" };
    forge(&store, ring, 0, entry);
    assert_eq!(records(&store), [0; 0]);
    let mut newer = blocks[0].bytes.clone();
    newer[4] += 1;
    let sum = crc32fast::hash(&[&newer[..36], &newer[40..]].concat());
    newer[36..40].copy_from_slice(&sum.to_le_bytes());
    forge(&store, ring, 0, Entry { block: &newer, ..entry });
    let refused = Held::read(&store, NODE).unwrap_err();
    assert!(matches!(refused.kind(), DamageKind::NewerVersion { found: 2, .. }), "{refused}");
}

#[test]
fn what_is_missing_of_a_commit_that_nobody_was_told_of_is_no_damage() {
    let (store, blocks) = store(4, 10);
    let mut ring = ring_before(&store, key(3));
    ring.lay_out(&blocks[2..]).write(&store).unwrap();
    store.write_ring(ring.offset(2), &[0; 4096]).unwrap();
    let held = held(&store);
    assert_eq!(held.state(Some(key(2)), Some(lsn(2))), RingState::Unfinished);
    let follows: Vec<bool> = held.from(key(1)).map(|(_, kept)| kept.follows_hole).collect();
    assert_eq!(follows, [false, false, true], "the last one may lack what was before it");
}
