//! Where in the log a time is.
//!
//! Ids hold the time they were made at and records are in the order of their times, so that a
//! transaction is found by looking where its time is: there is no entry a transaction in memory, and
//! a log of any length costs some 50 bytes for every `STRIDE` records. Records can be out of order by seconds
//! under stress; so that not all of those seconds are read, each stretch knows whose transactions begin in it.

use std::collections::BTreeMap;

use unanimous_wal::Lsn;

use super::record::Record;
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
    /// The earliest and the latest id that begins in a stretch of [`STRIDE`] records, by the stretch's number.
    begun: BTreeMap<u64, (TransactionId, TransactionId)>,
    latest: Timestamp,
    /// Times, from and to, of which records were damaged and given up.
    given_up: Vec<(Timestamp, Timestamp)>,
}

/// What the index has to know of a record that a transaction is found by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Noted {
    Begun(TransactionId),
    Carried(TransactionId),
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

    /// The first record of a transaction is at `lsn`.
    pub fn note_begun(&mut self, id: TransactionId, lsn: Lsn) {
        let (first, last) = self.begun.entry(lsn.get() / STRIDE).or_insert((id, id));
        (*first, *last) = ((*first).min(id), (*last).max(id));
    }

    /// A place from which on every record is younger than `time`; `None` where the log is not that long.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Lsn> {
        let after = self.marks.partition_point(|(mark, _)| *mark <= time);
        self.marks.get(after).map(|(_, lsn)| *lsn)
    }

    /// The parts of the log from `from` to `to` in which `id` can begin, each up to but without its end: most
    /// often one of a few hundred records.
    #[must_use]
    pub fn stretches(&self, id: TransactionId, from: Lsn, to: Option<Lsn>) -> Vec<(Lsn, Lsn)> {
        let mut stretches: Vec<(Lsn, Lsn)> = Vec::new();
        let (first, last) = (from.get() / STRIDE, to.map_or(u64::MAX, |to| to.get() / STRIDE));
        for (number, (first, last)) in self.begun.range(first..=last.max(first)) {
            if id < *first || id > *last {
                continue;
            }
            let begin = Lsn::new(number * STRIDE).unwrap_or(Lsn::FIRST).max(from);
            let Some(end) = Lsn::new((number + 1) * STRIDE) else { continue };
            match stretches.last_mut() {
                Some((_, before)) if *before == begin => *before = end,
                Some(_) | None => stretches.push((begin, end)),
            }
        }
        stretches
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

    /// Records that followed the latest one, up to this time, were given up.
    pub fn note_given_up(&mut self, to: Timestamp) {
        self.given_up.push((self.latest, to));
    }

    /// Whether a record that was written between these times can be among those that were given up.
    #[must_use]
    pub fn was_given_up(&self, from: Timestamp, to: Timestamp) -> bool {
        self.given_up.iter().any(|(first, last)| *first <= to && from <= *last)
    }

    /// Whether no records were given up.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.given_up.is_empty()
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
        self.begun = self.begun.split_off(&(low.get() / STRIDE));
    }
}

impl Noted {
    pub(super) fn of(id: TransactionId, record: &Record) -> Option<Self> {
        match record {
            Record::Begun(_) => Some(Self::Begun(id)),
            Record::Carried(_) | Record::CarriedResolved(..) => Some(Self::Carried(id)),
            Record::Opened { .. }
            | Record::GaveUp { .. }
            | Record::Settled
            | Record::Preparing { .. }
            | Record::Decided { .. }
            | Record::Acked(_)
            | Record::Parked { .. }
            | Record::Resolved { .. }
            | Record::Ended(_) => None,
        }
    }

