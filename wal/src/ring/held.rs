//! What a ring holds: every entry is read and checked, and what is missing between them is noticed.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use super::entry::{self, Entry, Head};
use super::{HEAD_PAGES, Ring, RingState};
use crate::block::{self, BLOCK_MAX, BlockKey};
use crate::damage::{Damage, DamageKind, FOREIGN_RING};
use crate::lsn::Lsn;
use crate::store::{PAGE, Store};

/// The blocks of a ring, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    blocks: BTreeMap<BlockKey, Kept>,
    /// The ring that can be gone on with; `None` if there is none.
    ring: Option<Ring>,
    sequence: u64,
    is_filled: bool,
    /// Entries before this place belong to commits that are synced in both copies.
    settled: u64,
    /// Something of the last commit is missing before something else of it.
    has_hole: bool,
    /// What cannot be read although it was synced.
    fault: Option<String>,
}

/// One block.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    /// Something of its own commit is missing before it, so that nobody was told that it is durable.
    pub(crate) follows_hole: bool,
    last: Lsn,
}

/// An entry that was read.
struct Found {
    key: BlockKey,
    last: Lsn,
    /// Where its commit began; `None` if it was copied from the store.
    begin: Option<u64>,
    bytes: Vec<u8>,
}

/// Reads pages; those that the disk refuses count as damaged.
struct Pages<'a> {
    store: &'a dyn Store,
    fault: Option<String>,
}

impl Held {
    /// Reads the whole ring. Damage is only what must not be passed over: another log's ring, a newer program's, or
    /// one that contradicts itself.
    pub(crate) fn read(store: &dyn Store, node: u32) -> Result<Self, Damage> {
        let mut pages = Pages { store, fault: None };
        let (mut heads, mut is_empty) = (Vec::new(), true);
        for page in 0..HEAD_PAGES {
            let bytes = pages.read(page);
            is_empty &= bytes.iter().all(|byte| *byte == 0);
            heads.extend(Head::decode(&bytes)?);
        }
        let Some(head) = heads.iter().copied().max_by_key(|head| (head.sequence, head.is_filled)) else {
            // Its heads are durable before anything else of it.
            let is_missing = is_empty && !pages.hold_anything();
            let fault = if is_missing { pages.fault } else { Some("its head cannot be read".to_owned()) };
            return Ok(Self { fault, ..Self::default() });
        };
        if head.node != node {
            return Err(Damage::new(None, DamageKind::Ring(FOREIGN_RING)));
        }
        if head.pages != store.ring_pages() {
            let fault = Some(format!("it is {} pages long and should be {}", head.pages, store.ring_pages()));
            return Ok(Self { sequence: head.sequence, fault, ..Self::default() });
        }
        let found = find(&mut pages, head)?;
        let mut own = Self::of(head, found)?;
        if heads.len() < 2 && own.settled > 0 {
            own.fault.get_or_insert("one of its two heads cannot be read".to_owned());
        }
        own.fault = pages.fault.or(own.fault);
        Ok(own)
    }

    /// A ring that cannot be used, in place of one that was refused.
    pub(crate) fn refused(damage: &Damage) -> Self {
        Self { fault: Some(damage.kind().to_string()), ..Self::default() }
    }

