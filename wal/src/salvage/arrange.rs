//! The blocks of the log as records and gaps, in order.

use super::Spot;
use super::fragments::Fragments;
use super::scan::{Place, Sighting};
use crate::lsn::Lsn;

/// One thing after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whole records.
    Block(Sighting),
    /// All parts of a long record.
    Long(Vec<Sighting>),
    /// A whole record of a block that is not whole, and its frame.
    Record(Lsn, Place),
    /// First and last of what is missing.
    Missing(Lsn, Lsn),
}

/// Records that are missing, and what is left of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The first of them.
    pub first: Lsn,
    /// The last of them.
    pub last: Lsn,
    /// What begins like a block, says that it held some of them, and is not whole. Old remains may be among these.
    pub remains: Vec<Spot>,
}

impl Piece {
    /// First and last of the records in it.
    pub(super) fn records(&self) -> Option<(Lsn, Lsn)> {
        match self {
            Self::Block(block) => Some((block.key.first, block.last())),
            Self::Long(parts) => parts.first().map(|part| (part.key.first, part.key.first)),
            Self::Record(lsn, _) => Some((*lsn, *lsn)),
            Self::Missing(..) => None,
        }
    }
}

impl Sighting {
    /// The last record that begins or goes on in it.
    pub(super) fn last(&self) -> Lsn {
        if self.next.part > 0 { self.key.first } else { self.next.first.before().unwrap_or(self.key.first) }
    }
}

/// Lays out what there is between `low` and what was acknowledged, and leaves no number out.
pub(super) fn arrange(
    blocks: &[Sighting],
    fragments: &Fragments,
    low: Option<Lsn>,
    acknowledged: Option<Lsn>,
) -> Vec<Piece> {
    let mut whole = whole_records(blocks);
    let fragments = fragments.iter().map(|(lsn, place)| (*lsn, lsn.next(), Piece::Record(*lsn, *place)));
    whole.extend(fragments);
    whole.sort_by_key(|(first, ..)| *first);
    let mut pieces = Vec::new();
    let mut next = low;
    for (first, end, piece) in whole {
        if let Some(missing) = next.filter(|next| *next < first) {
            pieces.push(Piece::Missing(missing, first.before().unwrap_or(missing)));
        }
        next = Some(end);
        pieces.push(piece);
    }
    if let (Some(next), Some(acknowledged)) = (next.or(Some(Lsn::FIRST)), acknowledged)
        && next <= acknowledged
    {
        pieces.push(Piece::Missing(next, acknowledged));
    }
    pieces
}

/// The whole records of whole blocks, in order: the first of each piece, and the one behind it.
fn whole_records(blocks: &[Sighting]) -> Vec<(Lsn, Lsn, Piece)> {
    let mut pieces = Vec::new();
    let mut rest = blocks;
    while let Some((block, after)) = rest.split_first() {
        rest = after;
        let mut parts = vec![*block];
        while let Some((part, after)) = rest.split_first()
            && parts.last().is_some_and(|last| last.next.part > 0 && last.next == part.key)
        {
            parts.push(*part);
            rest = after;
        }
        match parts.last() {
            Some(last) if block.key.part == 0 && last.next.part == 0 => {
                let end = last.next.first;
                let piece = if parts.len() == 1 { Piece::Block(*block) } else { Piece::Long(parts) };
                pieces.push((block.key.first, end, piece));
            }
            Some(_) | None => {}
        }
    }
    pieces
}

