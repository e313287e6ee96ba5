//! A disk in memory that forgets, fails and hangs on request, the same way for the same seed.
//!
//! ```text
//! SimDisk ── open() ──► SimStore        the disk outlives the store, as it does in life
//!    │ crash()    loses a random rest of what was put since the last sync
//!    │ kill()     loses nothing, and what was not synced is as unsafe as before
//!    │ darken(n)  the power goes right after the n-th change from now on
//!    │ fail(..)   the n-th put or sync from now on fails, and so does all that follows
//!    │ fail_once  only that one fails, and what it was to sync never gets to the disk
//!    │ hang(..)   such operations do not come back until release()
//!    └ damage(..) changes the bytes of a block, or of the ring, behind the log's back
//! ```

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{PAGE, Removed, Room, Slot, Store, StoreError, Visit, WITNESS_LEN};
use crate::block::BlockKey;

mod state;

use state::{Change, Failure, State};

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Inner>);

/// One process's view of a [`SimDisk`]. A crash ends it: the dead write nothing more.
#[derive(Debug)]
pub struct SimStore {
    disk: SimDisk,
    life: u64,
}

/// Which operation is to fail, or to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`Store::put`].
    Put,
    /// [`Store::sync`].
    Sync,
    /// [`Store::write_ring`].
    WriteRing,
    /// [`Store::sync_ring`].
    SyncRing,
    /// [`Store::write_witness`].
    WriteWitness,
    /// [`Store::sync_witness`].
    SyncWitness,
    /// Any that reads.
    Read,
    /// [`Store::remove_below`] and [`Store::remove_from`].
    Remove,
    /// The end of a store, when it is dropped. It cannot fail.
    Close,
}

impl Operation {
    /// What a commit asks of the disk.
    pub const OF_A_COMMIT: [Self; 6] =
        [Self::Put, Self::Sync, Self::WriteRing, Self::SyncRing, Self::WriteWitness, Self::SyncWitness];
}

/// A small ring, so that it goes round often.
const RING_PAGES: u64 = 64;

const PAGE_LEN: usize = 4096;

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    released: Condvar,
}