    pub(super) fn put(self, index: &mut Index, lsn: Lsn) {
        match self {
            Self::Begun(id) => index.note_begun(id, lsn),
            Self::Carried(id) => index.note_carried(id, lsn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(number: u64) -> Lsn {
        Lsn::new(number).unwrap()
    }

    fn id(number: u64) -> TransactionId {
        format!("00000000-{number:04x}-7000-8000-000000000000").parse().unwrap()
    }

    #[test]
    fn every_256th_record_marks_its_time() {
        let mut index = Index::default();
        assert_eq!(
            (index.before(Timestamp(9)), index.after(Timestamp(9)), index.oldest()),
            (None, None, None)
        );
        (1..=600).for_each(|number| index.note(Timestamp(number * 10), lsn(number)));
        let before = [10, 11, 2_570, 2_571, 9_999].map(|time| index.before(Timestamp(time)).map(Lsn::get));
        assert_eq!(before, [None, Some(1), Some(1), Some(257), Some(513)]);
        let after = [9, 10, 2_569, 2_570, 5_130].map(|time| index.after(Timestamp(time)).map(Lsn::get));
        assert_eq!(after, [Some(1), Some(257), Some(257), Some(513), None]);
        index.note(Timestamp(50), lsn(601));
        assert_eq!(index.latest(), Timestamp(6_000), "one that comes late changes nothing");
        index.forget(lsn(257));
        assert_eq!(index.oldest(), Some(Timestamp(2_570)));
        index.forget(lsn(258));
        assert_eq!(index.oldest(), Some(Timestamp(5_130)));
    }

    #[test]
    fn stretches_that_touch_are_one_and_none_is_read_outside_of_what_is_asked_for() {
        let mut index = Index::default();
        for (number, at) in [(5, 10), (900, 20), (3, 256), (950, 511), (600, 512), (1, 800), (999, 801)] {
            index.note_begun(id(number), lsn(at));
        }
        let look = |from, to: Option<u64>| index.stretches(id(500), lsn(from), to.map(lsn));
        assert_eq!(look(1, None), [(lsn(1), lsn(512)), (lsn(768), lsn(1024))]);
        assert_eq!(look(300, None), [(lsn(300), lsn(512)), (lsn(768), lsn(1024))]);
        assert_eq!(look(1, Some(767)), [(lsn(1), lsn(512))]);
        assert_eq!(look(1, Some(768)), look(1, None));
        assert_eq!(look(900, Some(1)), [(lsn(900), lsn(1024))], "where it begins is looked at in any case");
        index.forget(lsn(300));
        assert_eq!(index.stretches(id(500), Lsn::FIRST, None), [(lsn(256), lsn(512)), (lsn(768), lsn(1024))]);
    }

    #[test]
    fn what_was_given_up_is_known_by_its_time_and_what_was_carried_by_its_last_place() {
        let mut index = Index::default();
        let was = |index: &Index, from, to| index.was_given_up(Timestamp(from), Timestamp(to));
        assert!(index.is_whole() && !was(&index, 0, u64::MAX));
        index.note(Timestamp(100), lsn(1));
        index.note_given_up(Timestamp(200));
        index.note(Timestamp(300), lsn(2));
        index.note_given_up(Timestamp(400));
        assert!(!index.is_whole());
        let told = [(50, 99), (50, 100), (120, 130), (200, 300), (201, 299), (201, 300), (401, 500)];
        assert_eq!(
            told.map(|(from, to)| was(&index, from, to)),
            [false, true, true, true, false, true, false]
        );

        index.note_carried(id(7), lsn(3));
        index.note_carried(id(7), lsn(9));
        assert_eq!((index.carried(id(7)), index.carried(id(8))), (Some(lsn(9)), None));
        index.forget(lsn(9));
        assert_eq!(index.carried(id(7)), Some(lsn(9)));
        index.forget(lsn(10));
        assert_eq!(index.carried(id(7)), None);
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
    fn a_transaction_is_looked_for_only_where_its_like_begin() {
        let mut index = Index::default();
        (1..=10_000).for_each(|number| index.note_begun(id(number), lsn(number)));
        assert_eq!(index.stretches(id(1000), Lsn::FIRST, None), [(lsn(768), lsn(1024))]);
        assert_eq!(index.stretches(id(20_000), Lsn::FIRST, None), []);
        index.forget(lsn(5_000));
        assert_eq!(index.stretches(id(1000), Lsn::FIRST, None), []);
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
