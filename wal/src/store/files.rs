//! The directory of a log: its lock, its marker, and the care that files need so that power loss cannot take them.
//!
//! ```text
//! <dir>/LOCK      locked by the process that works with the log
//! <dir>/INIT      the marker, written and synced last: no marker, nothing was ever acknowledged
//! <dir>/witness   two slots of 4 KiB, see `witness.rs`
//! <dir>/ring      the last blocks once more, see `ring.rs`
//! <dir>/start-N   or start-N.T: where the directory was when the node was started the last time, see `home.rs`
//! <dir>/store/    sled's own files
//! <dir>/ballast   room to free when the disk is full
//! <dir>/aside-N/  copies made before a repair
//! <dir>/REBUILD   a log is being made here of another one, and is not whole yet
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::home::{START, START_UNFINISHED};
use crate::damage::{Damage, DamageKind};
use crate::error::OpenError;

#[cfg(test)]
mod tests;

/// The version of the directory that this program makes, and the newest it opens.
const VERSION: u8 = 1;

/// Copies of earlier troubles that are kept before a repair asks for room.
const ASIDES_MAX: usize = 3;

/// How often a lock is tried, and how long apart: one second in all. A process that was just started holds a lock that its parent has let go of,
/// until it runs its own program; a node that is replaced may be at its very end.
pub(super) const LOCK_LOOKS: u32 = 50;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(20);

const MARKER: &str = "INIT";
const MARKER_UNFINISHED: &str = "INIT.new";
const LOCK: &str = "LOCK";
const WITNESS: &str = "witness";
const RING: &str = "ring";
const STORE: &str = "store";
const ASIDE: &str = "aside-";
const ASIDE_UNFINISHED: &str = "aside.new";
const REBUILD: &str = "REBUILD";
pub(super) const BALLAST: &str = "ballast";

/// What the root of an ext4 has from its making: a disk of its own is an empty directory too.
const LOST_AND_FOUND: &str = "lost+found";

/// What may lie in a directory without a marker, beside copies and the files of starts.
const OURS: [&str; 9] = [
    MARKER_UNFINISHED,
    LOCK,
    WITNESS,
    RING,
    STORE,
    BALLAST,
    START_UNFINISHED,
    ASIDE_UNFINISHED,
    LOST_AND_FOUND,
];

/// The paths in the directory of a log.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) root: PathBuf,
}

