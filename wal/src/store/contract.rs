//! The contract of [`Store`], held by every store there is.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::files::Files;
use super::sim::SimDisk;
use super::sled_store::{Guard, SledStore};
use super::{Slot, Store, WITNESS_LEN};
use crate::block::{BLOCK_MAX, BlockKey};
use crate::lsn::Lsn;

const PAGE_LEN: usize = 4096;

/// A disk that a store can be opened on again and again.
enum Disk {
    Sled(tempfile::TempDir),
    Sim(SimDisk),
}

impl Disk {
    fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Sled(directory) => {
                let files = Files::new(directory.path());
                let guard = Guard::Lock { _file: files.create_and_lock().unwrap(), aside: None };
                Arc::new(SledStore::open(files, guard).unwrap())
            }
            Self::Sim(disk) => Arc::new(disk.open()),
        }
    }
}

fn each(run: impl Fn(&Disk)) {
    run(&Disk::Sled(tempfile::tempdir().unwrap()));
    run(&Disk::Sim(SimDisk::new(1)));
}

fn key(first: u64) -> BlockKey {
    BlockKey::of(Lsn::new(first).unwrap())
}

fn put(store: &dyn Store, keys: impl IntoIterator<Item = u64>) {
    for first in keys {
        store.put(key(first), format!("block {first}").as_bytes()).unwrap();
    }
    store.sync().unwrap();
}

fn found(store: &dyn Store, from: u64) -> Vec<u64> {
    let mut keys = Vec::new();
    let visited = store.scan(key(from), &mut |key, block| {
        assert_eq!(block, format!("block {}", key.first).as_bytes());
        keys.push(key.first.get());
        ControlFlow::Continue(())
    });
    visited.unwrap();
    keys
}

#[test]
fn what_was_synced_is_there_after_opening_again() {
    each(|disk| {
        put(&*disk.open(), [1, 5, 300, 70_000]);
        assert_eq!(found(&*disk.open(), 1), [1, 5, 300, 70_000]);
    });
}

#[test]
fn a_walk_begins_where_it_should_and_ends_when_told() {
    each(|disk| {
        let store = disk.open();
        put(&*store, 1..=9);
        assert_eq!(found(&*store, 4), [4, 5, 6, 7, 8, 9]);
        let mut seen = 0;
        let visited = store.scan(key(1), &mut |_, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.unwrap();
        assert_eq!(seen, 3);
    });
}

#[test]
fn the_block_at_or_before_a_key_is_found() {
    each(|disk| {
        let store = disk.open();
        assert_eq!(store.at_or_before(key(10)).unwrap(), None);
        put(&*store, [10, 20]);
        let at = |first| store.at_or_before(key(first)).unwrap().map(|(key, _)| key.first.get());
        assert_eq!([at(9), at(10), at(19), at(20), at(99)], [None, Some(10), Some(10), Some(20), Some(20)]);
    });
}

#[test]
fn parts_of_a_record_follow_each_other() {
    each(|disk| {
        let store = disk.open();
        let part = |part| BlockKey { part, ..key(7) };
        for n in [0, 1, 2, 300] {
            store.put(part(n), b"x").unwrap();
        }
        store.put(key(8), b"x").unwrap();
        let mut keys = Vec::new();
        let visited = store.scan(key(7), &mut |key, _| {
            keys.push(key);
            ControlFlow::Continue(())
        });
        visited.unwrap();
        assert_eq!(keys, [part(0), part(1), part(2), part(300), key(8)]);
        assert_eq!(store.at_or_before(BlockKey::last_of(part(0).first)).unwrap().unwrap().0, part(300));
    });
}

#[test]
fn the_lowest_blocks_are_removed_and_counted() {
    each(|disk| {
        let store = disk.open();
        put(&*store, 1..=9);
        let removed = store.remove_below(key(5), 3).unwrap();
        assert_eq!((removed.blocks, removed.bytes), (3, 21));
        assert_eq!(found(&*store, 1), [4, 5, 6, 7, 8, 9]);
        assert_eq!(store.remove_below(key(5), 3).unwrap().blocks, 1);
        assert_eq!(store.remove_below(key(5), 3).unwrap().blocks, 0);
        assert_eq!(store.remove_from(key(8)).unwrap().blocks, 2);
        store.sync().unwrap();
        drop(store);
        assert_eq!(found(&*disk.open(), 1), [5, 6, 7]);
    });
}

#[test]
fn the_longest_block_is_stored_many_times_over() {
    each(|disk| {
        let store = disk.open();
        let block = vec![7; BLOCK_MAX];
        for n in 1..=100 {
            store.put(key(n), &block).unwrap();
        }
        store.sync().unwrap();
        drop(store);
        let (store, mut count) = (disk.open(), 0);
        let visited = store.scan(key(1), &mut |_, found| {
            assert!(found == block);
            count += 1;
            ControlFlow::Continue(())
        });
        visited.unwrap();
        assert_eq!(count, 100);
        if let Disk::Sled(directory) = disk {
            let blobs = directory.path().join("store/blobs");
            assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0, "sled never syncs what is in there");
        }
    });
}

