//! The open transactions and the idempotency keys. Locked for a lookup, never across an await.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, watch};
use unanimous_wal::Lsn;

use super::running::Message;
use super::view::View;
use crate::clock::Timestamp;
use crate::journal::replay::KeyHash;
use crate::plan::{Plan, TransactionId};
use crate::txn::{Branches, Txn};

#[cfg(test)]
mod tests;

/// Who is open, by name, and which key began what.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    count: watch::Sender<usize>,
}

struct Inner {
    /// Oldest first, as their ids grow.
    open: BTreeMap<TransactionId, Open>,
    of_service: HashMap<String, Load>,
    keys: HashMap<KeyHash, TransactionId>,
    is_draining: bool,
    /// Transactions of earlier runs: how many there were, and how many are still open.
    recovered: (usize, usize),
}

/// The outer ends of an open transaction's channels.
pub(crate) struct Open {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) view: watch::Receiver<View>,
    /// Whose answers it waits for, and whose it may yet wait for.
    pub(crate) stand: Stand,
    /// No record of it that counts is before this LSN.
    pub(crate) since: AtomicU64,
    /// An earlier run began it.
    pub(crate) is_recovered: bool,
}

/// Which branches keep a transaction open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Those it waits for.
    pub(crate) waits_for: Branches,
    /// Those, and those it will wait for again at the decision.
    pub(crate) needs: Branches,
}

/// How many open transactions a service keeps open.
#[derive(Default)]
struct Load {
    waiting: usize,
    needing: usize,
}

/// Why a transaction was not admitted.
pub(crate) enum Claim {
    Draining,
    Full(usize),
    /// So many wait for this service, or need it.
    FullOf(String, usize),
    /// By this transaction.
    Taken(TransactionId),
}

impl Registry {
    pub(crate) fn new(keys: HashMap<KeyHash, TransactionId>) -> Self {
        let (open, of_service) = (BTreeMap::new(), HashMap::new());
        let inner = Inner { open, of_service, keys, is_draining: false, recovered: (0, 0) };
        Self { inner: Mutex::new(inner), count: watch::Sender::new(0) }
    }

    /// Takes in a new transaction, and its key with it, unless one of the limits forbids it.
    pub(crate) fn admit(
        &self,
        id: TransactionId,
        open: Open,
        key: Option<KeyHash>,
        max: usize,
    ) -> Result<(), Claim> {
        let mut inner = self.lock();
        inner.has_room(&open.plan().services_of(open.stand.needs), max)?;
        if let Some(key) = key {
            match inner.keys.entry(key) {
                Entry::Occupied(taken) => return Err(Claim::Taken(*taken.get())),
                Entry::Vacant(slot) => slot.insert(id),
            };
        }
        inner.put(id, open);
        self.count.send_replace(inner.open.len());
        Ok(())
    }

    /// Whether one more over these services would be taken in now.
    pub(crate) fn has_room(&self, services: &BTreeSet<&str>, max: usize) -> Result<(), Claim> {
        self.lock().has_room(services, max)
    }

    /// Takes in a transaction of an earlier run; no limit forbids that.
    pub(crate) fn readmit(&self, id: TransactionId, open: Open) {
        let mut inner = self.lock();
        inner.put(id, open);
        inner.recovered.0 += 1;
        inner.recovered.1 += 1;
        self.count.send_replace(inner.open.len());
    }

    pub(crate) fn remove(&self, id: TransactionId) {
        let mut inner = self.lock();
        let removed = inner.take(id);
        inner.recovered.1 -= usize::from(removed.is_some_and(|open| open.is_recovered));
        self.count.send_replace(inner.open.len());
    }

    /// This is how a transaction stands now.
    pub(crate) fn stands(&self, id: TransactionId, stand: Stand) {
        let mut inner = self.lock();
        let Inner { open, of_service, .. } = &mut *inner;
        let Some(open) = open.get_mut(&id).filter(|open| open.stand != stand) else { return };
        uncount(of_service, open);
        open.stand = stand;
        count(of_service, open);
    }

    pub(crate) fn watch(&self, id: TransactionId) -> Option<watch::Receiver<View>> {
        self.lock().open.get(&id).map(|open| open.view.clone())
    }

    pub(crate) fn view(&self, id: TransactionId) -> Option<View> {
        self.watch(id).map(|view| view.borrow().clone())
    }

    pub(crate) fn inbox(&self, id: TransactionId) -> Option<mpsc::Sender<Message>> {
        self.lock().open.get(&id).map(|open| open.inbox.clone())
    }

    pub(crate) fn views(&self) -> Vec<View> {
        self.lock().open.values().map(|open| open.view.borrow().clone()).collect()
    }

