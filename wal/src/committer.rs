//! Group commit: takes what waits, frames it, puts it in both copies, syncs them at once, answers everybody.
//!
//! A plain value without a thread or a clock of its own. [`drive`](crate::drive) runs it, on a thread in
//! production and as a task in a simulation.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::time::Instant;

use crate::block::BlockKey;
use crate::gather::{Decision, Gather};
use crate::lsn::Lsn;
use crate::mirror::Mirror;
use crate::pack::{Packer, Tail};
use crate::poisoned::Poisoned;
use crate::request::{Batch, Done, Request};
use crate::shared::{Call, Shared};
use crate::store::{Store, StoreError};
use crate::turns::Turns;
use crate::witness::Keeper;

/// Blocks removed in one go. A long retirement gives way to commits after so many.
const REMOVALS_PER_TURN: usize = 32;

pub(crate) struct Committer {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    keeper: Keeper,
    turns: Turns,
    mirror: Mirror,
    tail: Tail,
    gather: Gather,
    /// A retirement that gave way to a commit. Only one is taken on at a time, so that they stay in order.
    removal: Option<Removal>,
}

struct Removal {
    low: BlockKey,
    done: Done,
}

/// What the driver does next.
pub(crate) enum Next {
    /// Call [`Committer::work`].
    Work,
    /// Wait until more than so many requests are queued, or until the time, if there is one.
    Wait(usize, Option<Instant>),
}

/// Why there will be no more work.
pub(crate) enum Ended {
    /// The log has failed and everybody was told, or all handles are gone.
    Over,
    /// It was asked to end, and this is whom to tell.
    Closed(Done),
}

