//! Evidence made by hand: what is true passes, and each way of being false is seen.

use std::collections::HashMap;

use super::super::super::bank::{Posting, Sum};
use super::super::clients::Told;
use super::super::log::Log;
use super::super::plan::BANKS;
use super::*;

const ID: Uuid = Uuid::from_u128(7);

/// One transfer of 10 from north to the others, committed everywhere, of which all tell the truth.
struct Case {
    log: Log,
    transfer: Transfer,
    told: Told,
    after: [Sum; 3],
    outcomes: [Option<Outcome>; 3],
    today: &'static str,
}

impl Case {
    fn committed() -> Self {
        let mut log = Log::default();
        log.read(&lines(&[
            r#""record":"begun","idempotency_key":"k""#,
            r#""record":"decided","decision":"commit""#,
            r#""record":"ended","outcome":"committed""#,
        ]));
        let posting = |amount| Posting { account: 0, amount };
        Self {
            log,
            transfer: Transfer {
                key: "k".to_owned(),
                postings: [-10, 4, 6].map(posting),
                asked_again: false,
            },
            told: Told { transaction: ID, decision: Decision::Commit, pending: false },
            after: [90, 104, 106].map(sum),
            outcomes: [Some(Outcome::Committed); 3],
            today: "committed",
        }
    }

    fn aborted() -> Self {
        let mut log = Log::default();
        log.read(&lines(&[
            r#""record":"begun","idempotency_key":"k""#,
            r#""record":"decided","decision":"abort""#,
            r#""record":"ended","outcome":"aborted""#,
        ]));
        Self {
            log,
            told: Told { decision: Decision::Abort, ..Self::committed().told },
            after: [100; 3].map(sum),
            outcomes: [Some(Outcome::Aborted), None, Some(Outcome::Aborted)],
            today: "aborted",
            ..Self::committed()
        }
    }

    fn prove(&self) -> Proof {
        let banks =
            BANKS.iter().zip(self.after).zip(self.outcomes).map(|((name, after), outcome)| BankEvidence {
                name,
                before: sum(100),
                after,
                outcomes: outcome.map(|outcome| (ID, outcome)).into_iter().collect(),
            });
        let memory = Memory { told: vec![self.told], transactions: [ID].into(), asked: 3, odd: Vec::new() };
        prove(&Evidence {
            banks: banks.collect(),
            log: &self.log,
            outcomes: HashMap::from([(ID, self.today.to_owned())]),
            memories: vec![(self.transfer.clone(), memory)],
        })
    }

    fn has_problem(&self, words: &str) -> bool {
        let problems = self.prove().problems;
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words:?} is not in {problems:#?}");
        true
    }
}

fn sum(balance: i64) -> Sum {
    Sum { balance, held: 0 }
}

fn lines(records: &[&str]) -> String {
    let head = format!("\"time\":\"2026-11-23T10:15:00.250Z\",\"transaction\":\"{ID}\"");
    let lines = (1..).zip(records).map(|(lsn, record)| format!("{{\"lsn\":{lsn},{head},{record}}}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn where_all_say_the_same_there_is_no_problem() {
    let proof = Case::committed().prove();
    assert_eq!(proof.problems, [""; 0]);
    assert_eq!((proof.committed, proof.aborted, proof.told_committed), (1, 0, (1, 0)));
    assert_eq!((proof.totals(), proof.asked_again, proof.records), ((300, 300), 2, 3));
    assert_eq!(Case::aborted().prove().problems, [""; 0]);
}

#[test]
fn money_that_is_made_lost_misplaced_or_held_for_ever_is_seen() {
    assert!(Case { after: [90, 104, 107].map(sum), ..Case::committed() }.has_problem("in all banks"));
    assert!(Case { after: [90, 105, 105].map(sum), ..Case::committed() }.has_problem("add up to"));
    let held = Sum { balance: 90, held: 3 };
    assert!(Case { after: [held, sum(104), sum(106)], ..Case::committed() }.has_problem("still holds 3"));
}

#[test]
fn a_client_that_was_told_the_other_outcome_was_lied_to() {
    let told = Case::aborted().told;
    assert!(Case { told, ..Case::committed() }.has_problem("was told Abort"));
    let told = Case::committed().told;
    assert!(Case { told, ..Case::aborted() }.has_problem("was told Commit"));
    assert!(Case { today: "undecided", ..Case::committed() }.has_problem("the gateway says undecided"));
}

#[test]
fn a_bank_that_did_something_else_is_seen() {
    let (done, not) = (Some(Outcome::Committed), Some(Outcome::Aborted));
    for outcomes in [[done, done, not], [done, None, done], [done, done, Some(Outcome::Pending)]] {
        assert!(Case { outcomes, ..Case::committed() }.has_problem("at the banks"));
    }
    assert!(Case { outcomes: [None, None, done], ..Case::aborted() }.has_problem("at the banks"));
}

#[test]
fn a_second_transaction_under_a_key_and_one_that_never_ended_are_seen() {
    let mut case = Case::committed();
    let other = lines(&[r#""record":"begun","idempotency_key":"k""#]);
    case.log.read(&other.replace(&ID.to_string(), &Uuid::from_u128(8).to_string()).replace(":1,", ":4,"));
    assert!(case.has_problem("began two transactions") && case.has_problem("still in doubt"));
}