/// Every gap, with what is left of what was in it.
pub(super) fn missing(pieces: &[Piece], remains: &[Spot]) -> Vec<Missing> {
    let gaps = pieces.iter().filter_map(|piece| match piece {
        Piece::Missing(first, last) => Some((*first, *last)),
        Piece::Block(_) | Piece::Long(_) | Piece::Record(..) => None,
    });
    let mut missing: Vec<_> =
        gaps.map(|(first, last)| Missing { first, last, remains: Vec::new() }).collect();
    for spot in remains {
        let Some((from, to)) = spot.records else { continue };
        let behind = missing.partition_point(|missing| missing.last < from);
        for gap in missing.iter_mut().skip(behind).take_while(|gap| gap.first <= to) {
            gap.remains.push(spot.clone());
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::block::BlockKey;

    fn lsn(n: u64) -> Lsn {
        Lsn::new(n).unwrap()
    }

    fn block(key: BlockKey, next: BlockKey) -> Sighting {
        let place = Place { file: 0, offset: key.first.get(), len: 100 };
        Sighting { key, next, epoch: 1, previous: 0, checksum: 0, place }
    }

    /// A block with the records `first..next`.
    fn records(first: u64, next: u64) -> Sighting {
        block(BlockKey::of(lsn(first)), BlockKey::of(lsn(next)))
    }

    /// A part of a long record, which another one follows.
    fn part(first: u64, part: u16) -> Sighting {
        let key = BlockKey { first: lsn(first), part };
        block(key, BlockKey { part: part + 1, ..key })
    }

    /// The last part of a long record.
    fn last_part(first: u64, part: u16) -> Sighting {
        block(BlockKey { first: lsn(first), part }, BlockKey::of(lsn(first + 1)))
    }

    fn arranged(blocks: &[Sighting], low: u64, acknowledged: u64) -> Vec<Piece> {
        arrange(blocks, &Fragments::new(), Lsn::new(low), Lsn::new(acknowledged))
    }

    fn gap(first: u64, last: u64) -> Piece {
        Piece::Missing(lsn(first), lsn(last))
    }

    #[test]
    fn a_block_ends_with_its_last_record_and_a_part_with_its_own() {
        assert_eq!(records(3, 7).last(), lsn(6));
        assert_eq!(part(4, 0).last(), lsn(4));
        assert_eq!(last_part(4, 1).last(), lsn(4));
    }

    #[test]
    fn no_number_from_the_first_that_was_kept_to_the_last_that_was_acknowledged_is_left_out() {
        let (one, next, other) = (records(3, 5), records(5, 6), records(7, 8));
        let (blocks, pieces) = ([one, next, other], [one, next, other].map(Piece::Block));
        let [first, second, third] = pieces;
        let expected = [gap(2, 2), first, second, gap(6, 6), third, gap(8, 9)];
        assert_eq!(arranged(&blocks, 2, 9), expected);
        let records: Vec<_> = expected.iter().filter_map(Piece::records).collect();
        assert_eq!(records, [(3, 4), (5, 5), (7, 7)].map(|(first, last)| (lsn(first), lsn(last))));
        assert_eq!(arranged(&[one], 3, 4), [Piece::Block(one)]);
        assert_eq!(arranged(&[one], 3, 5), [Piece::Block(one), gap(5, 5)]);
        assert_eq!(arranged(&[], 3, 2), [], "nothing was kept");
    }

    #[test]
    fn a_long_record_counts_where_all_of_its_parts_are_there() {
        let all = [part(2, 0), part(2, 1), last_part(2, 2)];
        assert_eq!(arranged(&all, 2, 2), [Piece::Long(all.to_vec())]);
        for lost in 0..3 {
            let mut some = all.to_vec();
            some.remove(lost);
            assert_eq!(arranged(&some, 2, 2), [gap(2, 2)], "without part {lost}");
        }
    }

    #[test]
    fn what_is_left_of_missing_records_is_told_with_them_and_nothing_else() {
        let spot = |offset, first, last| Spot {
            file: PathBuf::from("db"),
            offset,
            len: 100,
            records: Some((lsn(first), lsn(last))),
        };
        let remains = [
            spot(1, 1, 2),
            spot(2, 2, 3),
            spot(3, 4, 4),
            spot(4, 5, 9),
            spot(5, 6, 9),
            Spot { records: None, ..spot(6, 3, 3) },
        ];
        let found = missing(&[gap(3, 5), Piece::Block(records(6, 7))], &remains);
        let expected = Missing { first: lsn(3), last: lsn(5), remains: remains[1..4].to_vec() };
        assert_eq!(found, [expected]);
    }
}
