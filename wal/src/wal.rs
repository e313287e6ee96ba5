//! The handle: append, read, retire.

use std::sync::Arc;
use std::thread;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::durable::{Durable, Synced};
use crate::lsn::Lsn;
use crate::poisoned::{AppendError, Poisoned};
use crate::reader::Reader;
use crate::request::Request;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::store::{Room, Store, StoreError};

/// The longest payload that a record may have, in bytes.
pub const PAYLOAD_MAX: usize = 4 * 1024 * 1024;

/// A log that was read to its end and can be appended to. Clones are handles to the same log.
///
/// When the last handle goes, what is queued is still written; [`close`](Self::close) waits for that. The directory
/// stays locked until the last handle and the last [`Reader`] are gone.
#[derive(Clone)]
pub struct Wal {
    handles: Arc<Handles>,
}

struct Handles {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
}

impl Wal {
    pub(crate) fn new(shared: Arc<Shared>, store: Arc<dyn Store>) -> Self {
        Self { handles: Arc::new(Handles { shared, store }) }
    }

    fn shared(&self) -> &Shared {
        &self.handles.shared
    }

    /// Writes a record, and gives `then` back once it is on stable storage.
    ///
    /// Waits for room in the queue first. If the future is dropped before it is done, the record may or may not be
    /// written, and `then` is dropped with the future.
    pub async fn append<T>(&self, payload: Vec<u8>, then: T) -> Result<Durable<T>, AppendError> {
        let answer = self.queue(payload, true).await?;
        let lsn = answer.await.unwrap_or_else(|_| Err(Poisoned::stopped()))?;
        Ok(Durable::new(then, Some(lsn)))
    }

    /// Queues a record behind all earlier ones, and gives `then` back at once.
    ///
    /// For records whose loss changes nothing: a crash may take this one and all later ones, but never this one
    /// and not the later ones. It is written with the next commit that somebody waits for, or after 10 ms.
    pub async fn append_lazily<T>(
        &self,
        payload: Vec<u8>,
        then: T,
    ) -> Result<(Durable<T>, Synced), AppendError> {
        let answer = self.queue(payload, false).await?;
        Ok((Durable::new(then, None), Synced::new(answer)))
    }

    /// Reads what is durable, from `from` or the first record that is kept, whichever is later.
    #[must_use]
    pub fn read(&self, from: Lsn) -> Reader {
        Reader::new(self.handles.shared.clone(), self.handles.store.clone(), from)
    }

    /// The first record that is kept, or would be if there were one.
    #[must_use]
    pub fn low(&self) -> Lsn {
        self.shared().low()
    }

    /// The last durable record; `None` if there is none yet.
    #[must_use]
    pub fn high(&self) -> Option<Lsn> {
        self.shared().high()
    }

    /// Follows the number of the last durable record; 0 means none yet.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared().follow()
    }

    /// Lets go of records below `below`, as far as whole blocks can go, and returns when they are gone.
    ///
    /// In order with appends and other retirements. The block that holds `below` stays, and so does the newest one;
    /// [`low`](Self::low) is then the first record of the first block that stays.
    pub async fn retire(&self, below: Lsn) -> Result<(), Poisoned> {
        let (done, answer) = oneshot::channel();
        self.shared().queue.push(Request::Retire { below, done })?;
        self.answered(answer).await
    }

    /// The random identity that the log got when it was created.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.shared().node
    }

    /// How often the log was started, this time included. Durable before the first record of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared().epoch
    }

    /// What the log counts about itself. Cheap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().counters.read(self.shared().queue.len())
    }

    /// What is free where the log is kept. A node refuses new work below some floor, because the log of a full disk
    /// fails, and asks a few times a second, because this also looks after the reserve. May wait for the disk.
    pub fn room(&self) -> Result<Room, StoreError> {
        let _call = self.shared().calls.begin();
        self.handles.store.room()
    }

    /// Resolves when the log fails; never if it does not.
    pub async fn poisoned(&self) -> Poisoned {
        self.shared().poisoned().await
    }

    /// Commits what is queued and ends the log. Appends through other handles fail from then on. After an error everything
    /// that was acknowledged is as safe as ever.
    pub async fn close(self) -> Result<(), Poisoned> {
        let (done, answer) = oneshot::channel();
        self.shared().queue.push(Request::Close { done })?;
        self.answered(answer).await?;
        let Some(limit) = self.shared().limit else { return Ok(()) };
        // With the last handle sled closes its files, and syncs them: no disk may keep whoever waits for that.
        let (gone, is_gone) = oneshot::channel();
        thread::spawn(move || {
            drop(self);
            let _ = gone.send(());
        });
        match timeout(limit, is_gone).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Poisoned::hung(limit)),
        }
    }

    /// What the committer says, or the watchdog where the committer hangs.
    async fn answered(&self, answer: oneshot::Receiver<Result<(), Poisoned>>) -> Result<(), Poisoned> {
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(self.shared().queue.failure())),
            failed = self.poisoned() => Err(failed),
        }
    }

    async fn queue(
        &self,
        payload: Vec<u8>,
        is_waited_for: bool,
    ) -> Result<oneshot::Receiver<Result<Lsn, Poisoned>>, AppendError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(AppendError::TooLarge { size: payload.len(), max: PAYLOAD_MAX });
        }
        Ok(self.shared().queue.append(payload, is_waited_for).await?)
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, low, high) = (self.node(), self.low(), self.high());
        f.debug_struct("Wal")
            .field("node", &node)
            .field("low", &low)
            .field("high", &high)
            .finish_non_exhaustive()
    }
}
