//! A witness beside the store: what was acknowledged, what was retired, which start of the node this is.
//!
//! The store alone cannot tell a log that lost its end, or got back its retired beginning, from a sound one. The
//! witness can. It has two slots, each with a checksum of its own:
//!
//! ```text
//! offset  bytes                                   (all integers little endian)
//!      0  4  "UWIT"
//!      4  1  format version
//!      5  3  zero
//!      8  8  sequence: of two readable slots the greater one counts
//!     16  8  low: no record below it is kept
//!     24  8  high: the highest record acknowledged, 0 for none
//!     32  8  epoch: how often the node was started
//!     40  4  node: the random identity of the directory
//!     44  8  given up: the first record after a damaged end that was given up, 0 for none
//!     52  1  1 once a file `start-N` is kept beside it, see `store/home.rs`; 0 before
//!     53  4  turn: how often that file was renamed since the start
//!     57  3  zero
//!     60  4  CRC-32 over the bytes before it
//! ```
//!
//! `low` and `epoch` are synced whenever they change. `high` is written after each commit but synced only every
//! 100 ms, so: after the death of the process the witness convicts a store that lost any acknowledged record; after
//! a power cut it convicts one that lost records acknowledged more than 100 ms of commits before. Writes go to
//! the same slot until it is synced, and only then to the other: at most one slot can be torn at any time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::damage::{Damage, DamageKind};
use crate::lsn::Lsn;
use crate::store::{Slot, Store, StoreError, WITNESS_LEN};

/// How long `high` may be written but not synced while commits go on.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

const MAGIC: [u8; 4] = *b"UWIT";
const VERSION: u8 = 1;

/// What is witnessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// No record below it is kept.
    pub(crate) low: Lsn,
    /// The highest record acknowledged.
    pub(crate) high: Option<Lsn>,
    /// How often the node was started.
    pub(crate) epoch: u64,
    /// The random identity of the directory.
    pub(crate) node: u32,
    /// The first record after what was given up as damaged, the last time that was chosen.
    pub(crate) given_up: Option<Lsn>,
    /// Each start leaves a file that cannot be copied.
    pub(crate) keeps_start: bool,
    /// How often that file was renamed since the start.
    pub(crate) turn: u32,
}

/// Keeps the witness up to date.
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    now: Witness,
    sequence: u64,
    slot: Slot,
    dirty: bool,
    settled_at: Instant,
}

/// A slot that could be read.
struct Seen {
    sequence: u64,
    slot: Slot,
    witness: Witness,
}

impl Witness {
    /// That of a log which never held anything.
    pub(crate) const fn new(node: u32) -> Self {
        Self { low: Lsn::FIRST, high: None, epoch: 0, node, given_up: None, keeps_start: false, turn: 0 }
    }
}

