//! Whether sled would find every acknowledged record, looked up before it may touch its file.
//!
//! What sled cannot read when it opens it takes for the torn end of its log, and it overwrites with zeros all that
//! comes after: one flipped bit would cost everything behind it before anybody was told. So its file is read here
//! first, in the way sled reads it and without a write.
//!
//! ```text
//! segment, 8 MiB   header (20): CRC-32, place in the log, up to where it was stable then
//!                  messages, until a cap, or until the first that is none
//! message          CRC-32 (4), kind (1), length, segment, page, body
//!                  whole blocks of ours are somewhere in the body
//! ```
//!
//! The end of the log it looks for from the greatest place that is called stable, be it by its snapshot or a header. If the
//! segment of that place is gone, because all in it was garbage, sled finds no end, and overwrites what came after
//! its snapshot; without one, everything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem;

use super::SEGMENT_SIZE;
use crate::block::{self, Block, BlockKey, Header};
use crate::frame::{Frame, Kind};
use crate::store::files::open_regular;
use crate::witness::Witness;

const SEGMENT_HEADER_LEN: usize = 20;

/// sled begins no message closer to the end of a segment.
const MESSAGE_ROOM: usize = 32;

/// Kinds of messages: nothing was written here, and a cap, which ends a segment. There is none above the last.
const NOTHING: u8 = 0;
const CAP: u8 = 2;
const KIND_MAX: u8 = 11;

/// Whether every record that the witness saw acknowledged is in some message that sled is sure to come to.
///
/// `false` may be too careful: sled goes on behind some of the segments that end early. Then a copy will tell.
pub(crate) fn finds_everything(data: &Path, witness: &Witness) -> io::Result<bool> {
    let Some(high) = witness.high else { return Ok(true) };
    let segments = segments(data)?;
    let stable = segments.values().map(|segment| segment.stable).max().max(Some(snapshot_of(data)?));
    let last = segments.keys().next_back().copied().unwrap_or_default();
    if !(stable.unwrap_or_default()..=last).all(|number| segments.contains_key(&number)) {
        return Ok(false);
    }
    // Only the last one ends early, if nothing is wrong.
    let mut before_last = segments.range(..last);
    if before_last.any(|(_, segment)| segment.is_torn) {
        return Ok(false);
    }
    let (mut spans, mut beyond) = (Vec::new(), Vec::new());
    for segment in segments.into_values() {
        spans.extend(segment.spans);
        beyond.extend(segment.beyond);
    }
    spans.sort_unstable();
    let mut next = (witness.low.get(), 0);
    for Span { begin, end } in spans {
        if begin > next {
            break;
        }
        next = next.max(end);
    }
    // What is older is left from when the segment was used before. What is further away than records fit into a segment was
    // never a block of this log: somebody sent it, to be in a record.
    let reach = next..(next.0.saturating_add(SEGMENT_SIZE as u64), 0);
    let goes_on = beyond.iter().any(|span: &Span| reach.contains(&span.begin));
    Ok(next.0 > high.get() && !goes_on)
}

/// Whether there is any block of a log in it.
pub(crate) fn finds_anything(data: &Path) -> io::Result<bool> {
    Ok(segments(data)?.values().any(|segment| !segment.spans.is_empty()))
}

/// What a block holds: from which record and part of it, and up to which, that one not included.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    begin: (u64, u16),
    end: (u64, u16),
}

impl Span {
    fn of(block: &Block<'_>) -> Self {
        let Header { key: BlockKey { first, part }, count, .. } = block.header;
        let last = first.get() + u64::from(count) - 1;
        let end = match block.frames().last() {
            // It is alone in its block.
            Some((_, Frame { kind: Kind::First | Kind::Middle, .. })) => (last, part.saturating_add(1)),
            Some((_, Frame { kind: Kind::Whole | Kind::Last, .. })) | None => (last + 1, 0),
        };
        Self { begin: (first.get(), part), end }
    }
}

/// What was found in a segment.
#[derive(Default)]
struct Segment {
    /// In the order of writing.
    spans: Vec<Span>,
    /// The segment up to which all was stable when this one was begun.
    stable: u64,
    /// It ends in something that is no message.
    is_torn: bool,
    /// Blocks behind that: sled would not come to them, and overwrite them.
    beyond: Vec<Span>,
}

