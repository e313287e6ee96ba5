//! A log that was read to its end: what it holds is known, and it can be started.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::block::BlockKey;
use crate::committer::Committer;
use crate::damage::Damage;
use crate::drive;
use crate::durable::Durable;
use crate::error::OpenError;
use crate::lsn::Lsn;
use crate::merge::Merged;
use crate::mirror::Mirror;
use crate::open::{Home, Log, Options};
use crate::pack::Packed;
use crate::queue::Queue;
use crate::ring::{Copies, Held, Ring, RingState};
use crate::shared::Shared;
use crate::stats::Counters;
use crate::store::home::{Identity, Moved};
use crate::store::{Store, StoreError};
use crate::turns::Turns;
use crate::wal::Wal;
use crate::walk::{Counts, End};
use crate::witness::{Keeper, Witness};

/// A log of which every record was read and checked. Nothing was changed in it yet.
pub struct Readable {
    store: Arc<dyn Store>,
    keeper: Keeper,
    end: End,
    cut: Option<Cut>,
    /// What the store has to get from the ring.
    mend: Vec<Packed>,
    copies: Copies,
    ring: Option<Ring>,
    ring_end: Option<BlockKey>,
    ring_sequence: u64,
    node: u32,
    options: Options,
    home: Option<Home>,
}

/// What is to be cut off the end before anything is appended.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    /// A record that was never written to its end, and so never acknowledged.
    Torn(Lsn),
    /// Everything from the first damage on: the operator chose so.
    Damage(Damage),
}

/// More starts than anybody makes between a copy and its use.
pub(crate) const EPOCHS_SKIPPED: u64 = 1_000_000;

/// Blocks removed in one go at the start.
const REMOVALS_PER_TURN: usize = 1024;

impl Readable {
    pub(crate) fn new(log: Log, keeper: Keeper, held: &Held, merged: Merged, cut: Option<Cut>) -> Self {
        let acknowledged = keeper.now().high;
        let mut copies = Copies::of(held.state(merged.last, acknowledged), &merged.mend, acknowledged);
        if cut.is_some() && copies.ring == RingState::Whole {
            copies.ring = RingState::Unfinished;
        }
        Self {
            store: log.store,
            keeper,
            end: merged.end,
            mend: merged.mend,
            copies,
            ring: held.ring(),
            ring_end: held.end().filter(|_| cut.is_none()),
            ring_sequence: held.sequence(),
            cut,
            node: log.node,
            options: log.options,
            home: log.home,
        }
    }

    /// The first record that is kept, or would be if there were one.
    #[must_use]
    pub fn low(&self) -> Lsn {
        self.keeper.now().low
    }

    /// The last record; `None` if there is none.
    #[must_use]
    pub fn high(&self) -> Option<Lsn> {
        self.end.tail.next.before().filter(|high| *high >= self.low())
    }

    /// The random identity that the log got when it was created.
    #[must_use]
    pub const fn node(&self) -> u32 {
        self.node
    }

