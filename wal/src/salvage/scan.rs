//! Every whole block that is anywhere in the files of the store or in the mirror ring, whatever is wrong with them.
//!
//! The engine is not asked: its own headers may be what is damaged. A block begins with its magic bytes, says how long it is and
//! has a checksum over all of it, so that it is known wherever it lies. The engine does not compress, and a
//! block never leaves its log for a file of its own; those files are looked into all the same.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::refusals::{Refusals, is_refusal};
use crate::block::{self, BLOCK_MAX, BlockKey, Checksum, Claim, HEADER_LEN};
use crate::damage::{Damage, DamageKind};
use crate::error::OpenError;
use crate::frame::Kind;
use crate::lsn::Lsn;
use crate::ring::HEAD_PAGES;
use crate::store::PAGE;
use crate::store::files::open_regular;

/// Bytes of a file that are searched at once, beside the longest block that may begin in them.
const STEP: usize = 8 * 1024 * 1024;

/// What a disk can refuse to give back on its own.
const SECTOR: usize = 4096;

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files.
    pub(super) file: usize,
    /// Bytes before it.
    pub(super) offset: u64,
    /// Its length in bytes.
    pub(super) len: usize,
}

impl Place {
    /// What of it lies before `end`.
    fn up_to(self, end: u64) -> Option<Self> {
        let left = end.checked_sub(self.offset).filter(|left| *left > 0)?;
        Some(Self { len: self.len.min(usize::try_from(left).unwrap_or(usize::MAX)), ..self })
    }
}

/// A whole block, as it was seen somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) key: BlockKey,
    /// The key that the block after it must have.
    pub(super) next: BlockKey,
    pub(super) epoch: u64,
    pub(super) previous: Checksum,
    pub(super) checksum: Checksum,
    pub(super) place: Place,
}

/// What begins like a block and is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remains {
    /// What it says of itself; nothing proves that.
    pub(super) claim: Option<Claim>,
    pub(super) place: Place,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) files: Vec<PathBuf>,
    pub(super) blocks: Vec<Sighting>,
    pub(super) remains: Vec<Remains>,
    /// Blocks that say that a newer program wrote them.
    pub(super) newer: Vec<(Place, Damage)>,
    /// What the disk refused to read.
    pub(super) refused: Vec<Place>,
    /// Which of the files is the mirror ring.
    ring: Option<usize>,
}

/// Searches every file below a directory, and the mirror ring beside it.
pub(super) fn search(
    directory: &Path,
    ring: Option<&Path>,
    refusals: &mut Refusals,
) -> Result<Seen, OpenError> {
    let mut seen = Seen::default();
    list(directory, &mut seen.files, refusals)?;
    seen.files.sort();
    if let Some(path) = ring {
        seen.ring = Some(seen.files.len());
        seen.files.push(path.to_owned());
    }
    for (number, path) in seen.files.clone().iter().enumerate() {
        let source = match seen.source(number) {
            Err(error) if error.kind() == ErrorKind::NotFound && ring == Some(path) => Ok(None),
            opened => opened.map(Some).map_err(OpenError::io("open", path)),
        };
        let Some(source) = refusals.forgive(source)? else { continue };
        search_file(number, &|bytes, at| source.read(bytes, at), source.len, &mut seen)
            .map_err(OpenError::io("read", path))?;
    }
    Ok(seen)
}

type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<usize>;