/// All segments, by their place in sled's log.
fn segments(data: &Path) -> io::Result<BTreeMap<u64, Segment>> {
    let file = open_regular(data)?;
    let (mut segments, mut bytes, mut at) = (BTreeMap::new(), vec![0; SEGMENT_SIZE], 0);
    loop {
        let read = read_up_to(&file, &mut bytes, at)?;
        let bytes = bytes.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(segments);
        }
        if let Some((number, stable)) = header(bytes) {
            segments.insert(number, Segment { stable, ..survey(bytes, number) });
        }
        at += SEGMENT_SIZE as u64;
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Which segment of sled's log this is, and which was stable then; `None` where its header is torn.
fn header(segment: &[u8]) -> Option<(u64, u64)> {
    let mut header = segment.get(..SEGMENT_HEADER_LEN)?;
    let sum = u32::from_le_bytes(take(&mut header)?);
    let mut fields = header;
    let mut number = || {
        let place = u64::from_le_bytes(take(&mut fields)?) ^ (u64::MAX >> 1);
        // Nothing is stable yet at -1.
        Some(u64::try_from(place.cast_signed()).unwrap_or_default() / SEGMENT_SIZE as u64)
    };
    let numbers = (number()?, number()?);
    (crc32fast::hash(header) == !sum).then_some(numbers)
}

/// The segment from which on sled reads, which the name of its latest snapshot tells; the first where there is none.
fn snapshot_of(data: &Path) -> io::Result<u64> {
    let mut latest = 0;
    for entry in fs::read_dir(data.parent().unwrap_or(data))? {
        let name = entry?.file_name();
        let place = name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix("snap.")?, 16).ok());
        latest = latest.max(place.unwrap_or_default());
    }
    Ok(latest / SEGMENT_SIZE as u64)
}

fn survey(bytes: &[u8], number: u64) -> Segment {
    let (mut segment, mut at) = (Segment::default(), SEGMENT_HEADER_LEN);
    while at + MESSAGE_ROOM <= SEGMENT_SIZE {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((kind, body, len)) = message(rest, number) else {
            segment.is_torn = true;
            each_block(rest, |block| segment.beyond.push(Span::of(block)));
            break;
        };
        if kind == CAP {
            break;
        }
        each_block(body, |block| segment.spans.push(Span::of(block)));
        at += len;
    }
    segment
}

/// Kind, body and whole length of the message that `bytes` begin with; `None` where it is none.
fn message(bytes: &[u8], number: u64) -> Option<(u8, &[u8], usize)> {
    let mut rest = bytes;
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let summed = rest;
    let [kind] = take(&mut rest)?;
    if kind == NOTHING || kind > KIND_MAX {
        return None;
    }
    let length = usize::try_from(variable(&mut rest)?).ok()?;
    let (segment, _page) = (variable(&mut rest)?, variable(&mut rest)?);
    let header = summed.get(..summed.len() - rest.len())?;
    let body = rest.get(..length)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(body);
    crc.update(header);
    (crc.finalize() == !sum && segment == number).then_some((kind, body, bytes.len() - rest.len() + length))
}

fn each_block(body: &[u8], mut visit: impl FnMut(&Block<'_>)) {
    let mut rest = body;
    while let Some(at) = memmem::find(rest, &block::MAGIC) {
        let found = rest.get(at..).unwrap_or_default();
        let whole = block::claimed_len(found).and_then(|len| found.split_at_checked(len));
        let Some((Ok(block), after)) = whole.map(|(bytes, after)| (block::decode(bytes), after)) else {
            rest = found.get(1..).unwrap_or_default();
            continue;
        };
        visit(&block);
        rest = after;
    }
}

/// A number as sled writes it: small ones in a byte, others with their length in the first.
fn variable(bytes: &mut &[u8]) -> Option<u64> {
    let [first] = take(bytes)?;
    let first = u64::from(first);
    match first {
        0..=240 => Some(first),
        241..=248 => Some(240 + 256 * (first - 241) + take(bytes).map(|[low]: [u8; 1]| u64::from(low))?),
        249 => {
            let [high, low] = take(bytes)?;
            Some(2288 + 256 * u64::from(high) + u64::from(low))
        }
        _ => {
            let (number, rest) = bytes.split_at_checked(usize::try_from(first).ok()? - 247)?;
            *bytes = rest;
            Some(number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests;
