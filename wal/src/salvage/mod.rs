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
//! | `findings` | what was found out |
//! | `rebuild` | a new log in another directory |
//! | `refusals` | what the disk does not give |

mod arrange;
mod choose;
mod findings;
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
use self::choose::Reach;
pub use self::findings::{Contradiction, Findings, Spot, Witnessed};
pub use self::rebuild::Rebuild;
use self::refusals::{Refusals, is_refusal};
use self::scan::Seen;
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

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("findings", &self.findings).finish_non_exhaustive()
    }
}
