//! What handles, committer and watchdog share. Not the store: whoever must not keep it open does not hold it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    pub(crate) calls: Calls,
    /// The longest a call may take; `None` where nobody watches.
    pub(crate) limit: Option<Duration>,
    pub(crate) node: u32,
    pub(crate) epoch: u64,
    low: AtomicU64,
    /// The highest durable number, 0 for none.
    high: watch::Sender<u64>,
    poison: watch::Sender<Option<Poisoned>>,
}

/// The calls to the disk that have not come back, for the watchdog to look at.
#[derive(Default)]
pub(crate) struct Calls {
    open: Mutex<BTreeSet<(Instant, u64)>>,
    count: AtomicU64,
}

/// A call to the disk, until this is dropped.
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    of: (Instant, u64),
}

impl Shared {
    pub(crate) fn new(
        queue: Queue,
        counters: Counters,
        node: u32,
        epoch: u64,
        low: Lsn,
        high: Option<Lsn>,
        limit: Option<Duration>,
    ) -> Self {
        let high = watch::Sender::new(high.map_or(0, Lsn::get));
        let poison = watch::Sender::new(None);
        let calls = Calls::default();
        Self { queue, counters, calls, limit, node, epoch, low: low.get().into(), high, poison }
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

    pub(crate) async fn poisoned(&self) -> Poisoned {
        let mut poison = self.poison.subscribe();
        match poison.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(Poisoned::stopped),
            Err(_) => Poisoned::stopped(),
        }
    }
}

impl Calls {
    /// To be held while the disk is called.
    pub(crate) fn begin(&self) -> Call<'_> {
        let of = (Instant::now(), self.count.fetch_add(1, Ordering::Relaxed));
        self.open().insert(of);
        Call { calls: self, of }
    }

    /// How long the oldest has been under way; `None` if there is none.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.open().first().map(|(began, _)| began.elapsed())
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// It came back, and the next one begins.
    pub(crate) fn again(&mut self) {
        *self = self.calls.begin();
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.open().remove(&self.of);
    }
}
