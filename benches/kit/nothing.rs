//! A store that keeps nothing: what a gateway costs without its log.

use std::path::PathBuf;
use std::sync::Mutex;

use unanimous_wal::block::BlockKey;
use unanimous_wal::store::{Removed, Room, Slot, Store, StoreError, Visit, WITNESS_LEN};

/// Forgets every block. Only the witness is kept, in memory, because opening a log reads it.
#[derive(Debug, Default)]
pub(crate) struct Nothing {
    witness: Mutex<[Vec<u8>; 2]>,
}

impl Store for Nothing {
    fn put(&self, _: BlockKey, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn at_or_before(&self, _: BlockKey) -> Result<Option<(BlockKey, Vec<u8>)>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _: BlockKey, _: &mut Visit<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove_below(&self, _: BlockKey, _: usize) -> Result<Removed, StoreError> {
        Ok(Removed::default())
    }

    fn remove_from(&self, _: BlockKey) -> Result<Removed, StoreError> {
        Ok(Removed::default())
    }

    fn read_witness(&self) -> Result<[Vec<u8>; 2], StoreError> {
        Ok(self.witness.lock().expect("nobody panics with it").clone())
    }

    fn write_witness(&self, slot: Slot, bytes: &[u8; WITNESS_LEN]) -> Result<(), StoreError> {
        let mut slots = self.witness.lock().expect("nobody panics with it");
        let [a, b] = &mut *slots;
        let place = match slot {
            Slot::A => a,
            Slot::B => b,
        };
        *place = bytes.to_vec();
        Ok(())
    }

    fn sync_witness(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn ring_pages(&self) -> u64 {
        1024
    }

    fn read_ring(&self, _: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        bytes.fill(0);
        Ok(())
    }

    fn write_ring(&self, _: u64, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync_ring(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn room(&self) -> Result<Room, StoreError> {
        Ok(Room::ENDLESS)
    }

    fn set_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        Ok(None)
    }
}
