//! What the configuration says of the log.

use std::time::Duration;

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
    /// Bytes that must be free on the disk of the log, beside the reserve, for a transaction to begin. Default: as much as
    /// the reserve, which is 64 MiB, or an eighth of a smaller disk.
    pub room_min: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: Sync::default(),
            retention: Duration::from_hours(24),
            accept_damage: false,
            room_min: None,
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
