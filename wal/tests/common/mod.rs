//! What the tests of the log share.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what goes wrong in a helper ends the test that called it"
)]

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use unanimous_wal::sim::SimDisk;
use unanimous_wal::{Copied, Log, Lsn, OpenError, Options, ReadAllError, Readable, Wal};

/// The records of a log, in order.
pub(crate) type Records = Vec<(Lsn, Vec<u8>)>;

/// Reads a log to its end.
pub(crate) fn read(log: Log) -> Result<(Readable, Records), ReadAllError<Infallible>> {
    let mut records = Vec::new();
    let readable = log.read_all(|lsn, payload| {
        records.push((lsn, payload.to_vec()));
        Ok(())
    })?;
    Ok((readable, records))
}

/// Opens a log in a directory, with the records it holds.
pub(crate) fn start(directory: &Path) -> (Wal, Records) {
    let (readable, records) = read(unanimous_wal::open(directory, Options::default()).unwrap()).unwrap();
    (readable.start().unwrap(), records)
}

/// Opens a log on a simulated disk, with the records it holds.
pub(crate) fn start_sim(disk: &SimDisk) -> (Wal, Records) {
    let (readable, records) = read(unanimous_wal::sim::open(disk, Options::default()).unwrap()).unwrap();
    (readable.start().unwrap(), records)
}

/// Opens a log in a directory and reads it, with whatever goes wrong.
pub(crate) fn try_read(directory: &Path, options: Options) -> Result<(Readable, Records), String> {
    let log = unanimous_wal::open(directory, options).map_err(|error: OpenError| error.to_string())?;
    read(log).map_err(|error| error.to_string())
}

/// For a directory that the test has copied.
pub(crate) fn a_copy() -> Options {
    Options { copied: Copied::Complete, ..Options::default() }
}

/// Starts with what is left of a damaged log.
pub(crate) const ACCEPT: Options = Options {
    queue_max: 64,
    commit_limit: Duration::from_secs(5),
    accept_damage: true,
    copied: Copied::Refuse,
    mirror: true,
};

/// Makes a copy the original: its `start-N` names itself, in the form that `docs/FORMAT.md` gives.
pub(crate) fn at_home(directory: &Path) {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_start = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("start-");
    let start = names.into_iter().find(is_start).unwrap();
    let was = fs::read_to_string(&start).unwrap();
    let meta = fs::metadata(&start).unwrap();
    let born = meta.created().map_or(0, |born| born.duration_since(UNIX_EPOCH).unwrap().as_nanos());
    let words = was.lines().next().unwrap();
    let text = format!("{words}\ninode {}\nborn {born}\n", meta.ino());
    fs::write(&start, format!("{text}checksum {:08x}\n", crc32fast::hash(text.as_bytes()))).unwrap();
}

/// Flips a bit of these bytes wherever they are in a file; how often that is.
pub(crate) fn flip(file: &Path, wanted: &[u8]) -> usize {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
    for place in &places {
        bytes[*place] ^= 1;
    }
    fs::write(file, bytes).unwrap();
    places.len()
}

/// Takes the second copy of the last blocks away.
pub(crate) fn lose_ring(disk: &SimDisk) {
    disk.damage_ring(|_, bytes| bytes.fill(0));
}

/// The `n`th number.
pub(crate) fn lsn(n: u64) -> Lsn {
    Lsn::new(n).unwrap()
}

/// A payload that tells its number and has the given length.
pub(crate) fn payload(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = format!("payload-{n:08}-").into_bytes();
    bytes.resize(len.max(bytes.len()), u8::try_from(n % 251).unwrap());
    bytes
}

/// Every file below a directory, with what it holds.
pub(crate) fn files_below(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// A directory in memory, where there is such a place.
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a directory and all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
