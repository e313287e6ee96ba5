//! Opening sled: what must be cleared before, tried when it fails, and proven after.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use super::{CACHE_CAPACITY, FLUSH_EVERY_MS, SEGMENT_SIZE, survive};
use crate::damage::{Damage, DamageKind};
use crate::error::OpenError;
use crate::store::ballast::Ballast;
use crate::store::files::{Files, LOCK_LOOKS, LOCK_PAUSE, absent_is_fine};
use crate::sync::{self, Own};

/// A tree beside that of the blocks, for the one write that proves the sync.
const PROBE_TREE: &str = "probe";

/// Opens sled. If it cannot read its own files, tries again without its snapshot, then without its settings. Often it
/// can do without them; a copy of everything is kept, unless this is one, and the walk over the records decides whether
/// all of them are there.
pub(super) fn open_or_repair(files: &Files, ballast: &Ballast, is_copy: bool) -> Result<sled::Db, OpenError> {
    let path = files.store();
    let first = match open_cleared(&path)? {
        Ok(db) => return Ok(db),
        Err(error) => error,
    };
    // A quota, for one, is in the way of a write before the disk says that it is full.
    if matches!(first.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        && ballast.give_up().map_err(OpenError::io("remove the ballast in", &files.root))?
    {
        tracing::warn!(error = %first, "gave up the room that was kept for this, trying again");
        return open_cleared(&path)?.map_err(|error| not_opened(files, error));
    }
    if !is_damage(&first) {
        return Err(not_opened(files, first));
    }
    if is_copy {
        tracing::info!(error = %first, "sled cannot open a copy of its files, trying without its snapshot");
    } else {
        let aside = files.set_aside()?;
        tracing::warn!(
            error = %first, copy = %aside.display(),
            "sled cannot open its files; copied them aside, trying without its snapshot"
        );
    }
    remove(&path, |name| name.starts_with("snap."))?;
    open(&path)
        .or_else(|error| {
            tracing::info!(%error, "that was not enough, trying without its settings as well");
            remove(&path, |name| name == "conf" || name.starts_with("snap.")).map_err(io::Error::other)?;
            open(&path)
        })
        .map_err(|error| not_opened(files, error))
}

/// Writes something and syncs it: if that did not call our sync, nothing that sled says could be believed.
pub(super) fn prove_sync(db: &sled::Db, data: &Own, store: &Path) -> Result<(), OpenError> {
    let before = data.syncs();
    survive(|| {
        let probe = db.open_tree(PROBE_TREE)?;
        // Another value each time: sled does not write the one that is there already.
        probe.update_and_fetch(PROBE_TREE, |last| {
            let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
            Some(last.wrapping_add(1).to_le_bytes().to_vec())
        })?;
        db.flush()
    })
    .map_err(OpenError::io("write to the store in", store))?;
    sync::check().map_err(OpenError::io("sync the store in", store))?;
    if data.syncs() == before { Err(OpenError::SyncUnproven) } else { Ok(()) }
}

/// The snapshots of sled before it is opened.
pub(super) struct Snapshots<'a> {
    store: &'a Path,
    names: BTreeSet<OsString>,
    synced: u64,
}

impl<'a> Snapshots<'a> {
    pub(super) fn before(store: &'a Path) -> Result<Self, OpenError> {
        Ok(Self { store, names: snapshots(store)?, synced: sync::snapshots() })
    }

    /// If a new one got its name without our sync, an opening that the power ends may cost records.
    pub(super) fn prove_sync(self) -> Result<(), OpenError> {
        let is_new = !snapshots(self.store)?.is_subset(&self.names);
        if is_new && sync::snapshots() == self.synced { Err(OpenError::SyncUnproven) } else { Ok(()) }
    }
}

fn snapshots(store: &Path) -> Result<BTreeSet<OsString>, OpenError> {
    let io = OpenError::io("list", store);
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(&io)?,
    };
    let names =
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<BTreeSet<_>>>();
    Ok(names.map_err(&io)?.into_iter().filter(|name| name.as_bytes().starts_with(b"snap.")).collect())
}

/// sled never syncs the files in `blobs/`. Blocks are too small to end up there; this makes sure.
pub(super) fn look_into_blobs(store: &Path) -> Result<(), OpenError> {
    let directory = store.join("blobs");
    match fs::read_dir(&directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(OpenError::Blobs { directory }),
        },
        Err(error) => absent_is_fine(Err(error)).map_err(OpenError::io("list", &directory)),
    }
}

