//! What one group commit wrote: a header that chains it to the block before, and frames.
//!
//! ```text
//! offset  bytes                                            (all integers little endian)
//!      0  4  "UWAL"
//!      4  1  format version
//!      5  1  zero
//!      6  2  part: 0, or which part of a long record this block carries
//!      8  8  number of the first record
//!     16  4  how many records begin or go on here
//!     20  4  length of the frames in bytes
//!     24  8  epoch: which start of the node wrote it
//!     32  4  checksum (offset 36) of the block before; 0 for the very first
//!     36  4  CRC-32 over everything but itself
//!     40  .  frames
//! ```
//!
//! In every format version the first five bytes and the checksum stay where they are, so that a block of a
//! newer program can be told from a damaged one.

use crate::damage::{Damage, DamageKind};
use crate::frame::{self, Frame, Kind};
use crate::lsn::Lsn;

/// The longest block, in bytes. sled keeps values of this size inside its log; larger ones would end up in files
/// that it never syncs.
pub const BLOCK_MAX: usize = 64 * 1024;

/// Bytes of a block before its frames.
pub const HEADER_LEN: usize = 40;

/// The version that this program writes, and the newest it reads.
pub const VERSION: u8 = 1;

/// The longest payload that fits into one block, in bytes.
pub const BODY_MAX: usize = BLOCK_MAX - HEADER_LEN - frame::HEADER_LEN;

pub(crate) const MAGIC: [u8; 4] = *b"UWAL";

/// Where a block is stored. Keys sort as the blocks follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The first record of the block.
    pub first: Lsn,
    /// Which part of that record, if it is in parts; 0 otherwise.
    pub part: u16,
}

/// The checksum of a block, which the next block repeats.
pub type Checksum = u32;

/// What the header of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where it belongs.
    pub key: BlockKey,
    /// How many records begin or go on in it, at least 1.
    pub count: u32,
    /// Which start of the node wrote it, from 1.
    pub epoch: u64,
    /// The checksum of the block before it; 0 for the first of a log.
    pub previous: Checksum,
}

/// A block whose checksums are right, together with all of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// What its header says.
    pub header: Header,
    /// Its own checksum.
    pub checksum: Checksum,
    frames: &'a [u8],
}

impl BlockKey {
    /// The key of the block that begins with `first`.
    #[must_use]
    pub const fn of(first: Lsn) -> Self {
        Self { first, part: 0 }
    }

    /// The greatest key of a block that begins with `first`.
    #[must_use]
    pub const fn last_of(first: Lsn) -> Self {
        Self { first, part: u16::MAX }
    }

    /// The greatest key below this one.
    pub(crate) const fn before(self) -> Option<Self> {
        match (self.part.checked_sub(1), self.first.before()) {
            (Some(part), _) => Some(Self { part, ..self }),
            (None, Some(first)) => Some(Self::last_of(first)),
            (None, None) => None,
        }
    }

    /// As stored: big endian, so that bytes sort like keys.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        let (first, part) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.first.get().to_be_bytes());
        part.copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    /// The key that `bytes` are, or `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, part) = bytes.split_first_chunk::<8>()?;
        let first = Lsn::new(u64::from_be_bytes(*first))?;
        Some(Self { first, part: u16::from_be_bytes(part.try_into().ok()?) })
    }
}

impl<'a> Block<'a> {
    /// The frames, in the order of their records.
    pub fn frames(&self) -> impl Iterator<Item = (Lsn, Frame<'a>)> + use<'a> {
        let mut rest = self.frames;
        let mut lsn = self.header.key.first;
        std::iter::from_fn(move || {
            // `decode` has been here before: what is left is nothing, or a frame that is right.
            let (frame, after) = frame::decode(rest).ok()?;
            let this = lsn;
            (rest, lsn) = (after, lsn.next());
            Some((this, frame))
        })
    }
}

/// Makes the block of `frames`, which hold `header.count` frames.
///
/// # Panics
/// If the frames do not fit, which is the packer's to see to.
#[must_use]
pub fn encode(header: &Header, frames: &[u8]) -> (Vec<u8>, Checksum) {
    assert!(frames.len() <= BLOCK_MAX - HEADER_LEN, "the packer fills a block only to its limit");
    let length = u32::try_from(frames.len()).expect("a block is shorter than 4 GiB");
    let mut block = Vec::with_capacity(HEADER_LEN + frames.len());
    block.extend_from_slice(&MAGIC);
    block.extend_from_slice(&[VERSION, 0]);
    block.extend_from_slice(&header.key.part.to_le_bytes());
    block.extend_from_slice(&header.key.first.get().to_le_bytes());
    block.extend_from_slice(&header.count.to_le_bytes());
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(&header.epoch.to_le_bytes());
    block.extend_from_slice(&header.previous.to_le_bytes());
    let checksum = checksum(&block, frames);
    block.extend_from_slice(&checksum.to_le_bytes());
    block.extend_from_slice(frames);
    (block, checksum)
}

/// Reads a block and checks it whole. Never panics; allocates nothing but the words of an error.
pub fn decode(bytes: &[u8]) -> Result<Block<'_>, Damage> {
    let (block, lsn) = open(bytes)?;
    check_frames(&block).map_err(|kind| Damage::at(lsn, kind))?;
    Ok(block)
}

