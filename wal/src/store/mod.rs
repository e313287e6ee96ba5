//! The only seam to the disk: blocks in the order of their keys, the two slots of the witness, and the mirror ring.
//!
//! Everything above it (frames, chain, group commit, recovery) is the same over `SledStore`
//! and over [`SimStore`](sim::SimStore); `store/contract.rs` holds both to the same contract:
//!
//! - a block is put whole or not at all, also across a crash;
//! - of the blocks put since the last sync, a crash leaves some first ones and none after them;
//! - when [`sync`](Store::sync) has returned `Ok`, all that was put before survives power loss;
//! - of the pages of the ring that were written since its last sync, a crash leaves any, and any beginning of each;
//! - after the first error nothing is promised any more but what a new start reads.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::block::BlockKey;

mod ballast;
#[cfg(test)]
mod contract;
pub(crate) mod files;
pub(crate) mod home;
pub mod sim;
pub(crate) mod sled_store;

/// What is said of every block on a walk; `Break` ends it.
pub type Visit<'a> = dyn FnMut(BlockKey, &[u8]) -> ControlFlow<()> + 'a;

/// A place for blocks and for the witness beside them.
pub trait Store: Send + Sync {
    /// Stores a block under a key that is greater than all others. Durable only after [`sync`](Self::sync).
    fn put(&self, key: BlockKey, block: &[u8]) -> Result<(), StoreError>;

    /// Returns once everything put before is on stable storage, and never `Ok` otherwise.
    fn sync(&self) -> Result<(), StoreError>;

    /// The block with the greatest key that is not above `key`.
    fn at_or_before(&self, key: BlockKey) -> Result<Option<(BlockKey, Vec<u8>)>, StoreError>;

    /// Walks over the blocks from `from` on, in the order of their keys.
    fn scan(&self, from: BlockKey, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Removes up to `limit` of the lowest blocks below `key`. Needs no sync: the witness, which was raised
    /// before, makes those that come back after a crash invisible.
    fn remove_below(&self, key: BlockKey, limit: usize) -> Result<Removed, StoreError>;

    /// Removes every block from `key` on, the last one first: whatever a power cut leaves of them is their beginning.
    fn remove_from(&self, key: BlockKey) -> Result<Removed, StoreError>;

    /// What the two slots of the witness hold, each [`WITNESS_LEN`] bytes.
    fn read_witness(&self) -> Result<[Vec<u8>; 2], StoreError>;

    /// Overwrites a slot of the witness. Survives the death of the process, but power loss only after
    /// [`sync_witness`](Self::sync_witness).
    fn write_witness(&self, slot: Slot, bytes: &[u8; WITNESS_LEN]) -> Result<(), StoreError>;

    /// Returns once the slots are on stable storage as last written.
    fn sync_witness(&self) -> Result<(), StoreError>;

    /// How many pages the ring has for entries, beside two for its head: at least twice what the longest block takes.
    fn ring_pages(&self) -> u64;

    /// Reads from the ring, `at` bytes from its beginning; what was never written is zero.
    fn read_ring(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError>;

    /// Overwrites a stretch of the ring; `at` is the beginning of a page. Survives the death of the process, but power loss only
    /// after [`sync_ring`](Self::sync_ring). Called while another thread puts and syncs blocks.
    fn write_ring(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// Returns once the ring is on stable storage as last written.
    fn sync_ring(&self) -> Result<(), StoreError>;

    /// What is free where the blocks are kept. Gives the reserve back to a disk that is nearly full, and makes it again
    /// where there is plenty; to be asked a few times a second.
    fn room(&self) -> Result<Room, StoreError>;

    /// Copies everything aside before damaged blocks are cut off; gives the place, where there is one.
    fn set_aside(&self) -> Result<Option<PathBuf>, StoreError>;
}

/// Bytes of a slot that carry something; on disk a slot has 4 KiB to itself.
pub const WITNESS_LEN: usize = 64;

/// Bytes of a page of the ring: what a disk tears at most.
pub const PAGE: u64 = 4096;

/// One of the two slots of the witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// What a removal took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Blocks.
    pub blocks: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// How much more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free beside the reserve, whether that is kept at the moment or not.
    pub free: u64,
    /// Bytes of the reserve: room that is given back when the disk is nearly full, so that what was begun can end.
    pub reserve: u64,
    /// Whether the reserve is kept now.
    pub is_kept: bool,
}

/// The disk, or the engine on it, did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("could not {doing}: {cause}{}", advice(doing, .cause))]
pub struct StoreError {
    doing: &'static str,
    cause: Arc<io::Error>,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl Room {
    /// That of a store which is on no disk.
    pub const ENDLESS: Self = Self { free: u64::MAX, reserve: 0, is_kept: true };
}

impl Removed {
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.blocks += 1;
        self.bytes += bytes as u64;
    }
}

impl StoreError {
    /// `doing` goes into a sentence after "could not".
    #[must_use]
    pub fn new(doing: &'static str, cause: io::Error) -> Self {
        Self { doing, cause: Arc::new(cause) }
    }

    /// What kind of I/O error it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }

    /// For use with `map_err`.
    pub(crate) fn of(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::new(doing, cause)
    }
}

/// What the operator can do about the errors that are theirs to remedy. `doing` is what was tried.
pub(crate) fn advice(doing: &str, cause: &io::Error) -> &'static str {
    let kind = cause.kind();
    if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        " (make room on the disk)"
    } else if kind == ErrorKind::PermissionDenied && ["read", "open", "list", "look at"].contains(&doing) {
        " (give the user of this process the right to read it)"
    } else if kind == ErrorKind::PermissionDenied {
        " (give the user of this process the right to write there)"
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        " (the file system is mounted read-only)"
    } else if cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        " (the disk failed: the kernel's log says more)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_operator_to_remedy_is_said_and_nothing_else() {
        for (kind, words) in [
            (ErrorKind::StorageFull, "make room"),
            (ErrorKind::QuotaExceeded, "make room"),
            (ErrorKind::PermissionDenied, "the right to write"),
            (ErrorKind::ReadOnlyFilesystem, "read-only"),
        ] {
            assert!(advice("rename", &kind.into()).contains(words), "{kind}");
        }
        assert!(advice("open", &ErrorKind::PermissionDenied.into()).contains("the right to read"));
        assert_eq!(advice("read", &ErrorKind::InvalidData.into()), "");
    }
}
