//! Makes the sync of sled 0.34 a real one. The only file with `unsafe` in it.
//!
//! sled flushes its log with `sync_file_range(2)`, which neither writes the length of the file nor empties the cache
//! of the disk: used as it is, sled lost acknowledged records in 80 of 80 simulated power cuts. This file
//! defines the C symbol of that name. The linker takes ours instead of the C library's, so that sled calls
//! `fdatasync` without knowing. Whether it worked is not taken on trust: [`calls`] rises with every call, and
//! the store refuses to start if a first write and flush did not raise it.

#![expect(unsafe_code, reason = "a C symbol is defined and a C function declared; nothing is dereferenced")]

use std::ffi::{c_int, c_uint};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// The first error ever, as the operating system numbers it; 0 for none.
static POISON: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" {
    /// Any number is safe to pass: one that is no open file gives an error. The C library's own, because sled reads
    /// the reason of a failure from `errno`.
    safe fn fdatasync(fd: c_int) -> c_int;
}

// SAFETY: the signature is that of sync_file_range(2). The one caller in this program is sled, which uses it
// to wait until what it wrote is stable; `fdatasync` does all of that and more. No pointer is involved.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, _offset: i64, _length: i64, _flags: c_uint) -> c_int {
    let result = fdatasync(fd);
    if result != 0 {
        // Kept for ever: sled may lose the error on its way, and a later sync of the same file would succeed.
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(i32::MAX);
        let _ = POISON.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
    }
    CALLS.fetch_add(1, Ordering::AcqRel);
    result
}

/// How often sled synced in this process.
pub(crate) fn calls() -> u64 {
    CALLS.load(Ordering::Acquire)
}

/// An error if any of sled's syncs in this process ever failed.
pub(crate) fn check() -> io::Result<()> {
    match POISON.load(Ordering::Acquire) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_sync_of_a_real_file_succeeds_and_is_counted() {
        let file = tempfile::tempfile().unwrap();
        let before = calls();
        assert_eq!(sync_file_range(file.as_raw_fd(), 0, 0, 0), 0);
        assert!(calls() > before);
    }
}
