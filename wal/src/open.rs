//! Open, read everything, only then append: three types, so that no step can be left out.
//!
//! ```text
//! open(dir) ──► Log ── read_all(visit) ──► Readable ── start() ──► Wal
//!             locked,                      every record           epoch raised,
//!             synced                       was checked            commit thread runs
//! ```

use std::convert::Infallible;
use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::block::BlockKey;
use crate::damage::{Damage, DamageKind};
use crate::error::{OpenError, ReadAllError};
use crate::lsn::Lsn;
use crate::merge::{self, Merged};
use crate::readable::{Cut, Readable};
use crate::ring::{self, Held, Ring};
use crate::store::files::{Files, new_node};
use crate::store::home::Moved;
use crate::store::sim::SimDisk;
use crate::store::sled_store::{Guard, SledStore, survey};
use crate::store::{Store, StoreError};
use crate::verify;
use crate::walk::Walker;
use crate::witness::{self, Keeper, Witness};

/// How a log is opened and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many records of usual size (16 KiB) may wait for a commit before `append` waits for room.
    pub queue_max: u32,
    /// A commit that takes longer counts as failed, and so does any other call to the disk of a log that was started. Some
    /// faults make sled hang for ever.
    pub commit_limit: Duration,
    /// Start with what can be read before the first damage, and give up the rest. An explicit choice for a log
    /// that cannot be restored; the whole of it is copied aside first.
    pub accept_damage: bool,
    /// What to do with a directory that is a copy, or was restored.
    pub copied: Copied,
    /// Keep the last blocks in the mirror ring as well. Off only to measure what that costs: the next start with it
    /// finds the ring behind, and fills it again.
    pub mirror: bool,
}

/// What is known of a directory that is not where the last start of the node left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copied {
    /// Nothing: refuse it.
    #[default]
    Refuse,
    /// It holds everything that the node ever wrote, and no other copy is in use.
    Complete,
    /// It may lack what was written since it was made: what followed counts as given up.
    Outdated,
}

/// Where a log is kept, if that is in a directory.
pub(crate) struct Home {
    pub(crate) files: Files,
    /// The directory is a copy that may lack something.
    pub(crate) outdated: Option<Moved>,
}

/// A log that is open and not yet read.
pub struct Log {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) node: u32,
    pub(crate) options: Options,
    pub(crate) home: Option<Home>,
}

impl Default for Options {
    fn default() -> Self {
        let (copied, commit_limit) = (Copied::Refuse, Duration::from_secs(5));
        Self { queue_max: 4096, commit_limit, accept_damage: false, copied, mirror: true }
    }
}

/// Opens the log in a directory, and makes one if there is none. Holds the directory until the log is gone.
pub fn open(directory: &Path, options: Options) -> Result<Log, OpenError> {
    let files = Files::new(directory);
    // Before anything is made there, the lock included.
    files.refuse_unfinished()?;
    files.refuse_foreign()?;
    let lock = files.create_and_lock()?;
    // Whoever held the lock until now may have begun to make one.
    files.refuse_unfinished()?;
    if let Some(node) = identity(&files, options.accept_damage)? {
        let outdated = look_where(&files, options.copied)?;
        let guard = Guard::Lock { _file: lock, aside: look_first(&files, node, options)? };
        let store = Arc::new(SledStore::open(files.clone(), guard)?);
        // Not before a start that is refused, nor into what is put aside.
        if !matches!(files.node(), Ok(Some(_))) {
            files.write_marker(node)?;
        }
        return Ok(Log { store, node, options, home: Some(Home { files, outdated }) });
    }
    files.wipe_unfinished()?;
    let node = new_node();
    let guard = Guard::Lock { _file: lock, aside: None };
    let store = Arc::new(SledStore::open(files.clone(), guard)?);
    begin(store.clone(), node)?;
    files.sync_all()?;
    files.write_marker(node)?;
    tracing::info!(directory = %directory.display(), node, "made a new log");
    Ok(Log { store, node, options, home: Some(Home { files, outdated: None }) })
}

/// How long it may take to read the file of the log in a directory once: a second for each 8 MiB, which a slow disk can do.
#[must_use]
pub fn time_to_read(directory: &Path) -> Duration {
    let len = fs::metadata(Files::new(directory).data()).map_or(0, |file| file.len());
    Duration::from_secs(len / (8 * 1024 * 1024))
}

/// A new log in an empty store of one's own: for measurements against a store that keeps nothing.
pub fn create_in(store: Arc<dyn Store>, node: u32, options: Options) -> Result<Log, OpenError> {
    begin(store.clone(), node)?;
    Ok(Log { store, node, options, home: None })
}