fn list(directory: &Path, files: &mut Vec<PathBuf>, refusals: &mut Refusals) -> Result<(), OpenError> {
    let io = OpenError::io("list", directory);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => refusals.forgive(entries.map(Some).map_err(&io))?,
    };
    for entry in entries.into_iter().flatten() {
        let Some(entry) = refusals.forgive(entry.map(Some).map_err(&io))? else { break };
        let path = entry.path();
        let kind = entry.file_type().map(Some).map_err(OpenError::io("look at", &path));
        match refusals.forgive(kind)? {
            Some(kind) if kind.is_dir() => list(&path, files, refusals)?,
            Some(kind) if kind.is_file() => files.push(path),
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// A file that is searched.
struct Source {
    file: File,
    len: u64,
    /// It goes on behind its heads, as far as the longest block can reach that begins before its end.
    is_ring: bool,
}

impl Source {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let (from, left) = match at.checked_sub(self.len) {
            None => (at, self.len - at),
            Some(over) if self.is_ring && over < BLOCK_MAX as u64 => {
                (HEAD_PAGES * PAGE + over, BLOCK_MAX as u64 - over)
            }
            Some(_) => return Ok(0),
        };
        let wanted = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_at(bytes.get_mut(..wanted).unwrap_or_default(), from)
    }
}

/// Finds what begins before `before`.
fn search_file(file: usize, read: ReadAt<'_>, before: u64, seen: &mut Seen) -> io::Result<()> {
    let (mut bytes, mut at, mut from) = (vec![0; STEP + BLOCK_MAX], 0, 0);
    let mut refused = Vec::new();
    loop {
        let filled = fill(file, read, &mut bytes, at, &mut refused)?;
        let window = bytes.get(..filled).unwrap_or_default();
        let is_last = filled < STEP + BLOCK_MAX;
        let left = usize::try_from(before.saturating_sub(at)).unwrap_or(usize::MAX);
        let end = left.min(if is_last { filled } else { STEP });
        // A block that was found may reach over the end of the step.
        from = search_window(file, window, at, from..end, seen).saturating_sub(STEP);
        if is_last {
            // Behind its end a ring goes on with what was told before.
            seen.refused.extend(refused.into_iter().filter_map(|place: Place| place.up_to(before)));
            return Ok(());
        }
        at += STEP as u64;
    }
}

/// Finds what begins in `range` of the window, and gives the place at which to go on.
fn search_window(
    file: usize,
    window: &[u8],
    at: u64,
    range: std::ops::Range<usize>,
    seen: &mut Seen,
) -> usize {
    let mut from = range.start;
    while let Some(found) = memmem::find(window.get(from..).unwrap_or_default(), &block::MAGIC) {
        let start = from + found;
        if start >= range.end {
            break;
        }
        let rest = window.get(start..).unwrap_or_default();
        let place = |len| Place { file, offset: at + start as u64, len };
        let whole = block::claimed_len(rest).and_then(|len| rest.get(..len));
        match whole.map(block::decode) {
            Some(Ok(block)) => {
                let len = whole.map_or(0, <[u8]>::len);
                seen.blocks.push(sighting(&block, place(len)));
                from = start + len;
                continue;
            }
            // Its checksums are right and its format is unknown.
            Some(Err(damage)) if damage.is_newer_version() => {
                seen.newer.push((place(whole.map_or(0, <[u8]>::len)), damage));
            }
            Some(Err(_)) | None => {
                let len = block::claimed_len(rest).unwrap_or(HEADER_LEN).min(rest.len());
                seen.remains.push(Remains { claim: block::claim(rest), place: place(len) });
            }
        }
        from = start + 1;
    }
    from.max(range.end)
}

fn sighting(block: &block::Block<'_>, place: Place) -> Sighting {
    let header = block.header;
    let BlockKey { first, part } = header.key;
    let ends = block.frames().next().is_none_or(|(_, frame)| matches!(frame.kind, Kind::Whole | Kind::Last));
    let next = if ends {
        BlockKey::of(first.plus(header.count.into()))
    } else {
        BlockKey { first, part: part.saturating_add(1) }
    };
    let (epoch, previous, checksum) = (header.epoch, header.previous, block.checksum);
    Sighting { key: header.key, next, epoch, previous, checksum, place }
}

/// Fills the window as far as the file goes. Where the disk refuses, goes on sector by sector with zeros in place of what it
/// does not give.
fn fill(
    file: usize,
    read: ReadAt<'_>,
    bytes: &mut [u8],
    at: u64,
    refused: &mut Vec<Place>,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = at + filled as u64;
        match read(rest, offset) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                let len = rest.len().min(SECTOR - usize::try_from(offset).unwrap_or(0) % SECTOR);
                let sector = rest.get_mut(..len).unwrap_or_default();
                match read(sector, offset) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) if is_refusal(&error) => {
                        sector.fill(0);
                        note_refused(refused, Place { file, offset, len });
                        filled += len;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(filled)
}

/// Windows overlap, and neighbours are told of as one.
fn note_refused(refused: &mut Vec<Place>, place: Place) {
    let end = place.offset + place.len as u64;
    match refused.last_mut() {
        Some(last) if last.file == place.file && last.offset + last.len as u64 >= end => {}
        Some(last) if last.file == place.file && last.offset + last.len as u64 == place.offset => {
            last.len += place.len;
        }
        Some(_) | None => refused.push(place),
    }
}

impl Seen {
    /// Reads what lies at a place.
    pub(super) fn read(&self, place: Place) -> Result<Vec<u8>, OpenError> {
        let path = self.path(place);
        let mut bytes = vec![0; place.len];
        let source = self.source(place.file).map_err(OpenError::io("open", path))?;
        read_exact(&|bytes, at| source.read(bytes, at), &mut bytes, place.offset)
            .map_err(OpenError::io("read", path))?;
        Ok(bytes)
    }

    /// Reads what begins at a place, up to that length and as far as there is anything, with zeros for what the disk refuses.
    pub(super) fn read_up_to(&self, place: Place, len: usize) -> Result<Vec<u8>, OpenError> {
        let path = self.path(place);
        let mut bytes = vec![0; len];
        let source = self.source(place.file).map_err(OpenError::io("open", path))?;
        let read = |bytes: &mut [u8], at: u64| source.read(bytes, at);
        let filled = fill(place.file, &read, &mut bytes, place.offset, &mut Vec::new())
            .map_err(OpenError::io("read", path))?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn source(&self, number: usize) -> io::Result<Source> {
        let file = open_regular(self.files.get(number).expect("one of the files that are searched"))?;
        let len = file.metadata()?.len();
        Ok(Source { file, len, is_ring: self.ring == Some(number) })
    }

    pub(super) fn path(&self, place: Place) -> &Path {
        self.files.get(place.file).expect("a place is in one of the files that were searched")
    }

    /// Reads a block that was whole when it was seen.
    pub(super) fn block<T>(
        &self,
        sighting: &Sighting,
        look: impl FnOnce(&block::Block<'_>) -> T,
    ) -> Result<T, OpenError> {
        let bytes = self.read(sighting.place)?;
        match block::decode(&bytes) {
            Ok(block) if block.checksum == sighting.checksum => Ok(look(&block)),
            Ok(_) | Err(_) => Err(changed(sighting.key.first)),
        }
    }
}

fn read_exact(read: ReadAt<'_>, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read(rest, at + filled as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What was whole is not any more.
pub(super) fn changed(lsn: Lsn) -> OpenError {
    Damage::at(lsn, DamageKind::Store("a block changed while it was looked at".to_owned())).into()
}

#[cfg(test)]
mod tests;