impl SimDisk {
    /// An empty disk; everything it will ever do follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Inner { state: Mutex::new(State::new(seed)), released: Condvar::new() }))
    }

    /// The store of a process that starts now.
    #[must_use]
    pub fn open(&self) -> SimStore {
        let mut state = self.state();
        state.life += 1;
        SimStore { disk: self.clone(), life: state.life }
    }

    /// The power goes: of what was put since the last sync some first part stays, the rest is gone. A slot of the
    /// witness, and each page of the ring, that was not synced is old, new, or torn. Stores opened before are dead from now on.
    pub fn crash(&self) {
        let mut state = self.state();
        state.lose_unsynced();
        state.restart();
    }

    /// The process dies and the machine lives on: nothing that was put is lost, and nothing that was not synced is safe.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// The `nth` such operation from now on fails (the first is 1), and every operation after it.
    pub fn fail(&self, operation: Operation, nth: u64) {
        self.state().fails = Some((operation, nth.max(1), Failure::Lasting));
    }

    /// Only the `nth` such operation from now on fails. A sync that fails so has lost what it was to write, and the next
    /// one is well, as with Linux and its page cache.
    pub fn fail_once(&self, operation: Operation, nth: u64) {
        self.state().fails = Some((operation, nth.max(1), Failure::Passed));
    }

    /// The power goes right after the `nth` change from now on (the first is 1): it was made, and the store that asked
    /// for it does nothing any more. [`crash`](Self::crash) says what is left.
    pub fn darken(&self, nth: u64) {
        self.state().changes_left = Some(nth.max(1));
    }

    /// Whether the power has gone.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.state().changes_left == Some(0)
    }

    /// The operation that has failed as it was told to.
    #[must_use]
    pub fn failed(&self) -> Option<Operation> {
        self.state().failure.map(|(operation, _)| operation)
    }

    /// From now on no such operation returns before [`release`](Self::release), and any other does.
    pub fn hang(&self, operation: Operation) {
        self.state().hangs = Some(operation);
        self.0.released.notify_all();
    }

    /// Whether an operation hangs now.
    #[must_use]
    pub fn is_hanging(&self) -> bool {
        self.state().hanging
    }

    /// Lets what hangs return, successfully.
    pub fn release(&self) {
        self.state().hangs = None;
        self.0.released.notify_all();
    }

    /// Whether a power cut would take nothing.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.state().is_synced()
    }

    /// How often the witness was synced.
    #[must_use]
    pub fn witness_syncs(&self) -> u64 {
        self.state().witness_syncs
    }

    /// The keys of the blocks that a process sees, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<BlockKey> {
        self.state().present.blocks.keys().copied().collect()
    }

    /// The blocks from `from` on that are there even if the power goes now, in order.
    #[must_use]
    pub fn durable(&self, from: BlockKey) -> Vec<(BlockKey, Vec<u8>)> {
        self.state().durable.from(from)
    }

    /// The blocks from `from` on that a process sees, in order.
    #[must_use]
    pub fn present(&self, from: BlockKey) -> Vec<(BlockKey, Vec<u8>)> {
        self.state().present.from(from)
    }

    /// Changes the stored bytes of a block, or takes the block away if `change` leaves nothing.
    pub fn damage(&self, key: BlockKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let mut bytes = state.present.blocks.remove(&key).unwrap_or_default();
        change(&mut bytes);
        if !bytes.is_empty() {
            state.present.blocks.insert(key, bytes);
        }
        state.save_blocks();
    }

    /// Changes the stored bytes of a slot of the witness.
    pub fn damage_witness(&self, slot: Slot, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        change(state.present.slot(slot));
        state.save_witness();
    }

    /// How many pages of the ring were ever written.
    #[must_use]
    pub fn ring_pages_written(&self) -> usize {
        self.state().present.ring.len()
    }

    /// Changes the stored bytes of every page of the ring that was ever written; `change` is given its number, head included.
    pub fn damage_ring(&self, mut change: impl FnMut(u64, &mut Vec<u8>)) {
        let mut state = self.state();
        for (page, bytes) in &mut state.present.ring {
            change(*page, bytes);
        }
        state.save_ring();
    }

    /// The random identity of the log that is here, if one was wholly made.
    pub(crate) fn node(&self) -> Option<u32> {
        self.state().node
    }

    /// An identity for a log that is to be made.
    pub(crate) fn new_node(&self) -> u32 {
        (self.state().random() >> 32) as u32
    }

    /// A log is there now, unless the power went meanwhile. A real disk has a marker for that, written last.
    pub(crate) fn made(&self, node: u32) {
        let mut state = self.state();
        state.node = (state.changes_left != Some(0) && state.failure.is_none()).then_some(node);
    }

    /// Returns at once, but for an operation that is to hang.
    fn let_hang<'a>(&self, mut state: MutexGuard<'a, State>, operation: Operation) -> MutexGuard<'a, State> {
        while state.hangs == Some(operation) {
            state.hanging = true;
            state = self.0.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            // Not for another thread's operation to say, which comes through meanwhile.
            state.hanging = false;
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimStore {
    fn alive(&self, doing: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.disk.state();
        if state.life != self.life {
            return Err(StoreError::new(doing, io::Error::other("the simulated process is dead")));
        }
        if state.changes_left == Some(0) {
            return Err(StoreError::new(doing, io::Error::other("the simulated power is gone")));
        }
        if matches!(state.failure, Some((_, Failure::Lasting))) {
            return Err(StoreError::new(doing, io::Error::other("the simulated disk has failed")));
        }
        Ok(state)
    }

    /// As where a log is opened in a directory: what a process that was killed left unsynced is believed only when it is synced.
    /// Where there is nothing of that, nothing is changed that the power could go after.
    pub(crate) fn sync_all(&self) -> Result<(), StoreError> {
        if self.disk.is_synced() {
            return Ok(());
        }
        self.sync_witness()?;
        self.sync_ring()?;
        self.sync()
    }

    /// Begins an operation: hangs or fails where it was told to.
    fn begin(&self, operation: Operation, doing: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.disk.let_hang(self.alive(doing)?, operation);
        state.strike(operation, doing)?;
        Ok(state)
    }
}

impl Store for SimStore {
    fn put(&self, key: BlockKey, block: &[u8]) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::Put, "write to the log")?;
        state.change(Change::Put(key, block.to_vec()));
        state.count();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::Sync, "sync the log")?;
        for change in std::mem::take(&mut state.unsynced) {
            state.durable.apply(change);
        }
        state.count();
        Ok(())
    }

    fn at_or_before(&self, key: BlockKey) -> Result<Option<(BlockKey, Vec<u8>)>, StoreError> {
        let state = self.begin(Operation::Read, "read the log")?;
        Ok(state.present.blocks.range(..=key).next_back().map(|(key, block)| (*key, block.clone())))
    }

    fn scan(&self, from: BlockKey, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        // A copy, so that the visitor may use the store.
        let blocks = self.begin(Operation::Read, "read the log")?.present.blocks.clone();
        for (key, block) in blocks.range(from..) {
            if visit(*key, block) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn remove_below(&self, key: BlockKey, limit: usize) -> Result<Removed, StoreError> {
        let mut state = self.begin(Operation::Remove, "remove old blocks")?;
        let keys = state.present.blocks.range(..key).map(|(key, _)| *key).take(limit).collect();
        Ok(state.remove(keys))
    }

    fn remove_from(&self, key: BlockKey) -> Result<Removed, StoreError> {
        let mut state = self.begin(Operation::Remove, "cut the end of the log")?;
        let keys = state.present.blocks.range(key..).map(|(key, _)| *key).rev().collect();
        Ok(state.remove(keys))
    }

    fn read_witness(&self) -> Result<[Vec<u8>; 2], StoreError> {
        Ok(self.begin(Operation::Read, "read the witness")?.present.witness.clone())
    }

    fn write_witness(&self, slot: Slot, bytes: &[u8; WITNESS_LEN]) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::WriteWitness, "write the witness")?;
        *state.present.slot(slot) = bytes.to_vec();
        state.witness_dirty.insert(slot);
        state.count();
        Ok(())
    }

    fn sync_witness(&self) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::SyncWitness, "sync the witness")?;
        state.sync_witness();
        state.witness_syncs += 1;
        state.count();
        Ok(())
    }

    fn ring_pages(&self) -> u64 {
        RING_PAGES
    }

    fn read_ring(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        let state = self.begin(Operation::Read, "read the mirror ring")?;
        for (page, bytes) in (at / PAGE..).zip(bytes.chunks_mut(PAGE_LEN)) {
            match state.present.ring.get(&page).and_then(|there| there.get(..bytes.len())) {
                Some(there) => bytes.copy_from_slice(there),
                None => bytes.fill(0),
            }
        }
        Ok(())
    }

    fn write_ring(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::WriteRing, "write the mirror ring")?;
        for (page, bytes) in (at / PAGE..).zip(bytes.chunks(PAGE_LEN)) {
            if let Some(there) = state.present.page(page).get_mut(..bytes.len()) {
                there.copy_from_slice(bytes);
            }
            state.ring_dirty.insert(page);
        }
        state.count();
        Ok(())
    }

    fn sync_ring(&self) -> Result<(), StoreError> {
        let mut state = self.begin(Operation::SyncRing, "sync the mirror ring")?;
        state.sync_ring();
        state.count();
        Ok(())
    }

    fn room(&self) -> Result<Room, StoreError> {
        self.alive("ask for the free space").map(|_| Room::ENDLESS)
    }

    fn set_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        Ok(None)
    }
}

impl Drop for SimStore {
    fn drop(&mut self) {
        drop(self.disk.let_hang(self.disk.state(), Operation::Close));
    }
}
