//! What was found out about a damaged log.

use std::path::{Path, PathBuf};

use super::arrange::{self, Missing, Piece};
use super::choose::Choice;
use super::scan::{Place, Seen, Sighting};
use crate::block::Claim;
use crate::lsn::Lsn;

/// What was found out about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The identity in the marker; `None` where it cannot be read.
    pub marker: Option<u32>,
    /// What the witness says; `None` where it cannot be read.
    pub witness: Option<Witnessed>,
    /// The latest start of the node that anything tells of.
    pub epoch: u64,
    /// The first record that was rescued.
    pub low: Option<Lsn>,
    /// The last record that was rescued.
    pub high: Option<Lsn>,
    /// How many records were rescued.
    pub records: u64,
    /// What is missing, in order.
    pub missing: Vec<Missing>,
    /// Whole blocks that cannot be in the same log.
    pub contradictions: Vec<Contradiction>,
    /// Whole blocks that a later start of the node wrote over. They were never acknowledged, or had been given up.
    pub superseded: Vec<Spot>,
    /// Whole blocks with numbers that the log never came to: somebody sent them, to be in a record.
    pub impossible: Vec<Spot>,
    /// What says that a newer program wrote it, although other blocks do not.
    pub newer: Vec<Spot>,
    /// What the disk refused to read, in files that it gives otherwise.
    pub refused: Vec<Spot>,
    /// Files that it refused wholly, each with why.
    pub refused_files: Vec<(PathBuf, String)>,
    /// Why the directory is not where the last start of the node left it, so that more may have come than it holds.
    pub moved: Option<String>,
    /// It is certain that later starts are missing from it, whatever is said of it.
    pub is_older: bool,
    /// The mirror ring is that of another log. It was not looked into.
    pub is_ring_foreign: bool,
}

/// What the witness says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witnessed {
    /// No record below it was kept.
    pub low: Lsn,
    /// The last record that was acknowledged, as far as it knows.
    pub high: Option<Lsn>,
    /// The identity of the log.
    pub node: u32,
    /// The marker does not say that it is of another log.
    pub is_own: bool,
    /// It is its own, and knows of the latest start; otherwise it is from an older copy, and there may be more than it knows of.
    pub is_current: bool,
}

/// A place in the files, and the records that are there or were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Which file, from the directory of the log.
    pub file: PathBuf,
    /// Bytes before it.
    pub offset: u64,
    /// Its length in bytes.
    pub len: usize,
    /// First and last of its records, where that is known.
    pub records: Option<(Lsn, Lsn)>,
}

/// Two whole blocks that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The one that was left out.
    pub left_out: Spot,
    /// One that it does not fit to.
    pub other: Spot,
}

impl Findings {
    pub(super) fn of(
        seen: &Seen,
        choice: &Choice,
        impossible: &[Sighting],
        pieces: &[Piece],
        directory: &Path,
    ) -> Self {
        let spot = |place: Place, records| Spot {
            file: seen.path(place).strip_prefix(directory).unwrap_or(seen.path(place)).to_owned(),
            offset: place.offset,
            len: place.len,
            records,
        };
        let of_block = |block: &Sighting| spot(block.place, Some((block.key.first, block.last())));
        let remains =
            seen.remains.iter().map(|remains| spot(remains.place, remains.claim.and_then(Claim::records)));
        let records = pieces.iter().filter_map(Piece::records);
        Self {
            marker: None,
            witness: None,
            epoch: choice.blocks.iter().map(|block| block.epoch).max().unwrap_or(0),
            low: records.clone().map(|(first, _)| first).next(),
            high: records.clone().map(|(_, last)| last).next_back(),
            records: records.map(|(first, last)| last.get() - first.get() + 1).sum(),
            missing: arrange::missing(pieces, &remains.collect::<Vec<_>>()),
            contradictions: choice
                .contradictions
                .iter()
                .map(|(out, other)| Contradiction { left_out: of_block(out), other: of_block(other) })
                .collect(),
            superseded: choice.superseded.iter().map(of_block).collect(),
            impossible: impossible.iter().map(of_block).collect(),
            newer: seen.newer.iter().map(|(place, _)| spot(*place, None)).collect(),
            refused: seen.refused.iter().map(|place| spot(*place, None)).collect(),
            refused_files: Vec::new(),
            moved: None,
            is_older: false,
            is_ring_foreign: false,
        }
    }

