//! No answer before a real sync, as the kernel sees it.
//!
//! A child appends and writes a line for each acknowledgement, while this process watches every system call of all
//! of its threads. For each line there must have been, in this order: the return of the write that carried the
//! record to sled's data file; an `fdatasync` of that file, begun after that through another descriptor than
//! sled's, which returned 0; and only then the line. In a second run one of these syncs is made to fail on its way
//! back from the kernel. In a third one the child opens a log that sled makes a snapshot of.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;
mod tracer;

use std::collections::HashMap;

use common::{payload, start};
use nix::libc;
use tracer::{Entry, Exit, Watcher, say, wait_until_watched};

const RECORDS: u64 = 25;
/// Which sync fails where one does: the log is well under way, and would go on for a while.
const FAILING: u64 = 10;
const DIRECTORY: &str = "UNANIMOUS_WAL_SYSTEM_CALL_TEST_DIRECTORY";

/// What a thread asked of the kernel.
enum Call {
    /// A write of records to sled's data file, through this descriptor.
    Write(u64, Vec<u64>),
    /// A sync through this descriptor, and the writes there were when it began.
    Sync(u64, u64),
    Other,
}

/// What is known at some moment.
#[derive(Default)]
struct Observer {
    /// The descriptor that sled writes through.
    theirs: Option<u64>,
    /// Counts the returns of writes that carried records.
    writes: u64,
    /// With which of them each record reached the file.
    written: HashMap<u64, u64>,
    /// Up to which of them a sync covers what was written.
    synced: u64,
    syncs: u64,
    /// The sync that fails.
    failing: Option<u64>,
    lines: Vec<u64>,
}

#[test]
fn every_acknowledgement_follows_a_real_sync_of_its_record() {
    let observer = run(None);
    assert_eq!(observer.lines, (1..=RECORDS).collect::<Vec<_>>());
    assert!(observer.syncs >= RECORDS, "only {} syncs for {RECORDS} records", observer.syncs);
}

#[test]
fn after_a_sync_that_failed_nothing_is_acknowledged_any_more() {
    let observer = run(Some(FAILING));
    let acknowledged = u64::try_from(observer.lines.len()).unwrap();
    assert_eq!(observer.lines, (1..=acknowledged).collect::<Vec<_>>());
    assert!((1..FAILING).contains(&acknowledged), "{acknowledged} lines, and sync {FAILING} failed");
}

#[test]
fn the_name_of_a_snapshot_is_synced_before_sled_relies_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [(DIRECTORY, directory.path().to_str().unwrap())];
    let mut names = Names::default();
    for _ in 0..2 {
        tracer::watch("child_that_appends_and_says_so", &environment, &mut names).unwrap();
    }
    assert!(names.snapshots > 0, "no snapshot was made");
    assert!(!names.is_open, "the last one was not synced");
}

/// Watches a child from its first record to its end; of its syncs the one of this number fails.
fn run(failing: Option<u64>) -> Observer {
    let directory = tempfile::tempdir().unwrap();
    let mut observer = Observer { failing, ..Observer::default() };
    let environment = [(DIRECTORY, directory.path().to_str().unwrap())];
    tracer::watch("child_that_appends_and_says_so", &environment, &mut observer).unwrap();
    observer
}

/// The child, which is watched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_and_says_so() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    wait_until_watched();
    let (wal, _) = start(directory.as_ref());
    for n in 1..=RECORDS {
        // Another try must fail the same: no sync is believed after one that failed.
        if wal.append(payload(n, 150), ()).await.is_ok() {
            say(&format!("line {n:08}"));
        }
    }
}

impl Watcher for Observer {
    type Call = Call;

    fn begins(&mut self, call: &Entry) -> Call {
        let is_data = || std::fs::read_link(call.descriptor(0)).is_ok_and(|path| path.ends_with("store/db"));
        match call.number {
            libc::SYS_fdatasync if is_data() => Call::Sync(call.argument(0), self.writes),
            libc::SYS_pwrite64 if is_data() => {
                Call::Write(call.argument(0), numbers(&call.bytes(1, 2), b"payload-"))
            }
            libc::SYS_write => {
                if let Some(n) = numbers(&call.bytes(1, 2), b"line ").first() {
                    let write = self.written.get(n);
                    assert!(
                        write.is_some_and(|write| *write <= self.synced),
                        "record {n} was acknowledged too early"
                    );
                    self.lines.push(*n);
                }
                Call::Other
            }
            _ => Call::Other,
        }
    }

    fn returns(&mut self, call: Call, exit: &Exit) {
        match call {
            Call::Write(descriptor, records) => {
                self.theirs = Some(descriptor);
                self.writes += 1;
                for record in records {
                    self.written.entry(record).or_insert(self.writes);
                }
            }
            // An error that one of sled's threads had already taken would not show through sled's own.
            Call::Sync(descriptor, writes) if self.theirs.is_some_and(|theirs| theirs != descriptor) => {
                self.syncs += 1;
                if self.failing == Some(self.syncs) {
                    exit.fail();
                } else if exit.result() == 0 {
                    self.synced = self.synced.max(writes);
                }
            }
            Call::Sync(..) | Call::Other => {}
        }
    }
}

/// Whether the directory of sled was synced since a snapshot got its name.
#[derive(Default)]
struct Names {
    snapshots: u64,
    is_open: bool,
}

/// What sled does with names, and what it must not do while one of them is not synced.
enum NameCall {
    Snapshot,
    SyncOfDirectory,
    Other,
}

impl Watcher for Names {
    type Call = NameCall;

    fn begins(&mut self, call: &Entry) -> NameCall {
        let file = || std::fs::read_link(call.descriptor(0)).unwrap_or_default();
        let target = match call.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => call.path(None, 1),
            libc::SYS_renameat | libc::SYS_renameat2 => call.path(Some(2), 3),
            libc::SYS_fsync if file().ends_with("store") => return NameCall::SyncOfDirectory,
            libc::SYS_pwrite64 if file().ends_with("store/db") => {
                assert!(!self.is_open, "sled writes, and the name of its snapshot may be lost");
                return NameCall::Other;
            }
            _ => return NameCall::Other,
        };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") { NameCall::Snapshot } else { NameCall::Other }
    }

    fn returns(&mut self, call: NameCall, exit: &Exit) {
        match call {
            NameCall::Snapshot => {
                self.snapshots += 1;
                self.is_open = true;
            }
            NameCall::SyncOfDirectory if exit.result() == 0 => self.is_open = false,
            NameCall::SyncOfDirectory | NameCall::Other => {}
        }
    }
}

/// The numbers of eight digits that follow `word`, wherever it stands.
fn numbers(bytes: &[u8], word: &[u8]) -> Vec<u64> {
    let found = bytes.windows(word.len() + 8).filter(|window| window.starts_with(word));
    found.filter_map(|window| std::str::from_utf8(&window[word.len()..]).ok()?.parse().ok()).collect()
}
