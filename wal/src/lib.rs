//! A write-ahead log over sled that answers only what the disk holds.
//!
//! It knows no transaction and no HTTP: a record is opaque bytes and gets a number. What it promises:
//!
//! - [`Wal::append`] answers after a real sync, and gives back what was to happen next as a [`Durable`], which
//!   nobody else can make;
//! - the first error is the last: from then on everybody gets [`Poisoned`], and a restart reads what is really there;
//! - what cannot be read as it was written is a [`Damage`] with the number of the record, never skipped.
//!
//! ```text
//!            open ─► Log ─ read_all ─► Readable ─ start ─► Wal           the order is a type
//!
//!  append(payload, then) ─► queue ─► committer ─► pack ─► Store ─ put, sync ─► disk
//!        ▲                              │                   ├─ ring: the last blocks once more
//!        │                              │                   └─ witness: low, high, epoch
//!        └────── Durable<then> ◄────────┘ one sync for all that waited
//!
//!  one group commit = blocks ; one block = header + frames ; one frame = one payload (or a part of a long one)
//!  each block carries the checksum of the block before it
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`block`], [`frame`] | the bytes on disk |
//! | `pack`, `walk` | records into blocks, and back, believing nothing |
//! | `ring`, `mirror`, `merge` | the second copy of the last blocks: its bytes, its writing, and the walk over both copies |
//! | [`store`] | the seam to the disk: sled, or [`sim`] |
//! | `witness`, `turns` | what the store alone could not tell |
//! | `request`, `queue`, `gather`, `committer`, `drive` | group commit |
//! | `open`, `readable`, `wal`, `reader` | the log as it is used |
//! | [`verify`] | looking without touching |
//! | [`salvage`] | what can be rescued where that fails |
//! | `sync` | the one unsafe file: makes sled's syncs real ones |

#![deny(unsafe_code)]

mod committer;
mod damage;
mod drive;
mod durable;
mod error;
mod gather;
mod lsn;
mod merge;
mod mirror;
mod open;
mod pack;
mod poisoned;
mod queue;
mod readable;
mod reader;
mod request;
mod ring;
mod shared;
mod stats;
mod sync;
mod turns;
mod wal;
mod walk;
mod witness;

pub mod block;
pub mod frame;
pub mod salvage;
pub mod store;
pub mod verify;

pub use damage::{Damage, DamageKind, SALVAGE};
pub use durable::{Durable, Synced};
pub use error::{OpenError, ReadAllError, ReadError};
pub use lsn::Lsn;
pub use open::{Copied, Log, Options, create_in, open, time_to_read};
pub use poisoned::{AppendError, Poisoned};
pub use readable::Readable;
pub use reader::Reader;
pub use ring::{Copies, RingState};
pub use stats::{BATCH_SIZES, COMMIT_SECONDS, Stats};
pub use store::Room;
pub use wal::{PAYLOAD_MAX, Wal};
pub use walk::Counts;

/// Logs on a disk in memory, for tests and simulations.
pub mod sim {
    pub use crate::store::sim::{Operation, SimDisk, SimStore};
    use crate::{Log, OpenError, Options};

    /// Opens the log on a simulated disk, and makes one if there is none.
    pub fn open(disk: &SimDisk, options: Options) -> Result<Log, OpenError> {
        crate::open::open_sim(disk, options)
    }
}
