//! Blocks in sled 0.34.7, with everything around it that its `flush()` leaves undone.
//!
//! What sled does and does not do was measured in tens of thousands of simulated crashes; each rule here answers
//! one finding. The sync is ours ([`crate::sync`]) and goes through a descriptor of our own; values stay small
//! enough that sled never moves them to files it does not sync; one insert a block, never a batch.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::ballast::Ballast;
use super::files::Files;
use super::{PAGE, Removed, Room, Slot, Store, StoreError, Visit, WITNESS_LEN};
use crate::block::{BLOCK_MAX, BlockKey};
use crate::error::OpenError;
use crate::sync::{self, Own};

mod opening;
pub(crate) mod survey;
#[cfg(test)]
mod tests;

/// A block is at most 3 % of a quarter of a segment; above about 10 % sled would move it to a file of its own.
const SEGMENT_SIZE: usize = 8 * 1024 * 1024;

/// Bytes that sled may keep in memory.
const CACHE_CAPACITY: u64 = 64 * 1024 * 1024;

/// sled puts pages out of memory only when it notes the 64th access to one of 256 groups of pages, whatever their
/// size: a walk over large blocks, with one access a page, would take all of the log into memory. So every now
/// and then one page is asked for that often.
const NUDGES: usize = 64;

/// Bytes between two such requests. They cost about 20 us, and the pages of some 64 MiB may gather.
const BYTES_PER_NUDGE: usize = 256 * 1024;

/// sled collects its garbage in the thread that this drives. Durability has no part in it.
const FLUSH_EVERY_MS: u64 = 500;

/// After how many syncs the directory that must stay empty is looked at again.
const SYNCS_PER_LOOK: u64 = 1024;

/// Bytes from one slot of the witness to the next: a page each, so that they cannot be torn together.
const SLOT_STRIDE: u64 = 4096;

/// Pages of the mirror ring, 4 MiB: some 1000 commits, or the last two longest records.
const RING_PAGES: u64 = 1024;

/// The store of production.
pub(crate) struct SledStore {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    /// Keeps sled's syncs going through a descriptor of our own.
    _data: Own,
    witness: File,
    ring: File,
    files: Files,
    ballast: Ballast,
    syncs: AtomicU64,
    failed: AtomicBool,
    /// Released last, after sled has closed its files.
    guard: Guard,
}

/// What must outlive the store.
pub(crate) enum Guard {
    /// The lock on the directory.
    Lock {
        _file: File,
        /// A copy that was made before sled opened, because it could have overwritten what it cannot read.
        aside: Option<PathBuf>,
    },
    /// The lock on a directory in which a log is being made. No room is kept there yet: the node does that when it starts.
    New { _file: File },
    /// The directory itself, which is a copy.
    Copy { _directory: tempfile::TempDir },
}

impl SledStore {
    /// Opens the store in a directory which `guard` keeps for us, and leaves nothing unsynced behind.
    pub(crate) fn open(files: Files, guard: Guard) -> Result<Self, OpenError> {
        let path = files.store();
        opening::look_into_blobs(&path)?;
        let ballast = Ballast::of(&files);
        if matches!(guard, Guard::Lock { .. }) {
            ballast.tend().map_err(OpenError::io("look for free space in", &files.root))?;
        }
        let snapshots = opening::Snapshots::before(&path)?;
        let is_copy = matches!(guard, Guard::Copy { .. });
        let db = opening::open_or_repair(&files, &ballast, is_copy)?;
        snapshots.prove_sync()?;
        let data_path = path.join("db");
        let data = File::open(&data_path).and_then(Own::new).map_err(OpenError::io("open", &data_path))?;
        let witness = open_with_room(&files.witness(), 2 * SLOT_STRIDE)?;
        let ring = open_with_room(&files.ring(), (2 + RING_PAGES) * PAGE)?;
        opening::prove_sync(&db, &data, &path)?;
        files.sync_all()?;
        opening::look_into_blobs(&path)?;
        let (syncs, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { db: Some(db), _data: data, witness, ring, files, ballast, syncs, failed, guard })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is there until the store is dropped")
    }

    /// Runs something in sled. A panic in there is an error like any other, and after an error the state of sled
    /// is never relied on again.
    fn inside<T>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        survive(|| run(self.db())).map_err(self.fails(doing))
    }

    /// For use with `map_err`: whatever it was that failed, sled is not closed on that disk.
    fn fails(&self, doing: &'static str) -> impl Fn(io::Error) -> StoreError {
        move |cause| {
            self.failed.store(true, Ordering::Release);
            StoreError::new(doing, cause)
        }
    }

    /// Removes blocks in the order in which their keys come.
    fn remove(
        &self,
        keys: impl Iterator<Item = sled::Result<sled::IVec>>,
        doing: &'static str,
    ) -> Result<Removed, StoreError> {
        self.inside(doing, |db| {
            let keys = keys.collect::<sled::Result<Vec<_>>>()?;
            let mut removed = Removed::default();
            for key in keys {
                removed.add(db.remove(key)?.map_or(0, |block| block.len()));
            }
            Ok(removed)
        })
    }
}

impl Store for SledStore {
    fn put(&self, key: BlockKey, block: &[u8]) -> Result<(), StoreError> {
        assert!(block.len() <= BLOCK_MAX, "a longer value would end up in a file that sled never syncs");
        self.inside("write to the log", |db| db.insert(key.to_bytes(), block)).map(drop)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let doing = "sync the log";
        self.inside(doing, |db| db.flush())?;
        sync::check().map_err(self.fails(doing))?;
        let syncs = self.syncs.fetch_add(1, Ordering::Relaxed);
        if syncs % SYNCS_PER_LOOK == SYNCS_PER_LOOK - 1 {
            opening::look_into_blobs(&self.files.store())
                .map_err(|error| StoreError::new(doing, io::Error::other(error)))?;
        }
        Ok(())
    }

