//! Writes the ring while the committer writes the store: on a thread of its own, or on the caller's in a simulation.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use crate::pack::Packed;
use crate::ring::{Ring, Stretch};
use crate::store::{Store, StoreError};

/// The hand that keeps the second copy.
pub(crate) struct Mirror {
    store: Arc<dyn Store>,
    ring: Ring,
    hand: Hand,
}

enum Hand {
    /// None: for measurements of what the ring costs.
    None,
    Caller,
    Thread(Helper),
}

struct Helper {
    /// `None` only while it is dropped.
    work: Option<SyncSender<Stretch>>,
    done: Receiver<Result<(), StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Goes on with a ring that holds what the store holds.
    pub(crate) fn new(store: Arc<dyn Store>, ring: Ring, is_on: bool) -> Self {
        Self { store, ring, hand: if is_on { Hand::Caller } else { Hand::None } }
    }

    /// From now on the ring is written on a thread of its own.
    pub(crate) fn use_thread(&mut self) -> io::Result<()> {
        if let Hand::Caller = self.hand {
            self.hand = Hand::Thread(Helper::start(self.store.clone())?);
        }
        Ok(())
    }

    /// Splits off what may be written before both copies have to be synced.
    pub(crate) fn round<'a>(&self, blocks: &'a [Packed]) -> (&'a [Packed], &'a [Packed]) {
        match self.hand {
            Hand::None => (blocks, &[]),
            Hand::Caller | Hand::Thread(_) => self.ring.round(blocks),
        }
    }

    /// Begins to write a round. [`finish`](Self::finish) says when it is synced.
    pub(crate) fn begin(&mut self, round: &[Packed]) -> Result<(), StoreError> {
        match &mut self.hand {
            Hand::None => Ok(()),
            Hand::Caller => self.ring.lay_out(round).write(&*self.store),
            Hand::Thread(helper) => helper.give(self.ring.lay_out(round)),
        }
    }

    /// Returns once the round is on stable storage, and never `Ok` otherwise.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        match &mut self.hand {
            Hand::None => Ok(()),
            Hand::Caller => self.store.sync_ring(),
            Hand::Thread(helper) => helper.done.recv().unwrap_or_else(|_| Err(gone())),
        }
    }
}

impl Helper {
    fn start(store: Arc<dyn Store>) -> io::Result<Self> {
        // One round at a time: the next one may overwrite what only this one makes superfluous.
        let (work, rounds) = mpsc::sync_channel::<Stretch>(1);
        let (ended, done) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("wal-mirror".to_owned()).spawn(move || {
            for round in rounds {
                let result = round.write(&*store).and_then(|()| store.sync_ring());
                if ended.send(result).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { work: Some(work), done, thread: Some(thread) })
    }

    fn give(&self, round: Stretch) -> Result<(), StoreError> {
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(round).map_err(|_| gone())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.work.take());
        // It holds the store, which must be let go before anybody hears of the end.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone() -> StoreError {
    StoreError::new("write the mirror ring", io::Error::other("its thread has ended"))
}
