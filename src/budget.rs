//! A limit on the bytes of bodies that the whole process holds at once.
//!
//! Streaming needs none of it. Merging and transactions have to hold whole bodies; without a common
//! limit, many requests that are each within bounds would still fill the memory.
//!
//! A body that was read here counts for as long as anyone keeps a part of it: its bytes own their permit,
//! so there is nothing to give back and nothing to forget.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt as _};

/// The bytes that may still be held: in each of the pools it draws from. Clones share them.
#[derive(Debug, Clone)]
pub struct Budget(Vec<Arc<AtomicUsize>>);

/// A budget of which each service may use half, so that one whose bodies are held for long leaves room for the others.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Halves {
    whole: Budget,
    bytes: usize,
    /// One for each service that was ever asked for. Their names come from configurations, so that they are few.
    of_service: Arc<RwLock<HashMap<String, Budget>>>,
}

/// Bytes taken out of a budget; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    held: usize,
}

/// Why a body could not be held whole.
#[derive(Debug, thiserror::Error)]
pub enum BufferError<E> {
    /// It is longer than one body may be.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// All bodies together would be more than the process may hold.
    #[error("too many bytes of bodies are held already; try again soon")]
    NoBudget,
    /// The body broke off.
    #[error("the body broke off")]
    Broken(#[source] E),
}

impl Budget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(vec![Arc::new(AtomicUsize::new(bytes))])
    }

    /// One that draws from both: what it takes has to be there twice.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// A copy of `bytes` that counts for as long as any of it is kept; `None` where there is no room.
    #[must_use]
    pub fn copy(&self, bytes: &[u8]) -> Option<Bytes> {
        let mut permit = self.permit();
        permit.grow(bytes.len()).then(|| permit.hold(Bytes::copy_from_slice(bytes)))
    }

    /// A permit that holds nothing yet.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit { budget: self.clone(), held: 0 }
    }

    /// The bytes that may still be held.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.iter().map(|pool| pool.load(Ordering::Relaxed)).min().unwrap_or_default()
    }

    /// Reads a body to its end: at most `bytes_max` of it, and within the budget. The bytes count until
    /// the last clone or slice of them is dropped; copy what has to be kept for long.
    pub async fn read<S, E>(&self, body: S, bytes_max: usize) -> Result<Bytes, BufferError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let (bytes, permit) = self.collect(body, bytes_max).await?;
        Ok(permit.hold(bytes))
    }

    /// Reads a body as [`Budget::read`] does, once for each budget after the first of those that [`Budget::and`] put
    /// together: what is dropped counts no more there, and in the first none counts once all are dropped.
    pub async fn read_apart<S, E>(&self, body: S, bytes_max: usize) -> Result<Vec<Bytes>, BufferError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let (bytes, permit) = self.collect(body, bytes_max).await?;
        let mut permits = permit.apart();
        let whole = permits.next().expect("a budget has a pool").hold(bytes);
        Ok(permits.map(|permit| permit.hold(whole.clone())).collect())
    }

    /// Reads a body as [`Budget::read`] does, and gives the permit beside it, for who makes something else of the bytes.
    pub async fn collect<S, E>(&self, body: S, bytes_max: usize) -> Result<(Bytes, Permit), BufferError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let mut body = std::pin::pin!(body);
        let mut permit = self.permit();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.try_next().await.map_err(BufferError::Broken)? {
            if chunk.len() > bytes_max.saturating_sub(bytes.len()) {
                return Err(BufferError::TooLong(bytes_max));
            }
            if !permit.grow(chunk.len()) {
                return Err(BufferError::NoBudget);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), permit))
    }

    /// Out of every pool or out of none.
    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let has_less =
            |pool: &Arc<AtomicUsize>| pool.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err();
        match self.0.iter().position(has_less) {
            None => true,
            Some(place) => {
                give(self.0.iter().take(place), bytes);
                false
            }
        }
    }
}

