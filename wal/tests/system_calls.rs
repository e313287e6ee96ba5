//! No answer before a real sync, as the kernel sees it.
//!
//! A child appends and writes a line for each acknowledgement, while this process watches every system call of all
//! of its threads. For each line there must have been, in this order: the return of the write that carried the
//! record to sled's data file; an `fdatasync` of that file, begun after that through another descriptor than
//! sled's, which returned 0; and only then the line. The same of the mirror ring, meanwhile; and a write of the witness that says
//! so. In further runs one of these syncs, or of these writes of the witness, is made to fail on its way back from the kernel. In
//! the last one the child opens a log that sled makes a snapshot of.

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
/// Which sync fails, or which write of the witness, where one does: the log is well under way, and would go on for a while.
const FAILING: u64 = 10;
const DIRECTORY: &str = "UNANIMOUS_WAL_SYSTEM_CALL_TEST_DIRECTORY";

/// Each record is in two of them, and the last one says up to which they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    /// sled's data file.
    Store = 0,
    /// The mirror ring.
    Ring = 1,
    /// The witness, which is synced only now and then.
    Witness = 2,
}

/// What a thread asked of the kernel.
enum Call {
    /// A write of records to a file, through this descriptor.
    Write(File, u64, Vec<u64>),
    /// A sync of a file through this descriptor, and the writes to it that there were when it began.
    Sync(File, u64, u64),
    Other,
}

/// What is known of a file at some moment.
#[derive(Default)]
struct Copy {
    /// The descriptor that it is written through.
    theirs: Option<u64>,
    /// Counts the returns of writes that carried records.
    writes: u64,
    /// With which of them each record reached the file.
    written: HashMap<u64, u64>,
    /// Up to which of them a sync covers what was written.
    synced: u64,
    syncs: u64,
}

/// What is known at some moment.
#[derive(Default)]
struct Observer {
    copies: [Copy; 3],
    /// Of which file which sync fails; of the witness which write.
    failing: Option<(File, u64)>,
    lines: Vec<u64>,
}

#[test]
fn every_acknowledgement_follows_a_real_sync_of_both_copies_of_its_record() {
    let observer = run(None);
    assert_eq!(observer.lines, (1..=RECORDS).collect::<Vec<_>>());
    for (copy, name) in observer.copies.iter().zip(["store", "ring"]) {
        // Those of a start and of an end come on top.
        let is_one_each = (RECORDS..RECORDS + 10).contains(&copy.syncs);
        assert!(is_one_each, "{} syncs of the {name} for {RECORDS} commits", copy.syncs);
    }
}

#[test]
fn after_a_sync_that_failed_or_a_write_of_the_witness_nothing_is_acknowledged_any_more() {
    for file in [File::Store, File::Ring, File::Witness] {
        let observer = run(Some((file, FAILING)));
        let acknowledged = u64::try_from(observer.lines.len()).unwrap();
        assert_eq!(observer.lines, (1..=acknowledged).collect::<Vec<_>>());
        assert!((1..FAILING).contains(&acknowledged), "{acknowledged} lines, and sync {FAILING} failed");
    }
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

/// Watches a child from its first record to its end; of the syncs of this file, or the writes of the witness, the one of this
/// number fails.
fn run(failing: Option<(File, u64)>) -> Observer {
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
        let file = || match std::fs::read_link(call.descriptor(0)) {
            Ok(path) if path.ends_with("store/db") => Some(File::Store),
            Ok(path) if path.ends_with("ring") => Some(File::Ring),
            Ok(path) if path.ends_with("witness") => Some(File::Witness),
            Ok(_) | Err(_) => None,
        };
        match call.number {
            libc::SYS_fdatasync => file().map_or(Call::Other, |file| {
                Call::Sync(file, call.argument(0), self.copies[file as usize].writes)
            }),
            libc::SYS_pwrite64 => file().map_or(Call::Other, |file| {
                let bytes = call.bytes(1, 2);
                let records = match file {
                    File::Store | File::Ring => numbers(&bytes, b"payload-"),
                    File::Witness => (1..=high(&bytes)).collect(),
                };
                Call::Write(file, call.argument(0), records)
            }),
            libc::SYS_write => {
                if let Some(n) = numbers(&call.bytes(1, 2), b"line ").first() {
                    let [store, ring, witness] = &self.copies;
                    for copy in [store, ring] {
                        let write = copy.written.get(n);
                        let is_synced = write.is_some_and(|write| *write <= copy.synced);
                        assert!(is_synced, "record {n} was acknowledged too early");
                    }
                    assert!(witness.written.contains_key(n), "record {n} was acknowledged without a witness");
                    self.lines.push(*n);
                }
                Call::Other
            }
            _ => Call::Other,
        }
    }

    fn returns(&mut self, call: Call, exit: &Exit) {
        match call {
            Call::Write(file, descriptor, records) => {
                let copy = &mut self.copies[file as usize];
                copy.theirs = Some(descriptor);
                copy.writes += 1;
                if file == File::Witness && self.failing == Some((file, copy.writes)) {
                    return exit.fail();
                }
                for record in records {
                    copy.written.entry(record).or_insert(copy.writes);
                }
            }
            Call::Sync(file, descriptor, writes) => {
                let copy = &mut self.copies[file as usize];
                // An error that one of sled's threads had already taken would not show through sled's own.
                if file == File::Store && copy.theirs.is_none_or(|theirs| theirs == descriptor) {
                    return;
                }
                copy.syncs += 1;
                if file != File::Witness && self.failing == Some((file, copy.syncs)) {
                    exit.fail();
                } else if exit.result() == 0 {
                    copy.synced = copy.synced.max(writes);
                }
            }
            Call::Other => {}
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

/// The last record that is acknowledged, as the witness says it.
fn high(witness: &[u8]) -> u64 {
    witness.get(24..32).map_or(0, |high| u64::from_le_bytes(high.try_into().unwrap()))
}

/// The numbers of eight digits that follow `word`, wherever it stands.
fn numbers(bytes: &[u8], word: &[u8]) -> Vec<u64> {
    let found = bytes.windows(word.len() + 8).filter(|window| window.starts_with(word));
    found.filter_map(|window| std::str::from_utf8(&window[word.len()..]).ok()?.parse().ok()).collect()
}