impl Files {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join(STORE)
    }

    /// sled's log, in which our blocks are.
    pub(crate) fn data(&self) -> PathBuf {
        self.store().join("db")
    }

    pub(crate) fn witness(&self) -> PathBuf {
        self.root.join(WITNESS)
    }

    pub(crate) fn ring(&self) -> PathBuf {
        self.root.join(RING)
    }

    /// Makes the directory if there is none, and locks it until the file is closed.
    pub(crate) fn create_and_lock(&self) -> Result<File, OpenError> {
        fs::create_dir_all(&self.root).map_err(OpenError::io("create the directory", &self.root))?;
        let path = self.root.join(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(OpenError::io("open for writing", &path))?;
        self.hold(|| file.try_lock(), &path)?;
        Ok(file)
    }

    /// Keeps a log from being opened while it is looked at, and changes nothing.
    pub(crate) fn lock_shared(&self) -> Result<Option<File>, OpenError> {
        let path = self.root.join(LOCK);
        match File::open(&path) {
            Ok(file) => {
                self.hold(|| file.try_lock_shared(), &path)?;
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io("open", &path)(error)),
        }
    }

    /// The engine holds a lock of its own, on its data: so that a node is noticed also where our lock was removed.
    pub(crate) fn refuse_open_store(&self) -> Result<(), OpenError> {
        let path = self.data();
        match open_regular(&path) {
            Ok(file) => self.hold(|| file.try_lock_shared(), &path),
            Err(error) => absent_is_fine(Err(error)).map_err(OpenError::io("open", &path)),
        }
    }

    /// The identity in the marker; `None` if there is no marker.
    pub(crate) fn node(&self) -> Result<Option<u32>, OpenError> {
        let path = self.root.join(MARKER);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(parse_marker(&text).map_err(|kind| Damage::new(None, kind))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Damage::new(None, DamageKind::Marker("is not text")).into())
            }
            Err(error) => Err(OpenError::io("read", &path)(error)),
        }
    }

    /// Refuses a directory without a marker that holds anything but what an unfinished creation leaves.
    pub(crate) fn refuse_foreign(&self) -> Result<(), OpenError> {
        match self.node() {
            Ok(None) if self.root.exists() => {}
            // One that is damaged was one.
            Ok(_) | Err(OpenError::Damage(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let io = OpenError::io("list", &self.root);
        for entry in fs::read_dir(&self.root).map_err(&io)? {
            let name = entry.map_err(&io)?.file_name().to_string_lossy().into_owned();
            let is_ours = OURS.contains(&name.as_str());
            if !is_ours && !name.starts_with(ASIDE) && !name.starts_with(START) {
                return Err(OpenError::Foreign { directory: self.root.clone(), stranger: name });
            }
        }
        Ok(())
    }

    /// Takes away what an unfinished creation left.
    pub(crate) fn wipe_unfinished(&self) -> Result<(), OpenError> {
        absent_is_fine(fs::remove_dir_all(self.store())).map_err(OpenError::io("clear", &self.store()))?;
        for file in [self.witness(), self.ring()] {
            absent_is_fine(fs::remove_file(&file)).map_err(OpenError::io("remove", &file))?;
        }
        Ok(())
    }

    /// Marks the directory as a log. Everything else must be on stable storage by now.
    pub(crate) fn write_marker(&self, node: u32) -> Result<(), OpenError> {
        let unfinished = self.root.join(MARKER_UNFINISHED);
        let io = OpenError::io("write", &unfinished);
        let mut file = File::create(&unfinished).map_err(&io)?;
        file.write_all(marker(node).as_bytes()).and_then(|()| file.sync_all()).map_err(&io)?;
        let path = self.root.join(MARKER);
        fs::rename(&unfinished, &path).map_err(OpenError::io("write", &path))?;
        self.sync_directories()
    }

    /// Syncs every file, the directory, and the directory that names it.
    pub(crate) fn sync_all(&self) -> Result<(), OpenError> {
        sync_tree(&self.store()).map_err(OpenError::io("sync the files in", &self.store()))?;
        for file in [self.witness(), self.ring()] {
            sync_file(&file).map_err(OpenError::io("sync", &file))?;
        }
        self.sync_directories()
    }

    /// Copies store, ring and witness to a place beside them. Refuses when too many such copies are there.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, OpenError> {
        let count = self.count_asides().map_err(OpenError::io("list", &self.root))?;
        if count >= ASIDES_MAX {
            return Err(OpenError::TooManyAsides { directory: self.root.clone(), count });
        }
        let places = (1..=count + 1).map(|n| self.root.join(format!("{ASIDE}{n}")));
        let aside =
            places.into_iter().find(|path| !path.exists()).expect("one more place than there are copies");
        // A part of a copy is none, and takes the room of the next one.
        let unfinished = self.root.join(ASIDE_UNFINISHED);
        let clear = || absent_is_fine(fs::remove_dir_all(&unfinished));
        clear().map_err(OpenError::io("remove", &unfinished))?;
        let copied = self.copy_to(&unfinished).and_then(|()| {
            sync_tree(&unfinished).map_err(OpenError::io("sync the copy in", &unfinished))?;
            fs::rename(&unfinished, &aside).map_err(OpenError::io("rename", &unfinished))
        });
        if copied.is_err() {
            let _ = clear();
        }
        copied?;
        self.sync_directories()?;
        Ok(aside)
    }

    /// Says that the log is being made here, and is not whole yet.
    pub(crate) fn begin_rebuild(&self) -> Result<(), OpenError> {
        let path = self.root.join(REBUILD);
        let made = File::create(&path).and_then(|file| file.sync_all());
        made.map_err(OpenError::io("write", &path))?;
        self.sync_directories()
    }

    /// Everything is there and on stable storage.
    pub(crate) fn end_rebuild(&self) -> Result<(), OpenError> {
        let path = self.root.join(REBUILD);
        fs::remove_file(&path).map_err(OpenError::io("remove", &path))?;
        self.sync_directories()
    }

    /// Refuses a directory in which a log was not made to its end.
    pub(crate) fn refuse_unfinished(&self) -> Result<(), OpenError> {
        if self.root.join(REBUILD).exists() {
            return Err(OpenError::Unfinished { directory: self.root.clone() });
        }
        Ok(())
    }

    /// Copies store, ring, witness and marker to another directory, which is made.
    pub(crate) fn copy_to(&self, target: &Path) -> Result<(), OpenError> {
        if !self.store().exists() && !self.ring().exists() {
            let kind = DamageKind::Store("the directory `store` is missing".to_owned());
            return Err(Damage::new(None, kind).into());
        }
        fs::create_dir_all(target).map_err(OpenError::io("make the directory", target))?;
        copy_tree(&self.store(), &target.join(STORE))?;
        for name in [WITNESS, RING, MARKER] {
            copy_file(&self.root.join(name), &target.join(name))?;
        }
        Ok(())
    }

    fn hold(&self, lock: impl Fn() -> Result<(), TryLockError>, path: &Path) -> Result<(), OpenError> {
        for _ in 0..LOCK_LOOKS {
            match lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", path)(error)),
            }
        }
        Err(OpenError::Locked { directory: self.root.clone() })
    }

    fn count_asides(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.root)? {
            count += usize::from(entry?.file_name().to_string_lossy().starts_with(ASIDE));
        }
        Ok(count)
    }

    pub(crate) fn sync_directories(&self) -> Result<(), OpenError> {
        sync_file(&self.root).map_err(OpenError::io("sync", &self.root))?;
        let root = self.root.canonicalize().map_err(OpenError::io("find", &self.root))?;
        let Some(parent) = root.parent() else { return Ok(()) };
        // A directory may be ours to use but not to open, as under a strict /var/lib. It existed before us, or was made by
        // us and could be opened.
        let synced = fine_if(io::ErrorKind::PermissionDenied, sync_file(parent));
        synced.map_err(OpenError::io("sync", parent))
    }
}

