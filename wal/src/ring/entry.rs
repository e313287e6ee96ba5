//! Head and entries of a ring as bytes.
//!
//! ```text
//! head                                                     (all integers little endian)
//!      0  4  "UMIR"
//!      4  1  format version
//!      5  1  1 once the last blocks of the store were copied into it, 0 before
//!      6  2  zero
//!      8  8  sequence: how often the ring was begun; of two heads the greater one counts
//!     16  8  which ring: a random number, which every entry repeats
//!     24  4  node: the random identity of the directory
//!     28  4  pages for entries
//!     32 28  zero
//!     60  4  CRC-32 over the bytes before it
//!
//! entry
//!      0  4  "URNG"
//!      4  1  format version
//!      5  1  1 if it was copied from the store when the ring began, 0 if a commit wrote it
//!      6  2  zero
//!      8  8  which ring
//!     16  8  place: pages since the ring began
//!     24  8  the place at which its commit began: everything before it is synced
//!     32  4  length of the block in bytes
//!     36  4  CRC-32 over the bytes before it and the block
//!     40  .  the block, and zeros to the end of the page
//! ```
//!
//! What a client sent is in the blocks, and could look like an entry in what is left of a longer one. It
//! cannot have the random number of the ring, which never leaves the file.

use crate::damage::{Damage, DamageKind};
use crate::store::PAGE;

const HEAD_MAGIC: [u8; 4] = *b"UMIR";
const ENTRY_MAGIC: [u8; 4] = *b"URNG";
const VERSION: u8 = 1;

pub(super) const HEAD_LEN: usize = 64;
pub(super) const ENTRY_HEADER_LEN: usize = 40;

/// Which ring it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) id: u64,
    pub(super) node: u32,
    pub(super) pages: u64,
    /// Everything that it got from the store when it began is there.
    pub(super) is_filled: bool,
}

/// One block in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) ring: u64,
    pub(super) place: u64,
    pub(super) begin: u64,
    pub(super) is_copied: bool,
    pub(super) block: &'a [u8],
}

/// How many pages a block of that length takes.
pub(super) const fn pages(length: usize) -> u64 {
    ((ENTRY_HEADER_LEN + length) as u64).div_ceil(PAGE)
}

