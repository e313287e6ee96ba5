//! Follows the log from block to block and believes nothing: numbers, chain, epochs, parts.

use crate::block::{self, Block, BlockKey};
use crate::damage::{Damage, DamageKind};
use crate::frame::Kind;
use crate::lsn::Lsn;
use crate::pack::Tail;

#[cfg(test)]
mod tests;

/// Where the walk stands. Blocks go in with [`step`](Walker::step), in the order of their keys.
#[derive(Debug)]
pub(crate) struct Walker {
    /// `None` only before the first block of a log whose witness could not be read.
    next: Option<Lsn>,
    /// `None` before the first block that is still kept, if older ones were retired.
    checksum: Option<u32>,
    epoch: u64,
    epoch_max: u64,
    partial: Option<Partial>,
    counts: Counts,
}

/// How much was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks in the store.
    pub blocks: u64,
    /// Their length, in bytes.
    pub bytes: u64,
    /// Whole records in them.
    pub records: u64,
}

/// A long record of which not all parts were seen yet.
#[derive(Debug)]
struct Partial {
    lsn: Lsn,
    next_part: u16,
    payload: Vec<u8>,
    /// Where the log ended before it.
    before: Tail,
    counts: Counts,
}

/// What the walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Where the readable log ends.
    pub(crate) tail: Tail,
    /// The latest epoch in it, 0 if it is empty.
    pub(crate) epoch: u64,
    /// The record at the very end of which parts are missing, if there is one.
    pub(crate) torn: Option<Lsn>,
    pub(crate) counts: Counts,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    Damage(Damage),
    /// The visitor refused a record.
    Visit(Lsn, E),
}

impl Walker {
    /// A walk that must begin at `low`, over blocks that no start after `epoch_max` can have written.
    pub(crate) fn new(low: Option<Lsn>, epoch_max: u64) -> Self {
        // Nothing comes before the first record of all, so there the chain begins with 0.
        let checksum = (low == Some(Lsn::FIRST)).then_some(0);
        Self { next: low, checksum, epoch: 0, epoch_max, partial: None, counts: Counts::default() }
    }

    /// Checks the next block and hands each record that is now whole to `visit`.
    pub(crate) fn step<E>(
        &mut self,
        key: BlockKey,
        bytes: &[u8],
        visit: &mut impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let damaged = |kind| Stop::Damage(Damage::at(key.first, kind));
        let block = block::decode(bytes).map_err(|damage| damaged(damage.kind().clone()))?;
        self.check(key, &block).map_err(damaged)?;
        let before = self.tail();
        let counts = self.counts;
        self.counts.blocks += 1;
        self.counts.bytes += bytes.len() as u64;
        for (lsn, frame) in block.frames() {
            match frame.kind {
                Kind::Whole => {
                    self.counts.records += 1;
                    visit(lsn, frame.payload).map_err(|cause| Stop::Visit(lsn, cause))?;
                }
                Kind::First => {
                    let payload = frame.payload.to_vec();
                    self.partial = Some(Partial { lsn, next_part: 1, payload, before, counts });
                }
                Kind::Middle => self.join(frame.payload),
                Kind::Last => {
                    self.join(frame.payload);
                    self.counts.records += 1;
                    let whole = self.partial.take().expect("`check` refuses a last part without a first");
                    visit(lsn, &whole.payload).map_err(|cause| Stop::Visit(lsn, cause))?;
                }
            }
        }
        self.epoch = block.header.epoch;
        self.checksum = Some(block.checksum);
        // While parts are missing the record has not ended, and the next block carries its number again.
        let whole = if self.partial.is_some() { 0 } else { u64::from(block.header.count) };
        self.next = Some(key.first.plus(whole));
        Ok(())
    }

    /// Where the walk has come to.
    pub(crate) fn end(&self) -> End {
        let epoch = self.epoch;
        match &self.partial {
            Some(partial) => {
                End { tail: partial.before, epoch, torn: Some(partial.lsn), counts: partial.counts }
            }
            None => End { tail: self.tail(), epoch, torn: None, counts: self.counts },
        }
    }

    fn tail(&self) -> Tail {
        Tail { next: self.next.unwrap_or(Lsn::FIRST), checksum: self.checksum.unwrap_or(0) }
    }

    fn check(&self, key: BlockKey, block: &Block<'_>) -> Result<(), DamageKind> {
        let header = &block.header;
        if header.key != key {
            return Err(DamageKind::Misplaced);
        }
        let expected = self.next.unwrap_or(key.first);
        let part = self.partial.as_ref().map_or(0, |partial| partial.next_part);
        if key.first != expected {
            let incomplete = self.partial.is_some();
            return Err(if incomplete {
                DamageKind::Incomplete
            } else {
                DamageKind::Gap { expected, found: key.first }
            });
        }
        if key.part != part {
            return Err(DamageKind::Incomplete);
        }
        if self.checksum.is_some_and(|checksum| checksum != header.previous) {
            return Err(DamageKind::Chain);
        }
        if header.epoch < self.epoch || header.epoch > self.epoch_max {
            let expected = if header.epoch < self.epoch { self.epoch } else { self.epoch_max };
            return Err(DamageKind::Epoch { expected, found: header.epoch });
        }
        let too_long =
            self.partial.as_ref().is_some_and(|partial| partial.payload.len() > crate::PAYLOAD_MAX);
        if too_long { Err(DamageKind::TooLong) } else { Ok(()) }
    }

    fn join(&mut self, piece: &[u8]) {
        let partial = self.partial.as_mut().expect("`check` refuses a later part without a first");
        partial.payload.extend_from_slice(piece);
        partial.next_part = partial.next_part.saturating_add(1);
    }
}
