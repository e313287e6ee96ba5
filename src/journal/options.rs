//! What the configuration says of the log.

use std::time::Duration;

/// Section `[log]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Which records are on stable storage before the node goes on.
    pub sync: Sync,
    /// How long finished transactions can be asked for and dumped.
    pub retention: Duration,
    /// Start although the log is damaged, with what can be read of it. Never the default: what
    /// cannot be read may be a commit that was already sent.
    pub accept_damage: bool,
}

/// Which records are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Every record that a call or an answer follows from.
    #[default]
    EveryTransition,
    /// Only `decided: commit`, and `begun` where it holds an idempotency key (presumed abort).
    Decisions,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { sync: Sync::default(), retention: Duration::from_hours(24), accept_damage: false }
    }
}
