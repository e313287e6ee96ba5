//! What a bank knows, as a value: accounts, money on hold, and what became of every branch it was called for.
//!
//! [`Book::decide`] says what an operation leads to, [`Book::apply`] does it. A live call uses both; a restart
//! only applies what the journal holds.
//!
//! ```text
//!            work, enough money        prepare           commit
//! (unknown) ───────────────────► held ────────► prepared ─────► committed
//!    │ work, not enough           └─────commit─────────────────────▲
//!    ├────────────► refused ─┐    held, prepared: abort
//!    └───────────────────────┴──abort──────────────────────────► aborted
//! ```

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Money for one account; negative takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Number of the account, from 0.
    pub account: usize,
    /// How much, in the smallest unit.
    pub amount: i64,
}

/// One branch of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct BranchKey {
    pub(super) transaction: Uuid,
    pub(super) branch: u32,
}

/// What a bank can be asked to do for a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Work(Posting),
    Prepare,
    Commit,
    Abort,
}

/// Something the bank did, as a line of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) of: BranchKey,
    pub(super) did: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deed {
    /// The posting is possible, and what it takes away is held for it.
    Held(Posting),
    /// The posting is not possible.
    Refused,
    /// Promised.
    Prepared,
    /// Posted.
    Committed,
    /// Let go; work that comes now comes too late.
    Aborted,
}

/// What an operation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something is to be done and written down.
    Do(Deed),
    /// It was done before; say so again.
    Repeat,
    /// It cannot be, for this reason.
    Refuse(&'static str),
}

/// What a bank believes became of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its money is posted.
    Committed,
    /// Nothing came of it, and nothing ever will.
    Aborted,
    /// Its money is held until the coordinator says more.
    Pending,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) balance: i64,
    pub(super) held: i64,
}

#[derive(Debug)]
pub(super) struct Book {
    accounts: Vec<Account>,
    branches: HashMap<BranchKey, Known>,
}

/// How far a branch has come.
#[derive(Debug, Clone, Copy)]
enum Known {
    Held(Posting),
    Refused,
    Prepared(Posting),
    Committed,
    Aborted,
}

impl Book {
    pub(super) fn new(accounts: usize, balance: i64) -> Self {
        Self { accounts: vec![Account { balance, held: 0 }; accounts], branches: HashMap::new() }
    }

    pub(super) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Every branch this bank has heard of.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (BranchKey, Outcome)> {
        self.branches.iter().map(|(of, known)| {
            let outcome = match known {
                Known::Held(_) | Known::Prepared(_) => Outcome::Pending,
                Known::Committed => Outcome::Committed,
                Known::Refused | Known::Aborted => Outcome::Aborted,
            };
            (*of, outcome)
        })
    }

    /// What `operation` leads to now; changes nothing.
    pub(super) fn decide(&self, of: BranchKey, operation: Operation) -> Verdict {
        use Verdict::{Do, Refuse, Repeat};
        let known = self.branches.get(&of);
        match operation {
            Operation::Work(posting) => match known {
                None if self.possible(posting) => Do(Deed::Held(posting)),
                None => Do(Deed::Refused),
                Some(Known::Held(_) | Known::Prepared(_) | Known::Committed) => Repeat,
                Some(Known::Refused) => Refuse(NO_MONEY),
                Some(Known::Aborted) => Refuse("the abort of this transaction was here before its work"),
            },
            Operation::Prepare => match known {
                Some(Known::Held(_)) => Do(Deed::Prepared),
                Some(Known::Prepared(_) | Known::Committed) => Repeat,
                None | Some(Known::Refused | Known::Aborted) => Refuse("nothing is held for this"),
            },
            Operation::Commit => match known {
                Some(Known::Held(_) | Known::Prepared(_)) => Do(Deed::Committed),
                Some(Known::Committed) => Repeat,
                None | Some(Known::Refused | Known::Aborted) => Refuse("nothing is held for this"),
            },
            Operation::Abort => match known {
                None | Some(Known::Held(_) | Known::Prepared(_) | Known::Refused) => Do(Deed::Aborted),
                Some(Known::Aborted) => Repeat,
                Some(Known::Committed) => Refuse("this is committed"),
            },
        }
    }

