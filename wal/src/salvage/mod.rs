//! What can be rescued of a log that cannot be opened, and a new log made of it.
//!
//! Nothing is asked of the engine, and nothing is written to the damaged directory. Every whole block that lies anywhere in its
//! files is found by its own bytes, the log's own numbers decide which of them count, and what is missing is told by
//! the numbers that are left out.
//!
//! ```text
//!  files ─ scan ─► whole blocks ─ choose ─► blocks of the log ──────┐
//!            └───► damaged ones ─ fragments ─► their whole records ──┴─ arrange ─► records and gaps, in order
//!                                                                                       │
//!                                                                    Rebuild ◄──────────┘ the caller says what stands in a gap
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `scan` | every whole block in the files |
//! | `choose` | which of them are the log |
//! | `fragments` | whole records in blocks that are not whole |
//! | `arrange` | records and gaps, in order |
//! | `rebuild` | a new log in another directory |
//! | `refusals` | what the disk does not give |

mod arrange;
mod choose;
mod fragments;
mod rebuild;
mod refusals;
mod scan;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use self::arrange::Missing;
use self::arrange::Piece;
use self::choose::{Choice, Reach};
pub use self::rebuild::Rebuild;
use self::refusals::{Refusals, is_refusal};
use self::scan::{Place, Seen, Sighting};
use crate::block::Claim;
use crate::error::OpenError;
use crate::frame;
use crate::lsn::Lsn;
use crate::open::{Copied, witnessed};
use crate::readable::EPOCHS_SKIPPED;
use crate::ring;
use crate::store::PAGE;
pub use crate::store::files::new_node;
use crate::store::files::{Files, open_regular};
use crate::store::home::Moved;
use crate::witness::Witness;

/// A damaged log that was looked through. Holds the lock of its directory.
pub struct Salvage {
    seen: Seen,
    pieces: Vec<Piece>,
    findings: Findings,
    _lock: Option<File>,
}

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

/// One thing after the other, as the log had them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record, as it was written.
    Record(Lsn, &'a [u8]),
    /// These records are missing, first and last.
    Missing(Lsn, Lsn),
}

/// Looks through the log in a directory. A log that a node works with gives [`OpenError::Locked`]. Of a directory that is a copy,
/// or was restored, `copied` says whether it holds everything that the node ever wrote.
pub fn look(directory: &Path, copied: Copied) -> Result<Salvage, OpenError> {
    let files = Files::new(directory);
    let lock = files.lock_shared()?;
    let mut refusals = Refusals::default();
    refusals.forgive(files.refuse_open_store().map(Some))?;
    let marker = match files.node() {
        Err(OpenError::Damage(_)) => None,
        marker => refusals.forgive(marker)?,
    };
    let named = refusals.forgive(witnessed(&files))?;
    // Where the marker is of another log, nobody knows which of them is that of the records.
    let witness = named.filter(|witness| marker.is_none_or(|marker| marker == witness.node));
    let moved = where_it_is(&files, witness.as_ref(), &mut refusals)?;
    let is_here = moved.is_none();
    let moved = moved.filter(|moved| moved.is_older || copied != Copied::Complete);
    let ring = files.ring();
    let is_ring_foreign = is_foreign(&ring, marker, named.as_ref());
    let searched = Some(ring.as_path()).filter(|_| !is_ring_foreign);
    let mut seen = scan::search(&files.store(), searched, &mut refusals)?;
    if seen.blocks.is_empty()
        && let Some((_, newer)) = seen.newer.first()
    {
        return Err(newer.clone().into());
    }
    let nothing_is_seen = seen.blocks.is_empty() && seen.remains.is_empty() && refusals.0.is_empty();
    if marker.is_none() && witness.is_none() && nothing_is_seen {
        return Err(OpenError::Absent { directory: directory.to_owned() });
    }
    let (low, acknowledged) = (witness.map(|witness| witness.low), witness.and_then(|witness| witness.high));
    let last_start = files.last_start()?.map(|start| start.epoch);
    let starts = last_start.max(witness.map(|witness| witness.epoch));
    // Every start writes its number into the witness before its first record, and then beside it.
    let reach = match &witness {
        Some(witness) if is_here && last_start == Some(witness.epoch) => Some(Reach::of_witness(witness)),
        Some(_) | None => starts.map(Reach::of_starts),
    };
    let impossible = choose::without_impossible(&mut seen.blocks, reach);
    let choice = choose::choose(seen.blocks.clone(), low);
    let fragments = fragments::find(&seen, &choice.blocks, low)?;
    let pieces = arrange::arrange(&choice.blocks, &fragments, low, acknowledged);
    let mut findings = Findings::of(&seen, &choice, &impossible, &pieces, directory);
    let in_directory = |path: PathBuf| path.strip_prefix(directory).map(Path::to_owned).unwrap_or(path);
    findings.refused_files = refusals.0.into_iter().map(|(path, why)| (in_directory(path), why)).collect();
    findings.marker = marker;
    findings.witness = named.map(|named| Witnessed {
        low: named.low,
        high: named.high,
        node: named.node,
        is_own: witness.is_some(),
        // Every start writes it down before its first record.
        is_current: witness.is_some() && named.epoch >= findings.epoch,
    });
    findings.is_ring_foreign = is_ring_foreign;
    findings.epoch = findings.epoch.max(starts.unwrap_or(0));
    if let Some(moved) = moved {
        findings.epoch = findings.epoch.saturating_add(EPOCHS_SKIPPED);
        (findings.is_older, findings.moved) = (moved.is_older, Some(moved.why));
    }
    Ok(Salvage { seen, pieces, findings, _lock: lock })
}

