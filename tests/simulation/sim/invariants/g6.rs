//! G6: damage is found and said; it is never silently read as "nothing happened".

use std::collections::BTreeMap;
use std::convert::Infallible;

use unanimous::journal::Journal;
use unanimous_wal::Lsn;
use unanimous_wal::block::BlockKey;

use super::{Kept, kept};
use crate::sim::world::World;

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

/// Damages one block that others follow: a start must refuse it, or miss nothing.
pub fn damaged(world: &mut World) -> Kept {
    let keys = world.disk.keys();
    let Some(last) = keys.len().checked_sub(3).filter(|last| *last > 0) else { return Ok(()) };
    let key = keys[usize::try_from(world.chance.within(0..last as u64)).expect("it is an index")];
    let saved = harm(world, key);
    let mut records = BTreeMap::new();
    let opened = unanimous_wal::sim::open(&world.disk, unanimous_wal::Options::default()).map(|log| {
        log.read_all(|lsn, bytes| {
            records.insert(lsn, bytes.to_vec());
            Ok::<_, Infallible>(())
        })
    });
    world.disk.damage(key, |bytes| *bytes = saved);
    if let Ok(Ok(readable)) = opened {
        return all_there(world, readable.low(), &records);
    }
    world.summary.damage_refused += 1;
    Ok(())
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

fn all_there(world: &World, low: Lsn, records: &BTreeMap<Lsn, Vec<u8>>) -> Kept {
    for (lsn, (_, bytes)) in world.ledger.records.range(low..) {
        kept("G6", records.get(lsn) == Some(bytes), || {
            format!("record {lsn} was durable, and the start did not read it as it was")
        })?;
    }
    Ok(())
}