/// The length that a block claims for itself, if it is one that a block can have.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let frames = bytes.get(20..)?.first_chunk::<4>()?;
    let len = HEADER_LEN + usize::try_from(u32::from_le_bytes(*frames)).ok()?;
    (len <= BLOCK_MAX).then_some(len)
}

/// What a header says while nothing proves that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) epoch: u64,
    pub(crate) previous: Checksum,
    pub(crate) checksum: Checksum,
}

impl Claim {
    /// First and last of the records that it says it holds, if a block can hold so many.
    pub(crate) fn records(self) -> Option<(Lsn, Lsn)> {
        let first = Lsn::new(self.first)?;
        let is_possible = (1..=BLOCK_MAX).contains(&usize::try_from(self.count).ok()?);
        is_possible.then(|| (first, first.plus(u64::from(self.count) - 1)))
    }
}

/// What a block claims for itself. Believe it only where its neighbours say the same.
pub(crate) fn claim(bytes: &[u8]) -> Option<Claim> {
    let four = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let eight = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
    Some(Claim {
        first: eight(8)?,
        count: four(16)?,
        epoch: eight(24)?,
        previous: four(32)?,
        checksum: four(36)?,
    })
}

fn open(bytes: &[u8]) -> Result<(Block<'_>, Lsn), Damage> {
    let nowhere = |kind| Damage::new(None, kind);
    if bytes.len() > BLOCK_MAX {
        return Err(nowhere(DamageKind::TooLong));
    }
    let (head, rest) = bytes.split_first_chunk::<36>().ok_or(nowhere(DamageKind::Truncated))?;
    let (sum, frames) = rest.split_first_chunk::<4>().ok_or(nowhere(DamageKind::Truncated))?;
    let mut fields = Fields(head);
    if fields.take() != MAGIC {
        return Err(nowhere(DamageKind::Magic));
    }
    let checksum = u32::from_le_bytes(*sum);
    if self::checksum(head, frames) != checksum {
        return Err(nowhere(DamageKind::BlockChecksum));
    }
    let [version, zero] = fields.take();
    if version != VERSION {
        return Err(nowhere(DamageKind::NewerVersion { found: version, known: VERSION }));
    }
    if zero != 0 {
        return Err(nowhere(DamageKind::Malformed("a field that should be zero is not")));
    }
    let part = u16::from_le_bytes(fields.take());
    let first = u64::from_le_bytes(fields.take());
    let count = u32::from_le_bytes(fields.take());
    let length = u32::from_le_bytes(fields.take());
    let epoch = u64::from_le_bytes(fields.take());
    let previous = u32::from_le_bytes(fields.take());
    let first = Lsn::new(first).ok_or(nowhere(DamageKind::Malformed("its first record has the number 0")))?;
    if first.get().checked_add(count.into()).is_none() {
        return Err(nowhere(DamageKind::Malformed("its records have no numbers")));
    }
    if usize::try_from(length) != Ok(frames.len()) {
        return Err(Damage::at(first, DamageKind::Malformed("it is not as long as its header says")));
    }
    let header = Header { key: BlockKey { first, part }, count, epoch, previous };
    Ok((Block { header, checksum, frames }, first))
}

/// Only a block of its own carries a part of a record, and only in the place that the part number gives it.
fn check_frames(block: &Block<'_>) -> Result<(), DamageKind> {
    let mut rest = block.frames;
    for _ in 0..block.header.count {
        let (frame, after) = frame::decode(rest)?;
        rest = after;
        let alone = block.header.count == 1;
        let fits = match frame.kind {
            Kind::Whole => block.header.key.part == 0,
            Kind::First => block.header.key.part == 0 && alone,
            Kind::Middle | Kind::Last => block.header.key.part > 0 && alone,
        };
        if !fits {
            return Err(DamageKind::Malformed("a part of a record stands where it cannot"));
        }
    }
    match (block.header.count, rest.is_empty()) {
        (0, _) => Err(DamageKind::Malformed("it holds no record")),
        (_, false) => Err(DamageKind::TooLong),
        (_, true) => Ok(()),
    }
}

fn checksum(head: &[u8], frames: &[u8]) -> Checksum {
    let mut sum = crc32fast::Hasher::new();
    sum.update(head);
    sum.update(frames);
    sum.finalize()
}

/// Takes fields of fixed length off a header whose length was checked once, as a whole.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("the fields are as long as the header");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests;