    fn at_or_before(&self, key: BlockKey) -> Result<Option<(BlockKey, Vec<u8>)>, StoreError> {
        let doing = "read the log";
        let found = self.inside(doing, |db| db.range(..=key.to_bytes()).next_back().transpose())?;
        let Some((key, block)) = found else { return Ok(None) };
        Ok(Some((own_key(&key).map_err(StoreError::of(doing))?, block.to_vec())))
    }

    fn scan(&self, from: BlockKey, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let doing = "read the log";
        let mut blocks = self.db().range(from.to_bytes()..);
        let mut read = 0;
        while let Some((key, block)) = self.inside(doing, |_| blocks.next().transpose())? {
            read += block.len();
            if read >= BYTES_PER_NUDGE {
                read = 0;
                self.inside(doing, |db| (0..NUDGES).try_for_each(|_| db.get(&key).map(drop)))?;
            }
            if visit(own_key(&key).map_err(StoreError::of(doing))?, &block) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn remove_below(&self, key: BlockKey, limit: usize) -> Result<Removed, StoreError> {
        self.remove(self.db().range(..key.to_bytes()).keys().take(limit), "remove old blocks")
    }

    fn remove_from(&self, key: BlockKey) -> Result<Removed, StoreError> {
        self.remove(self.db().range(key.to_bytes()..).keys().rev(), "cut the end of the log")
    }

    fn read_witness(&self) -> Result<[Vec<u8>; 2], StoreError> {
        let read = |offset| {
            let mut slot = vec![0; WITNESS_LEN];
            self.witness.read_exact_at(&mut slot, offset).map(|()| slot)
        };
        match (read(0), read(SLOT_STRIDE)) {
            (Ok(a), Ok(b)) => Ok([a, b]),
            // A file that was cut short is damage of the witness, which an empty slot stands for.
            (Ok(a), Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([a, Vec::new()]),
            (Err(error), _) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([Vec::new(), Vec::new()]),
            (Err(error), _) | (_, Err(error)) => Err(self.fails("read the witness")(error)),
        }
    }

    fn write_witness(&self, slot: Slot, bytes: &[u8; WITNESS_LEN]) -> Result<(), StoreError> {
        let offset = match slot {
            Slot::A => 0,
            Slot::B => SLOT_STRIDE,
        };
        self.witness.write_all_at(bytes, offset).map_err(self.fails("write the witness"))
    }

    fn sync_witness(&self) -> Result<(), StoreError> {
        self.witness.sync_data().map_err(self.fails("sync the witness"))
    }

    fn ring_pages(&self) -> u64 {
        RING_PAGES
    }

    fn read_ring(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.ring.read_exact_at(bytes, at).map_err(StoreError::of("read the mirror ring"))
    }

    fn write_ring(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.ring.write_all_at(bytes, at).map_err(self.fails("write the mirror ring"))
    }

    fn sync_ring(&self) -> Result<(), StoreError> {
        self.ring.sync_data().map_err(self.fails("sync the mirror ring"))
    }

    fn room(&self) -> Result<Room, StoreError> {
        self.ballast.tend().map_err(StoreError::of("look for free space"))
    }

    fn set_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        if let Guard::Lock { aside: Some(aside), .. } = &self.guard {
            return Ok(Some(aside.clone()));
        }
        if matches!(self.guard, Guard::Copy { .. }) {
            return Ok(None);
        }
        let aside = self.files.set_aside();
        aside
            .map(Some)
            .map_err(|error| StoreError::new("copy the damaged log aside", io::Error::other(error)))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.failed.load(Ordering::Acquire) {
            // After an error sled's own way down may hang or panic. The process is about to end anyway.
            std::mem::forget(db);
        } else if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::warn!(
                "sled panicked while it was closed; nothing that was acknowledged depends on that"
            );
        }
    }
}

/// Runs something in sled and makes an I/O error of whatever comes of it.
fn survive<T>(run: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(original(error)),
        Ok(Err(error)) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("sled reports {error}"))),
        Err(panic) => {
            let words = format!("sled panicked: {}", panic_message(&*panic));
            Err(io::Error::new(io::ErrorKind::InvalidData, words))
        }
    }
}

/// sled hands errors on as copies, which hold no more than the first one printed: `Os { code: 28, .. }`. The number
/// is all that is needed to have the first one again, with its kind and the system's words.
fn original(copy: io::Error) -> io::Error {
    let printed = copy.get_ref().map(ToString::to_string).unwrap_or_default();
    let code = printed.strip_prefix("Os { code: ").and_then(|rest| rest.split_once(',')?.0.parse().ok());
    code.map_or(copy, io::Error::from_raw_os_error)
}

/// The words of a panic, where it has any.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

fn own_key(bytes: &[u8]) -> io::Result<BlockKey> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "sled holds a key that is no key of a block");
    BlockKey::from_bytes(bytes).ok_or_else(strange)
}

/// Opens a file that has its whole length from the beginning: written with zeros, so that a later sync has nothing to
/// do but to write. What is too short has lost its end, and gets zeros there.
fn open_with_room(path: &Path, length: u64) -> Result<File, OpenError> {
    let io = OpenError::io("open", path);
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(&io)?;
    let had = file.metadata().map_err(&io)?.len();
    let lost = usize::try_from(length.saturating_sub(had)).expect("it fits into memory");
    file.write_all_at(&vec![0; lost], had).map_err(OpenError::io("write", path))?;
    Ok(file)
}