    /// The services of all open transactions, also those that need no call any more.
    pub(crate) fn services(&self) -> BTreeSet<String> {
        let inner = self.lock();
        let plans = inner.open.values().map(Open::plan);
        plans
            .flat_map(|plan| plan.branches.iter().map(|branch| branch.service.clone()).collect::<Vec<_>>())
            .collect()
    }

    pub(crate) fn in_doubt(&self) -> (usize, Option<Timestamp>) {
        let inner = self.lock();
        (inner.open.len(), inner.open.keys().next().map(|id| id.time()))
    }

    pub(crate) fn recovering(&self) -> (usize, usize) {
        self.lock().recovered
    }

    pub(crate) fn parked(&self) -> usize {
        self.lock().open.values().filter(|open| open.view.borrow().is_parked()).count()
    }

    pub(crate) fn key(&self, key: KeyHash) -> Option<TransactionId> {
        self.lock().keys.get(&key).copied()
    }

    /// Forgets a key, if it still stands for `id`.
    pub(crate) fn forget_key(&self, key: KeyHash, id: TransactionId) {
        let mut inner = self.lock();
        if inner.keys.get(&key) == Some(&id) {
            inner.keys.remove(&key);
        }
    }

    /// Forgets the keys of ended transactions of which the log has nothing any more.
    pub(crate) fn forget_keys(&self, is_gone: impl Fn(TransactionId) -> bool) {
        let mut inner = self.lock();
        let Inner { open, keys, .. } = &mut *inner;
        keys.retain(|_, id| open.contains_key(id) || !is_gone(*id));
    }

    /// Where to reach the transactions with records before `below`.
    pub(crate) fn before(&self, below: Lsn) -> Vec<mpsc::Sender<Message>> {
        let inner = self.lock();
        let old = inner.open.values().filter(|open| open.since.load(Ordering::Relaxed) < below.get());
        old.map(|open| open.inbox.clone()).collect()
    }

    /// Where the first record is that an open transaction needs.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.lock().open.values().filter_map(|open| Lsn::new(open.since.load(Ordering::Relaxed))).min()
    }

    /// A transaction was carried: its records before `since` count no more.
    pub(crate) fn carried(&self, id: TransactionId, since: u64) {
        if let Some(open) = self.lock().open.get(&id) {
            open.since.store(since, Ordering::Relaxed);
        }
    }

    pub(crate) fn drain(&self) {
        self.lock().is_draining = true;
    }

    pub(crate) async fn emptied(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

impl Inner {
    fn has_room(&self, services: &BTreeSet<&str>, max: usize) -> Result<(), Claim> {
        if self.is_draining {
            return Err(Claim::Draining);
        }
        if self.open.len() >= max {
            return Err(Claim::Full(max));
        }
        // Those that need it and do not wait for it now will do so at the decision, and nothing can refuse them then.
        let (waiting_max, needing_max) = (max.div_ceil(2), max - max / 4);
        for service in services {
            let Some(load) = self.of_service.get(*service) else { continue };
            if load.waiting >= waiting_max || load.needing >= needing_max {
                return Err(Claim::FullOf((*service).to_owned(), load.needing));
            }
        }
        Ok(())
    }

    fn put(&mut self, id: TransactionId, open: Open) {
        count(&mut self.of_service, &open);
        self.open.insert(id, open);
    }

    fn take(&mut self, id: TransactionId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        uncount(&mut self.of_service, &open);
        Some(open)
    }
}

fn count(of_service: &mut HashMap<String, Load>, open: &Open) {
    let plan = open.plan();
    for service in plan.services_of(open.stand.needs) {
        of_service.entry(service.to_owned()).or_default().needing += 1;
    }
    for service in plan.services_of(open.stand.waits_for) {
        of_service.entry(service.to_owned()).or_default().waiting += 1;
    }
}

fn uncount(of_service: &mut HashMap<String, Load>, open: &Open) {
    let plan = open.plan();
    let mut less = |branches, of: fn(&mut Load) -> &mut usize| {
        for service in plan.services_of(branches) {
            *of(of_service.get_mut(service).expect("it was counted")) -= 1;
        }
    };
    less(open.stand.needs, |load| &mut load.needing);
    less(open.stand.waits_for, |load| &mut load.waiting);
}

impl Stand {
    pub(crate) fn of(txn: &Txn) -> Self {
        Self { waits_for: txn.waits_for(), needs: txn.needs() }
    }

    /// It waits for an operator to settle these.
    pub(crate) fn held(branches: Branches) -> Self {
        Self { waits_for: branches, needs: branches }
    }
}

impl Open {
    fn plan(&self) -> Arc<Plan> {
        self.view.borrow().plan.clone()
    }
}
