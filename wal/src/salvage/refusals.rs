//! What the disk refuses to give: it counts as not there, and is told. The rest is rescued.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Files and directories that were refused wholly, each with why.
#[derive(Debug, Default)]
pub(super) struct Refusals(pub(super) BTreeMap<PathBuf, String>);

impl Refusals {
    /// Nothing is there where the disk refuses.
    pub(super) fn forgive<T>(&mut self, read: Result<Option<T>, OpenError>) -> Result<Option<T>, OpenError> {
        match read {
            Err(OpenError::Io { path, cause, .. }) if is_refusal(&cause) => {
                self.note(&path, &cause);
                Ok(None)
            }
            read => read,
        }
    }

    pub(super) fn note(&mut self, path: &Path, cause: &io::Error) {
        self.0.insert(path.to_owned(), cause.to_string());
    }
}

/// Whether the disk will say no again. The right to read the operator can give.
pub(super) fn is_refusal(cause: &io::Error) -> bool {
    !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Interrupted)
}
