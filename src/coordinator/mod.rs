//! Drives transactions: one task each, from the first record to the last confirmation.
//!
//! ```text
//!  begin ──► Running ──► txn.on(event) ──► journal.append ──► Durable<effects> ──► Speaker a branch
//!              ▲                                                                      │
//!              └────────────────────────────── answers ◄──────────────────────────────┘
//! ```
//!
//! A transaction belongs to its task, not to the client's connection: it goes on when the client
//! hangs up. This module knows no HTTP server, no HTTP client and no store; it sees the log as a
//! [`Journal`] and the services as [`Participants`].
//!
//! | file | holds |
//! |---|---|
//! | [`running`] | the task: event, transition, log, effect |
//! | [`speaker`] | one call at a time to one branch, repeated where the protocol allows |
//! | [`error`] | why something was not begun, or not done |
//! | [`backoff`] | how long to wait between two tries |
//! | [`view`] | what others may see of a transaction |
//! | [`registry`] | the open transactions and the idempotency keys |
//! | [`quarantine`] | transactions whose records no run can have written |
//! | [`upkeep`] | retention: carrying forward and dropping old blocks |

pub mod backoff;
pub mod error;
pub mod options;
pub mod quarantine;
pub mod registry;
pub mod running;
pub mod speaker;
pub mod upkeep;
pub mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use unanimous_wal::Durable;

pub use self::error::{NotDone, Refused};
use self::options::CoordinatorOptions;
use self::registry::{Open, Registry, Stand};
use self::running::{Message, Running};
pub use self::view::View;
use crate::journal::find::{Past, Search};
use crate::journal::replay::{FaultKind, Found, KeyHash, Logged, key_hash};
use crate::journal::{Journal, ReadError};
use crate::participant::{Participants, Work};
use crate::plan::{ClientKey, Issuer, Origin, Plan, TransactionId};
use crate::txn::{Branch, Decision, Txn};

/// How many messages may wait for one transaction: operators are few.
const INBOX_MAX: usize = 16;

/// The most bytes of paths and bodies in one `begun`. With [`KEPT_MAX`](options::KEPT_MAX) and what has a fixed length they are
/// less than one record may have, so that whatever has begun can be logged to its end.
pub const LOGGED_MAX: usize = 3 * 1024 * 1024;

/// The coordinator of one node. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator<P> {
    shared: Arc<Shared<P>>,
}

/// What all transactions of a node share.
pub(crate) struct Shared<P> {
    pub(crate) journal: Journal,
    pub(crate) participants: P,
    pub(crate) registry: Registry,
    pub(crate) observer: Observer,
    issuer: Issuer,
    tasks: TaskTracker,
    pub(crate) options: CoordinatorOptions,
}

/// Told of every phase that ends, for the metrics.
pub type Observer = Arc<dyn Fn(&Phase) + Send + Sync>;

/// A phase of a transaction that is over.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// The state that was left: `working`, `preparing`, `committing` or `aborting`.
    pub name: &'static str,
    /// How long the transaction was in it, as far as this start of the node saw.
    pub took: Duration,
    /// How the transaction ended, if this was its last phase.
    pub ended: Option<Decision>,
}

/// A request to begin a transaction.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Who takes part and what is asked.
    pub plan: Plan,
    /// What each branch's work call carries, by number.
    pub works: Vec<Work>,
}

/// What came of a request to begin.
pub enum Start {
    /// It began.
    New(Handle),
    /// The same key and request began it before, and it is still open.
    Open(Handle),
    /// The same key and request began it before, and it is decided and done.
    Done(TransactionId, Box<Past>),
}

/// The eye of a client on its transaction. Dropping it changes nothing of the transaction; what the branches answered is
/// forgotten once nobody waits to be told.
#[derive(Debug)]
pub struct Handle {
    /// The transaction.
    pub id: TransactionId,
    view: watch::Receiver<View>,
    /// Of the one whose request began it.
    _audience: Option<DropGuard>,
}

/// What became of a transaction.
pub enum Fate {
    /// It is open.
    Open(Box<View>),
    /// It is decided and done.
    Done(Box<Past>),
    /// It began; what became of it is just being written.
    Unsettled,
    /// It never began here.
    NeverSeen,
    /// The log no longer goes back that far.
    Expired,
    /// Records of that time are missing from the log.
    GivenUp,
    /// Its records are damaged, and an operator has settled it.
    SettledByHand,
    /// Another node began it.
    OtherNode,
}

