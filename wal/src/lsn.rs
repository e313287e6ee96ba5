//! The number of a record in the log.

use std::fmt;

/// The number of a record: the first is 1, the next one more, with no gap.
///
/// A number is never given twice, also not after a restart. (The one exception is a start with
/// [`Options::accept_damage`](crate::Options::accept_damage), which says so in its log.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The number of the first record that a log ever holds.
    pub const FIRST: Self = Self(1);

    /// The number `value`, or `None` for 0, which no record has.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value == 0 { None } else { Some(Self(value)) }
    }

    /// The number as an integer, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the record that follows.
    ///
    /// Saturates: at a million records a second the end is half a million years away.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The number `count` records later.
    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The number of the record before, or `None` for the first.
    pub(crate) const fn before(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_record() {
        assert_eq!(Lsn::new(0), None);
        assert_eq!(Lsn::new(1), Some(Lsn::FIRST));
    }

    #[test]
    fn numbers_follow_each_other_and_print_plainly() {
        assert_eq!(Lsn::FIRST.next().get(), 2);
        assert_eq!(Lsn::FIRST.before(), None);
        assert_eq!(Lsn::FIRST.next().to_string(), "2");
    }
}
