//! The mirror ring: the last blocks once more, in a file beside the store.
//!
//! A record is acknowledged when both copies are synced, so either of them alone is enough for what the ring covers:
//! a start puts into one what the other holds. The file has its length from the beginning.
//!
//! ```text
//! page 0, 1    the head, twice: which ring this is, of which log
//! page 2 ..    entries, each from the beginning of a page; behind the last page comes the first one again
//!
//! place   0    1    2    3    4    5    6    7                  counts pages since the ring began: it is both
//!       ├────┴────┴────┤────┤────┴────┤────┤─ ..                the order of the entries and where each of them is
//!         a long block   ..               end
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `entry` | head and entry as bytes |
//! | `held` | what a ring holds, believing nothing |
//!
//! Entries of one commit are on the disk in any order before it is synced: a crash leaves some of them. All before
//! them are there, because no commit begins before the last one is synced in both copies. For the same
//! reason nothing is overwritten that the store does not hold: one round writes at most half of the ring.

use std::ops::Range;

use crate::block::{self, BlockKey};
use crate::lsn::Lsn;
use crate::pack::Packed;
use crate::store::files::random;
use crate::store::{PAGE, Store, StoreError};

mod entry;
mod held;

use entry::{Entry, Head};
pub(crate) use held::{Held, Kept, holds_anything, node_of};

/// Pages before the entries.
pub(crate) const HEAD_PAGES: u64 = 2;

/// Where the next entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring {
    id: u64,
    pages: u64,
    next: u64,
}

/// What one round writes: whole pages, one after the other.
#[derive(Debug)]
pub(crate) struct Stretch {
    ring: Ring,
    bytes: Vec<u8>,
}

/// Whether the ring holds what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingState {
    /// It ends as the store does, and everything before it is there.
    Whole,
    /// There is none: a program that knows none made the log, or somebody took it away.
    Missing,
    /// It has too little or too much of the last commit, as a crash leaves it.
    Unfinished,
    /// Something is not as it was written. The store holds it whole.
    Damaged(String),
}

/// What the two copies of the last blocks lack of each other. The next start makes both whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The state of the ring.
    pub ring: RingState,
    /// The first and the last record that the store lacks, or holds damaged, and the ring holds.
    pub only_in_ring: Option<(Lsn, Lsn)>,
    /// Whether any of those was acknowledged: then the store is damaged, and not only behind.
    pub is_store_damaged: bool,
}

impl Ring {
    /// Begins anew: whatever the ring held counts no more. The store must be synced.
    ///
    /// `sequence` is that of the ring before. It gets the last of `blocks`, as many as fit.
    pub(crate) fn renew(
        store: &dyn Store,
        node: u32,
        sequence: u64,
        blocks: Range<BlockKey>,
    ) -> Result<Self, StoreError> {
        let blocks = last_blocks(store, blocks)?;
        let mut ring = Self { id: random(), pages: store.ring_pages(), next: 0 };
        let head = Head { id: ring.id, node, pages: ring.pages, sequence: sequence + 1, is_filled: false };
        // Durable before any entry: with the old head entries of the old ring would be taken for newer ones.
        write_heads(store, head)?;
        ring.place(&blocks, true).write(store)?;
        store.sync_ring()?;
        write_heads(store, Head { is_filled: true, ..head })?;
        Ok(ring)
    }

    /// Adds what the store has after `last`, with which the ring ends, and before `end`; `None` if that is more than one round.
    pub(crate) fn catch_up(
        mut self,
        store: &dyn Store,
        last: BlockKey,
        end: BlockKey,
    ) -> Result<Option<Self>, StoreError> {
        let blocks = last_blocks(store, last..end)?;
        let Some((_, blocks)) = blocks.split_first().filter(|(known, _)| known.key == last) else {
            return Ok(None);
        };
        if !self.round(blocks).1.is_empty() {
            return Ok(None);
        }
        self.lay_out(blocks).write(store)?;
        store.sync_ring()?;
        Ok(Some(self))
    }

