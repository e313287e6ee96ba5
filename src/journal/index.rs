//! Where in the log a time is.
//!
//! Ids hold the time they were made at and records are in the order of their times, so that a
//! transaction is found by looking where its time is: there is no entry a transaction in memory, and
//! a log of any length costs 16 bytes for every `STRIDE` records.

use std::collections::BTreeMap;

use unanimous_wal::Lsn;

use crate::clock::Timestamp;
use crate::plan::TransactionId;

/// How many records may follow an entry before there is another one.
const STRIDE: u64 = 256;

/// Where times, and transactions that left their place, are.
#[derive(Debug, Default)]
pub struct Index {
    /// Times and where they begin, both growing.
    marks: Vec<(Timestamp, Lsn)>,
    /// Transactions that were carried: their newest `carried` record.
    carried: BTreeMap<TransactionId, Lsn>,
    latest: Timestamp,
}

impl Index {
    /// A record of this time is at `lsn`. Records may be noted out of order; only growing ones
    /// are kept.
    pub fn note(&mut self, time: Timestamp, lsn: Lsn) {
        self.latest = self.latest.max(time);
        match self.marks.last() {
            Some((_, last)) if lsn.get() < last.get() + STRIDE => {}
            Some(_) | None => self.marks.push((self.latest, lsn)),
        }
    }

    /// The newest `carried` record of a transaction is at `lsn`.
    pub fn note_carried(&mut self, id: TransactionId, lsn: Lsn) {
        self.carried.insert(id, lsn);
    }

    /// Where a transaction was last carried to.
    #[must_use]
    pub fn carried(&self, id: TransactionId) -> Option<Lsn> {
        self.carried.get(&id).copied()
    }

    /// A place before which every record is older than `time`; `None` where the log is younger.
    #[must_use]
    pub fn before(&self, time: Timestamp) -> Option<Lsn> {
        let after = self.marks.partition_point(|(mark, _)| *mark < time);
        self.marks.get(after.checked_sub(1)?).map(|(_, lsn)| *lsn)
    }

    /// A time from which on every record is still there; it may be there from earlier on.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.marks.first().map(|(time, _)| *time)
    }

    /// The latest time that was noted.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Everything below `low` is gone.
    pub fn forget(&mut self, low: Lsn) {
        let gone = self.marks.partition_point(|(_, lsn)| *lsn < low);
        self.marks.drain(..gone);
        self.carried.retain(|_, lsn| *lsn >= low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(number: u64) -> Lsn {
        Lsn::new(number).unwrap()
    }

    #[test]
    fn a_time_is_found_at_or_before_its_first_record() {
        let mut index = Index::default();
        (1..=10_000).for_each(|number| index.note(Timestamp(number * 10), lsn(number)));
        for time in [10_u64, 5_000, 99_990, 200_000] {
            let from = index.before(Timestamp(time)).map_or(1, Lsn::get);
            assert!(
                from * 10 <= time.max(10) && from + 2 * STRIDE >= (time / 10).min(10_000),
                "{time} {from}"
            );
        }
    }

    #[test]
    fn what_is_retired_is_forgotten() {
        let mut index = Index::default();
        (1..=10_000).for_each(|number| index.note(Timestamp(number), lsn(number)));
        index.note_carried(TransactionId::NONE, lsn(3));
        index.forget(lsn(5_000));
        // Never earlier than what is still there: a time before it must not pass for covered.
        assert!(index.oldest().unwrap() >= Timestamp(5_000));
        assert_eq!(index.before(Timestamp(5_000)), None);
        assert_eq!(index.carried(TransactionId::NONE), None);
    }
}
