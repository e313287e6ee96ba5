//! A copy of a directory, and a directory that was restored, are noticed, and started only by a word on what is known of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{copy_tree, lsn, payload, read, start, try_read};
use tokio::task::JoinSet;
use unanimous_wal::verify::{self, verify};
use unanimous_wal::{Copied, OpenError, Options};

/// A log that was started so often, with a record of each start.
async fn started(times: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for n in 1..=times {
        start_once(directory.path(), n).await;
    }
    directory
}

async fn start_once(directory: &Path, n: u64) {
    let (wal, _) = start(directory);
    wal.append(payload(n, 50), ()).await.unwrap();
    wal.close().await.unwrap();
}

fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(directory, copy.path());
    copy
}

fn with(copied: Copied) -> Options {
    Options { copied, ..Options::default() }
}

/// Why it was refused, and whether that is known to be an older one.
fn refused(directory: &Path, copied: Copied) -> (String, bool) {
    let before = common::files_below(directory);
    let error = unanimous_wal::open(directory, with(copied)).unwrap_err();
    assert!(error.to_string().contains("is a copy of a log, or was restored"), "{error}");
    let unchanged = common::files_below(directory) == before;
    assert!(unchanged, "nothing was changed");
    let words = error.to_string();
    let OpenError::Copied { why, is_older, .. } = error else { unreachable!("{error}") };
    assert_eq!(words.contains("`log.accept_copy = \"outdated\"`"), is_older, "{words}");
    assert_eq!(words.contains("`log.accept_copy = \"complete\"`"), !is_older, "{words}");
    (why, is_older)
}

fn starts(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("start")).collect()
}

/// A disk that cannot be read is told as that.
#[tokio::test]
async fn what_the_system_refuses_to_read_is_not_called_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).0.close().await.unwrap();
    let path = directory.path().join("start-1");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.contains("could not read") && !refused.contains("copy"), "{refused}");
}

#[tokio::test]
async fn a_copy_is_refused_until_somebody_says_that_it_is_complete() {
    let directory = started(3).await;
    let copy = copy_of(directory.path());
    let (why, is_older) = refused(copy.path(), Copied::Refuse);
    assert!(why.contains("`start-3.1` was file ") && !is_older, "{why}");
    assert_eq!(verify::copied(copy.path()).unwrap(), Some((why, false)));
    assert!(verify(copy.path()).unwrap().is_sound(), "a backup is sound");

    let (readable, records) = try_read(copy.path(), with(Copied::Complete)).unwrap();
    assert_eq!((records.len(), readable.given_up()), (3, None), "nothing is missing from it");
    let wal = readable.start().unwrap();
    assert_eq!(wal.epoch(), 4);
    wal.close().await.unwrap();
    // From now on it is at home there.
    start_once(copy.path(), 5).await;
    assert_eq!(starts(copy.path()), ["start-5.1"]);
    start_once(directory.path(), 4).await;
    assert_eq!(verify::copied(directory.path()).unwrap(), None, "and the original was never elsewhere");
}

#[tokio::test]
async fn what_followed_an_outdated_copy_is_given_up_and_no_start_is_counted_twice() {
    let directory = started(3).await;
    let copy = copy_of(directory.path());
    start_once(directory.path(), 4).await;
    let (readable, records) = try_read(copy.path(), with(Copied::Outdated)).unwrap();
    assert_eq!(records.len(), 3);
    assert!(readable.given_up().unwrap().contains("an older copy"));
    let wal = readable.start().unwrap();
    assert!(wal.epoch() > 1_000_000, "whoever heard of start 4 must not take the next one for an older");
    wal.close().await.unwrap();
    let (readable, _) = try_read(copy.path(), Options::default()).unwrap();
    assert!(readable.given_up().is_some(), "it ended before it could say so in the log");
    let wal = readable.start().unwrap();
    wal.append(payload(4, 50), ()).await.unwrap();
    wal.close().await.unwrap();
    // Left in the configuration the word changes nothing.
    let (readable, records) = try_read(copy.path(), with(Copied::Outdated)).unwrap();
    assert_eq!((records.len(), readable.given_up()), (4, None));
}

#[tokio::test]
async fn older_files_that_were_written_over_newer_ones_are_known_to_be_older() {
    let directory = started(3).await;
    let backup = copy_of(directory.path());
    start_once(directory.path(), 4).await;
    write_over(directory.path(), backup.path());
    for copied in [Copied::Refuse, Copied::Complete] {
        let (why, is_older) = refused(directory.path(), copied);
        assert!(
            why.contains("there is `start-4.1`, and the witness knows of nothing after `start-3.1`")
                && is_older,
            "{why}"
        );
    }
}

/// Writes what a backup holds into the very files that are there, as `cp -r backup/. directory/` does.
fn write_over(directory: &Path, backup: &Path) {
    for (path, bytes) in common::files_below(backup) {
        fs::write(directory.join(Path::new(&path).strip_prefix(backup).unwrap()), bytes).unwrap();
    }
}

