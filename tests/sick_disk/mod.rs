//! A disk that falls ill when it is told to, and forgets what was not synced: a file system in the memory of the test.
//!
//! ```text
//!  node ──► kernel ──► FUSE ──► Mounted ──► Memory        the real program, over real system calls
//!                                  │           ├ unsynced: what a failed sync or a power cut takes back
//!  test ──► SickDisk ── be(..) ────┘           └ illness: what goes wrong now
//! ```
//!
//! Names, lengths and removals are durable at once; only bytes have to be synced. No device and no other file
//! system can be told so exactly what to do.

#![allow(unreachable_pub, reason = "a module of a test")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod memory;
mod mounted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, Errno};

use self::memory::Memory;
use self::mounted::Mounted;
use crate::kit::skipped;

/// What the disk says of its size: 256 MiB. It does not say that there is a quota.
pub const SIZE: u64 = 256 * 1024 * 1024;

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, Default)]
pub enum Illness {
    /// Nothing.
    #[default]
    None,
    /// Every write fails so.
    Writes(Errno),
    /// Every sync fails, and loses what it was to write.
    Syncs,
    /// The next sync fails and loses what it was to write; those after it are well.
    OneSync,
    /// Nothing can be changed.
    ReadOnly,
    /// Nothing may grow beyond so many bytes in all.
    Quota(u64),
    /// A sync takes so long.
    SlowSyncs(Duration),
    /// These calls do not come back before the disk is well again.
    Hangs(Call),
}

/// A kind of system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `read`.
    Read,
    /// `write`.
    Write,
    /// `fsync` and `fdatasync`.
    Sync,
}

/// The disk. Unmounted when dropped, whoever still uses it.
pub struct SickDisk {
    shared: Arc<Shared>,
    root: PathBuf,
    _session: BackgroundSession,
}

/// What the test and the file system share.
#[derive(Default)]
struct Shared {
    memory: Mutex<Memory>,
    /// Calls that hang.
    held: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl SickDisk {
    /// A well and empty disk, mounted at `root`, which is made. `None`, with a word why, where that is not possible.
    pub fn mount(root: &Path) -> Option<Self> {
        fs::create_dir_all(root).unwrap();
        let shared = Arc::new(Shared::default());
        match fuser::spawn_mount(Mounted(shared.clone()), root, &Config::default()) {
            Ok(session) => Some(Self { shared, root: root.to_owned(), _session: session }),
            Err(why) => {
                skipped(&format!("no file system can be mounted with FUSE: {why}"));
                None
            }
        }
    }

    /// From now on this is wrong with it.
    pub fn be(&self, illness: Illness) {
        self.memory().illness = illness;
    }

    /// It is well again, and what hangs comes back.
    pub fn heal(&self) {
        self.be(Illness::None);
        let held = std::mem::take(&mut *lock(&self.shared.held));
        for call in held {
            call();
        }
    }

    /// Whether something hangs.
    pub fn hangs(&self) -> bool {
        !lock(&self.shared.held).is_empty()
    }

    /// The power goes and comes again: what was not synced is lost.
    pub fn cut_power(&self) {
        self.memory().lose_unsynced();
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.memory().used()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.shared.memory)
    }
}

impl Drop for SickDisk {
    fn drop(&mut self) {
        self.heal();
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