#[test]
fn the_slots_of_the_witness_are_kept_apart() {
    each(|disk| {
        let store = disk.open();
        assert_eq!(store.read_witness().unwrap(), [vec![0; WITNESS_LEN], vec![0; WITNESS_LEN]]);
        store.write_witness(Slot::B, &[2; WITNESS_LEN]).unwrap();
        store.sync_witness().unwrap();
        drop(store);
        let store = disk.open();
        store.write_witness(Slot::A, &[1; WITNESS_LEN]).unwrap();
        assert_eq!(store.read_witness().unwrap(), [vec![1; WITNESS_LEN], vec![2; WITNESS_LEN]]);
    });
}

#[test]
fn the_ring_has_room_for_two_of_the_longest_blocks_and_holds_what_was_written_there() {
    each(|disk| {
        let store = disk.open();
        let pages = usize::try_from(store.ring_pages()).unwrap();
        assert!(pages * PAGE_LEN >= 2 * BLOCK_MAX);
        let end = (pages + 2) * PAGE_LEN;
        let at = (end - 2 * PAGE_LEN) as u64;
        store.write_ring(at, &[7; 2 * PAGE_LEN]).unwrap();
        store.sync_ring().unwrap();
        drop(store);
        let mut bytes = vec![1; end];
        disk.open().read_ring(0, &mut bytes).unwrap();
        let (rest, written) = bytes.split_at(end - 2 * PAGE_LEN);
        assert!(rest.iter().all(|byte| *byte == 0) && written.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn after_power_loss_some_first_blocks_of_the_unsynced_are_left_and_all_of_the_synced() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let store = disk.open();
        put(&store, 1..=5);
        for n in 6..=10 {
            store.put(key(n), format!("block {n}").as_bytes()).unwrap();
        }
        disk.crash();
        let left = found(&disk.open(), 1);
        assert!(left.len() >= 5 && left.iter().copied().eq(1..=left.len() as u64), "{left:?}");
        assert!(store.put(key(11), b"too late").is_err(), "the dead write nothing");
    }
}

#[test]
fn what_a_killed_process_left_is_there_and_a_power_cut_may_take_it_until_it_is_synced() {
    let left = |seed, is_synced| {
        let disk = SimDisk::new(seed);
        let store = disk.open();
        put(&store, 1..=5);
        store.put(key(6), b"block 6").unwrap();
        disk.kill();
        let store = disk.open();
        assert_eq!(found(&store, 1), [1, 2, 3, 4, 5, 6]);
        if is_synced {
            store.sync_all().unwrap();
        }
        disk.crash();
        found(&disk.open(), 1).len()
    };
    assert!((0..50).any(|seed| left(seed, false) == 5));
    assert!((0..50).all(|seed| left(seed, true) == 6));
}