/// A random number for a directory that is made now. Not a secret: it only tells logs apart.
#[must_use]
pub fn new_node() -> u32 {
    (random() >> 32) as u32
}

/// A number that nobody outside can guess.
pub(crate) fn random() -> u64 {
    // The keys of a `RandomState` come from the operating system; its hash of nothing depends on them alone.
    RandomState::new().hash_one(())
}

/// Like `fs::remove_file` and its kin, but content if there was nothing.
pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    fine_if(io::ErrorKind::NotFound, result)
}

fn fine_if(kind: io::ErrorKind, result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
}

/// Opens a file for reading. What is none would be waited for, as a pipe is, or read for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path)
}

fn marker(node: u32) -> String {
    let text = format!("log directory of unanimous, do not edit\nformat {VERSION}\nnode {node}\n");
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text}checksum {sum:08x}\n")
}

fn parse_marker(text: &str) -> Result<u32, DamageKind> {
    let (body, sum) = text.rsplit_once("checksum ").ok_or(DamageKind::Marker("ends too early"))?;
    if u32::from_str_radix(sum.trim_end(), 16) != Ok(crc32fast::hash(body.as_bytes())) {
        return Err(DamageKind::Marker("has a wrong checksum"));
    }
    let field = |name| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match field("format").map(str::parse) {
        Some(Ok(VERSION)) => {}
        Some(Ok(found)) => return Err(DamageKind::NewerVersion { found, known: VERSION }),
        Some(Err(_)) | None => return Err(DamageKind::Marker("names no format")),
    }
    field("node").and_then(|node| node.parse().ok()).ok_or(DamageKind::Marker("names no node"))
}

/// What is not there is not copied.
fn copy_tree(from: &Path, to: &Path) -> Result<(), OpenError> {
    let list = OpenError::io("list", from);
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(&list)?,
    };
    fs::create_dir_all(to).map_err(OpenError::io("make the directory", to))?;
    for entry in entries {
        let entry = entry.map_err(&list)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(OpenError::io("look at", &path))?.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

/// The bytes alone: who may only read the one must be able to write the other, because sled writes when it opens.
fn copy_file(from: &Path, to: &Path) -> Result<(), OpenError> {
    let mut source = match open_regular(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        source => source.map_err(OpenError::io("read", from))?,
    };
    let copied = File::create(to).and_then(|mut target| io::copy(&mut source, &mut target));
    // Which of the two it was, the next byte tells.
    copied.map(drop).map_err(|error| match source.read(&mut [0]) {
        Ok(_) => OpenError::io("copy the log to", to)(error),
        Err(error) => OpenError::io("read", from)(error),
    })
}

fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { sync_tree(&entry.path())? } else { sync_file(&entry.path())? }
    }
    sync_file(path)
}

pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