    /// How often the log was started before.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.keeper.now().epoch
    }

    /// How much there is.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.end.counts
    }

    /// What store and ring lack of each other; `start` makes both whole.
    #[must_use]
    pub const fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The unfinished record at the very end, if there is one: it was never acknowledged, and `start` cuts it off.
    #[must_use]
    pub const fn torn(&self) -> Option<Lsn> {
        match &self.cut {
            Some(Cut::Torn(lsn)) => Some(*lsn),
            Some(Cut::Damage(_)) | None => None,
        }
    }

    /// What was wrong with the records from [`next`](Self::next) on, if some were given up: [`Options::accept_damage`]
    /// was chosen, or [`Copied::Outdated`](crate::Copied::Outdated). It stays so until another record is there.
    #[must_use]
    pub fn given_up(&self) -> Option<String> {
        match &self.cut {
            Some(Cut::Damage(damage)) => Some(damage.kind().to_string()),
            _ if self.outdated().is_some() => {
                Some("the directory is an older copy, and what followed is not known".to_owned())
            }
            Some(Cut::Torn(_)) | None => (self.keeper.now().given_up == Some(self.next()))
                .then(|| "it was given up at an earlier start".to_owned()),
        }
    }

    /// The number that the next record gets.
    #[must_use]
    pub const fn next(&self) -> Lsn {
        self.end.tail.next
    }

    /// Wraps what was made of the records that were read: what the log gives back is by that durable.
    pub fn read_back<T>(&self, value: T) -> Durable<T> {
        Durable::new(value, None)
    }

    /// Raises the epoch, cuts off what must go, and starts the commit thread.
    pub fn start(self) -> Result<Wal, OpenError> {
        let limit = self.options.commit_limit;
        let (wal, committer) = self.prepare(Some(limit))?;
        drive::on_threads(committer, limit)
            .map_err(|error| StoreError::new("start the commit thread", error))?;
        Ok(wal)
    }

    /// As [`start`](Self::start), but the commits run in the future that is given back, which the caller has to
    /// spawn. For simulations under a paused clock; there is no watchdog.
    pub fn start_in_task(self) -> Result<(Wal, impl Future<Output = ()> + Send + 'static), OpenError> {
        let (wal, committer) = self.prepare(None)?;
        Ok((wal, drive::in_task(committer)))
    }

    fn outdated(&self) -> Option<&Moved> {
        self.home.as_ref()?.outdated.as_ref()
    }

    fn prepare(mut self, limit: Option<Duration>) -> Result<(Wal, Committer), OpenError> {
        if self.outdated().is_some() || matches!(self.cut, Some(Cut::Damage(_))) {
            // Durable before the cut: whoever starts after a crash in between must hear of it.
            let next = self.next();
            self.keeper.record(|witness| witness.given_up = Some(next), Instant::now())?;
        }
        if (self.copies.is_store_damaged || matches!(self.cut, Some(Cut::Damage(_))))
            && let Some(copy) = self.store.set_aside()?
        {
            let copy = copy.display();
            tracing::warn!(%copy, "copied the log aside before anything is repaired or given up");
        }
        self.mend_store()?;
        // Before the cut, of which a power cut can undo a part: what is cut off must not be left in the ring alone.
        let ring = self.mend_ring()?;
        self.cut_off()?;
        self.drop_retired()?;
        let own = self.raise_epoch()?;
        let epoch = self.epoch();
        let counters = Counters::new(self.end.counts.blocks, self.end.counts.bytes);
        let queue = Queue::new(self.options.queue_max.max(1));
        let shared = Arc::new(Shared::new(queue, counters, self.node, epoch, self.low(), self.high(), limit));
        let wal = Wal::new(shared.clone(), self.store.clone());
        let mirror = Mirror::new(self.store.clone(), ring, self.options.mirror);
        let named = self.home.map(|home| home.files).zip(own);
        let turns = Turns::new(named, &self.keeper);
        Ok((wal, Committer::new(self.store, shared, self.keeper, turns, mirror, self.end.tail)))
    }

    /// Counts this start, and notes where the log is.
    fn raise_epoch(&mut self) -> Result<Option<Identity>, OpenError> {
        let (high, latest) = (self.high(), self.end.epoch);
        // Participants may have heard of later starts than an older copy knows of.
        let skipped = self.outdated().map_or(0, |moved| moved.epoch.saturating_add(EPOCHS_SKIPPED));
        // Where the witness was lost, the blocks that can be read may be of much earlier starts.
        let last =
            self.home.as_ref().map_or(Ok(None), |home| home.files.last_start())?.map_or(0, |last| last.epoch);
        let raise = |witness: &mut Witness| {
            witness.epoch = witness.epoch.max(latest).max(skipped).max(last).saturating_add(1);
            witness.turn = 0;
            witness.high = high;
        };
        self.keeper.record(raise, Instant::now())?;
        let Some(home) = &self.home else { return Ok(None) };
        // In both slots, before a file says that there was this start.
        self.keeper.record(|_| {}, Instant::now())?;
        let own = home.files.settle(self.keeper.now().epoch)?;
        if !self.keeper.now().keeps_start {
            self.keeper.record(|witness| witness.keeps_start = true, Instant::now())?;
        }
        Ok(own)
    }

    /// Puts into the store what only the ring holds.
    fn mend_store(&mut self) -> Result<(), StoreError> {
        let Some((first, last)) = self.copies.only_in_ring else { return Ok(()) };
        if self.copies.is_store_damaged {
            tracing::error!(
                %first, %last,
                "the store has lost or damaged records that were acknowledged; putting them back from the mirror ring"
            );
        } else {
            tracing::info!(%first, %last, "the last records are in the mirror ring alone; putting them into the store");
        }
        for block in std::mem::take(&mut self.mend) {
            self.store.put(block.key, &block.bytes)?;
        }
        self.store.sync()
    }

    /// Makes the ring what the store is, which is whole by now.
    fn mend_ring(&self) -> Result<Ring, StoreError> {
        let end = BlockKey::of(self.end.tail.next);
        match (&self.copies.ring, self.ring.filter(|_| self.options.mirror)) {
            (RingState::Whole, Some(ring)) => return Ok(ring),
            (RingState::Unfinished, Some(ring)) => {
                let last = self.ring_end.map(|last| ring.catch_up(&*self.store, last, end));
                if let Some(ring) = last.transpose()?.flatten() {
                    return Ok(ring);
                }
                tracing::info!("the mirror ring was left unfinished; filling it again");
            }
            (RingState::Whole | RingState::Unfinished, None) => {}
            (RingState::Missing, _) => tracing::warn!("there is no mirror ring; making one"),
            (RingState::Damaged(why), _) => {
                tracing::error!(%why, "the mirror ring is damaged; filling it again from the store");
            }
        }
        Ring::renew(&*self.store, self.node, self.ring_sequence, BlockKey::of(self.low())..end)
    }

    fn cut_off(&self) -> Result<(), StoreError> {
        match &self.cut {
            None => return Ok(()),
            Some(Cut::Torn(lsn)) => {
                tracing::warn!(%lsn, "the last record was never written to its end, nor acknowledged; cutting it off");
            }
            Some(Cut::Damage(damage)) => {
                tracing::error!(%damage, next = %self.end.tail.next, "giving up everything from the damage on");
            }
        }
        self.store.remove_from(BlockKey::of(self.end.tail.next))?;
        self.store.sync()
    }

    /// What was retired may have come back with a crash. The walk did not see it, and it goes now.
    fn drop_retired(&self) -> Result<(), StoreError> {
        let low = BlockKey::of(self.low());
        while self.store.remove_below(low, REMOVALS_PER_TURN)?.blocks == REMOVALS_PER_TURN as u64 {}
        Ok(())
    }
}

impl std::fmt::Debug for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readable").field("node", &self.node).field("end", &self.end).finish_non_exhaustive()
    }
}
