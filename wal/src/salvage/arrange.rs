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
    gaps.map(|(first, last)| {
        let is_of_it = |spot: &&Spot| spot.records.is_some_and(|(from, to)| from <= last && to >= first);
        Missing { first, last, remains: remains.iter().filter(is_of_it).cloned().collect() }
    })
    .collect()
}
