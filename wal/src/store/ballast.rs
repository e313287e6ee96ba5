//! Room that is kept free for the day the disk is full.
//!
//! sled cannot open on a full disk, because it writes a snapshot when it opens; a node that stopped for want of room
//! could not even start to say what is in its log. So a file without use lies beside the log, and goes first.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::files::{Files, absent_is_fine};

/// Enough for what sled writes when it opens.
const LEN: u64 = 64 * 1024 * 1024;

/// Makes the file if it is not there. The log works without it, so that a refusal is only told.
pub(super) fn keep(files: &Files) {
    let path = path(files);
    if path.exists() {
        return;
    }
    let made = File::create(&path).and_then(|file| Ok(fallocate(file, FallocateFlags::empty(), 0, LEN)?));
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "no room is kept for opening the log on a full disk");
        let _ = fs::remove_file(&path);
    }
}

/// Gives the room back to the disk; `false` if there was none to give.
pub(super) fn release(files: &Files) -> io::Result<bool> {
    let path = path(files);
    let was_there = path.exists();
    absent_is_fine(fs::remove_file(path)).map(|()| was_there)
}

fn path(files: &Files) -> PathBuf {
    files.root.join(super::files::BALLAST)
}
