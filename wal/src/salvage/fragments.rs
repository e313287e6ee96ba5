//! Whole records in blocks that are not whole.
//!
//! A block has one checksum over all of it, and each record one of its own, so that a bit that flipped costs one record and not
//! its neighbours. What is left of a block is believed only where the checksums chain it to what is known: it repeats
//! that of the block before it, or its own is repeated by the block behind it. Nobody who writes into the log can make up either.
//!
//! ```text
//!  whole block ◄─ previous ─ header │ record │ #damage# │ record │ ◄─ previous ─ whole block
//!                                     whole     lost      whole
//! ```
//!
//! What an earlier start of the node wrote is not believed where a later one may have written over it, and of two records that claim one
//! number and differ neither is.
//!
//! Where a record is damaged, its length says where the next one begins; that is believed if by all the lengths there are just
//! as many records as the header or the neighbours say, and they fill the block. Otherwise only what stands before the first
//! damage counts. Parts of long records are not looked for: one that is damaged has lost its record.

use std::collections::{BTreeMap, HashMap};

use super::scan::{Place, Remains, Seen, Sighting};
use crate::block::{BLOCK_MAX, BlockKey, Checksum, Claim, HEADER_LEN};
use crate::error::OpenError;
use crate::frame::{self, Kind};
use crate::lsn::Lsn;

/// Records that were found, and where the frame of each lies.
pub(super) type Fragments = BTreeMap<Lsn, Place>;

/// What is known of the places around what is left.
struct Anchors<'a> {
    blocks: &'a [Sighting],
    /// The record that follows, by the checksum of what is known.
    ends: HashMap<Checksum, Lsn>,
    /// The record that it begins with, by the checksum that it gives for the block before it.
    begins: HashMap<Checksum, Lsn>,
}

/// Finds them among the remains, between the blocks that are the log.
pub(super) fn find(seen: &Seen, blocks: &[Sighting], low: Option<Lsn>) -> Result<Fragments, OpenError> {
    let mut found: BTreeMap<Lsn, Vec<(Place, Vec<u8>)>> = BTreeMap::new();
    for (remains, first, count) in chained(&seen.remains, blocks) {
        let end = blocks.get(behind(blocks, first)).map(|block| block.key.first);
        let bytes = seen.read_up_to(remains.place, BLOCK_MAX)?;
        let frames = bytes.get(HEADER_LEN..).unwrap_or_default();
        let filled = remains.place.len.saturating_sub(HEADER_LEN);
        for (number, (at, len)) in (0..).zip(records(frames, filled, count)) {
            let lsn = first.plus(number);
            let is_wanted = end.is_none_or(|end| lsn < end) && low.is_none_or(|low| lsn >= low);
            let Some(frame) = frames.get(at..at + len).filter(|frame| is_wanted && !frame.is_empty()) else {
                continue;
            };
            let place =
                Place { offset: remains.place.offset + (HEADER_LEN + at) as u64, len, ..remains.place };
            found.entry(lsn).or_default().push((place, frame.to_vec()));
        }
    }
    // Two that say different things: neither is believed.
    let agreed = found.into_iter().filter_map(|(lsn, frames)| {
        let (place, first) = frames.first()?;
        frames.iter().all(|(_, frame)| frame == first).then_some((lsn, *place))
    });
    Ok(agreed.collect())
}

/// What is chained to the log, with its first record and how many there are.
fn chained<'a>(remains: &'a [Remains], blocks: &[Sighting]) -> Vec<(&'a Remains, Lsn, u64)> {
    let mut anchors = Anchors::of(blocks);
    let mut left: Vec<(&Remains, Claim)> =
        remains.iter().filter_map(|remains| Some((remains, remains.claim?))).collect();
    let mut chained = Vec::new();
    // Each may be the neighbour that another one needs, before it or behind it.
    loop {
        let known = chained.len();
        left.retain(|(remains, claim)| {
            let Some((first, count)) = anchors.records_of(*claim) else { return true };
            anchors.ends.entry(claim.checksum).or_insert(first.plus(count));
            anchors.begins.entry(claim.previous).or_insert(first);
            chained.push((*remains, first, count));
            false
        });
        if chained.len() == known {
            return chained;
        }
        left.reverse();
    }
}

/// The number of the block that holds this record, or is the first one behind it.
fn behind(blocks: &[Sighting], lsn: Lsn) -> usize {
    blocks.partition_point(|block| block.next <= BlockKey::of(lsn))
}

impl<'a> Anchors<'a> {
    fn of(blocks: &'a [Sighting]) -> Self {
        let ends = blocks.iter().filter(|block| block.next.part == 0);
        let begins = blocks.iter().filter(|block| block.key.part == 0);
        Self {
            blocks,
            ends: ends.map(|block| (block.checksum, block.next.first)).collect(),
            begins: begins.map(|block| (block.previous, block.key.first)).collect(),
        }
    }

