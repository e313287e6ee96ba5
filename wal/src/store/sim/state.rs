//! What is on a simulated disk: what would survive, and what a process sees.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Operation;
use crate::block::BlockKey;
use crate::store::{PAGE, Removed, Slot, StoreError, WITNESS_LEN};

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: u64,
    /// Counts the crashes: a store of an earlier life is dead.
    pub(super) life: u64,
    pub(super) durable: Image,
    /// As a process sees it.
    pub(super) present: Image,
    pub(super) unsynced: Vec<Change>,
    /// Slots of the witness that were written since its last sync.
    pub(super) witness_dirty: BTreeSet<Slot>,
    /// Pages of the ring that were written since its last sync.
    pub(super) ring_dirty: BTreeSet<u64>,
    pub(super) node: Option<u32>,
    /// Which operation is to fail, how many of them are left until then, and for how long.
    pub(super) fails: Option<(Operation, u64, Failure)>,
    pub(super) failure: Option<(Operation, Failure)>,
    /// How many changes the power lasts for, if it is to go; 0 when it is gone.
    pub(super) changes_left: Option<u64>,
    pub(super) hangs: Option<Operation>,
    pub(super) hanging: bool,
    pub(super) witness_syncs: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) blocks: BTreeMap<BlockKey, Vec<u8>>,
    pub(super) witness: [Vec<u8>; 2],
    /// Pages of the ring that were ever written.
    pub(super) ring: BTreeMap<u64, Vec<u8>>,
}

/// How long a failure lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// For as long as the process lives.
    Lasting,
    /// It has passed.
    Passed,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(BlockKey, Vec<u8>),
    Remove(BlockKey),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        let witness = [vec![0; WITNESS_LEN], vec![0; WITNESS_LEN]];
        let image = Image { blocks: BTreeMap::new(), witness, ring: BTreeMap::new() };
        Self {
            // A xorshift generator stands still at 0.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            life: 0,
            durable: image.clone(),
            present: image,
            unsynced: Vec::new(),
            witness_dirty: BTreeSet::new(),
            ring_dirty: BTreeSet::new(),
            node: None,
            fails: None,
            failure: None,
            changes_left: None,
            hangs: None,
            hanging: false,
            witness_syncs: 0,
        }
    }

    /// Keeps some first part of what was put since the last sync; of the witness, and of each page of the ring, the old,
    /// the new, or half of each.
    pub(super) fn lose_unsynced(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let kept = self.below(unsynced.len() + 1);
        for change in unsynced.into_iter().take(kept) {
            self.durable.apply(change);
        }
        for slot in std::mem::take(&mut self.witness_dirty) {
            let (mut kept, new) = (self.durable.slot(slot).clone(), self.present.slot(slot).clone());
            self.tear(&mut kept, new);
            *self.durable.slot(slot) = kept;
        }
        for page in std::mem::take(&mut self.ring_dirty) {
            let (mut kept, new) = (self.durable.page(page).clone(), self.present.page(page).clone());
            self.tear(&mut kept, new);
            *self.durable.page(page) = kept;
        }
        self.present = self.durable.clone();
    }

    /// Makes of the old bytes the new ones, or some first part of them, or nothing.
    fn tear(&mut self, old: &mut Vec<u8>, new: Vec<u8>) {
        match self.below(3) {
            0 => {}
            1 => *old = new,
            _ => {
                let torn = self.below(new.len().min(old.len()));
                let (first, _) = old.split_at_mut(torn);
                first.copy_from_slice(new.split_at(torn).0);
            }
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty() && self.witness_dirty.is_empty() && self.ring_dirty.is_empty()
    }

    pub(super) fn sync_witness(&mut self) {
        for slot in std::mem::take(&mut self.witness_dirty) {
            self.durable.slot(slot).clone_from(self.present.slot(slot));
        }
    }

    pub(super) fn sync_ring(&mut self) {
        for page in std::mem::take(&mut self.ring_dirty) {
            self.durable.page(page).clone_from(self.present.page(page));
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        self.present.apply(change.clone());
        self.unsynced.push(change);
    }

    /// One more change was made.
    pub(super) fn count(&mut self) {
        self.changes_left = self.changes_left.map(|left| left.saturating_sub(1));
    }

    pub(super) fn remove(&mut self, keys: Vec<BlockKey>) -> Removed {
        let mut removed = Removed::default();
        for key in keys {
            removed.add(self.present.blocks.get(&key).map_or(0, Vec::len));
            self.change(Change::Remove(key));
        }
        self.count();
        removed
    }

    /// Fails if it was scheduled to.
    pub(super) fn strike(&mut self, operation: Operation, doing: &'static str) -> Result<(), StoreError> {
        let Some((scheduled, left, failure)) = &mut self.fails else { return Ok(()) };
        if *scheduled != operation {
            return Ok(());
        }
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        match (operation, *failure) {
            (Operation::Sync, Failure::Passed) => self.unsynced.clear(),
            (Operation::SyncRing, Failure::Passed) => self.ring_dirty.clear(),
            (Operation::SyncWitness, Failure::Passed) => self.witness_dirty.clear(),
            _ => {}
        }
        self.failure = Some((operation, *failure));
        self.fails = None;
        Err(StoreError::new(doing, io::Error::other("the simulated disk was told to fail")))
    }

    /// The process is gone.
    pub(super) fn restart(&mut self) {
        self.life += 1;
        (self.fails, self.failure, self.hangs, self.changes_left) = (None, None, None, None);
    }

    pub(super) fn save_blocks(&mut self) {
        self.unsynced.clear();
        self.durable.blocks.clone_from(&self.present.blocks);
    }

    pub(super) fn save_witness(&mut self) {
        self.witness_dirty.clear();
        self.durable.witness.clone_from(&self.present.witness);
    }

    pub(super) fn save_ring(&mut self) {
        self.ring_dirty.clear();
        self.durable.ring.clone_from(&self.present.ring);
    }

    /// A number from 0 to `end - 1`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random() % end.max(1) as u64).expect("it is less than a usize")
    }

    /// xorshift64*: good enough to choose where a simulated disk breaks.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Image {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Put(key, block) => self.blocks.insert(key, block),
            Change::Remove(key) => self.blocks.remove(&key),
        };
    }

    pub(super) fn from(&self, from: BlockKey) -> Vec<(BlockKey, Vec<u8>)> {
        self.blocks.range(from..).map(|(key, block)| (*key, block.clone())).collect()
    }

    pub(super) fn page(&mut self, page: u64) -> &mut Vec<u8> {
        self.ring.entry(page).or_insert_with(|| vec![0; usize::try_from(PAGE).expect("a page is short")])
    }

    pub(super) fn slot(&mut self, slot: Slot) -> &mut Vec<u8> {
        let [a, b] = &mut self.witness;
        match slot {
            Slot::A => a,
            Slot::B => b,
        }
    }
}
