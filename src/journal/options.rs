//! What the configuration says of the log.

use std::time::Duration;

pub use unanimous_wal::Copied;

use super::record::Record;
use crate::txn::Decision;

/// The `[log]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Which transitions are on stable storage before anything follows from them.
    pub sync: Sync,
    /// How long finished transactions can be asked for and dumped. Default: 24 h.
    pub retention: Duration,
    /// Start although the log is damaged, having said what is missing. Default: `false`: refuse.
    /// What was damaged may be a commit that some branch has already been told.
    pub accept_damage: bool,
    /// What is known of a directory that is a copy, or was restored. Default: nothing, so that it is refused.
    pub accept_copy: Copied,
    /// Bytes that must be free on the disk of the log, beside the reserve, for a transaction to begin. Default: as much as
    /// the reserve, which is 64 MiB, or an eighth of a smaller disk.
    pub room_min: Option<u64>,
    /// How long the opening of the log may stand still before the disk counts as sick. Not configurable: 1 min, and what it
    /// takes to read the log once.
    pub stall_max: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: Sync::default(),
            retention: Duration::from_hours(24),
            accept_damage: false,
            accept_copy: Copied::Refuse,
            room_min: None,
            stall_max: Duration::from_mins(1),
        }
    }
}

/// Which transitions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Every transition is synced before any call that follows from it.
    #[default]
    EveryTransition,
    /// Only a decision to commit is waited for (presumed abort): losing what came before it leads to
    /// the abort that would have followed anyway.
    Decisions,
}

impl Sync {
    /// Whether anything that follows from this record needs it on stable storage (promise G1).
    #[must_use]
    pub fn waits_for(self, record: &Record) -> bool {
        let every = self == Self::EveryTransition;
        match record {
            // Of these a contradiction is waited for because, with an abort that is forgotten, it would be too.
            Record::Opened { .. }
            | Record::GaveUp { .. }
            | Record::Resolved { .. }
            | Record::Settled
            | Record::Parked { .. } => true,
            // A lost key would let the same request begin a second transaction.
            Record::Begun(plan) => every || plan.key.is_some(),
            Record::Decided { decision, .. } => every || *decision == Decision::Commit,
            Record::Preparing { .. } => every,
            Record::Acked(_) | Record::Ended(_) | Record::Carried(_) | Record::CarriedResolved(..) => false,
        }
    }
}