/// Opens the log on a simulated disk, and makes one if there is none.
pub(crate) fn open_sim(disk: &SimDisk, options: Options) -> Result<Log, OpenError> {
    let store = Arc::new(disk.open());
    store.sync_all()?;
    if let Some(node) = disk.node() {
        return Ok(Log { store, node, options, home: None });
    }
    let node = disk.new_node();
    begin(store.clone(), node)?;
    disk.made(node);
    Ok(Log { store, node, options, home: None })
}

impl Log {
    /// Reads every record in order, and checks that none is missing or changed.
    ///
    /// Payloads are lent, not copied. The first damage ends it with an error, unless
    /// [`Options::accept_damage`] was chosen.
    pub fn read_all<E>(
        self,
        mut visit: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<Readable, ReadAllError<E>> {
        let keeper = match Keeper::open(self.store.clone())? {
            Ok(keeper) => keeper,
            Err(damage) if damage.is_newer_version() => return Err(damage.into()),
            Err(damage) => return self.read_without_witness(&damage, visit),
        };
        let witness = keeper.now();
        if witness.node != self.node {
            let kind = DamageKind::Marker("belongs to another log than the witness");
            return Err(Damage::new(None, kind).into());
        }
        let held = self.hold()?;
        let (merged, damage) = self.walk(&held, Some(witness.low), witness.epoch, &mut visit)?;
        let end = merged.end;
        let found = end.tail.next.before().filter(|high| *high >= witness.low);
        let missing = match witness.high {
            Some(acknowledged) if damage.is_none() && found.is_none_or(|found| found < acknowledged) => {
                Some(Damage::at(end.tail.next, DamageKind::Missing { acknowledged, found }))
            }
            _ => None,
        };
        self.conclude(keeper, &held, merged, damage.or(missing))
    }

    /// To the end, or to the first damage: also where a log without its witness is refused, it is seen what it holds.
    fn read_without_witness<E>(
        self,
        unwitnessed: &Damage,
        mut visit: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<Readable, ReadAllError<E>> {
        if self.accepts(unwitnessed) {
            tracing::warn!(damage = %unwitnessed, "accepting a log without its witness: nobody knows what it should hold");
        }
        let mut low = None;
        self.store.scan(BlockKey::of(Lsn::FIRST), &mut |key, _| {
            low = Some(key.first);
            ControlFlow::Break(())
        })?;
        let held = self.hold()?;
        let (merged, damage) = self.walk(&held, low, u64::MAX, &mut visit)?;
        let end = merged.end;
        let low = low.unwrap_or(Lsn::FIRST);
        let high = end.tail.next.before();
        let witness = Witness { low, high, epoch: end.epoch, ..Witness::new(self.node) };
        let keeper = Keeper::begin(self.store.clone(), witness);
        // Even if all of it can be read: nobody knows what followed.
        let damage = damage.filter(|_| self.accepts(unwitnessed)).unwrap_or_else(|| unwitnessed.clone());
        self.conclude(keeper, &held, merged, Some(damage))
    }

    /// Reads the ring.
    fn hold<E>(&self) -> Result<Held, ReadAllError<E>> {
        match Held::read(&*self.store, self.node) {
            Err(damage) if self.accepts(&damage) => Ok(Held::refused(&damage)),
            held => Ok(held?),
        }
    }

    /// Walks over all blocks of both copies, to the end or to the first damage.
    fn walk<E>(
        &self,
        held: &Held,
        low: Option<Lsn>,
        epoch_max: u64,
        visit: &mut impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<(Merged, Option<Damage>), ReadAllError<E>> {
        let walker = Walker::new(low, epoch_max);
        let mut merged = merge::walk(&*self.store, held, walker, low, visit)
            .map_err(|(lsn, cause)| ReadAllError::Visit { lsn, cause })?;
        let damage = match (merged.stop.take(), merged.broken.take()) {
            (Some(damage), _) => Some(damage),
            (None, Some(error)) => Some(in_store(error, merged.end.tail.next)?),
            (None, None) => None,
        };
        Ok((merged, damage))
    }

    /// Decides what the end of the walk means.
    fn conclude<E>(
        self,
        keeper: Keeper,
        held: &Held,
        merged: Merged,
        damage: Option<Damage>,
    ) -> Result<Readable, ReadAllError<E>> {
        let cut = match (damage, merged.end.torn) {
            (None, None) => None,
            // The last parts never got to the disk, and the witness saw no answer: nobody was told that it is durable.
            (None, Some(lsn)) => Some(Cut::Torn(lsn)),
            (Some(damage), _) => Some(Cut::Damage(damage)),
        };
        match cut {
            Some(Cut::Damage(damage)) if !self.accepts(&damage) => Err(damage.into()),
            cut => Ok(Readable::new(self, keeper, held, merged, cut)),
        }
    }

    /// What a newer program wrote is not damage, and is never given up.
    const fn accepts(&self, damage: &Damage) -> bool {
        self.options.accept_damage && !damage.is_newer_version()
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("node", &self.node)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Makes what lies beside the store of a new log.
fn begin(store: Arc<dyn Store>, node: u32) -> Result<(), StoreError> {
    let first = BlockKey::of(Lsn::FIRST);
    Ring::renew(&*store, node, 0, first..first)?;
    Keeper::begin(store, Witness::new(node)).record(|_| {}, tokio::time::Instant::now())
}

/// Refuses a copy unless it was said what is known of it. Gives what is, where it may lack something.
fn look_where(files: &Files, copied: Copied) -> Result<Option<Moved>, OpenError> {
    let Some(moved) = files.moved(witnessed(files)?.as_ref())? else { return Ok(None) };
    let (why, is_older) = (&moved.why, moved.is_older);
    match copied {
        Copied::Complete if !is_older => {
            tracing::warn!(%why, "the directory is a copy, and said to be complete");
            Ok(None)
        }
        Copied::Outdated => {
            tracing::error!(%why, "the directory is a copy that may lack something; what followed is given up");
            Ok(Some(moved))
        }
        Copied::Refuse | Copied::Complete => {
            Err(OpenError::Copied { directory: files.root.clone(), why: moved.why, is_older })
        }
    }
}

/// Finds damage before sled opens, because what it cannot read it overwrites, with all that comes after. Where there
/// is damage and it was chosen to go on, gives the place of a copy of everything.
fn look_first(files: &Files, node: u32, options: Options) -> Result<Option<PathBuf>, OpenError> {
    let path = files.data();
    // Where the data is gone sled would begin anew, and what is left would look like a log that lost everything.
    if path.exists()
        && let Some(witness) = witnessed(files)?
        && survey::finds_everything(&path, &witness).map_err(OpenError::io("read", &path))?
    {
        return Ok(None);
    }
    tracing::warn!(
        "sled may not come to every record that was acknowledged; looking at a copy of the log first"
    );
    match verify::copy_of(files, node)?.read_all(|_, _| Ok::<_, Infallible>(())) {
        // What sled does not read the ring holds; but it stays with the copy until somebody has looked at it.
        Ok(readable) if readable.copies().is_store_damaged => files.set_aside().map(Some),
        Ok(_) => Ok(None),
        Err(ReadAllError::Damage(_)) if options.accept_damage => files.set_aside().map(Some),
        Err(ReadAllError::Damage(damage) | ReadAllError::NewerVersion(damage)) => Err(damage.into()),
        Err(ReadAllError::Store(error)) => Err(error.into()),
        Err(ReadAllError::Visit { cause, .. }) => match cause {},
    }
}

/// Which log is in a directory; `None` where there is none.
pub(crate) fn identity(files: &Files, accept_damage: bool) -> Result<Option<u32>, OpenError> {
    match files.node() {
        Ok(Some(node)) => return Ok(Some(node)),
        Ok(None) => {}
        Err(OpenError::Damage(damage)) if accept_damage => {
            tracing::warn!(%damage, "accepting a log without its marker");
        }
        Err(error) => return Err(error),
    }
    // Without its marker a log never acknowledged anything, unless somebody took the marker away.
    let witness = witnessed(files)?.filter(|witness| witness.high.is_some());
    let (data, ring) = (files.data(), read_if_there(&files.ring())?.unwrap_or_default());
    if witness.is_none()
        && files.last_start()?.is_none()
        && !ring::holds_anything(&ring)
        && !(data.exists() && survey::finds_anything(&data).map_err(OpenError::io("read", &data))?)
    {
        return Ok(None);
    }
    if !accept_damage {
        let kind = DamageKind::Marker("is missing, although records were acknowledged");
        return Err(Damage::new(None, kind).into());
    }
    let known = witness.map(|witness| witness.node).or_else(|| ring::node_of(&ring));
    tracing::warn!(?known, "the file `INIT` is missing; the witness or the ring says which log this is");
    Ok(Some(known.unwrap_or_else(new_node)))
}

/// What the file of a witness says.
pub(crate) fn witnessed(files: &Files) -> Result<Option<Witness>, OpenError> {
    let bytes = read_if_there(&files.witness())?.unwrap_or_default();
    let slot = |at: usize| bytes.get(at..).and_then(|rest| rest.get(..64)).unwrap_or_default();
    Ok(witness::peek([slot(0), slot(4096)]))
}

pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io("read", path)(error)),
    }
}

/// Tells damage that the engine noticed from a disk that refuses to read.
fn in_store(error: StoreError, at: Lsn) -> Result<Damage, StoreError> {
    if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) {
        Ok(Damage::at(at, DamageKind::Store(error.to_string())))
    } else {
        Err(error)
    }
}