    /// The blocks from `key` on.
    pub(crate) fn from(&self, key: BlockKey) -> Range<'_, BlockKey, Kept> {
        self.blocks.range(key..)
    }

    /// Where to go on, if the ring is whole.
    pub(crate) const fn ring(&self) -> Option<Ring> {
        self.ring
    }

    /// The last block that it holds, if the store only has to add what follows.
    pub(crate) fn end(&self) -> Option<BlockKey> {
        let is_sound = self.is_filled && !self.has_hole && self.fault.is_none();
        self.blocks.last_key_value().filter(|_| is_sound).map(|(key, _)| *key)
    }

    /// How often a ring was begun here.
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The state of the ring beside a log whose last block is `last`, and of which `acknowledged` was.
    pub(crate) fn state(&self, last: Option<BlockKey>, acknowledged: Option<Lsn>) -> RingState {
        if let Some(fault) = &self.fault {
            return RingState::Damaged(fault.clone());
        }
        if self.ring.is_none() {
            return RingState::Missing;
        }
        let own = self.blocks.last_key_value();
        if !self.has_hole && own.map(|(key, _)| *key) == last {
            return RingState::Whole;
        }
        let end = own.map(|(_, kept)| kept.last);
        match acknowledged {
            // While it was only being filled again, nothing of it was waited for.
            Some(acknowledged) if self.is_filled && end.is_none_or(|end| end < acknowledged) => {
                let end = end.map_or_else(|| "nothing".to_owned(), |end| format!("record {end}"));
                RingState::Damaged(format!("it ends at {end}, and record {acknowledged} was acknowledged"))
            }
            _ => RingState::Unfinished,
        }
    }

    fn of(head: Head, found: BTreeMap<u64, Found>) -> Result<Self, Damage> {
        let end = found.last_key_value().map_or(0, |(place, entry)| place + entry::pages(entry.bytes.len()));
        let begun = found.values().filter_map(|entry| entry.begin).max();
        let settled = begun.unwrap_or(if head.is_filled { end } else { 0 });
        let ring = Some(Ring { id: head.id, pages: head.pages, next: end });
        let (sequence, is_filled) = (head.sequence, head.is_filled);
        let mut own = Self { ring, sequence, is_filled, settled, ..Self::default() };
        // The oldest may be gone: a commit that was cut short can have overwritten half a ring, in any order.
        let sure = (end + head.pages / 2).saturating_sub(head.pages);
        let mut expected = sure;
        for (place, entry) in found {
            if place > expected {
                own.note_hole(expected..place, entry.key);
            }
            expected = expected.max(place + entry::pages(entry.bytes.len()));
            if own.blocks.last_key_value().is_some_and(|(last, _)| *last >= entry.key) {
                return Err(Damage::at(entry.key.first, DamageKind::Ring("contradicts itself")));
            }
            let follows_hole = own.has_hole && entry.begin.is_some();
            let kept = Kept { bytes: entry.bytes, follows_hole, last: entry.last };
            own.blocks.insert(entry.key, kept);
        }
        Ok(own)
    }

    /// These places are empty, or cannot be read. They may be of a commit that is settled, of the last one, or of both.
    fn note_hole(&mut self, places: std::ops::Range<u64>, before: BlockKey) {
        if places.start < self.settled {
            self.fault.get_or_insert(format!("what it held before record {} cannot be read", before.first));
        }
        self.has_hole |= places.end > self.settled;
    }
}

impl Pages<'_> {
    fn read(&mut self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(PAGE).expect("a page is short")];
        if let Err(error) = self.store.read_ring(page * PAGE, &mut bytes) {
            self.fault.get_or_insert(error.to_string());
            bytes.fill(0);
        }
        bytes
    }

    fn hold_anything(&mut self) -> bool {
        let pages = HEAD_PAGES..HEAD_PAGES + self.store.ring_pages();
        pages.into_iter().any(|page| entry::looks_like_an_entry(&self.read(page)))
    }
}

/// Whether there is an entry of any ring in the file of one.
pub(crate) fn holds_anything(file: &[u8]) -> bool {
    let page = usize::try_from(PAGE).expect("a page is short");
    let head = usize::try_from(HEAD_PAGES).expect("two");
    file.chunks(page).skip(head).any(entry::looks_like_an_entry)
}

/// Which log the file of a ring belongs to, where one of its heads can be read.
pub(crate) fn node_of(file: &[u8]) -> Option<u32> {
    let heads = file
        .chunks(usize::try_from(PAGE).expect("a page is short"))
        .take(HEAD_PAGES.try_into().expect("two"));
    let read = heads.filter_map(|page| Head::decode(page).ok()?);
    read.max_by_key(|head| head.sequence).map(|head| head.node)
}

/// Every entry of the ring, by its place.
fn find(pages: &mut Pages<'_>, head: Head) -> Result<BTreeMap<u64, Found>, Damage> {
    let mut found = BTreeMap::new();
    for page in 0..head.pages {
        let mut bytes = pages.read(HEAD_PAGES + page);
        let Some(length) = Entry::claims(&bytes, head.id).filter(|length| *length <= BLOCK_MAX) else {
            continue;
        };
        for more in 1..entry::pages(length) {
            bytes.extend(pages.read(HEAD_PAGES + (page + more) % head.pages));
        }
        bytes.truncate(entry::ENTRY_HEADER_LEN + length);
        let entry = Entry::decode(&bytes)?.filter(|entry| {
            (entry.ring, entry.place % head.pages) == (head.id, page) && entry.begin <= entry.place
        });
        let Some(entry) = entry else { continue };
        match block::decode(entry.block) {
            Ok(block) => {
                let key = block.header.key;
                let last = key.first.plus(u64::from(block.header.count) - 1);
                let begin = (!entry.is_copied).then_some(entry.begin);
                found.insert(entry.place, Found { key, last, begin, bytes: entry.block.to_vec() });
            }
            Err(damage) if damage.is_newer_version() => return Err(damage),
            // Its own checksum was right a moment ago: whoever wrote this has a bug. It counts as missing.
            Err(_) => {}
        }
    }
    Ok(found)
}