impl<P: Participants> Coordinator<P> {
    /// A coordinator that goes on with the keys that the log held.
    pub fn new(
        journal: Journal,
        participants: P,
        options: CoordinatorOptions,
        observer: Observer,
        found: &mut Found,
    ) -> Self {
        let registry = Registry::new(std::mem::take(&mut found.keys));
        let issuer = Issuer::new(journal.node());
        let tasks = TaskTracker::new();
        let shared = Shared { journal, participants, registry, observer, issuer, tasks, options };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a transaction, unless its key began one before.
    pub async fn begin(&self, begin: Begin) -> Result<Start, Refused> {
        let shape = begin.plan.shape()?;
        let key = begin.plan.key.clone().map(|key| (key_hash(&begin.plan.route, &key.key), key));
        if let Some((hash, key)) = &key
            && let Some(id) = self.shared.registry.key(*hash)
            && let Some(start) = self.same(*hash, id, key).await?
        {
            return Ok(start);
        }
        let logged = begin.plan.logged_len();
        if logged > LOGGED_MAX {
            return Err(Refused::TooLarge(logged));
        }
        self.has_room(&begin.plan.services_of(shape.branches))?;
        let id = self.shared.issuer.issue(self.shared.journal.now(), fastrand::u16(..));
        let plan = Arc::new(begin.plan);
        let (open, seats) = self.open(View::new(id, plan, Txn::begin(shape)));
        let handle =
            Handle { id, view: open.view.clone(), _audience: Some(seats.audience.clone().drop_guard()) };
        let (hash, max) = (key.as_ref().map(|(hash, _)| *hash), self.shared.options.open_transactions_max);
        self.shared.registry.admit(id, open, hash, max)?;
        let running = Running::new(self.shared.clone(), seats, begin.works);
        self.shared.tasks.spawn(running.begin());
        Ok(Start::New(handle))
    }

    /// Whether a request for a transaction of `route` over `services` would be refused now, so that its body need not be read
    /// in vain. One whose key is known has its answer whatever else.
    pub fn would_begin(
        &self,
        route: &str,
        key: Option<&str>,
        services: &BTreeSet<&str>,
    ) -> Result<(), Refused> {
        let is_known = |key| self.shared.registry.key(key_hash(route, key)).is_some();
        if key.is_some_and(is_known) { Ok(()) } else { self.has_room(services) }
    }

    fn has_room(&self, services: &BTreeSet<&str>) -> Result<(), Refused> {
        if self.shared.journal.disk().is_nearly_full {
            return Err(Refused::DiskNearlyFull);
        }
        if let Some(service) = services.iter().find(|service| self.shared.participants.is_crowded(service)) {
            return Err(Refused::Crowded((*service).to_owned()));
        }
        Ok(self.shared.registry.has_room(services, self.shared.options.open_transactions_max)?)
    }

    /// Goes on with a transaction that the log left unfinished.
    pub fn resume(&self, logged: Durable<Logged>) {
        let Logged { id, plan, txn, kept, parked, resolved, fault, since, .. } = logged.get().clone();
        let no_beginning = fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::NoBeginning);
        // What was decided may be told, where that is all that is known.
        let decision = |logged: Logged| logged.txn.decision().filter(|_| no_beginning).into_iter().collect();
        let told = logged.clone().map::<Vec<_>>(decision).into_each().next();
        let view = View { told, kept, parked, resolved, ..View::new(id, plan, txn) };
        let (mut open, seats) = self.open(view);
        open.since = since.get().into();
        open.is_recovered = true;
        self.shared.registry.readmit(id, open);
        let shared = self.shared.clone();
        match fault {
            Some(fault) => self.shared.tasks.spawn(quarantine::hold(shared, seats, fault)),
            None => self.shared.tasks.spawn(Running::new(shared, seats, Vec::new()).resume(logged)),
        };
    }

    /// What became of a transaction.
    pub async fn fate(&self, id: TransactionId) -> Result<Fate, ReadError> {
        if let Some(view) = self.shared.registry.view(id) {
            return Ok(Fate::Open(Box::new(view)));
        }
        match self.shared.issuer.origin(id) {
            Origin::Here => {}
            Origin::OtherNode => return Ok(Fate::OtherNode),
            Origin::Nobody => return Ok(Fate::NeverSeen),
        }
        Ok(match self.shared.journal.search(id).await? {
            Search::Decided(past) => Fate::Done(past),
            Search::Undecided => Fate::Unsettled,
            Search::NeverSeen => Fate::NeverSeen,
            Search::Expired => Fate::Expired,
            Search::GivenUp => Fate::GivenUp,
            Search::SettledByHand => Fate::SettledByHand,
        })
    }

