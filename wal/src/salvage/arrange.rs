//! The blocks of the log as records and gaps, in order.

use super::Spot;
use super::scan::Sighting;
use crate::lsn::Lsn;

/// One thing after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whole records.
    Block(Sighting),
    /// All parts of a long record.
    Long(Vec<Sighting>),
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
pub(super) fn arrange(blocks: &[Sighting], low: Option<Lsn>, acknowledged: Option<Lsn>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut next = low;
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
        let is_whole = block.key.part == 0 && parts.last().is_some_and(|last| last.next.part == 0);
        if !is_whole {
            continue;
        }
        let first = block.key.first;
        if let Some(missing) = next.filter(|next| *next < first) {
            pieces.push(Piece::Missing(missing, first.before().unwrap_or(missing)));
        }
        next = parts.last().map(|last| last.next.first);
        pieces.push(if parts.len() == 1 { Piece::Block(*block) } else { Piece::Long(parts) });
    }
    if let (Some(next), Some(acknowledged)) = (next.or(Some(Lsn::FIRST)), acknowledged)
        && next <= acknowledged
    {
        pieces.push(Piece::Missing(next, acknowledged));
    }
    pieces
}

/// Every gap, with what is left of what was in it.
pub(super) fn missing(pieces: &[Piece], remains: &[Spot]) -> Vec<Missing> {
    let gaps = pieces.iter().filter_map(|piece| match piece {
        Piece::Missing(first, last) => Some((*first, *last)),
        Piece::Block(_) | Piece::Long(_) => None,
    });
    gaps.map(|(first, last)| {
        let is_of_it = |spot: &&Spot| spot.records.is_some_and(|(from, to)| from <= last && to >= first);
        Missing { first, last, remains: remains.iter().filter(is_of_it).cloned().collect() }
    })
    .collect()
}