    /// The first of its records and how many there are, where a neighbour's checksum and a number agree: a checksum alone can be
    /// the same by chance in a log of millions of blocks.
    fn records_of(&self, claim: Claim) -> Option<(Lsn, u64)> {
        let (first, count) = (Lsn::new(claim.first), u64::from(claim.count));
        let front = self.ends.get(&claim.previous).copied();
        let back = self.begins.get(&claim.checksum).copied();
        if let (Some(front), Some(back)) = (front, back)
            && front < back
            && (first == Some(front) || back == front.plus(count))
        {
            return Some((front, back.get() - front.get()));
        }
        let first = first?;
        if back.is_some_and(|back| back == first.plus(count)) {
            return Some((first, count));
        }
        let next = self.blocks.get(behind(self.blocks, first));
        // Of an earlier start than what comes behind it, and not chained to that: a later start may have written over it.
        let is_latest = next.is_none_or(|next| claim.epoch >= next.epoch);
        (front == Some(first) && is_latest).then_some((first, count))
    }
}

/// Offset and length of each frame that holds a whole record, in order; length 0 for one that is damaged.
fn records(frames: &[u8], filled: usize, count: u64) -> Vec<(usize, usize)> {
    let whole = |at: usize| match frame::decode(frames.get(at..)?) {
        Ok((frame, rest)) if frame.kind == Kind::Whole => Some(frames.len() - at - rest.len()),
        Ok(_) | Err(_) => None,
    };
    let by_length = boundaries(frames, filled);
    if by_length.len() as u64 == count {
        return by_length.into_iter().map(|at| (at, whole(at).unwrap_or_default())).collect();
    }
    let (mut before, mut at) = (Vec::new(), 0);
    while let Some(len) = whole(at) {
        before.push((at, len));
        at += len;
    }
    before
}

