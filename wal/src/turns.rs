//! Turns: while the log grows, the file of its start takes another name now and then.
//!
//! Files that were copied from a running log, and are put back over it, bring an older witness with them. The name of a turn
//! stays where it is, and the witness does not know of it: see [`home`](crate::store::home).

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::shared::Call;
use crate::store::StoreError;
use crate::store::files::Files;
use crate::store::home::{Identity, Start};
use crate::witness::Keeper;

/// How long the log may grow under one name. What was copied and put back within that time is not noticed after a crash.
const TURN_EVERY: Duration = Duration::from_mins(1);

pub(crate) struct Turns {
    /// `None` for a log that is in no directory, or where files cannot be told apart.
    file: Option<(Files, Identity)>,
    /// The name that it has.
    name: Start,
    taken_at: Instant,
    /// The last record then.
    high: Option<Lsn>,
}

impl Turns {
    pub(crate) fn new(file: Option<(Files, Identity)>, keeper: &Keeper) -> Self {
        let witness = keeper.now();
        Self { file, name: Start::of(&witness), taken_at: Instant::now(), high: witness.high }
    }

    /// When the next one has to be taken; `None` while nothing was written since the last one.
    pub(crate) fn due(&self, keeper: &Keeper) -> Option<Instant> {
        let has_grown = keeper.now().high > self.high;
        (self.file.is_some() && has_grown).then(|| self.taken_at + TURN_EVERY)
    }

    /// Takes the next one, if anything was written since the last.
    pub(crate) fn take(
        &mut self,
        keeper: &mut Keeper,
        at: Instant,
        call: &mut Call<'_>,
    ) -> Result<(), StoreError> {
        let (Some(_), Some((files, own))) = (self.due(keeper), &self.file) else { return Ok(()) };
        // In both slots, before a file says so.
        call.again();
        keeper.record(|witness| witness.turn += 1, at)?;
        call.again();
        keeper.record(|_| {}, at)?;
        call.again();
        let next = Start::of(&keeper.now());
        match files.turn(*own, self.name, next) {
            Ok(true) => self.name = next,
            // The next start would not find what is written from here on.
            Ok(false) => {
                let why = format!("`{}` of this start is gone: it was moved, removed or replaced", self.name);
                return Err(StoreError::new("find the log in its directory any more", io::Error::other(why)));
            }
            // The log is whole; the next turn is another try.
            Err(error) => tracing::warn!(%error, "a copy of the running log might not be known for one"),
        }
        call.again();
        (self.taken_at, self.high) = (at, keeper.now().high);
        Ok(())
    }
}
