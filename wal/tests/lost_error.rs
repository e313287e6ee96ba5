//! An error of a sync that sled lost on its way. In a process of its own, because the error is kept for as long as that lives.

#![expect(unsafe_code, reason = "what sled calls is declared, to be called as sled does")]
#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]

mod common;

use std::ffi::{c_int, c_uint};
use std::os::fd::AsRawFd;

use common::{payload, start, try_read};
use unanimous_wal::Options;

unsafe extern "C" {
    /// That of `wal/src/sync.rs`, which no open file can harm.
    safe fn sync_file_range(fd: c_int, offset: i64, length: i64, flags: c_uint) -> c_int;
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_sync_that_failed_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    // A thread of sled syncs, is told of an error, and drops it. A pipe cannot be synced.
    let (pipe, _other_end) = std::io::pipe().unwrap();
    assert_eq!(sync_file_range(pipe.as_raw_fd(), 0, 0, 0), -1);
    let refused = wal.append(payload(2, 10), ()).await.unwrap_err();
    assert!(refused.to_string().contains("Invalid argument"), "{refused}");
    wal.append(payload(3, 10), ()).await.unwrap_err();
    // Nor does another log begin in this process.
    let other = tempfile::tempdir().unwrap();
    let refused = try_read(other.path(), Options::default()).map(|(_, records)| records).unwrap_err();
    assert!(refused.contains("Invalid argument"), "{refused}");
}