/// Opens without the snapshots that sled did not write to their end: it takes one for the latest, and cannot
/// open. Where it fails to write another one, that takes no room from whoever comes next.
fn open_cleared(path: &Path) -> Result<io::Result<sled::Db>, OpenError> {
    let clear = || remove(path, |name| name.starts_with("snap.") && name.ends_with(".generating"));
    clear()?;
    let opened = open(path);
    if opened.is_err() {
        // What sled could not do says more than what could not be cleared up after it.
        let _ = clear();
    }
    Ok(opened)
}

fn open(path: &Path) -> io::Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        .mode(sled::Mode::HighThroughput)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(CACHE_CAPACITY)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    // Our own lock is held, so no other process works here: a sled that was dropped in this one lets go of its file
    // a moment later, on a thread of its own.
    for _ in 0..LOCK_LOOKS {
        match survive(|| config.open()) {
            Err(error) if is_locked(&error) => thread::sleep(LOCK_PAUSE),
            ended => return ended,
        }
    }
    survive(|| config.open())
}

/// What the operating system refuses is no damage: without its snapshot sled would be refused the same.
fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && !is_locked(error)
}

/// sled says so only in words.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn not_opened(files: &Files, error: io::Error) -> OpenError {
    if is_locked(&error) {
        return OpenError::Locked { directory: files.root.clone() };
    }
    if is_damage(&error) {
        return Damage::new(None, DamageKind::Store(error.to_string())).into();
    }
    OpenError::io("open the store in", &files.store())(error)
}

fn remove(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Result<(), OpenError> {
    let io = OpenError::io("clear up in", directory);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(&io)?,
    };
    for entry in entries {
        let entry = entry.map_err(&io)?;
        if is_meant(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(&io)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::block::BlockKey;
    use crate::lsn::Lsn;
    use crate::store::Store;
    use crate::store::sled_store::tests::store;

    #[test]
    fn a_sync_of_another_file_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let data = |file| Own::new(file).unwrap();
        let prove = |data| prove_sync(store.db(), &data, directory.path());
        assert!(matches!(prove(data(tempfile::tempfile().unwrap())), Err(OpenError::SyncUnproven)));
        assert!(prove(data(File::open(store.files.data()).unwrap())).is_ok());
    }

    #[test]
    fn sled_is_opened_without_settings_that_it_cannot_read_and_they_are_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        let first = store(directory.path());
        first.put(BlockKey::of(Lsn::FIRST), b"a block").unwrap();
        drop(first);
        let conf = files.store().join("conf");
        fs::write(&conf, b"more nonsense").unwrap();
        // No room is missing, and none is given up.
        let ballast = Ballast::of(&files);
        ballast.tend().unwrap();
        let db = open_or_repair(&files, &ballast, false).unwrap();
        assert_eq!(db.len(), 1);
        assert_eq!(fs::read(directory.path().join("aside-1/store/conf")).unwrap(), b"more nonsense");
    }

    #[test]
    fn a_sled_that_lets_go_of_its_file_a_moment_later_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        drop(store(directory.path()));
        let data = File::open(files.data()).unwrap();
        data.lock_shared().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(2 * LOCK_PAUSE);
                data.unlock().unwrap();
            });
            assert!(open(&files.store()).is_ok());
        });
    }

    /// Other tests get snapshots synced meanwhile, hence the many tries.
    #[test]
    fn a_new_snapshot_needs_a_sync_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("snap.01");
        let prove = |name: &str| {
            let before = Snapshots::before(directory.path()).unwrap();
            fs::write(directory.path().join(name), b"").unwrap();
            let proven = before.prove_sync();
            fs::remove_file(directory.path().join(name)).unwrap();
            proven
        };
        assert!((0..100).any(|_| matches!(prove("snap.01"), Err(OpenError::SyncUnproven))));
        fs::write(&snapshot, b"").unwrap();
        assert!((0..100).all(|_| prove("db").is_ok()));
    }

    #[test]
    fn where_nothing_is_there_are_no_files_and_what_cannot_be_listed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (file, absent) = (directory.path().join("file"), directory.path().join("absent"));
        fs::write(&file, b"").unwrap();
        assert!(snapshots(&absent).unwrap().is_empty() && remove(&absent, |_| true).is_ok());
        assert!(snapshots(&file).is_err() && remove(&file, |_| true).is_err());
        assert!(look_into_blobs(&absent).is_ok() && look_into_blobs(&file).is_err());
    }

    #[test]
    fn only_what_sled_finds_in_its_files_is_damage() {
        let files = Files::new(Path::new("/log"));
        let words = io::Error::other;
        assert!(matches!(not_opened(&files, words("reads nonsense")), OpenError::Damage(_)));
        assert!(matches!(
            not_opened(&files, words("could not acquire lock on ..")),
            OpenError::Locked { .. }
        ));
        assert!(matches!(not_opened(&files, io::Error::from_raw_os_error(5)), OpenError::Io { .. }));
    }
}
