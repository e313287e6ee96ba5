//! Turns: while the log grows, the file of its start takes another name now and then.
//!
//! Files that were copied from a running log, and are put back over it, bring an older witness with them. The name of a turn
//! stays where it is, and the witness does not know of it: see [`home`](crate::store::home).

use std::time::Duration;

use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::store::StoreError;
use crate::store::files::Files;
use crate::store::home::Start;
use crate::witness::Keeper;

/// How long the log may grow under one name. What was copied and put back within that time is not noticed after a crash.
const TURN_EVERY: Duration = Duration::from_mins(1);

pub(crate) struct Turns {
    /// `None` for a log that is in no directory.
    files: Option<Files>,
    taken_at: Instant,
    /// The last record then.
    high: Option<Lsn>,
}

impl Turns {
    pub(crate) fn new(files: Option<Files>, keeper: &Keeper) -> Self {
        Self { files, taken_at: Instant::now(), high: keeper.now().high }
    }

    /// When the next one has to be taken; `None` while nothing was written since the last one.
    pub(crate) fn due(&self, keeper: &Keeper) -> Option<Instant> {
        let has_grown = keeper.now().high > self.high;
        (self.files.is_some() && has_grown).then(|| self.taken_at + TURN_EVERY)
    }

    /// Takes the next one, if anything was written since the last.
    pub(crate) fn take(&mut self, keeper: &mut Keeper, at: Instant) -> Result<(), StoreError> {
        let (Some(_), Some(files)) = (self.due(keeper), &self.files) else { return Ok(()) };
        // In both slots, before a file says so.
        keeper.record(|witness| witness.turn += 1, at)?;
        keeper.record(|_| {}, at)?;
        if let Err(error) = files.turn(Start::of(&keeper.now())) {
            // The log is whole; the next turn is another try.
            tracing::warn!(%error, "a copy of the running log might not be known for one");
        }
        (self.taken_at, self.high) = (at, keeper.now().high);
        Ok(())
    }
}
