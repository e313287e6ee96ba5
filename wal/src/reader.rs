//! Reads durable records of a running log, beside appends and retirements.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::block::{self, Block, BlockKey};
use crate::damage::{Damage, DamageKind};
use crate::error::ReadError;
use crate::frame::Kind;
use crate::lsn::Lsn;
use crate::shared::Shared;
use crate::store::Store;

/// Gives the records in order, as far as they are durable at the time of each `next()`.
///
/// After `None` there may be more later: see [`Wal::follow`](crate::Wal::follow). Records that are retired meanwhile
/// are passed over. After an error it stays at the same record. Blocks the thread for a read of one block
/// now and then.
pub struct Reader {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    next: Lsn,
    /// The rest of a block that was read; all of it is durable.
    ready: VecDeque<(Lsn, Vec<u8>)>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, store: Arc<dyn Store>, from: Lsn) -> Self {
        Self { shared, store, next: from, ready: VecDeque::new() }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        loop {
            let low = self.shared.low();
            self.next = self.next.max(low);
            match self.read_block() {
                // It went away between the two looks.
                Ok(false) | Err(ReadError::Damage(_)) if self.shared.low() > low => {}
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let kind = DamageKind::Gap { expected: self.next, found: self.next.next() };
                    return Err(Damage::at(self.next, kind).into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `false` if no block holds the next record.
    fn read_block(&mut self) -> Result<bool, ReadError> {
        let shared = self.shared.clone();
        let _call = shared.calls.begin();
        let Some((key, bytes)) = self.store.at_or_before(BlockKey::last_of(self.next))? else {
            return Ok(false);
        };
        if key.part > 0 {
            return self.read_parts(key);
        }
        let block = decode(key, &bytes)?;
        for (lsn, frame) in block.frames().filter(|(lsn, _)| *lsn >= self.next) {
            if frame.kind != Kind::Whole {
                return Err(Damage::at(lsn, DamageKind::Incomplete).into());
            }
            self.ready.push_back((lsn, frame.payload.to_vec()));
        }
        Ok(!self.ready.is_empty())
    }

    /// A record in parts, of which `last` is the key of the last.
    fn read_parts(&mut self, last: BlockKey) -> Result<bool, ReadError> {
        if last.first != self.next {
            return Ok(false);
        }
        let mut payload = Vec::new();
        for part in 0..=last.part {
            let key = BlockKey { part, ..last };
            let found = self.store.at_or_before(key)?.filter(|(found, _)| *found == key);
            let incomplete = || ReadError::from(Damage::at(key.first, DamageKind::Incomplete));
            let (_, bytes) = found.ok_or_else(incomplete)?;
            let block = decode(key, &bytes)?;
            let (_, frame) = block.frames().next().ok_or_else(incomplete)?;
            if (frame.kind == Kind::Last) != (part == last.part) {
                return Err(incomplete());
            }
            payload.extend_from_slice(frame.payload);
        }
        self.ready.push_back((last.first, payload));
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<(Lsn, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.next = self.next.max(self.shared.low());
            if self.shared.high()? < self.next {
                return None;
            }
            if let Err(error) = self.fill() {
                self.ready.clear();
                return Some(Err(error));
            }
        }
        let (lsn, payload) = self.ready.pop_front()?;
        self.next = lsn.next();
        Some(Ok((lsn, payload)))
    }
}

fn decode(key: BlockKey, bytes: &[u8]) -> Result<Block<'_>, Damage> {
    let block = block::decode(bytes).map_err(|damage| Damage::at(key.first, damage.kind().clone()))?;
    if block.header.key == key { Ok(block) } else { Err(Damage::at(key.first, DamageKind::Misplaced)) }
}
