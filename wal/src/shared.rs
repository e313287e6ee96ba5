//! What handles, committer and watchdog share. Not the store: whoever must not keep it open does not hold it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::poisoned::Poisoned;
use crate::queue::Queue;
use crate::stats::Counters;

pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    pub(crate) pulse: Pulse,
    pub(crate) node: u32,
    pub(crate) epoch: u64,
    low: AtomicU64,
    /// The highest durable number, 0 for none.
    high: watch::Sender<u64>,
    poison: watch::Sender<Option<Poisoned>>,
}

/// Since when the committer is at work.
pub(crate) struct Pulse {
    base: Instant,
    /// Nanoseconds since `base`, plus 1; 0 while it waits.
    began: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        queue: Queue,
        counters: Counters,
        node: u32,
        epoch: u64,
        low: Lsn,
        high: Option<Lsn>,
    ) -> Self {
        let pulse = Pulse { base: Instant::now(), began: AtomicU64::new(0) };
        let high = watch::Sender::new(high.map_or(0, Lsn::get));
        let poison = watch::Sender::new(None);
        Self { queue, counters, pulse, node, epoch, low: low.get().into(), high, poison }
    }

    pub(crate) fn low(&self) -> Lsn {
        Lsn::new(self.low.load(Ordering::Acquire)).unwrap_or(Lsn::FIRST)
    }

    pub(crate) fn high(&self) -> Option<Lsn> {
        Lsn::new(*self.high.borrow())
    }

    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.high.subscribe()
    }

    pub(crate) fn raise_low(&self, low: Lsn) {
        self.low.store(low.get(), Ordering::Release);
    }

    pub(crate) fn raise_high(&self, high: Lsn) {
        self.high.send_replace(high.get());
    }

    /// Tells everybody that the log failed. Only the first reason counts.
    pub(crate) fn fail(&self, reason: &Poisoned) {
        if self.queue.fail(reason) {
            tracing::error!(%reason, "nothing is acknowledged any more");
            self.poison.send_replace(Some(reason.clone()));
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.poison.borrow().is_some()
    }

    pub(crate) async fn poisoned(&self) -> Poisoned {
        let mut poison = self.poison.subscribe();
        match poison.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(Poisoned::stopped),
            Err(_) => Poisoned::stopped(),
        }
    }
}

impl Pulse {
    pub(crate) fn begin(&self) {
        let nanos = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
        self.began.store(nanos + 1, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.began.store(0, Ordering::Release);
    }

    /// How long the committer has been at work now; `None` if it waits.
    pub(crate) fn since(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.base.elapsed().saturating_sub(Duration::from_nanos(began)))
    }
}