    /// Every open transaction, oldest first.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<View> {
        self.shared.registry.views()
    }

    /// The services that take part in open transactions.
    #[must_use]
    pub fn services_of_open(&self) -> BTreeSet<String> {
        self.shared.registry.services()
    }

    /// How many transactions are open, and when the oldest of them began.
    #[must_use]
    pub fn in_doubt(&self) -> (usize, Option<crate::clock::Timestamp>) {
        self.shared.registry.in_doubt()
    }

    /// How many transactions this start found unfinished, and how many of them still are.
    #[must_use]
    pub fn recovering(&self) -> (usize, usize) {
        self.shared.registry.recovering()
    }

    /// How many transactions an operator has to look at.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.shared.registry.parked()
    }

    /// Tells the branches of a transaction again, now.
    pub async fn retry(&self, id: TransactionId) -> Result<(), NotDone> {
        let inbox = self.shared.registry.inbox(id).ok_or(NotDone::NotOpen)?;
        let (answer, answered) = oneshot::channel();
        inbox.send(Message::Retry(answer)).await.map_err(|_| NotDone::Stopping)?;
        answered.await.map_err(|_| NotDone::Stopping)?
    }

    /// Settles a parked branch by an operator's word.
    pub async fn resolve(
        &self,
        id: TransactionId,
        branch: Branch,
        decision: Decision,
        actor: String,
        reason: String,
    ) -> Result<View, NotDone> {
        let inbox = self.shared.registry.inbox(id).ok_or(NotDone::NotOpen)?;
        let (answer, answered) = oneshot::channel();
        let wish = Message::Resolve { branch, decision, actor, reason, answer };
        inbox.send(wish).await.map_err(|_| NotDone::Stopping)?;
        answered.await.map_err(|_| NotDone::Stopping)?
    }

    /// Begins nothing new from here on.
    pub fn drain(&self) {
        self.shared.registry.drain();
    }

    /// Waits until no transaction is open.
    pub async fn finished(&self) {
        self.shared.registry.emptied().await;
    }

    /// The log.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Keeps disk and memory bounded until the log fails. See [`upkeep`].
    pub async fn keep_up(&self) {
        upkeep::run(&self.shared).await;
    }

    /// What the key's transaction has to say to the same request; `None` where it is forgotten.
    async fn same(
        &self,
        hash: KeyHash,
        id: TransactionId,
        key: &ClientKey,
    ) -> Result<Option<Start>, Refused> {
        let is_same =
            |plan: &Plan| plan.key.as_ref().is_some_and(|first| first.fingerprint == key.fingerprint);
        if let Some(view) = self.shared.registry.watch(id) {
            let same = is_same(&view.borrow().plan);
            return if same {
                Ok(Some(Start::Open(Handle { id, view, _audience: None })))
            } else {
                Err(Refused::KeyReused(id))
            };
        }
        match self.shared.journal.search(id).await? {
            Search::Decided(past) if is_same(&past.plan) => Ok(Some(Start::Done(id, past))),
            Search::Decided(_) => Err(Refused::KeyReused(id)),
            Search::Undecided => Err(Refused::KeyBusy(id)),
            Search::SettledByHand => Err(Refused::KeySettled(id)),
            Search::NeverSeen | Search::Expired | Search::GivenUp => {
                self.shared.registry.forget_key(hash, id);
                Ok(None)
            }
        }
    }

    fn open(&self, view: View) -> (Open, Seats) {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let stand = Stand::of(&view.txn);
        let (publish, watch) = watch::channel(view);
        let nudge = Arc::new(Notify::new());
        let since = *self.shared.journal.wal().follow().borrow() + 1;
        (
            Open { inbox, view: watch, stand, since: since.into(), is_recovered: false },
            Seats { messages, view: publish, nudge, audience: CancellationToken::new() },
        )
    }
}

/// The inner ends of an open transaction's channels.
pub(crate) struct Seats {
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) nudge: Arc<Notify>,
    /// Cancelled when the client that began it was told, or is gone.
    pub(crate) audience: CancellationToken,
}

impl Handle {
    /// Waits for the decision and then, up to `reply_within`, for every confirmation. `None` where
    /// the node stopped first: the outcome is not known here, and must not be guessed.
    pub async fn outcome(&mut self, reply_within: Duration) -> Option<View> {
        self.view.wait_for(|view| view.told.is_some()).await.ok()?;
        let confirmed = self.view.wait_for(|view| view.txn.state().is_final());
        // Late or ended, what is seen now is the truth.
        let _ = tokio::time::timeout(reply_within, confirmed).await;
        Some(self.now())
    }

    /// How it stands now.
    #[must_use]
    pub fn now(&self) -> View {
        self.view.borrow().clone()
    }
}
