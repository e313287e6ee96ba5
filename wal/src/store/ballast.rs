//! Room that is kept free for the day the disk is full.
//!
//! What was decided has to be finished, and that takes records; and sled cannot open on a full disk, because it writes
//! a snapshot when it opens. So a file without use lies beside the log, and goes first:
//!
//! ```text
//!   free │■■■■■■■■■■│ ballast │ log │   the node refuses new transactions while `free` is below its floor
//!        │■│        │ ballast │ log │   half of the ballast's length is left free: it goes
//!        │■■■■■■■■■■■│          log │   what was begun ends, also after a restart
//! ```

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::Room;
use super::files::{self, Files, absent_is_fine};

/// Enough for what sled writes when it opens, and for the ends of what was begun.
const LEN_MAX: u64 = 64 * 1024 * 1024;

/// The part of a small disk that is kept at most.
const PART_OF_DISK: u64 = 8;

/// The file beside a log.
pub(super) struct Ballast {
    root: PathBuf,
    path: PathBuf,
    /// It could not be made, or had to go although the disk said that there was room, as with a quota. The next
    /// start tries again.
    is_given_up: AtomicBool,
}

impl Ballast {
    pub(super) fn of(files: &Files) -> Self {
        let (root, path) = (files.root.clone(), files.root.join(files::BALLAST));
        Self { root, path, is_given_up: AtomicBool::new(false) }
    }

    /// Says what room there is. Where that is nearly nothing it gives the ballast back; where there is plenty
    /// it makes it again.
    pub(super) fn tend(&self) -> io::Result<Room> {
        let (available, total) = self.available()?;
        let reserve = reserve_of(total);
        let is_there = self.is_there();
        if is_there && is_nearly_full(available, reserve) {
            fs::remove_file(&self.path)?;
            tracing::warn!(
                available,
                reserve,
                "the disk is nearly full: gave back the room that was kept for this"
            );
        }
        if !is_there && has_plenty(available, reserve) && !self.is_given_up.load(Ordering::Relaxed) {
            self.make(reserve);
        }
        let (available, is_kept) = (self.available()?.0, self.is_there());
        let free = if is_kept { available } else { available.saturating_sub(reserve) };
        Ok(Room { free, reserve, is_kept })
    }

    /// Gives the room back to the disk, for as long as this lives; `false` if there was none to give.
    pub(super) fn give_up(&self) -> io::Result<bool> {
        self.is_given_up.store(true, Ordering::Relaxed);
        let was_there = self.is_there();
        // What somebody else put there is not ours to remove.
        if self.path.is_dir() {
            return Ok(false);
        }
        absent_is_fine(fs::remove_file(&self.path)).map(|()| was_there)
    }

    /// The log works without it, so that a refusal is only told.
    fn make(&self, len: u64) {
        let made =
            File::create(&self.path).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, len)?));
        if let Err(error) = made {
            tracing::warn!(path = %self.path.display(), %error, "no room is kept for the day the disk is full");
            let _ = self.give_up();
        }
    }

    /// One that was only begun when the process died keeps nothing.
    fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.is_file() && file.len() > 0)
    }

    /// Bytes that this process may still write on the disk, and all that there are.
    fn available(&self) -> io::Result<(u64, u64)> {
        let disk = statvfs(&self.root)?;
        Ok((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
    }
}

/// What is kept of a disk of that size, in bytes.
fn reserve_of(total: u64) -> u64 {
    LEN_MAX.min(total / PART_OF_DISK)
}

const fn is_nearly_full(available: u64, reserve: u64) -> bool {
    available < reserve / 2
}

/// Half more than it takes, so that it does not come and go.
const fn has_plenty(available: u64, reserve: u64) -> bool {
    available >= reserve + reserve / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn an_eighth_of_a_small_disk_is_kept_and_64_mib_of_a_large_one() {
        assert_eq!([reserve_of(128 * MIB), reserve_of(512 * MIB)], [16 * MIB, 64 * MIB]);
        assert_eq!(reserve_of(1024 * MIB), 64 * MIB);
    }

    #[test]
    fn it_goes_when_half_of_it_is_not_free_and_comes_back_where_half_more_is() {
        assert!(is_nearly_full(8 * MIB - 1, 16 * MIB) && !is_nearly_full(8 * MIB, 16 * MIB));
        assert!(!has_plenty(24 * MIB - 1, 16 * MIB) && has_plenty(24 * MIB, 16 * MIB));
    }

    #[test]
    fn it_stays_while_there_is_room_and_one_that_was_given_up_does_not_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(&Files::new(directory.path()));
        // One that a process had only begun when it died.
        fs::write(&ballast.path, b"").unwrap();
        assert!(!ballast.is_there());
        for _ in 0..2 {
            assert!(ballast.tend().unwrap().is_kept);
        }
        assert!(ballast.give_up().unwrap(), "there was one");
        assert!(!ballast.give_up().unwrap() && !ballast.tend().unwrap().is_kept);
    }
}
