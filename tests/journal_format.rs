//! The format of records: bytes that must not change, and logs of every format version ever written.
//!
//! `UPDATE_FIXTURES=1 cargo test --test journal_format` writes the newest anew. Do that only with a new
//! format version: what is written here is on the disks of users.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "kit/files.rs"]
mod files;
mod journal;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use unanimous::clock::{Clock, SystemClock, Timestamp};
use unanimous::journal::codec::{self, CodecError};
use unanimous::journal::inspect::{Wanted, audit, records};
use unanimous::journal::options::LogOptions;
use unanimous::journal::{Journal, line};

use files::copy_tree;
use journal::every_record;

const GOLDEN: &str = "tests/journal/golden-v1.txt";
const LINES: &str = "tests/journal/lines-v1.jsonl";
/// Made by a program that knew no mirror ring, so that nothing can write it anew.
const LOG: &str = "tests/journal/log-v1";
/// The ring of such a log, with all that lies beside it but the store.
const RING: &str = "tests/journal/ring-v1";

#[test]
fn the_bytes_of_every_record_are_those_that_version_1_writes() {
    let mut text = String::new();
    for (name, entry) in every_record() {
        let bytes = codec::encode(&entry).unwrap();
        write!(text, "{name}: ").unwrap();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        writeln!(text).unwrap();
    }
    assert_golden(GOLDEN, &text);
}

#[test]
fn every_record_is_read_back_as_it_was_written() {
    for (name, entry) in every_record() {
        assert_eq!(codec::decode(&codec::encode(&entry).unwrap()).unwrap(), entry, "{name}");
    }
}

#[test]
fn a_newer_record_is_said_to_be_newer_and_not_called_damaged() {
    let (_, entry) = every_record().remove(1);
    let mut bytes = codec::encode(&entry).unwrap();
    bytes[0] = 2;
    assert_eq!(codec::decode(&bytes), Err(CodecError::Newer(2)));
}

#[test]
fn bytes_that_are_left_over_or_missing_are_refused() {
    for (name, entry) in every_record() {
        let whole = codec::encode(&entry).unwrap();
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(matches!(codec::decode(&longer), Err(CodecError::Malformed(_))), "{name} with a byte more");
        for length in 0..whole.len() {
            assert!(codec::decode(&whole[..length]).is_err(), "{name} cut to {length} bytes");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_codec_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut with_version = vec![codec::FORMAT];
        with_version.extend(&bytes);
        if let Ok(entry) = codec::decode(&with_version) {
            prop_assert_eq!(codec::decode(&codec::encode(&entry).unwrap()).unwrap(), entry);
        }
    }
}

#[tokio::test]
async fn a_log_of_version_1_is_read_and_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    copy_tree(Path::new(LOG), directory.path());

    let mut lines = String::new();
    records(directory.path(), Wanted::default(), |lsn, entry| {
        writeln!(lines, "{}", line::json(lsn, entry)).unwrap();
        true
    })
    .unwrap();
    assert_golden(LINES, &lines);

    let found = audit(directory.path()).unwrap();
    assert_eq!((found.faults, found.finished, found.unfinished), (vec![], 2, 0));
    assert_eq!(found.notes, ["there is no mirror ring; the next start makes one"]);

    let clock = Arc::new(SystemClock);
    let (journal, found) =
        Journal::open(directory.path(), &LogOptions::default(), clock, "test").await.unwrap();
    assert_eq!((found.unfinished.len(), found.keys.len(), journal.epoch()), (0, 1, 2));
    let (_, entry) = every_record().remove(5);
    journal.append(entry.transaction, entry.record, ()).await.unwrap();
    journal.close().await.unwrap();
    let found = audit(directory.path()).unwrap();
    assert_eq!((found.faults, found.notes, found.unfinished), (vec![], vec![], 1), "now there is one");
}

#[tokio::test]
async fn a_mirror_ring_of_version_1_is_enough_to_read_the_log_and_go_on() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        write_ring(Path::new(RING)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    copy_tree(Path::new(RING), directory.path());

    let mut lines = String::new();
    records(directory.path(), Wanted::default(), |lsn, entry| {
        writeln!(lines, "{}", line::json(lsn, entry)).unwrap();
        true
    })
    .unwrap();
    assert_eq!(lines, fs::read_to_string(LINES).unwrap());
    let found = audit(directory.path()).unwrap();
    assert!(found.faults[0].contains("the store has lost or damaged records 1 to 12"), "{:?}", found.faults);

    let (journal, _) =
        Journal::open(directory.path(), &LogOptions::default(), Arc::new(SystemClock), "test").await.unwrap();
    journal.close().await.unwrap();
    assert_eq!(audit(directory.path()).unwrap().faults, Vec::<String>::new(), "both copies are whole");
}

/// What is left of a log when its store is taken away. The ring is cut where only zeros follow.
async fn write_ring(directory: &Path) {
    let log = tempfile::tempdir().unwrap();
    write_log(log.path()).await;
    fs::create_dir_all(directory).unwrap();
    for name in ["INIT", "witness", "ring"] {
        let mut bytes = fs::read(log.path().join(name)).unwrap();
        if name == "ring" {
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        }
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// A log whose records were all written at the times that the golden lines show.
async fn write_log(directory: &Path) {
    let clock = Arc::new(Ticking(std::sync::atomic::AtomicU64::new(0)));
    let (journal, _) = Journal::open(directory, &LogOptions::default(), clock, "0.1.0").await.unwrap();
    // These two have no place in the story that the log tells.
    let others = ["carried after a resolution", "gave up"];
    let records = every_record().into_iter().skip(1).filter(|(name, _)| !others.contains(name));
    for (_, entry) in records {
        journal.append(entry.transaction, entry.record, ()).await.unwrap();
    }
    journal.close().await.unwrap();
}

/// A second later whenever it is asked.
struct Ticking(std::sync::atomic::AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Timestamp(1_731_000_000_000 + 1_000 * asked)
    }
}

fn assert_golden(path: &str, found: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    assert_eq!(found, expected, "the format has changed; see {path}");
}