    /// Whether the records that were rescued are known to reach to the end of the log.
    #[must_use]
    pub fn is_end_known(&self) -> bool {
        self.is_end_witnessed() && self.witness.is_some_and(|witness| witness.high <= self.high)
    }

    /// Whether there is a witness that knows where the log ended.
    #[must_use]
    pub fn is_end_witnessed(&self) -> bool {
        self.moved.is_none() && self.witness.is_some_and(|witness| witness.is_current)
    }

    /// Whether the records that were rescued are known to begin where the log began.
    #[must_use]
    pub fn is_beginning_known(&self) -> bool {
        self.witness.is_some_and(|witness| witness.is_own) || self.low == Some(Lsn::FIRST)
    }

    /// Whether every record is there, and nothing speaks against any.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let left_out = self.contradictions.len() + self.newer.len();
        let left_out = left_out + self.refused.len() + self.refused_files.len();
        let is_sound = self.missing.is_empty() && left_out == 0;
        is_sound && self.is_end_known() && self.is_beginning_known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a log whose records 5 to 9 are all there.
    fn whole() -> Findings {
        let witness =
            Witnessed { low: Lsn::FIRST, high: Lsn::new(9), node: 7, is_own: true, is_current: true };
        Findings {
            marker: Some(7),
            witness: Some(witness),
            epoch: 1,
            low: Lsn::new(5),
            high: Lsn::new(9),
            records: 5,
            missing: vec![],
            contradictions: vec![],
            superseded: vec![],
            impossible: vec![],
            newer: vec![],
            refused: vec![],
            refused_files: vec![],
            moved: None,
            is_older: false,
            is_ring_foreign: false,
        }
    }

    fn spot() -> Spot {
        Spot { file: PathBuf::new(), offset: 0, len: 1, records: None }
    }

    #[test]
    fn the_end_is_known_where_a_witness_of_the_last_start_tells_of_nothing_more() {
        let known = |findings: Findings| (findings.is_end_witnessed(), findings.is_end_known());
        let witness = whole().witness.unwrap();
        assert_eq!(known(whole()), (true, true));
        assert_eq!(known(Findings { high: Lsn::new(10), ..whole() }), (true, true), "it may lag behind");
        assert_eq!(known(Findings { high: Lsn::new(8), ..whole() }), (true, false));
        let older = Witnessed { is_current: false, ..witness };
        for unknown in [
            Findings { witness: None, ..whole() },
            Findings { witness: Some(older), ..whole() },
            Findings { moved: Some("it is a copy".to_owned()), ..whole() },
        ] {
            assert_eq!(known(unknown), (false, false));
        }
    }

    #[test]
    fn the_beginning_is_known_by_the_witness_or_where_the_first_record_of_all_is_there() {
        assert!(whole().is_beginning_known());
        let without = Findings { witness: None, ..whole() };
        assert!(!without.is_beginning_known());
        let of_another_log = whole().witness.map(|witness| Witnessed { is_own: false, ..witness });
        assert!(!Findings { witness: of_another_log, ..whole() }.is_beginning_known());
        assert!(Findings { low: Some(Lsn::FIRST), ..without }.is_beginning_known());
    }

    #[test]
    fn a_log_is_whole_where_nothing_speaks_against_it() {
        assert!(whole().is_whole());
        let missing = Missing { first: Lsn::FIRST, last: Lsn::FIRST, remains: vec![] };
        for not_whole in [
            Findings { missing: vec![missing], ..whole() },
            Findings { contradictions: vec![Contradiction { left_out: spot(), other: spot() }], ..whole() },
            Findings { newer: vec![spot()], ..whole() },
            Findings { refused: vec![spot()], ..whole() },
            Findings { refused_files: vec![(PathBuf::new(), "why".to_owned())], ..whole() },
            Findings { high: None, ..whole() },
        ] {
            assert!(!not_whole.is_whole(), "{not_whole:?}");
        }
    }
}