#[tokio::test]
async fn a_copy_of_a_running_log_that_was_written_over_the_files_that_it_left_is_known_to_be_older() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.append(payload(1, 50), ()).await.unwrap();
    let backup = copy_of(directory.path());
    wal.append(payload(2, 50), ()).await.unwrap();
    wal.close().await.unwrap();
    assert_eq!(starts(directory.path()), ["start-1.1"]);
    write_over(directory.path(), backup.path());
    let (why, is_older) = refused(directory.path(), Copied::Complete);
    assert!(why.contains("there is `start-1.1`, and the witness knows of nothing after `start-1`"), "{why}");
    assert!(is_older);
    // Once it is started all the same, it is at home again.
    let (readable, records) = try_read(directory.path(), with(Copied::Outdated)).unwrap();
    assert_eq!(records.len(), 1);
    readable.start().unwrap().close().await.unwrap();
    assert_eq!(starts(directory.path()), ["start-1000002"]);
    start_once(directory.path(), 2).await;
}

/// A minute goes by in an instant.
#[tokio::test(start_paused = true)]
async fn so_is_one_that_was_made_a_minute_before_a_crash_also_where_nothing_was_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let log = unanimous_wal::open(directory.path(), Options::default()).unwrap();
    let (wal, commits) = read(log).unwrap().0.start_in_task().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(commits);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(starts(directory.path()), ["start-1"], "nothing was written");
    wal.append(payload(1, 50), ()).await.unwrap();
    // The name is a minute old and more: the next one comes with the first record.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(starts(directory.path()), ["start-1.1"]);
    let mut backups = Vec::new();
    for n in 2..=3 {
        backups.push(copy_of(directory.path()));
        wal.append(payload(n, 50), ()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(58)).await;
        assert_eq!(starts(directory.path()), [format!("start-1.{}", n - 1)], "not yet");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(starts(directory.path()), [format!("start-1.{n}")], "although nothing came");
    }
    let last = copy_of(directory.path());
    tasks.shutdown().await;
    drop(wal);
    assert_eq!(verify::copied(directory.path()).unwrap(), None);
    for backup in backups {
        write_over(directory.path(), backup.path());
        assert!(refused(directory.path(), Copied::Refuse).1);
    }
    // This one lacks nothing.
    write_over(directory.path(), last.path());
    assert_eq!(try_read(directory.path(), Options::default()).unwrap().1.len(), 3);
}

#[tokio::test]
async fn a_copy_without_the_file_that_cannot_be_copied_is_noticed_too_and_so_is_a_damaged_one() {
    let directory = started(2).await;
    let copy = copy_of(directory.path());
    let path = copy.path().join("start-2.1");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("inode ", "inode 1")).unwrap();
    assert_eq!(refused(copy.path(), Copied::Refuse), ("`start-2.1` cannot be read".to_owned(), false));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(refused(copy.path(), Copied::Refuse), ("`start-2.1` cannot be read".to_owned(), false));
    fs::remove_file(path).unwrap();
    let (why, is_older) = refused(copy.path(), Copied::Refuse);
    assert!(why.contains("is missing") && !is_older, "{why}");
}

/// The next start would not find what it writes from then on. Of the log that an operator has put in its place the file of the
/// start stays as it is.
#[tokio::test]
async fn a_log_whose_directory_was_moved_or_removed_while_it_ran_fails_and_leaves_another_one_alone() {
    let outer = tempfile::tempdir().unwrap();
    let (place, moved) = (outer.path().join("data"), outer.path().join("moved"));
    let (first, _) = start(&place);
    fs::rename(&place, &moved).unwrap();
    let (second, _) = start(&place);
    first.append(payload(1, 50), ()).await.unwrap();
    let failed = first.close().await.unwrap_err().to_string();
    assert!(failed.contains("`start-1` of this start is gone"), "{failed}");
    assert_eq!((starts(&place), starts(&moved)), (vec!["start-1".to_owned()], vec!["start-1".to_owned()]));
    second.append(payload(1, 50), ()).await.unwrap();
    second.close().await.unwrap();
    start_once(&moved, 2).await;
    start_once(&place, 2).await;
    let (third, _) = start(&place);
    fs::remove_dir_all(&place).unwrap();
    third.append(payload(1, 50), ()).await.unwrap();
    let failed = third.close().await.unwrap_err().to_string();
    assert!(failed.contains("is gone"), "{failed}");
}

#[tokio::test]
async fn a_directory_that_was_only_renamed_is_where_it_was() {
    let outer = tempfile::tempdir().unwrap();
    let (before, after) = (outer.path().join("before"), outer.path().join("after"));
    start_once(&before, 1).await;
    fs::rename(&before, &after).unwrap();
    start_once(&after, 2).await;
    assert_eq!(starts(&after), ["start-2.1"]);
}

#[tokio::test]
async fn a_start_that_ended_before_its_file_was_made_is_no_copy() {
    let directory = started(2).await;
    // The witness has counted a start of which there is no file yet, or only half of one.
    let log = unanimous_wal::open(directory.path(), Options::default()).unwrap();
    fs::hard_link(directory.path().join("start-2.1"), directory.path().join("kept")).unwrap();
    read(log).unwrap().0.start().unwrap().close().await.unwrap();
    fs::remove_file(directory.path().join("start-3")).unwrap();
    fs::rename(directory.path().join("kept"), directory.path().join("start-2.1")).unwrap();
    fs::write(directory.path().join("start.new"), b"half").unwrap();
    start_once(directory.path(), 3).await;
    assert_eq!(starts(directory.path()), ["start-4.1"]);
    assert_eq!(start(directory.path()).0.high(), Some(lsn(3)));
}
