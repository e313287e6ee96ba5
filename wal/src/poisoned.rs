//! The log failed, and that is final.

use std::sync::Arc;
use std::time::Duration;

use crate::store::StoreError;

/// The log failed: nothing more is appended, and nothing that was waiting is acknowledged.
///
/// There is no way back within the process. What the operating system did with the pages of a failed sync
/// is unknown, so a second try could succeed over lost data; only a restart reads what the disk really holds.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log failed: {cause}; the node must stop; restart recovers from what the disk holds")]
pub struct Poisoned {
    cause: Arc<Cause>,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Store(StoreError),
    #[error("a call has not come back from the disk within {} s", .0.as_secs_f64())]
    Hung(Duration),
    #[error("its commit thread has panicked, which is a bug: {0}")]
    Panicked(String),
    #[error("it was closed")]
    Stopped,
}

/// Why a record was not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The caller must split or refuse it; the log is as it was.
    #[error("a record of {size} bytes is larger than the log takes ({max} bytes)")]
    TooLarge {
        /// The length of the payload, in bytes.
        size: usize,
        /// [`PAYLOAD_MAX`](crate::PAYLOAD_MAX).
        max: usize,
    },
    /// The log failed, before this record or with it.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

impl Poisoned {
    fn new(cause: Cause) -> Self {
        Self { cause: Arc::new(cause) }
    }

    pub(crate) fn hung(limit: Duration) -> Self {
        Self::new(Cause::Hung(limit))
    }

    pub(crate) fn panicked(message: String) -> Self {
        Self::new(Cause::Panicked(message))
    }

    pub(crate) fn stopped() -> Self {
        Self::new(Cause::Stopped)
    }
}

impl From<StoreError> for Poisoned {
    fn from(error: StoreError) -> Self {
        Self::new(Cause::Store(error))
    }
}