impl Committer {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        shared: Arc<Shared>,
        keeper: Keeper,
        turns: Turns,
        mirror: Mirror,
        tail: Tail,
    ) -> Self {
        Self { store, shared, keeper, turns, mirror, tail, gather: Gather::new(), removal: None }
    }

    /// For a committer that has a thread of its own.
    pub(crate) fn mirror_on_a_thread(&mut self) -> io::Result<()> {
        self.mirror.use_thread()
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn next(&mut self, now: Instant) -> Next {
        match self.gather.decide(self.shared.queue.glance(), now) {
            Decision::Commit => Next::Work,
            Decision::Until(..) | Decision::Idle if self.removal.is_some() => Next::Work,
            Decision::Until(until, len) => Next::Wait(len, Some(until)),
            // The witness may be behind by what was committed last; it is settled also if nothing follows.
            Decision::Idle if self.due().is_some_and(|due| due <= now) => Next::Work,
            Decision::Idle => Next::Wait(0, self.due()),
        }
    }

    /// When something has to be done although nothing waits.
    fn due(&self) -> Option<Instant> {
        self.keeper.due().into_iter().chain(self.turns.due(&self.keeper)).min()
    }

    fn do_what_is_due(&mut self, now: Instant, call: &mut Call<'_>) -> Result<(), StoreError> {
        if self.keeper.due().is_some_and(|due| due <= now) {
            call.again();
            self.keeper.settle(now)?;
        }
        if self.turns.due(&self.keeper).is_some_and(|due| due <= now) {
            self.turns.take(&mut self.keeper, now, call)?;
        }
        Ok(())
    }

    /// Commits what waits, and does what stands after it in the queue. Any error is final.
    pub(crate) fn work(&mut self) -> ControlFlow<Ended> {
        let shared = self.shared.clone();
        let mut call = shared.calls.begin();
        let result = self.try_work(&mut call);
        drop(call);
        result.unwrap_or_else(|error| {
            self.shared.fail(&error.into());
            ControlFlow::Break(Ended::Over)
        })
    }

    fn try_work(&mut self, call: &mut Call<'_>) -> Result<ControlFlow<Ended>, StoreError> {
        if let Some(Removal { low, done }) = self.removal.take() {
            let left = self.remove_some(low);
            self.answer_removal(done, left)?;
        }
        // A second retirement, or the end, waits until the first one is through.
        if self.removal.is_some() && self.shared.queue.glance().is_urgent {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(batch) = self.shared.queue.take() else {
            self.keeper.settle(Instant::now())?;
            return Ok(ControlFlow::Break(Ended::Over));
        };
        call.again();
        match self.commit(&batch, call) {
            Ok(true) => call.again(),
            Ok(false) => return Ok(ControlFlow::Break(Ended::Over)),
            Err(error) => return Err(self.refuse_all(batch.then, error)),
        }
        match batch.then {
            None | Some(Request::Append(_)) => {}
            Some(Request::Retire { below, done }) => {
                let left = self.begin_removal(below, call);
                self.answer_removal(done, left)?;
            }
            Some(Request::Close { done }) => match self.settle_all(call) {
                Ok(()) => return Ok(ControlFlow::Break(Ended::Closed(done))),
                Err(error) => return Err(self.refuse(done, error)),
            },
        }
        self.do_what_is_due(Instant::now(), call)?;
        Ok(ControlFlow::Continue(()))
    }

    /// `false` if the watchdog was faster and told everybody that it failed.
    fn commit(&mut self, batch: &Batch, call: &mut Call<'_>) -> Result<bool, StoreError> {
        if batch.payloads.is_empty() {
            return Ok(true);
        }
        let began = Instant::now();
        let mut packer = Packer::new(self.tail, self.keeper.now().epoch);
        let numbers: Vec<Lsn> = batch.payloads.iter().map(|payload| packer.push(payload)).collect();
        let (blocks, tail) = packer.finish();
        let mut left = blocks.as_slice();
        while !left.is_empty() {
            let (round, rest) = self.mirror.round(left);
            self.mirror.begin(round)?;
            for block in round {
                self.store.put(block.key, &block.bytes)?;
            }
            self.store.sync()?;
            self.mirror.finish()?;
            call.again();
            left = rest;
        }
        // Nothing from here to the answers may be lost: whoever is told must be found in the witness.
        let Some(high) = numbers.last().copied() else { return Ok(true) };
        let ended = Instant::now();
        self.keeper.acknowledge(high, ended)?;
        let Some(answers) = self.shared.queue.finish() else { return Ok(false) };
        self.tail = tail;
        self.shared.raise_high(high);
        self.gather.committed(batch.waited, batch.span);
        let bytes = blocks.iter().map(|block| block.bytes.len() as u64).sum();
        self.shared.counters.committed(numbers.len() as u64, blocks.len() as u64, bytes, ended - began);
        for (answer, lsn) in answers.into_iter().zip(&numbers) {
            // Whoever hung up meanwhile has a durable record all the same.
            let _ = answer.send(Ok(*lsn));
        }
        Ok(true)
    }

    /// The last that is written.
    fn settle_all(&mut self, call: &mut Call<'_>) -> Result<(), StoreError> {
        self.turns.take(&mut self.keeper, Instant::now(), call)?;
        self.keeper.settle(Instant::now())
    }

    /// Raises the low-water mark for good before anything goes, so that nothing that comes back is taken for real. Gives it
    /// where some is left to remove.
    fn begin_removal(&mut self, below: Lsn, call: &mut Call<'_>) -> Result<Option<BlockKey>, StoreError> {
        // The block that holds `below` is the first to stay; the newest block always stays.
        let first_kept = self.store.at_or_before(BlockKey::last_of(below))?;
        let low = match first_kept {
            Some((key, _)) if key.first > self.keeper.now().low => key.first,
            Some(_) | None => return Ok(None),
        };
        call.again();
        self.keeper.record(|witness| witness.low = low, Instant::now())?;
        self.shared.raise_low(low);
        call.again();
        self.remove_some(BlockKey::of(low))
    }

    fn remove_some(&self, low: BlockKey) -> Result<Option<BlockKey>, StoreError> {
        let removed = self.store.remove_below(low, REMOVALS_PER_TURN)?;
        self.shared.counters.removed(removed.blocks, removed.bytes);
        Ok((removed.blocks == REMOVALS_PER_TURN as u64).then_some(low))
    }

    fn answer_removal(
        &mut self,
        done: Done,
        left: Result<Option<BlockKey>, StoreError>,
    ) -> Result<(), StoreError> {
        match left {
            Ok(Some(low)) => self.removal = Some(Removal { low, done }),
            Ok(None) => drop(done.send(Ok(()))),
            Err(error) => return Err(self.refuse(done, error)),
        }
        Ok(())
    }

    /// As [`refuse`](Self::refuse), of what stands after a commit that failed.
    fn refuse_all(&self, then: Option<Request>, error: StoreError) -> StoreError {
        match then {
            Some(Request::Retire { done, .. } | Request::Close { done }) => self.refuse(done, error),
            Some(Request::Append(_)) | None => error,
        }
    }

    /// Whoever waits hears what failed, not that the log is gone.
    fn refuse(&self, done: Done, error: StoreError) -> StoreError {
        self.shared.fail(&error.clone().into());
        let _ = done.send(Err(self.shared.queue.failure()));
        error
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Nobody may wait for an answer that cannot come any more.
        self.shared.queue.fail(&Poisoned::stopped());
        if let Some(removal) = self.removal.take() {
            let _ = removal.done.send(Err(self.shared.queue.failure()));
        }
    }
}
