//! Walks over both copies at once: the blocks of the store, and those that only the ring holds, in one order.
//!
//! ```text
//! store has it       ring has it        then
//! whole              not, or the same   read it
//! not, or damaged    whole              read it from the ring, and note it for the store
//! whole              whole, different   a contradiction: neither is believed
//! damaged            not                damage
//! ```
//!
//! What only one copy holds was perhaps never acknowledged. It is kept all the same: it was appended in order, and
//! somebody may have been told. Only what is left of a commit with something missing before it is passed over.

use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::ControlFlow;

use crate::block::{self, BlockKey};
use crate::damage::{Damage, DamageKind};
use crate::lsn::Lsn;
use crate::pack::Packed;
use crate::ring::{Held, Kept};
use crate::store::{Store, StoreError};
use crate::walk::{End, Stop, Walker};

/// What a walk over both copies found.
pub(crate) struct Merged {
    pub(crate) end: End,
    /// Why the store could not be walked to its end, if it could not.
    pub(crate) broken: Option<StoreError>,
    pub(crate) stop: Option<Damage>,
    /// Blocks that the store has to get from the ring, in order.
    pub(crate) mend: Vec<Packed>,
    /// The last block that was read.
    pub(crate) last: Option<BlockKey>,
}

struct Merge<'a, V> {
    walker: Walker,
    ring: Peekable<Range<'a, BlockKey, Kept>>,
    mend: Vec<Packed>,
    last: Option<BlockKey>,
    visit: V,
}

/// Walks over all blocks, to the end or to the first damage. An error is the visitor's.
pub(crate) fn walk<E>(
    store: &dyn Store,
    held: &Held,
    walker: Walker,
    low: Option<Lsn>,
    visit: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
) -> Result<Merged, (Lsn, E)> {
    let from = BlockKey::of(low.unwrap_or(Lsn::FIRST));
    let mut merge = Merge { walker, ring: held.from(from).peekable(), mend: Vec::new(), last: None, visit };
    let mut stop = None;
    let scanned = store.scan(from, &mut |key, bytes| match merge.block(key, bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => {
            stop = Some(reason);
            ControlFlow::Break(())
        }
    });
    if stop.is_none() && scanned.is_ok() {
        stop = merge.rest_of_ring().err();
    }
    let stop = match stop {
        Some(Stop::Visit(lsn, cause)) => return Err((lsn, cause)),
        Some(Stop::Damage(damage)) => Some(damage),
        None => None,
    };
    let (end, last, mut mend) = (merge.walker.end(), merge.last, merge.mend);
    // Parts of a record that is in neither copy whole are cut off, and not put back first.
    mend.retain(|block| block.key.first < end.tail.next);
    Ok(Merged { end, broken: scanned.err(), stop, mend, last })
}

impl<E, V: FnMut(Lsn, &[u8]) -> Result<(), E>> Merge<'_, V> {
    /// The next block of the store.
    fn block(&mut self, key: BlockKey, bytes: &[u8]) -> Result<(), Stop<E>> {
        while let Some((at, kept)) = self.ring.next_if(|(at, _)| **at < key) {
            self.only_in_ring(*at, kept)?;
        }
        match self.ring.next_if(|(at, _)| **at == key) {
            Some((_, kept)) if kept.bytes != bytes => self.disagreement(key, bytes, kept),
            Some(_) | None => self.step(key, bytes),
        }
    }

    fn step(&mut self, key: BlockKey, bytes: &[u8]) -> Result<(), Stop<E>> {
        self.walker.step(key, bytes, &mut self.visit)?;
        self.last = Some(key);
        Ok(())
    }

    fn rest_of_ring(&mut self) -> Result<(), Stop<E>> {
        while let Some((key, kept)) = self.ring.next() {
            self.only_in_ring(*key, kept)?;
        }
        Ok(())
    }

    fn only_in_ring(&mut self, key: BlockKey, kept: &Kept) -> Result<(), Stop<E>> {
        match self.put_back(key, kept) {
            Err(Stop::Damage(damage)) if kept.follows_hole && is_missing_something(&damage) => Ok(()),
            result => result,
        }
    }

    fn put_back(&mut self, key: BlockKey, kept: &Kept) -> Result<(), Stop<E>> {
        self.step(key, &kept.bytes)?;
        self.mend.push(Packed { key, bytes: kept.bytes.clone() });
        Ok(())
    }

    /// The ring holds only whole blocks; the store may hold anything.
    fn disagreement(&mut self, key: BlockKey, bytes: &[u8], kept: &Kept) -> Result<(), Stop<E>> {
        match block::decode(bytes) {
            Ok(block) if block.header.key == key => {
                let of_ring = block::decode(&kept.bytes).map_or(0, |block| block.checksum);
                let kind = DamageKind::Contradiction { store: block.checksum, ring: of_ring };
                Err(Stop::Damage(Damage::at(key.first, kind)))
            }
            Err(damage) if damage.is_newer_version() => self.step(key, bytes),
            Ok(_) | Err(_) => self.put_back(key, kept),
        }
    }
}

/// Whether a block is whole, and does not come next.
const fn is_missing_something(damage: &Damage) -> bool {
    matches!(damage.kind(), DamageKind::Gap { .. } | DamageKind::Incomplete)
}
