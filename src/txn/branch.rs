//! Branches by number, and sets of them in one word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most branches one transaction may have: a set of them fits one word, and nobody has asked
/// for more.
pub const BRANCHES_MAX: usize = 64;

/// One participant's share of a transaction: its number in declared order, from 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Branch(u8);

/// A set of branches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Branches(u64);

/// A branch number over 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a transaction has at most 64 branches; there is no branch {0}")]
pub struct NoSuchBranch(pub usize);

impl Branch {
    /// The branch with this number.
    pub fn new(number: usize) -> Result<Self, NoSuchBranch> {
        match u8::try_from(number) {
            Ok(small) if number < BRANCHES_MAX => Ok(Self(small)),
            _ => Err(NoSuchBranch(number)),
        }
    }

    /// Its number, for indexing what is kept a branch.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl TryFrom<u8> for Branch {
    type Error = NoSuchBranch;

    fn try_from(number: u8) -> Result<Self, NoSuchBranch> {
        Self::new(usize::from(number))
    }
}

impl From<Branch> for u8 {
    fn from(branch: Branch) -> Self {
        branch.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Branches {
    /// No branch.
    pub const NONE: Self = Self(0);

    /// Branches 0 to `count - 1`.
    pub fn first_of(count: usize) -> Result<Self, NoSuchBranch> {
        match count {
            0 => Ok(Self::NONE),
            1..=BRANCHES_MAX => Ok(Self(u64::MAX >> (BRANCHES_MAX - count))),
            _ => Err(NoSuchBranch(count - 1)),
        }
    }

    /// Just this branch.
    #[must_use]
    pub fn only(branch: Branch) -> Self {
        Self(1 << branch.0)
    }

    /// Whether `branch` is in the set.
    #[must_use]
    pub fn has(self, branch: Branch) -> bool {
        self.0 & (1 << branch.0) != 0
    }

    /// This set and `branch`.
    #[must_use]
    pub fn with(self, branch: Branch) -> Self {
        Self(self.0 | (1 << branch.0))
    }

    /// This set without `branch`.
    #[must_use]
    pub fn without(self, branch: Branch) -> Self {
        Self(self.0 & !(1 << branch.0))
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        other.minus(self).is_empty()
    }

    /// Whether there is no branch in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many branches are in the set.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The branches in the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Branch> {
        (0..64).map(Branch).filter(move |branch| self.has(*branch))
    }

    /// The lowest branch in the set.
    #[must_use]
    pub fn lowest(self) -> Option<Branch> {
        self.iter().next()
    }
}

impl FromIterator<Branch> for Branches {
    fn from_iter<I: IntoIterator<Item = Branch>>(branches: I) -> Self {
        branches.into_iter().fold(Self::NONE, Self::with)
    }
}

/// `{0,2}`.
impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|branch| branch.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_may_have_64_branches_and_no_more() {
        assert_eq!(Branches::first_of(64).unwrap().count(), 64);
        assert_eq!(Branches::first_of(65), Err(NoSuchBranch(64)));
        assert_eq!(Branch::new(64), Err(NoSuchBranch(64)));
        assert!(Branches::first_of(64).unwrap().has(Branch::new(63).unwrap()));
        assert_eq!(Branches::first_of(64).unwrap().iter().count(), 64);
    }

    #[test]
    fn sets_behave_as_sets() {
        let all = Branches::first_of(3).unwrap();
        let one = Branch::new(1).unwrap();
        assert_eq!(format!("{:?}", all.without(one)), "{0, 2}");
        assert!(all.covers(Branches::only(one)));
        assert_eq!(all.minus(Branches::only(one)).with(one), all);
        assert_eq!(all.lowest(), Branch::new(0).ok());
        assert_eq!(Branches::NONE.lowest(), None);
        assert_eq!(Branches::first_of(0), Ok(Branches::NONE));
        let (low, high) = (Branches::first_of(2).unwrap(), all.without(Branch::new(0).unwrap()));
        assert_eq!((low.or(high), low.or(low), low.and(high)), (all, low, Branches::only(one)));
        assert_eq!(low.with(one), low);
    }
}