impl Halves {
    /// A budget of `bytes` for all services together.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { whole: Budget::new(bytes), bytes, of_service: Arc::default() }
    }

    /// What bodies of one service draw from.
    #[must_use]
    pub fn of(&self, service: &str) -> Budget {
        self.of_all([service])
    }

    /// What a body for all of `services` draws from.
    #[must_use]
    pub fn of_all<'a>(&self, services: impl IntoIterator<Item = &'a str>) -> Budget {
        services.into_iter().fold(self.whole.clone(), |all, service| all.and(&self.half(service)))
    }

    fn half(&self, service: &str) -> Budget {
        let known = self.of_service.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        known.unwrap_or_else(|| {
            let mut of_service = self.of_service.write().unwrap_or_else(PoisonError::into_inner);
            let half = || Budget::new(self.bytes.div_ceil(2));
            of_service.entry(service.to_owned()).or_insert_with(half).clone()
        })
    }
}

fn give<'a>(pools: impl Iterator<Item = &'a Arc<AtomicUsize>>, bytes: usize) {
    for pool in pools {
        pool.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Permit {
    /// Takes `bytes` more; `false`, and nothing taken, where the budget has less.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.held += bytes;
        }
        taken
    }

    /// The same bytes, which now keep the permit.
    #[must_use]
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _permit: self })
    }

    /// A permit for each pool, with what this one held.
    fn apart(mut self) -> impl Iterator<Item = Self> {
        let (held, pools) = (std::mem::take(&mut self.held), std::mem::take(&mut self.budget.0));
        pools.into_iter().map(move |pool| Self { budget: Budget(vec![pool]), held })
    }

    /// The bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}

/// Bytes and the permit for them.
struct Held {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        give(self.budget.0.iter(), self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn body(chunks: &[&'static str]) -> impl Stream<Item = Result<Bytes, ()>> + use<> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        stream::iter(chunks)
    }

    #[test]
    fn a_dropped_permit_gives_its_bytes_back() {
        let budget = Budget::new(10);
        let mut one = budget.permit();
        let mut two = budget.permit();
        assert!(one.grow(7));
        assert!(!two.grow(4));
        assert!(two.grow(3));
        assert_eq!((one.held(), two.held(), budget.left()), (7, 3, 0));
        drop(one);
        assert_eq!(budget.left(), 7);
    }

    #[test]
    fn what_draws_from_two_pools_takes_out_of_both_or_of_neither() {
        let (whole, share) = (Budget::new(10), Budget::new(5));
        let mut of_share = whole.and(&share).permit();
        assert!(of_share.grow(4));
        assert!(!of_share.grow(2), "the share is used up");
        assert_eq!((whole.left(), share.left()), (6, 1));
        let mut others = whole.permit();
        assert!(others.grow(6), "and the others have the rest");
        assert!(!of_share.grow(1), "now the whole is used up too");
        drop(of_share);
        assert_eq!((whole.left(), share.left()), (4, 5));
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_counted_while_it_is_held() {
        let budget = Budget::new(10);
        let whole = budget.read(body(&["ab", "cd"]), 4).await.unwrap();
        assert_eq!((whole.as_ref(), budget.left()), (&b"abcd"[..], 6));
        let part = whole.slice(1..2);
        drop(whole);
        assert_eq!((part.as_ref(), budget.left()), (&b"b"[..], 6));
        drop(part);
        assert_eq!(budget.left(), 10);
    }

    #[tokio::test]
    async fn a_body_for_two_counts_in_the_share_of_each_until_that_one_drops_it() {
        let (whole, one, two) = (Budget::new(10), Budget::new(5), Budget::new(5));
        let both = whole.and(&one).and(&two);
        let mut bodies = both.read_apart(body(&["ab", "cd"]), 4).await.unwrap();
        assert_eq!((bodies.len(), whole.left(), one.left(), two.left()), (2, 6, 1, 1));
        drop(bodies.remove(0));
        assert_eq!((whole.left(), one.left(), two.left()), (6, 5, 1));
        assert!(matches!(both.read_apart(body(&["abc"]), 4).await, Err(BufferError::NoBudget)));
        assert_eq!((whole.left(), one.left(), two.left()), (6, 5, 1));
        drop(bodies);
        assert_eq!((whole.left(), one.left(), two.left()), (10, 5, 5));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_or_over_the_budget_is_not_held() {
        let budget = Budget::new(3);
        assert!(matches!(budget.read(body(&["ab", "c"]), 2).await, Err(BufferError::TooLong(2))));
        assert!(matches!(budget.read(body(&["ab", "cd"]), 9).await, Err(BufferError::NoBudget)));
        assert_eq!(budget.left(), 3);
    }
}
