//! Looks at a log without changing a byte of it.
//!
//! sled writes when it opens, so what is opened is a copy in the directory for temporary files (`TMPDIR`).

use std::path::Path;
use std::sync::Arc;

use crate::damage::Damage;
use crate::error::{OpenError, ReadAllError};
use crate::lsn::Lsn;
use crate::open::{Log, Options, identity, witnessed};
use crate::ring::Copies;
use crate::store::files::Files;
use crate::store::sled_store::{Guard, SledStore};
use crate::walk::Counts;

/// What a log holds, and how far it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The random identity of the log.
    pub node: u32,
    /// How often it was started; 0 if the damage hides it.
    pub epoch: u64,
    /// The first record that is kept.
    pub low: Option<Lsn>,
    /// The last record that can be read.
    pub high: Option<Lsn>,
    /// How much can be read.
    pub counts: Counts,
    /// A record at the very end that was never finished nor acknowledged; the next start cuts it off.
    pub torn: Option<Lsn>,
    /// The first damage. `None` means that every acknowledged record is there, as it was written.
    pub damage: Option<Damage>,
    /// What the two copies of the last blocks lack of each other; `None` if the damage hides it.
    pub copies: Option<Copies>,
}

/// A copy of a log that can only be read.
#[derive(Debug)]
pub struct Snapshot(Log);

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The random identity of the log.
    pub node: u32,
    /// How often it was started.
    pub epoch: u64,
    /// The first record that is kept, or would be if there were one.
    pub low: Lsn,
    /// The last record; `None` if there is none.
    pub high: Option<Lsn>,
    /// How much there is.
    pub counts: Counts,
    /// A record at the very end that was never finished nor acknowledged.
    pub torn: Option<Lsn>,
    /// What the two copies of the last blocks lack of each other.
    pub copies: Copies,
}

/// Reads the whole log in a directory and says what it found.
///
/// Damage is part of the report, not an error; an error means that the log could not be looked at. A log that a
/// node works with gives [`OpenError::Locked`].
pub fn verify(directory: &Path) -> Result<Report, OpenError> {
    let (node, log) = match copy(directory) {
        Ok(found) => found,
        Err(OpenError::Damage(damage)) => return Ok(Report::unreadable(damage)),
        Err(error) => return Err(error),
    };
    let mut read = Report { node, ..Report::empty() };
    let visited = log.read_all(|lsn, _| {
        read.low.get_or_insert(lsn);
        read.high = Some(lsn);
        read.counts.records += 1;
        Ok::<(), std::convert::Infallible>(())
    });
    match visited {
        Ok(whole) => Ok(Report {
            epoch: whole.epoch(),
            low: Some(whole.low()),
            high: whole.high(),
            counts: whole.counts(),
            torn: whole.torn(),
            copies: Some(whole.copies().clone()),
            ..read
        }),
        Err(ReadAllError::Damage(damage)) => Ok(Report { damage: Some(damage), ..read }),
        Err(ReadAllError::NewerVersion(damage)) => Err(OpenError::NewerVersion(damage)),
        Err(ReadAllError::Store(error)) => Err(error.into()),
        Err(ReadAllError::Visit { cause, .. }) => match cause {},
    }
}

/// Opens a copy of the log in a directory for reading, to dump it while no node runs.
pub fn read_only(directory: &Path) -> Result<Snapshot, OpenError> {
    copy(directory).map(|(_, log)| Snapshot(log))
}

/// Why the directory is not where the last start of the node left it, and whether later starts are certainly missing from
/// it; `None` if it is there.
pub fn copied(directory: &Path) -> Result<Option<(String, bool)>, OpenError> {
    let files = Files::new(directory);
    let mut witness = witnessed(&files)?;
    loop {
        let moved = files.moved(witness.as_ref())?;
        let again = witnessed(&files)?;
        // A node that starts or takes a turn between the two reads says so in its witness first.
        if moved.is_none() || again == witness {
            return Ok(moved.map(|moved| (moved.why, moved.is_older)));
        }
        witness = again;
    }
}