    /// Splits off what one round may write.
    pub(crate) fn round<'a>(&self, blocks: &'a [Packed]) -> (&'a [Packed], &'a [Packed]) {
        let mut pages = 0;
        let fits = blocks.iter().take_while(|block| {
            pages += entry::pages(block.bytes.len());
            pages <= self.round_pages_max()
        });
        blocks.split_at(fits.count().max(1).min(blocks.len()))
    }

    /// Gives blocks their places. They must be written and synced before the next round is.
    pub(crate) fn lay_out(&mut self, blocks: &[Packed]) -> Stretch {
        self.place(blocks, false)
    }

    fn place(&mut self, blocks: &[Packed], is_copied: bool) -> Stretch {
        let (ring, mut bytes) = (*self, Vec::new());
        for block in blocks {
            let (place, begin) = (self.next, ring.next);
            Entry { ring: self.id, place, begin, is_copied, block: &block.bytes }.encode(&mut bytes);
            self.next += entry::pages(block.bytes.len());
        }
        Stretch { ring, bytes }
    }

    const fn round_pages_max(self) -> u64 {
        self.pages / 2
    }

    /// Where a place is in the file, in bytes.
    const fn offset(self, place: u64) -> u64 {
        (HEAD_PAGES + place % self.pages) * PAGE
    }
}

impl Stretch {
    /// Durable after the next sync of the ring.
    pub(crate) fn write(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let to_the_end = (self.ring.pages - self.ring.next % self.ring.pages) * PAGE;
        let at = usize::try_from(to_the_end).unwrap_or(usize::MAX).min(self.bytes.len());
        let (first, rest) = self.bytes.split_at(at);
        store.write_ring(self.ring.offset(self.ring.next), first)?;
        if rest.is_empty() { Ok(()) } else { store.write_ring(self.ring.offset(0), rest) }
    }
}

impl Copies {
    /// `mend` is what only the ring holds, in order.
    pub(crate) fn of(ring: RingState, mend: &[Packed], acknowledged: Option<Lsn>) -> Self {
        let only_in_ring = mend.first().zip(mend.last()).map(|(first, last)| {
            let count = block::decode(&last.bytes).map_or(1, |block| block.header.count);
            (first.key.first, last.key.first.plus(u64::from(count) - 1))
        });
        let is_store_damaged = only_in_ring.is_some_and(|(first, _)| Some(first) <= acknowledged);
        Self { ring, only_in_ring, is_store_damaged }
    }

    /// What is wrong, as sentences, although no record is lost. What a crash leaves is not wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let (Some((first, last)), true) = (self.only_in_ring, self.is_store_damaged) {
            faults.push(format!(
                "the store has lost or damaged records {first} to {last}, which the mirror ring holds; \
                 the next start puts them back"
            ));
        }
        if let RingState::Damaged(why) = &self.ring {
            faults.push(format!(
                "the mirror ring is damaged: {why}; the store is whole, and the next start fills the ring again"
            ));
        }
        faults
    }
}

/// One after the other, so that at most one of them can be torn.
fn write_heads(store: &dyn Store, head: Head) -> Result<(), StoreError> {
    for page in 0..HEAD_PAGES {
        store.write_ring(page * PAGE, &head.encode())?;
        store.sync_ring()?;
    }
    Ok(())
}

/// The last blocks of a store, as many as a ring takes.
fn last_blocks(store: &dyn Store, within: Range<BlockKey>) -> Result<Vec<Packed>, StoreError> {
    let (mut blocks, mut pages) = (Vec::new(), 0);
    let mut at = within.end.before();
    while let Some((key, bytes)) = at.map_or(Ok(None), |at| store.at_or_before(at))? {
        pages += entry::pages(bytes.len());
        if key < within.start || pages > store.ring_pages() {
            break;
        }
        at = key.before();
        blocks.push(Packed { key, bytes });
    }
    blocks.reverse();
    Ok(blocks)
}

#[cfg(test)]
mod tests;