/// Whether the directory is where the last start left it. What the disk refuses cannot say so.
fn where_it_is(
    files: &Files,
    witness: Option<&Witness>,
    refusals: &mut Refusals,
) -> Result<Option<Moved>, OpenError> {
    match files.moved(witness) {
        Err(OpenError::Io { path, cause, .. }) if is_refusal(&cause) => {
            refusals.note(&path, &cause);
            let name = path.file_name().unwrap_or_default().display().to_string();
            Ok(Some(Moved { why: format!("`{name}` cannot be read"), is_older: false, epoch: 0 }))
        }
        moved => moved,
    }
}

/// Whether the ring is that of another log than the directory, where that is known.
fn is_foreign(ring: &Path, marker: Option<u32>, witness: Option<&Witness>) -> bool {
    let own: BTreeSet<u32> = marker.into_iter().chain(witness.map(|witness| witness.node)).collect();
    let mut heads = Vec::new();
    // What is not read says nothing.
    let _ = open_regular(ring).and_then(|file| file.take(ring::HEAD_PAGES * PAGE).read_to_end(&mut heads));
    ring::node_of(&heads).is_some_and(|node| own.len() == 1 && !own.contains(&node))
}

impl Salvage {
    /// What was found out.
    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Gives every record and every gap to `take`, in order. Reads the files again, a block at a time.
    pub fn each<E: From<OpenError>>(&self, mut take: impl FnMut(Item<'_>) -> Result<(), E>) -> Result<(), E> {
        for piece in &self.pieces {
            match piece {
                Piece::Missing(first, last) => take(Item::Missing(*first, *last))?,
                Piece::Block(block) => self.seen.block(block, |block| {
                    block.frames().try_for_each(|(lsn, frame)| take(Item::Record(lsn, frame.payload)))
                })??,
                Piece::Record(lsn, place) => {
                    let bytes = self.seen.read(*place)?;
                    let (frame, _) = frame::decode(&bytes).map_err(|_| scan::changed(*lsn))?;
                    take(Item::Record(*lsn, frame.payload))?;
                }
                Piece::Long(parts) => {
                    let (mut payload, mut lsn) = (Vec::new(), Lsn::FIRST);
                    for part in parts {
                        lsn = part.key.first;
                        self.seen.block(part, |block| {
                            block.frames().for_each(|(_, frame)| payload.extend_from_slice(frame.payload));
                        })?;
                    }
                    take(Item::Record(lsn, &payload))?;
                }
            }
        }
        Ok(())
    }
}

impl Findings {
    fn of(seen: &Seen, choice: &Choice, impossible: &[Sighting], pieces: &[Piece], directory: &Path) -> Self {
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

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("findings", &self.findings).finish_non_exhaustive()
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
            moved: None,
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
            Findings { high: None, ..whole() },
        ] {
            assert!(!not_whole.is_whole(), "{not_whole:?}");
        }
    }
}
