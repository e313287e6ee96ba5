//! The proof: what the clients were told, what the log holds and what the banks did is one and the same.
//!
//! Pure arithmetic over [`Evidence`]; each check is one function that gives the problems it finds.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::super::bank::Outcome;
use super::clients::Memory;
use super::evidence::{BankEvidence, Evidence};
use super::log::Decision;
use super::plan::Transfer;

/// What the evidence comes to.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// The money of each bank.
    pub banks: Vec<BankSums>,
    /// Transactions that the log shows as committed.
    pub committed: usize,
    /// Transactions that the log shows as aborted.
    pub aborted: usize,
    /// Answers that said "committed", and how many of them said that confirmations were still to come.
    pub told_committed: (usize, usize),
    /// Answers that said "aborted".
    pub told_aborted: usize,
    /// Requests that were sent again under a key that had been used.
    pub asked_again: usize,
    /// Records in the log.
    pub records: u64,
    /// All that is wrong, in sentences. Empty: the promise was kept.
    pub problems: Vec<String>,
}

/// The money of one bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankSums {
    /// Which bank.
    pub name: String,
    /// What was there at first.
    pub before: i64,
    /// What has to be there now by what the clients were told.
    pub expected: i64,
    /// What is there now.
    pub after: i64,
}

impl Proof {
    /// The money of all banks at first, and now.
    #[must_use]
    pub fn totals(&self) -> (i64, i64) {
        let sum = |of: fn(&BankSums) -> i64| self.banks.iter().map(of).sum();
        (sum(|bank| bank.before), sum(|bank| bank.after))
    }
}

pub(super) fn prove(evidence: &Evidence<'_>) -> Proof {
    let decided =
        |decision| evidence.log.stories().filter(|(_, story)| story.decision == Some(decision)).count();
    let told = || evidence.memories.iter().flat_map(|(_, memory)| &memory.told);
    let asked: usize = evidence.memories.iter().map(|(_, memory)| memory.asked.saturating_sub(1)).sum();
    let committed = told().filter(|told| told.decision == Decision::Commit);
    let mut proof = Proof {
        banks: (0..).zip(&evidence.banks).map(|(branch, bank)| sums(evidence, branch, bank)).collect(),
        committed: decided(Decision::Commit),
        aborted: decided(Decision::Abort),
        told_committed: (committed.clone().count(), committed.filter(|told| told.pending).count()),
        told_aborted: told().filter(|told| told.decision == Decision::Abort).count(),
        asked_again: asked,
        records: evidence.log.next() - 1,
        problems: evidence.log.problems.clone(),
    };
    proof.problems.extend(money_made_or_lost(&proof, evidence));
    proof
        .problems
        .extend(evidence.memories.iter().flat_map(|(transfer, memory)| lies(evidence, transfer, memory)));
    proof.problems.extend(unfinished(evidence));
    proof.problems.extend(split(evidence));
    proof
}

/// What a bank has, and what it has to have after the transfers whose clients were told "committed".
fn sums(evidence: &Evidence<'_>, branch: usize, bank: &BankEvidence) -> BankSums {
    let committed = evidence
        .memories
        .iter()
        .filter(|(_, memory)| memory.told.first().is_some_and(|told| told.decision == Decision::Commit));
    let moved =
        committed.filter_map(|(transfer, _)| transfer.postings.get(branch)).map(|posting| posting.amount);
    BankSums {
        name: bank.name.to_owned(),
        before: bank.before.balance,
        expected: bank.before.balance + moved.sum::<i64>(),
        after: bank.after.balance,
    }
}

fn money_made_or_lost(proof: &Proof, evidence: &Evidence<'_>) -> Vec<String> {
    let (before, after) = proof.totals();
    let total =
        (before != after).then(|| format!("there were {before} in all banks, and now there are {after}"));
    let wrong = proof.banks.iter().filter(|bank| bank.after != bank.expected).map(|bank| {
        format!(
            "bank {} has {} where its clients' answers add up to {}",
            bank.name, bank.after, bank.expected
        )
    });
    let held = evidence.banks.iter().filter(|bank| bank.after.held != 0).map(|bank| {
        format!("bank {} still holds {} for transactions that have ended", bank.name, bank.after.held)
    });
    total.into_iter().chain(wrong).chain(held).collect()
}

