//! G6: damage is found and said; it is never silently read as "nothing happened".

use std::collections::BTreeMap;
use std::convert::Infallible;

use unanimous::journal::Journal;
use unanimous_wal::block::BlockKey;
use unanimous_wal::{Lsn, Readable, RingState};

use super::{Kept, kept};
use crate::sim::life;
use crate::sim::world::World;

/// The ring of a simulated disk, and what an entry in it has before its block (docs/FORMAT.md).
const RING_PAGES: usize = 64;
const PAGE_LEN: usize = 4096;
const ENTRY_LEN: usize = 40;

/// A node has started: every record that was durable and not let go must be read back as it was.
pub fn at_start(world: &World, journal: &Journal) -> Kept {
    let low = journal.wal().low();
    let mut records = BTreeMap::new();
    for item in journal.wal().read(low) {
        match item {
            Ok((lsn, bytes)) => drop(records.insert(lsn, bytes)),
            Err(error) => {
                return kept("G6", false, || format!("a log that was started cannot be read: {error}"));
            }
        }
    }
    all_there(world, low, &records)
}

/// Harms one of the two copies, or both, after the power or only the process was gone: a start must refuse that, or miss nothing.
/// What one copy can mend by the other is left to the next start.
pub fn damaged(world: &mut World, is_cut: bool) -> Kept {
    // What a killed process left is durable with the next start, which this is.
    let is_twofold = open(world, &mut BTreeMap::new()).is_ok_and(|log| log.copies().ring == RingState::Whole);
    // What is damaged cannot be looked at any more.
    super::on_disk(world)?;
    let (store, ring) = world.chance.one_of(&[(true, false), (false, true), (true, true)]);
    let mut keys = world.disk.keys();
    // Without both copies it is as if a block had never been, unless the witness knows of it. What only one copy got was never
    // acknowledged.
    if (store && ring) || !is_twofold {
        // After a power cut it may be older than the last of them; a process that is gone leaves what was acknowledged.
        let witnessed = keys.len().saturating_sub(3);
        keys.retain(|key| is_cut || key.first.get() <= world.high);
        keys.truncate(if is_cut { witnessed } else { keys.len() });
    }
    if keys.is_empty() {
        return Ok(());
    }
    let key = keys[usize::try_from(world.chance.within(0..keys.len() as u64)).expect("it is an index")];
    let can_mend = !ring && is_twofold && is_in_ring(world, key);
    // A start that failed may not have mended what was harmed before it.
    let is_store_harmed =
        store || open(world, &mut BTreeMap::new()).is_ok_and(|log| log.copies().is_store_damaged);
    let (mut block, mut pages) = (None, None);
    if store {
        block = Some(harm(world, key));
    }
    if ring {
        pages = Some(harm_ring(world, store));
    }
    let mut records = BTreeMap::new();
    let why = match open(world, &mut records) {
        Ok(readable) => {
            world.summary.stores_mended += u64::from(readable.copies().is_store_damaged);
            world.summary.rings_mended += u64::from(readable.copies().ring != RingState::Whole);
            return all_there(world, readable.low(), &records);
        }
        Err(why) => why,
    };
    kept("G6", is_store_harmed, || {
        format!("a start refused a log of which only the mirror ring was harmed: {why}")
    })?;
    kept("G6", !can_mend, || {
        format!("a start refused a log of which the mirror ring has all that was harmed: {why}")
    })?;
    world.summary.damage_refused += 1;
    if let Some(saved) = block {
        world.disk.damage(key, |bytes| *bytes = saved);
    }
    if let Some(saved) = pages {
        world.disk.damage_ring(|page, bytes| bytes.clone_from(&saved[&page]));
    }
    Ok(())
}

/// Whether the ring has all from this block on. Never more than half of it is written anew before both copies are synced.
fn is_in_ring(world: &World, key: BlockKey) -> bool {
    let pages = |block: &[u8]| (block.len() + ENTRY_LEN).div_ceil(PAGE_LEN);
    let blocks = world.disk.durable(key);
    blocks.iter().map(|(_, block)| pages(block)).sum::<usize>() <= RING_PAGES / 2
}

/// Reads the log as a start would.
fn open(world: &World, records: &mut BTreeMap<Lsn, Vec<u8>>) -> Result<Readable, String> {
    let log = unanimous_wal::sim::open(&world.disk, unanimous_wal::Options::default());
    let read = log.map_err(|error| error.to_string())?.read_all(|lsn, bytes| {
        records.insert(lsn, bytes.to_vec());
        Ok::<_, Infallible>(())
    });
    read.map_err(|error| error.to_string())
}

/// Flips a bit of some pages of the ring, or takes all of it away; gives what it was.
fn harm_ring(world: &mut World, wholly: bool) -> BTreeMap<u64, Vec<u8>> {
    let (nth, at) = (world.chance.within(1..9), world.chance.within(0..u64::from(u32::MAX)));
    let mut saved = BTreeMap::new();
    world.disk.damage_ring(|page, bytes| {
        saved.insert(page, bytes.clone());
        let at = usize::try_from(at).expect("it fits") % bytes.len();
        if wholly {
            bytes.fill(0);
        } else if page % nth == 0 {
            bytes[at] ^= 1;
        }
    });
    world.note(|| format!("-- damage to {} of the mirror ring", if wholly { "all" } else { "pages" }));
    saved
}

fn harm(world: &mut World, key: BlockKey) -> Vec<u8> {
    let (how, at) = (world.chance.within(0..3), world.chance.within(0..u64::from(u32::MAX)));
    let mut saved = Vec::new();
    world.disk.damage(key, |bytes| {
        saved.clone_from(bytes);
        let at = usize::try_from(at).expect("it fits") % bytes.len();
        match how {
            0 => bytes[at] ^= 1,
            1 => bytes.truncate(at),
            _ => bytes.clear(),
        }
    });
    world.note(|| format!("-- damage to the block of record {}", key.first));
    saved
}

/// Everything from `low` on, which must not be further than what the retention and the unfinished need.
fn all_there(world: &World, low: Lsn, records: &BTreeMap<Lsn, Vec<u8>>) -> Kept {
    let needed = world.ledger.needed(world.settings.log.retention, life::latest(world));
    kept("G6", needed.is_none_or(|needed| low <= needed), || {
        format!("the log begins at record {low}, and {needed:?} is needed")
    })?;
    for (lsn, (_, bytes)) in world.ledger.records.range(low..) {
        kept("G6", records.get(lsn) == Some(bytes), || {
            format!("record {lsn} was durable, and the start did not read it as it was")
        })?;
    }
    Ok(())
}
