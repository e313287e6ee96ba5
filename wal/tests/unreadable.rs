//! What the disk refuses to read, and what is not a file at all: the rest is rescued, and what was refused is named.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a helper ends the test that called it")]

mod common;

use std::fs;
use std::path::Path;

use common::{Records, payload, start, try_read};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use unanimous_wal::salvage::{self, Findings, Item};
use unanimous_wal::{Copied, OpenError, Options, verify};

/// A log that was started once, and its records.
async fn a_log(directory: &Path) -> Records {
    let (wal, _) = start(directory);
    let mut records = Records::new();
    for n in 1..=20 {
        let lsn = wal.append(payload(n, 300), ()).await.unwrap().lsn().unwrap();
        records.push((lsn, payload(n, 300)));
    }
    wal.close().await.unwrap();
    records
}

/// What the file of the last start is called.
fn start_file(directory: &Path) -> String {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| name.starts_with("start-")).unwrap()
}

/// Puts a directory in the place of a file: to read it is refused.
fn refuse(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

fn put_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

fn look(directory: &Path, copied: Copied) -> Result<(Findings, Records), OpenError> {
    let salvage = salvage::look(directory, copied)?;
    let mut records = Records::new();
    salvage.each(|item| match item {
        Item::Record(lsn, payload) => {
            records.push((lsn, payload.to_vec()));
            Ok::<_, OpenError>(())
        }
        Item::Missing(..) => Ok(()),
    })?;
    Ok((salvage.findings().clone(), records))
}

#[tokio::test]
async fn of_a_file_that_the_disk_refuses_the_name_is_told_and_every_record_is_rescued() {
    for name in ["ring", "witness", "store/db", "INIT", "start-N"] {
        let directory = tempfile::tempdir().unwrap();
        let records = a_log(directory.path()).await;
        let start = start_file(directory.path());
        let name = if name == "start-N" { start.as_str() } else { name };
        refuse(&directory.path().join(name));
        let (findings, found) = look(directory.path(), Copied::Complete).unwrap();
        assert!(found == records, "{name}: {findings:?}");
        let refused: Vec<_> = findings.refused_files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(refused, [name]);
        assert!(!findings.is_whole(), "{name}");
        assert_eq!(findings.is_end_known(), name != "witness", "{findings:?}");
    }
}

#[tokio::test]
async fn whether_it_is_a_copy_nobody_can_say_where_the_disk_refuses_to() {
    let directory = tempfile::tempdir().unwrap();
    let records = a_log(directory.path()).await;
    let start = start_file(directory.path());
    refuse(&directory.path().join(&start));
    let (findings, found) = look(directory.path(), Copied::Refuse).unwrap();
    assert!(found == records);
    assert_eq!(findings.moved, Some(format!("`{start}` cannot be read")));
}

#[tokio::test]
async fn a_directory_in_which_the_disk_refuses_everything_is_not_said_to_hold_no_log() {
    let directory = tempfile::tempdir().unwrap();
    a_log(directory.path()).await;
    for name in ["ring", "witness", "store/db", "INIT"] {
        refuse(&directory.path().join(name));
    }
    let (findings, found) = look(directory.path(), Copied::Complete).unwrap();
    assert_eq!((findings.refused_files.len(), found.len()), (4, 0));
}

#[tokio::test]
async fn nobody_waits_for_a_pipe_in_the_place_of_a_file() {
    for name in ["ring", "store/db"] {
        let directory = tempfile::tempdir().unwrap();
        let records = a_log(directory.path()).await;
        let path = directory.path().join(name);
        put_pipe(&path);
        let (findings, found) = look(directory.path(), Copied::Complete).unwrap();
        assert!(found == records, "{name}");
        assert_eq!(findings.refused_files, [(name.into(), "it is no regular file".to_owned())]);
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_made_names_what_could_not_be_read() {
    for (name, is_pipe) in [("ring", false), ("witness", false), ("store/db", true)] {
        let directory = tempfile::tempdir().unwrap();
        a_log(directory.path()).await;
        let path = directory.path().join(name);
        if is_pipe {
            put_pipe(&path);
        } else {
            refuse(&path);
        }
        let refused = verify::verify(directory.path()).unwrap_err().to_string();
        let words = format!("could not read {}: it is no regular file", path.display());
        assert_eq!(refused, words);
    }
}

#[tokio::test]
async fn a_start_waits_for_no_pipe() {
    let directory = tempfile::tempdir().unwrap();
    a_log(directory.path()).await;
    let path = directory.path().join("store/db");
    put_pipe(&path);
    let refused = try_read(directory.path(), Options::default()).unwrap_err();
    assert!(refused.starts_with(&format!("could not read {}", path.display())), "{refused}");
}