/// What one client was told, against the log, the banks, and what the gateway says today.
fn lies(evidence: &Evidence<'_>, transfer: &Transfer, memory: &Memory) -> Vec<String> {
    let key = &transfer.key;
    let mut problems: Vec<String> =
        memory.odd.iter().map(|odd| format!("{key} was answered oddly: {odd}")).collect();
    if memory.transactions.len() > 1 {
        problems.push(format!("{key} was given several transactions: {:?}", memory.transactions));
    }
    if memory.told.is_empty() {
        problems.push(format!("{key} was never told an outcome"));
    }
    for told in &memory.told {
        let id = told.transaction;
        let mut differs = |who: &str, says: &str| {
            problems.push(format!("{key} was told {:?} of {id}, but {who} says {says}", told.decision));
        };
        let logged = evidence.log.story(id).and_then(|story| story.decision);
        if logged != Some(told.decision) {
            differs("the log", &format!("{logged:?}"));
        }
        if evidence.log.begun_under(key) != Some(id) {
            differs("the log", &format!("the key began {:?}", evidence.log.begun_under(key)));
        }
        if let Some(today) = evidence.outcomes.get(&id).filter(|today| *today != word(told.decision)) {
            differs("the gateway", today);
        }
        for bank in evidence.banks.iter().filter(|bank| !agrees(bank, id, told.decision)) {
            differs(&format!("bank {}", bank.name), &format!("{:?}", bank.outcomes.get(&id)));
        }
    }
    problems
}

fn unfinished(evidence: &Evidence<'_>) -> Vec<String> {
    let open = evidence
        .log
        .in_doubt()
        .into_iter()
        .map(|doubt| format!("{} is still in doubt in the log: {:?}", doubt.transaction, doubt.stage));
    let parked =
        evidence.log.stories().filter(|(_, story)| story.parked).map(|(id, _)| format!("{id} was parked"));
    open.chain(parked).collect()
}

/// Every transaction that any bank or the log has heard of has the same outcome everywhere.
fn split(evidence: &Evidence<'_>) -> Vec<String> {
    let at_banks = evidence.banks.iter().flat_map(|bank| bank.outcomes.keys().copied());
    let all: BTreeSet<Uuid> = evidence.log.stories().map(|(id, _)| id).chain(at_banks).collect();
    let problem = |id: Uuid| {
        let decision = evidence.log.story(id).and_then(|story| story.decision);
        let says = |bank: &BankEvidence| format!("{}: {:?}", bank.name, bank.outcomes.get(&id));
        let agreed =
            decision.is_some_and(|decision| evidence.banks.iter().all(|bank| agrees(bank, id, decision)));
        let banks: Vec<String> = evidence.banks.iter().map(says).collect();
        (!agreed).then(|| format!("{id} is {decision:?} in the log and {} at the banks", banks.join(", ")))
    };
    all.into_iter().filter_map(problem).collect()
}

/// A bank that never heard of an aborted transaction agrees with the abort.
fn agrees(bank: &BankEvidence, id: Uuid, decision: Decision) -> bool {
    match decision {
        Decision::Commit => bank.outcomes.get(&id) == Some(&Outcome::Committed),
        Decision::Abort => matches!(bank.outcomes.get(&id), None | Some(Outcome::Aborted)),
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Commit => "committed",
        Decision::Abort => "aborted",
    }
}

#[cfg(test)]
mod tests {
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
            let banks = BANKS.iter().zip(self.after).zip(self.outcomes).map(|((name, after), outcome)| {
                BankEvidence {
                    name,
                    before: sum(100),
                    after,
                    outcomes: outcome.map(|outcome| (ID, outcome)).into_iter().collect(),
                }
            });
            let memory =
                Memory { told: vec![self.told], transactions: [ID].into(), asked: 3, odd: Vec::new() };
            prove(&Evidence {
                banks: banks.collect(),
                log: &self.log,
                outcomes: HashMap::from([(ID, self.today.to_owned())]),
                memories: vec![(&self.transfer, memory)],
            })
        }

        fn has_problem(&self, words: &str) -> bool {
            let problems = self.prove().problems;
            assert!(
                problems.iter().any(|problem| problem.contains(words)),
                "{words:?} is not in {problems:#?}"
            );
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
}