/// Where frames begin by their lengths, if these fill the block; otherwise nothing.
fn boundaries(frames: &[u8], filled: usize) -> Vec<usize> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < filled {
        let Some(len) = frames.get(at..filled).and_then(frame::claimed_len) else { return Vec::new() };
        all.push(at);
        at += len;
    }
    if at == filled { all } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::refusals::Refusals;
    use super::super::{choose, scan};
    use super::*;
    use crate::block;
    use crate::pack::{Packer, Tail};

    /// Four blocks with four records each, of which the first is `payload(1)`.
    fn four() -> Vec<Vec<u8>> {
        let mut tail = Tail { next: Lsn::FIRST, checksum: 0 };
        let mut blocks = Vec::new();
        for number in 0..4 {
            let mut packer = Packer::new(tail, 1);
            for n in 1..=4 {
                packer.push(&payload(number * 4 + n));
            }
            let (made, next) = packer.finish();
            tail = next;
            blocks.extend(made.into_iter().map(|block| block.bytes));
        }
        blocks
    }

    fn payload(lsn: u64) -> Vec<u8> {
        format!("payload {lsn} ").repeat(10).into_bytes()
    }

    /// Where the frame of a record begins in the block that holds it.
    fn frame_of(block: &[u8], lsn: u64) -> usize {
        let payload = payload(lsn);
        block.windows(payload.len()).position(|seen| seen == payload).unwrap() - frame::HEADER_LEN
    }

    /// The records that are found in blocks which are not whole.
    fn found(blocks: &[Vec<u8>]) -> Vec<u64> {
        found_from(blocks, None)
    }

    /// The same, where nothing before `low` was kept.
    fn found_from(blocks: &[Vec<u8>], low: Option<Lsn>) -> Vec<u64> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("db"), blocks.join(&[0; 100][..])).unwrap();
        let seen = scan::search(directory.path(), None, &mut Refusals::default())
            .unwrap_or_else(|error| panic!("{error}"));
        let choice = choose::choose(seen.blocks.clone(), low);
        let found = find(&seen, &choice.blocks, low).unwrap();
        for (lsn, place) in &found {
            let bytes = seen.read(*place).unwrap();
            assert_eq!(frame::decode(&bytes).unwrap().0.payload, payload(lsn.get()));
        }
        found.into_keys().map(Lsn::get).collect()
    }

    #[test]
    fn a_bit_in_a_record_costs_that_record() {
        for (number, lost, left) in [(0, 1, [2, 3, 4]), (1, 6, [5, 7, 8]), (3, 16, [13, 14, 15])] {
            let mut blocks = four();
            let at = frame_of(&blocks[number], lost) + 20;
            blocks[number][at] ^= 1;
            assert_eq!(found(&blocks), left);
        }
        assert_eq!(found(&four()), [0; 0], "what is whole needs no fragments");
    }

    #[test]
    fn a_bit_in_the_length_of_a_record_costs_those_behind_it_too() {
        let mut blocks = four();
        let at = frame_of(&blocks[1], 6);
        blocks[1][at] ^= 4;
        assert_eq!(found(&blocks), [5]);
    }

    /// Behind the magic bytes, without which nothing is looked for.
    #[test]
    fn a_bit_in_the_header_costs_nothing_between_whole_neighbours() {
        for at in block::MAGIC.len()..HEADER_LEN {
            let mut blocks = four();
            blocks[1][at] ^= 1;
            assert_eq!(found(&blocks), [5, 6, 7, 8], "a bit in byte {at}");
        }
    }

    #[test]
    fn of_damaged_neighbours_each_vouches_for_the_other() {
        let mut blocks = four();
        for (number, lost) in [(1, 6), (2, 11)] {
            let at = frame_of(&blocks[number], lost) + 20;
            blocks[number][at] ^= 1;
        }
        assert_eq!(found(&blocks), [5, 7, 8, 9, 10, 12]);
    }

    #[test]
    fn what_is_chained_to_nothing_is_not_believed() {
        let mut blocks = four();
        let at = frame_of(&blocks[1], 6) + 20;
        blocks[1][at] ^= 1;
        // Without its own neighbours, it could be of any log.
        let alone = [blocks[1].clone(), blocks[3].clone()];
        assert_eq!(found(&alone), [0; 0]);
        // Its numbers are those of other records.
        blocks[1][8] = 77;
        blocks[1][16] = 3;
        assert_eq!(found(&blocks), [0; 0]);
    }

    #[test]
    fn of_two_that_differ_under_one_number_neither_is_believed() {
        let mut blocks = four();
        let mut other = blocks[1].clone();
        for (block, lost) in [(&mut blocks[1], 6), (&mut other, 8)] {
            let at = frame_of(block, lost) + 20;
            block[at] ^= 1;
        }
        // What one of them has lost the other one has.
        blocks.push(other.clone());
        assert_eq!(found(&blocks), [5, 6, 7, 8]);
        let at = frame_of(&other, 7);
        let mut changed = Vec::new();
        frame::encode(Kind::Whole, &vec![7; payload(7).len()], &mut changed);
        other[at..at + changed.len()].copy_from_slice(&changed);
        blocks[4] = other;
        assert_eq!(found(&blocks), [5, 6, 8]);
    }

    #[test]
    fn a_frame_in_a_payload_is_never_taken_for_a_record() {
        // What a client may send: a body that holds what looks like records, wherever the length of its own may lead.
        let mut forged = Vec::new();
        (0..100).for_each(|_| frame::encode(Kind::Whole, b"forged", &mut forged));
        let mut tail = Tail { next: Lsn::FIRST, checksum: 0 };
        let mut blocks = Vec::new();
        for payloads in [vec![payload(1)], vec![payload(2), forged, payload(4)], vec![payload(5)]] {
            let mut packer = Packer::new(tail, 1);
            for payload in &payloads {
                packer.push(payload);
            }
            let (made, next) = packer.finish();
            tail = next;
            blocks.extend(made.into_iter().map(|block| block.bytes));
        }
        let length = frame_of(&blocks[1], 2) + frame::HEADER_LEN + payload(2).len();
        for bit in 0..32 {
            let mut blocks = blocks.clone();
            blocks[1][length + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(found(&blocks), [2], "bit {bit}");
        }
    }

    #[test]
    fn what_was_retired_or_is_in_a_whole_block_is_not_looked_for() {
        let mut blocks = four();
        let at = frame_of(&blocks[1], 8) + 20;
        blocks[1][at] ^= 1;
        assert_eq!(found_from(&blocks, Lsn::new(6)), [6, 7]);
        // Another block claims what is behind, and nothing speaks against it.
        let mut packer = Packer::new(Tail { next: Lsn::new(7).unwrap(), checksum: 77 }, 1);
        for n in 7..=10 {
            packer.push(&payload(n));
        }
        let (other, _) = packer.finish();
        assert_eq!(found(&[blocks[0].clone(), blocks[1].clone(), other[0].bytes.clone()]), [5, 6]);
    }

    #[test]
    fn a_part_of_a_long_record_is_no_record() {
        let mut packer = Packer::new(Tail { next: Lsn::FIRST, checksum: 0 }, 1);
        let mut blocks = Vec::new();
        for payload in [payload(1), vec![7; 3 * BLOCK_MAX], payload(3)] {
            packer.push(&payload);
            blocks.extend(packer.take().into_iter().map(|block| block.bytes));
        }
        let last = blocks.pop().unwrap();
        for part in &blocks[1..] {
            let mut left = [blocks[0].clone(), part.clone(), last.clone()];
            // In the header, so that its frame is whole.
            left[1][24] ^= 2;
            assert_eq!(found(&left), [0; 0]);
        }
    }
}
