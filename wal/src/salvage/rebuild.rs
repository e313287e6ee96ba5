//! A new log in an empty directory, written record by record under given numbers.
//!
//! The file `REBUILD` says so until all of it is there: a rebuild that was interrupted leaves a directory that no node opens.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::OpenError;
use crate::lsn::Lsn;
use crate::pack::{Packer, Tail};
use crate::store::files::Files;
use crate::store::sled_store::{Guard, SledStore};
use crate::store::{Store, StoreError};
use crate::witness::{Keeper, Witness};

/// Bytes that are written between two syncs.
const BYTES_PER_SYNC: usize = 1024 * 1024;

/// A log that is being written.
pub struct Rebuild {
    files: Files,
    store: Arc<SledStore>,
    witness: Witness,
    packer: Packer,
    next: Lsn,
    /// Bytes that are not written yet.
    waiting: usize,
}

impl Rebuild {
    /// Begins a log with the identity of another one, whose first record gets the number `low`. No start of the node up to
    /// `epoch` may count as a new one. The directory must be empty, or not be there.
    pub fn create(directory: &Path, node: u32, epoch: u64, low: Lsn) -> Result<Self, OpenError> {
        let (io, files) = (OpenError::io("list", directory), Files::new(directory));
        files.refuse_unfinished()?;
        match fs::read_dir(directory) {
            Ok(mut entries) => {
                if let Some(stranger) = entries.next() {
                    let stranger = stranger.map_err(&io)?.file_name().to_string_lossy().into_owned();
                    return Err(OpenError::NotEmpty { directory: directory.to_owned(), stranger });
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let lock = files.create_and_lock()?;
        files.begin_rebuild()?;
        let guard = Guard::New { _file: lock };
        let store = Arc::new(SledStore::open(files.clone(), guard)?);
        let witness = Witness { low, epoch, ..Witness::new(node) };
        let packer = Packer::new(Tail { next: low, checksum: 0 }, epoch);
        Ok(Self { files, store, witness, packer, next: low, waiting: 0 })
    }

    /// Writes the next record.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        self.next = self.packer.push(payload).next();
        self.waiting += payload.len();
        if self.waiting < BYTES_PER_SYNC {
            return Ok(());
        }
        self.write()
    }

    /// The number that the next record gets.
    #[must_use]
    pub const fn next(&self) -> Lsn {
        self.next
    }

    /// Writes what is left, and makes a log of it.
    pub fn finish(mut self) -> Result<(), OpenError> {
        self.write()?;
        let high = self.next.before().filter(|high| *high >= self.witness.low);
        let witness = Witness { high, ..self.witness };
        let mut keeper = Keeper::begin(self.store.clone(), witness);
        // In both slots, before a file says where the log is: a copy of it is known for one from now on.
        for _ in 0..2 {
            keeper.record(|_| {}, Instant::now())?;
        }
        self.files.settle(witness.epoch)?;
        keeper.record(|witness| witness.keeps_start = true, Instant::now())?;
        self.files.sync_all()?;
        self.files.write_marker(witness.node)?;
        self.files.end_rebuild()
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        for block in self.packer.take() {
            self.store.put(block.key, &block.bytes)?;
        }
        self.store.sync()
    }
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::witnessed;

    #[test]
    fn it_is_written_whenever_a_mebibyte_waits() {
        let directory = tempfile::tempdir().unwrap();
        let mut new = Rebuild::create(directory.path(), 7, 1, Lsn::FIRST).unwrap();
        for (len, waiting) in [(1000, 1000), (BYTES_PER_SYNC - 1001, BYTES_PER_SYNC - 1), (1, 0), (7, 7)] {
            new.push(&vec![0; len]).unwrap();
            assert_eq!(new.waiting, waiting);
        }
        assert_eq!(BYTES_PER_SYNC, 1_048_576);
    }

    #[test]
    fn the_witness_of_a_new_log_says_what_is_in_it() {
        for records in 0..=2 {
            let place = tempfile::tempdir().unwrap();
            let directory = place.path().join("made");
            let low = Lsn::new(5).unwrap();
            let mut new = Rebuild::create(&directory, 7, 3, low).unwrap();
            (0..records).for_each(|_| new.push(b"a record").unwrap());
            new.finish().unwrap();
            let witness = witnessed(&Files::new(&directory)).unwrap().unwrap();
            assert_eq!((witness.node, witness.epoch, witness.low), (7, 3, low));
            assert_eq!(witness.high.map(Lsn::get), (records > 0).then_some(4 + records));
        }
    }

    #[test]
    fn a_place_that_cannot_be_listed_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Rebuild::create(file.path(), 7, 1, Lsn::FIRST).unwrap_err().to_string();
        assert!(refused.contains("could not list"), "{refused}");
    }
}