/// Whether an entry could begin so, of whatever ring.
pub(super) fn looks_like_an_entry(bytes: &[u8]) -> bool {
    bytes.starts_with(&ENTRY_MAGIC)
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN);
        bytes.extend_from_slice(&HEAD_MAGIC);
        bytes.extend_from_slice(&[VERSION, u8::from(self.is_filled), 0, 0]);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.node.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.pages).expect("a ring is small").to_le_bytes());
        bytes.extend_from_slice(&[0; 28]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None` for bytes that are no head.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, Damage> {
        let Some((fields, sum)) = bytes.get(..HEAD_LEN).and_then(|bytes| bytes.split_last_chunk::<4>())
        else {
            return Ok(None);
        };
        if !fields.starts_with(&HEAD_MAGIC) || crc32fast::hash(fields) != u32::from_le_bytes(*sum) {
            return Ok(None);
        }
        check_version(fields)?;
        let pages = number(fields, 28) & u64::from(u32::MAX);
        let node = u32::try_from(number(fields, 24) & u64::from(u32::MAX)).expect("four bytes");
        let is_filled = fields.get(5) == Some(&1);
        Ok(Some(Self { sequence: number(fields, 8), id: number(fields, 16), node, pages, is_filled }))
    }
}

impl<'a> Entry<'a> {
    /// Appends it to `bytes`, to the end of its last page.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend_from_slice(&ENTRY_MAGIC);
        bytes.extend_from_slice(&[VERSION, u8::from(self.is_copied), 0, 0]);
        bytes.extend_from_slice(&self.ring.to_le_bytes());
        bytes.extend_from_slice(&self.place.to_le_bytes());
        bytes.extend_from_slice(&self.begin.to_le_bytes());
        let length = u32::try_from(self.block.len()).expect("a block is shorter than 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        let sum = checksum(bytes.get(start..).unwrap_or_default(), self.block);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(self.block);
        let length = usize::try_from(pages(self.block.len()) * PAGE).expect("a block is short");
        bytes.resize(start + length, 0);
    }

    /// The length of the block that an entry of this ring claims to hold; `None` where none begins.
    pub(super) fn claims(page: &[u8], ring: u64) -> Option<usize> {
        let header = page.get(..ENTRY_HEADER_LEN)?;
        let is_one = header.starts_with(&ENTRY_MAGIC) && number(header, 8) == ring;
        is_one.then(|| usize::try_from(number(header, 32) & u64::from(u32::MAX)).expect("four bytes"))
    }

    /// `None` for bytes that are no whole entry.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Option<Self>, Damage> {
        let Some((header, block)) = bytes.split_at_checked(ENTRY_HEADER_LEN) else { return Ok(None) };
        let Some((fields, sum)) = header.split_last_chunk::<4>() else { return Ok(None) };
        if !fields.starts_with(&ENTRY_MAGIC) || checksum(fields, block) != u32::from_le_bytes(*sum) {
            return Ok(None);
        }
        check_version(fields)?;
        let (ring, place, begin) = (number(fields, 8), number(fields, 16), number(fields, 24));
        let is_copied = fields.get(5) == Some(&1);
        Ok(Some(Self { ring, place, begin, is_copied, block }))
    }
}

fn check_version(fields: &[u8]) -> Result<(), Damage> {
    match fields.get(4) {
        Some(&VERSION) => Ok(()),
        version => {
            let found = version.copied().unwrap_or_default();
            Err(Damage::new(None, DamageKind::NewerVersion { found, known: VERSION }))
        }
    }
}

fn checksum(fields: &[u8], block: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(fields);
    sum.update(block);
    sum.finalize()
}

/// Up to eight bytes from there.
fn number(fields: &[u8], at: usize) -> u64 {
    let field = fields.get(at..).unwrap_or_default();
    field.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_head_are_those_that_version_1_writes() {
        let head = Head { sequence: 3, id: 0x1122_3344_5566_7788, node: 7, pages: 1024, is_filled: true };
        let bytes = head.encode();
        assert_eq!(
            bytes[..32],
            *b"UMIR\x01\x01\0\0\x03\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11\x07\0\0\0\0\x04\0\0"
        );
        assert_eq!((bytes.len(), Head::decode(&bytes).unwrap()), (64, Some(head)));
    }

    #[test]
    fn the_bytes_of_an_entry_are_those_that_version_1_writes() {
        let entry =
            Entry { ring: 0x1122_3344_5566_7788, place: 9, begin: 8, is_copied: true, block: b"block" };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(
            bytes[..36],
            *b"URNG\x01\x01\0\0\x88\x77\x66\x55\x44\x33\x22\x11\x09\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x05\0\0\0"
        );
        assert_eq!((bytes.len(), &bytes[40..46]), (4096, &b"block\0"[..]));
        assert_eq!(Entry::claims(&bytes, entry.ring), Some(5));
        assert_eq!(Entry::claims(&bytes, 1), None, "an entry of another ring");
        assert_eq!(Entry::decode(&bytes[..45]).unwrap(), Some(entry));
    }

    #[test]
    fn no_flipped_bit_of_an_entry_or_a_head_is_passed_over() {
        let mut bytes = Vec::new();
        Entry { ring: 1, place: 9, begin: 8, is_copied: true, block: b"block" }.encode(&mut bytes);
        bytes.truncate(45);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::decode(&bytes).unwrap(), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut bytes = Head { sequence: 3, id: 4, node: 7, pages: 1024, is_filled: true }.encode();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bytes).unwrap(), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_version_is_said_to_be_one() {
        let mut bytes = Head { sequence: 3, id: 4, node: 7, pages: 1024, is_filled: true }.encode();
        bytes[4] = 2;
        let sum = crc32fast::hash(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&sum);
        assert!(Head::decode(&bytes).unwrap_err().is_newer_version());
    }
}
