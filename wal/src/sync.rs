//! Makes the syncs of sled 0.34 real ones. The only file with `unsafe` in it.
//!
//! sled flushes its log with `sync_file_range(2)`, which neither writes the length of the file nor empties the cache
//! of the disk: used as it is, sled lost acknowledged records in 80 of 80 simulated power cuts. This file
//! defines the C symbol of that name. The linker takes ours instead of the C library's, so that sled calls
//! `fdatasync` without knowing.
//!
//! It goes through a descriptor of our own ([`Own`]): the kernel reports a failed write once to each descriptor, and
//! the threads of sled, some of which drop errors, can take only theirs. A sync through any descriptor of a
//! file covers all that was written to it.
//!
//! sled also gives its snapshot a name with `rename`, and then goes on at once to overwrite what by this snapshot is
//! garbage. If the power goes while the name is not on the disk yet, the older snapshot is read, sled does not come to
//! what is still there, and overwrites that too. So `rename` is defined here in the same way: for a snapshot it
//! returns when its directory is synced.
//!
//! Whether it worked is not taken on trust: [`Own::syncs`] rises with every call, and the store refuses to start if a
//! first write and flush did not raise it; and so with [`snapshots`] where there is a new snapshot.

#![expect(unsafe_code, reason = "C symbols are defined and C functions declared; a C string is read")]

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{CWD, fstat};

/// Data files of which we have descriptors of our own, by device and inode.
static OWN: RwLock<BTreeMap<FileId, Arc<Data>>> = RwLock::new(BTreeMap::new());

/// The first error ever, as the operating system numbers it; 0 for none.
static POISON: AtomicI32 = AtomicI32::new(0);

/// Snapshots whose names were synced.
static SNAPSHOTS: AtomicU64 = AtomicU64::new(0);

type FileId = (u64, u64);

/// A data file of sled under a descriptor of our own: as long as this lives, sled's syncs of the file go through it.
#[derive(Debug)]
pub(crate) struct Own {
    id: FileId,
    data: Arc<Data>,
}

#[derive(Debug)]
struct Data {
    file: File,
    syncs: AtomicU64,
}

unsafe extern "C" {
    /// Any number is safe to pass: one that is no open file gives an error. The C library's own, because sled reads
    /// the reason of a failure from `errno`.
    safe fn fdatasync(fd: c_int) -> c_int;

    /// `rename(2)` by another name. The paths must be C strings.
    fn renameat(old_fd: c_int, old: *const c_char, new_fd: c_int, new: *const c_char) -> c_int;
}

// SAFETY: the signature is that of sync_file_range(2). The one caller in this program is sled, which uses it
// to wait until what it wrote is stable; `fdatasync` does all of that and more. No pointer is involved.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, _offset: i64, _length: i64, _flags: c_uint) -> c_int {
    // SAFETY: the caller has the file open for as long as its call takes.
    let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
    let own = file_id(theirs).ok().and_then(|id| OWN.read().ok()?.get(&id).cloned());
    let result = fdatasync(own.as_ref().map_or(fd, |own| own.file.as_raw_fd()));
    if result != 0 {
        poison(&io::Error::last_os_error());
    }
    if let Some(own) = own {
        own.syncs.fetch_add(1, Ordering::AcqRel);
    }
    result
}

// SAFETY: the signature is that of rename(2), and it does what that does. Every `rename` of the program comes here.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(old: *const c_char, new: *const c_char) -> c_int {
    // SAFETY: whoever calls `rename` gives two C strings.
    let result = unsafe { renameat(CWD.as_raw_fd(), old, CWD.as_raw_fd(), new) };
    if result != 0 {
        return result;
    }
    // SAFETY: as above.
    let new = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(new) }.to_bytes()));
    let is_snapshot = new.file_name().is_some_and(|name| name.as_bytes().starts_with(b"snap."));
    let Some(parent) = new.parent().filter(|_| is_snapshot) else { return 0 };
    match File::open(parent).and_then(|directory| directory.sync_all()) {
        Ok(()) => {
            SNAPSHOTS.fetch_add(1, Ordering::AcqRel);
            0
        }
        Err(error) => {
            poison(&error);
            -1
        }
    }
}

impl Own {
    /// Lets sled's syncs of this file go through this descriptor.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let id = file_id(&file)?;
        let data = Arc::new(Data { file, syncs: AtomicU64::new(0) });
        OWN.write().unwrap_or_else(PoisonError::into_inner).insert(id, data.clone());
        Ok(Self { id, data })
    }

    /// How often sled synced the file.
    pub(crate) fn syncs(&self) -> u64 {
        self.data.syncs.load(Ordering::Acquire)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
        // Another store of this process may have opened the same file since.
        if own.get(&self.id).is_some_and(|data| Arc::ptr_eq(data, &self.data)) {
            own.remove(&self.id);
        }
    }
}

/// How many snapshots of sled got a name that is on stable storage.
pub(crate) fn snapshots() -> u64 {
    SNAPSHOTS.load(Ordering::Acquire)
}

/// Keeps an error for ever: sled may lose it on its way, and a later sync of the same file would succeed.
fn poison(error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(i32::MAX);
    let _ = POISON.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
}

/// An error if any of sled's syncs in this process ever failed.
pub(crate) fn check() -> io::Result<()> {
    match POISON.load(Ordering::Acquire) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn file_id(file: impl std::os::fd::AsFd) -> io::Result<FileId> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_goes_through_our_own_descriptor_while_there_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let theirs = file.as_file().as_raw_fd();
        let own = Own::new(File::open(file.path()).unwrap()).unwrap();
        assert_eq!(sync_file_range(theirs, 0, 0, 0), 0);
        assert_eq!(own.syncs(), 1);
        let data = own.data.clone();
        drop(own);
        assert_eq!(sync_file_range(theirs, 0, 0, 0), 0, "and through sled's afterwards");
        assert_eq!(data.syncs.load(Ordering::Acquire), 1);
    }
}