    /// Does what [`Book::decide`] led to; `None` where it cannot follow from what the book holds.
    pub(super) fn apply(&mut self, entry: Entry) -> Option<()> {
        let before = self.branches.get(&entry.of).copied();
        let after = match (entry.did, before) {
            (Deed::Held(posting), None) => {
                self.account(posting)?.held += debit(posting);
                Known::Held(posting)
            }
            (Deed::Refused, None) => Known::Refused,
            (Deed::Prepared, Some(Known::Held(posting))) => Known::Prepared(posting),
            (Deed::Committed, Some(Known::Held(posting) | Known::Prepared(posting))) => {
                let account = self.account(posting)?;
                account.held -= debit(posting);
                account.balance += posting.amount;
                Known::Committed
            }
            (Deed::Aborted, Some(Known::Held(posting) | Known::Prepared(posting))) => {
                self.account(posting)?.held -= debit(posting);
                Known::Aborted
            }
            (Deed::Aborted, None | Some(Known::Refused)) => Known::Aborted,
            (Deed::Held(_) | Deed::Refused | Deed::Prepared | Deed::Committed | Deed::Aborted, _) => {
                return None;
            }
        };
        self.branches.insert(entry.of, after);
        Some(())
    }

    fn possible(&self, posting: Posting) -> bool {
        let account = self.accounts.get(posting.account);
        account.is_some_and(|account| account.balance - account.held >= debit(posting))
    }

    fn account(&mut self, posting: Posting) -> Option<&mut Account> {
        self.accounts.get_mut(posting.account)
    }
}

/// Why work is refused at first and ever after.
pub(super) const NO_MONEY: &str = "the money is not there";

/// What a posting takes away: nothing where it brings money.
fn debit(posting: Posting) -> i64 {
    posting.amount.saturating_neg().max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: BranchKey = BranchKey { transaction: Uuid::from_u128(7), branch: 0 };
    const PAY: Operation = Operation::Work(Posting { account: 0, amount: -60 });

    /// Decides and applies, as a live call does; true where the answer is a 2xx.
    fn call(book: &mut Book, of: BranchKey, operation: Operation) -> bool {
        match book.decide(of, operation) {
            Verdict::Do(did) => {
                book.apply(Entry { of, did }).unwrap();
                did != Deed::Refused
            }
            Verdict::Repeat => true,
            Verdict::Refuse(_) => false,
        }
    }

    fn money(book: &Book) -> (i64, i64) {
        (book.accounts[0].balance, book.accounts[0].held)
    }

    #[test]
    fn money_is_held_by_work_and_gone_by_commit_however_often_each_is_called() {
        let mut book = Book::new(1, 100);
        for (operation, after) in
            [(PAY, (100, 60)), (Operation::Prepare, (100, 60)), (Operation::Commit, (40, 0)), (PAY, (40, 0))]
        {
            assert!(call(&mut book, OF, operation) && call(&mut book, OF, operation), "{operation:?}");
            assert_eq!(money(&book), after, "{operation:?}");
        }
    }

    #[test]
    fn money_that_is_held_cannot_be_held_again() {
        let mut book = Book::new(1, 100);
        assert!(call(&mut book, OF, PAY));
        assert!(!call(&mut book, BranchKey { branch: 1, ..OF }, PAY));
    }

    #[test]
    fn a_refusal_stays_one_when_the_money_has_come_meanwhile() {
        let mut book = Book::new(1, 50);
        assert!(!call(&mut book, OF, PAY));
        let paid_in = BranchKey { branch: 1, ..OF };
        assert!(call(&mut book, paid_in, Operation::Work(Posting { account: 0, amount: 100 })));
        assert!(call(&mut book, paid_in, Operation::Commit));
        assert!(!call(&mut book, OF, PAY), "a repeat has the effect of one call");
    }

    #[test]
    fn an_abort_lets_go_and_late_work_is_refused() {
        let mut book = Book::new(1, 100);
        assert!(call(&mut book, OF, Operation::Abort), "there is nothing to abort, and that is fine");
        assert!(!call(&mut book, OF, PAY));
        let other = BranchKey { branch: 1, ..OF };
        assert!(call(&mut book, other, PAY) && call(&mut book, other, Operation::Abort));
        assert_eq!(money(&book), (100, 0));
    }

    #[test]
    fn a_decision_is_never_turned_round() {
        let mut book = Book::new(1, 100);
        assert!(!call(&mut book, OF, Operation::Commit), "nothing is held");
        assert!(call(&mut book, OF, PAY) && call(&mut book, OF, Operation::Commit));
        assert!(!call(&mut book, OF, Operation::Abort));
        let other = BranchKey { branch: 1, ..OF };
        assert!(call(&mut book, other, Operation::Abort) && !call(&mut book, other, Operation::Commit));
    }
}
