//! What the log hands back once the disk has answered.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::{Lsn, Poisoned};

/// A value that waited in the log's escrow and was released.
///
/// Only the log makes one: [`Wal::append`](crate::Wal::append) after a real sync,
/// [`Wal::append_lazily`](crate::Wal::append_lazily) when the record stands in the queue, in order, and
/// [`Readable::read_back`](crate::Readable::read_back) for what was read from the disk. A function that takes a
/// `Durable<T>` can therefore not be called before the log was asked:
///
/// ```compile_fail,E0451
/// // The fields are private and there is no constructor outside the log.
/// let forged = unanimous_wal::Durable { value: "commit", lsn: None };
/// ```
///
/// ```compile_fail,E0624
/// let forged = unanimous_wal::Durable::new("commit", None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable<T> {
    value: T,
    lsn: Option<Lsn>,
}

/// Tells when a record that was not waited for is on stable storage, and its number.
///
/// Dropping it is fine: the record is written all the same.
#[derive(Debug)]
pub struct Synced(oneshot::Receiver<Result<Lsn, Poisoned>>);

impl<T> Durable<T> {
    pub(crate) const fn new(value: T, lsn: Option<Lsn>) -> Self {
        Self { value, lsn }
    }

    /// The number of the record that released the value; `None` where it was not waited for or was read back.
    pub const fn lsn(&self) -> Option<Lsn> {
        self.lsn
    }

    /// The value, to look at.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// The value, out of escrow.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Another value that is as durable as this one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Durable<U> {
        Durable::new(change(self.value), self.lsn)
    }
}

impl<T> Durable<Vec<T>> {
    /// Each of the values, every one as durable as all of them.
    pub fn into_each(self) -> impl Iterator<Item = Durable<T>> {
        let lsn = self.lsn;
        self.value.into_iter().map(move |value| Durable::new(value, lsn))
    }
}

impl Synced {
    pub(crate) const fn new(answer: oneshot::Receiver<Result<Lsn, Poisoned>>) -> Self {
        Self(answer)
    }
}

impl Future for Synced {
    type Output = Result<Lsn, Poisoned>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(Poisoned::stopped())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_list_carries_the_number_of_the_record() {
        let each: Vec<_> = Durable::new(vec!['a', 'b'], Some(Lsn::FIRST)).into_each().collect();
        assert_eq!(each, [Durable::new('a', Some(Lsn::FIRST)), Durable::new('b', Some(Lsn::FIRST))]);
    }

    #[test]
    fn a_changed_value_stays_durable() {
        let changed = Durable::new(20, Some(Lsn::FIRST)).map(|n| n + 1);
        assert_eq!((changed.lsn(), *changed.get(), changed.into_inner()), (Some(Lsn::FIRST), 21, 21));
    }
}