impl Snapshot {
    /// The random identity of the log.
    #[must_use]
    pub const fn node(&self) -> u32 {
        self.0.node
    }

    /// Reads every record in order, as [`Log::read_all`](crate::Log::read_all) does.
    pub fn read_all<E>(
        self,
        visit: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<Summary, ReadAllError<E>> {
        let whole = self.0.read_all(visit)?;
        let (node, epoch, counts, torn) = (whole.node(), whole.epoch(), whole.counts(), whole.torn());
        let copies = whole.copies().clone();
        Ok(Summary { node, epoch, low: whole.low(), high: whole.high(), counts, torn, copies })
    }
}

impl Report {
    /// Whether every acknowledged record is there, as it was written, in every copy that should have it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_none() && self.copies.as_ref().is_none_or(|copies| copies.faults().is_empty())
    }

    fn empty() -> Self {
        let counts = Counts::default();
        Self { node: 0, epoch: 0, low: None, high: None, counts, torn: None, damage: None, copies: None }
    }

    fn unreadable(damage: Damage) -> Self {
        Self { damage: Some(damage), ..Self::empty() }
    }
}

fn copy(directory: &Path) -> Result<(u32, Log), OpenError> {
    let files = Files::new(directory);
    let _held = files.lock_shared()?;
    files.refuse_unfinished()?;
    let absent = || OpenError::Absent { directory: directory.to_owned() };
    let node = identity(&files, false)?.ok_or_else(absent)?;
    Ok((node, copy_of(&files, node)?))
}

/// The same for whoever holds the lock already.
pub(crate) fn copy_of(files: &Files, node: u32) -> Result<Log, OpenError> {
    let there = std::env::temp_dir();
    copy_to(&there, files, node).map_err(|error| error.for_want_of_room(&there))
}

fn copy_to(there: &Path, files: &Files, node: u32) -> Result<Log, OpenError> {
    let place = tempfile::tempdir_in(there).map_err(OpenError::io("make a directory in", there))?;
    files.copy_to(place.path())?;
    let copied = Files::new(place.path());
    let store = Arc::new(SledStore::open(copied, Guard::Copy { _directory: place })?);
    Ok(Log { store, node, options: Options::default(), home: None })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::block::{self, BlockKey};
    use crate::pack::{Packer, Tail};
    use crate::store::Store;

    #[tokio::test]
    async fn a_record_that_was_never_written_to_its_end_is_told_and_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let log = crate::open(directory.path(), Options::default()).unwrap();
        let wal = log.read_all(|_, _| Ok::<(), Infallible>(())).unwrap().start().unwrap();
        wal.append(vec![1], ()).await.unwrap();
        wal.close().await.unwrap();
        let files = Files::new(directory.path());
        let guard = Guard::Lock { _file: files.create_and_lock().unwrap(), aside: None };
        let store = SledStore::open(files, guard).unwrap();
        let (key, last) = store.at_or_before(BlockKey::last_of(Lsn::FIRST)).unwrap().unwrap();
        let next = key.first.next();
        let mut packer = Packer::new(Tail { next, checksum: block::decode(&last).unwrap().checksum }, 1);
        packer.push(&vec![2; 150_000]);
        for part in &packer.take()[..2] {
            store.put(part.key, &part.bytes).unwrap();
        }
        store.sync().unwrap();
        drop(store);
        let report = verify(directory.path()).unwrap();
        assert_eq!((report.torn, report.high, report.is_sound()), (Some(next), Some(Lsn::FIRST), true));
        let summary = read_only(directory.path()).unwrap().read_all(|_, _| Ok::<(), Infallible>(())).unwrap();
        assert_eq!((summary.torn, summary.copies.faults().len()), (Some(next), 0));
    }
}
