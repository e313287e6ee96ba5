//! Why a log could not be opened or read.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use crate::Lsn;
use crate::damage::Damage;
use crate::store::{StoreError, advice};

/// Why a log was not opened. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process works with the directory.
    #[error("the log in {} is in use by another process", directory.display())]
    Locked {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// The directory is not a log, and holds files that are not ours to touch.
    #[error(
        "{} is not a log and not empty (it holds `{stranger}`): name another directory, or an empty one",
        directory.display()
    )]
    Foreign {
        /// The directory that was named.
        directory: PathBuf,
        /// One of the files in it.
        stranger: String,
    },
    /// A new log was to be made where something is.
    #[error("{} is not empty (it holds `{stranger}`): name a directory that is empty, or not there", directory.display())]
    NotEmpty {
        /// The directory that was named.
        directory: PathBuf,
        /// One of the files in it.
        stranger: String,
    },
    /// The directory is not where the last start of the node left it, and nobody has said what that means.
    #[error(
        "{} is a copy of a log, or was restored: {why}. {}; nothing was changed",
        directory.display(), copied_words(*is_older)
    )]
    Copied {
        /// The directory of the log.
        directory: PathBuf,
        /// What tells.
        why: String,
        /// It is certain that something is missing from it.
        is_older: bool,
    },
    /// There is no log to look at.
    #[error("there is no log in {}", directory.display())]
    Absent {
        /// The directory that was named.
        directory: PathBuf,
    },
    /// The operating system refused something.
    #[error("could not {doing} {}: {cause}{}", path.display(), advice(doing, cause))]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is not as it was written.
    #[error("{0}; nothing was changed. `unanimous verify` says what can be read; {next}", next = .0.advice())]
    Damage(Damage),
    /// Only a newer program can read the log.
    #[error("{0}; {next}", next = .0.advice())]
    NewerVersion(Damage),
    /// A log was to be made there of what another one still holds, and that was not done to its end.
    #[error(
        "`unanimous salvage` began to make a log in {}, and was interrupted: remove the directory, and run it again",
        directory.display()
    )]
    Unfinished {
        /// The directory of the new log.
        directory: PathBuf,
    },
    /// There is no copy to look at, because it could not be made.
    #[error(
        "the log is looked at as a copy, and it could not be copied to {}: {cause}; name a directory with more room \
         for temporary files in TMPDIR",
        place.display()
    )]
    NoCopy {
        /// The directory for temporary files.
        place: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The program was linked in a way that leaves sled without a real sync.
    #[error(
        "sled's sync is not the one of this program, so nothing it wrote would be safe: this build is faulty"
    )]
    SyncUnproven,
    /// sled wrote a value into a file of its own, which it never syncs.
    #[error(
        "{} is not empty: sled keeps values there which it never syncs; restore the directory from a copy",
        directory.display()
    )]
    Blobs {
        /// The directory that has to be empty.
        directory: PathBuf,
    },
    /// Too many copies of earlier troubles are kept.
    #[error(
        "the log needs a repair, but {} already holds copies of {count} earlier ones: look at them and remove them",
        directory.display()
    )]
    TooManyAsides {
        /// The directory of the log.
        directory: PathBuf,
        /// How many there are.
        count: usize,
    },
}

/// Why the reading of a log ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadAllError<E = Infallible> {
    /// The log is not as it was written.
    #[error(transparent)]
    Damage(Damage),
    /// Only a newer program can read the log.
    #[error(transparent)]
    NewerVersion(Damage),
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The visitor refused a record.
    #[error("record {lsn} was read and not understood: {cause}")]
    Visit {
        /// The record.
        lsn: Lsn,
        /// What the visitor said.
        cause: E,
    },
}

/// Why a record could not be read from a running log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The record is not as it was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Where a copy that was to be made there has no room, says what to do about that.
    pub(crate) fn for_want_of_room(self, place: &Path) -> Self {
        let kinds =
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::ReadOnlyFilesystem];
        let Self::Io { doing, path, cause } = self else { return self };
        if kinds.contains(&cause.kind()) {
            return Self::NoCopy { place: place.to_owned(), cause };
        }
        Self::Io { doing, path, cause }
    }

    /// For use with `map_err`.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + use<'a> {
        move |cause| Self::Io { doing, path: path.to_owned(), cause }
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        if damage.is_newer_version() { Self::NewerVersion(damage) } else { Self::Damage(damage) }
    }
}

impl<E> From<Damage> for ReadAllError<E> {
    fn from(damage: Damage) -> Self {
        if damage.is_newer_version() { Self::NewerVersion(damage) } else { Self::Damage(damage) }
    }
}

fn copied_words(is_older: bool) -> &'static str {
    if is_older {
        "It has forgotten what was done since: restore what is newest, or start it with `log.accept_copy = \"outdated\"`"
    } else {
        "If it has everything that the node ever wrote, start it with `log.accept_copy = \"complete\"`, otherwise with \
         \"outdated\"; while the node that it was copied from still runs, not at all"
    }
}