impl Keeper {
    /// Reads the witness; `None` if neither slot can be read.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Result<Self, Damage>, StoreError> {
        let [a, b] = store.read_witness()?;
        let (a, b) = match (decode(Slot::A, &a), decode(Slot::B, &b)) {
            (Err(newer), _) | (_, Err(newer)) => return Ok(Err(newer)),
            (Ok(a), Ok(b)) => (a, b),
        };
        let latest = match (a, b) {
            (Some(a), Some(b)) => Some(if a.sequence > b.sequence { a } else { b }),
            (a, b) => a.or(b),
        };
        let Some(seen) = latest else { return Ok(Err(Damage::new(None, DamageKind::Witness))) };
        // The slot that counts stays as it is until the other one is synced.
        let slot = seen.slot.other();
        let settled_at = Instant::now();
        Ok(Ok(Self { store, now: seen.witness, sequence: seen.sequence, slot, dirty: false, settled_at }))
    }

    /// Begins a witness, for a new log or in place of one that cannot be read. Nothing is written yet.
    pub(crate) fn begin(store: Arc<dyn Store>, witness: Witness) -> Self {
        Self { store, now: witness, sequence: 0, slot: Slot::A, dirty: false, settled_at: Instant::now() }
    }

    pub(crate) const fn now(&self) -> Witness {
        self.now
    }

    /// Writes down that records up to `high` are about to be acknowledged. Syncs only when it is time.
    pub(crate) fn acknowledge(&mut self, high: Lsn, at: Instant) -> Result<(), StoreError> {
        self.now.high = Some(high);
        self.write()?;
        if self.due().is_some_and(|due| due <= at) { self.settle(at) } else { Ok(()) }
    }

    /// When what was written has to be synced at the latest; `None` if it is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.dirty.then(|| self.settled_at + SETTLE_EVERY)
    }

    /// Changes the witness for good: returns after a sync.
    pub(crate) fn record(
        &mut self,
        change: impl FnOnce(&mut Witness),
        at: Instant,
    ) -> Result<(), StoreError> {
        change(&mut self.now);
        self.write()?;
        self.settle(at)
    }

    /// Syncs what was only written, if anything was.
    pub(crate) fn settle(&mut self, at: Instant) -> Result<(), StoreError> {
        self.settled_at = at;
        if !self.dirty {
            return Ok(());
        }
        self.store.sync_witness()?;
        self.dirty = false;
        self.slot = self.slot.other();
        Ok(())
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.sequence += 1;
        self.dirty = true;
        self.store.write_witness(self.slot, &encode(self.sequence, &self.now))
    }
}

/// What the slots in the file of a witness say, if either says anything.
pub(crate) fn peek(slots: [&[u8]; 2]) -> Option<Witness> {
    let seen = slots.into_iter().filter_map(|bytes| decode(Slot::A, bytes).ok().flatten());
    seen.max_by_key(|seen| seen.sequence).map(|seen| seen.witness)
}

fn encode(sequence: u64, witness: &Witness) -> [u8; WITNESS_LEN] {
    let mut bytes = Vec::with_capacity(WITNESS_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&witness.low.get().to_le_bytes());
    bytes.extend_from_slice(&witness.high.map_or(0, Lsn::get).to_le_bytes());
    bytes.extend_from_slice(&witness.epoch.to_le_bytes());
    bytes.extend_from_slice(&witness.node.to_le_bytes());
    bytes.extend_from_slice(&witness.given_up.map_or(0, Lsn::get).to_le_bytes());
    bytes.extend_from_slice(&[u8::from(witness.keeps_start)]);
    bytes.extend_from_slice(&witness.turn.to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 0]);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.try_into().expect("the fields make up a slot")
}

/// `Ok(None)` for a slot that is torn or was never written: the other one counts then.
fn decode(slot: Slot, bytes: &[u8]) -> Result<Option<Seen>, Damage> {
    let Ok(bytes) = <&[u8; WITNESS_LEN]>::try_from(bytes) else { return Ok(None) };
    let Some((fields, sum)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    if !fields.starts_with(&MAGIC) || crc32fast::hash(fields) != u32::from_le_bytes(*sum) {
        return Ok(None);
    }
    match fields.get(4) {
        Some(&VERSION) => {}
        version => {
            let found = version.copied().unwrap_or_default();
            return Err(Damage::new(None, DamageKind::NewerVersion { found, known: VERSION }));
        }
    }
    let number = |at: usize| {
        let field = fields.get(at..).and_then(|rest| rest.first_chunk::<8>());
        field.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let short = |at: usize| {
        let field = fields.get(at..).and_then(|rest| rest.first_chunk::<4>());
        field.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (node, turn) = (short(40), short(53));
    let Some(low) = Lsn::new(number(16)) else { return Ok(None) };
    let (high, given_up) = (Lsn::new(number(24)), Lsn::new(number(44)));
    let keeps_start = fields.get(52) == Some(&1);
    let witness = Witness { low, high, epoch: number(32), node, given_up, keeps_start, turn };
    Ok(Some(Seen { sequence: number(8), slot, witness }))
}
