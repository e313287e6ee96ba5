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
mod tests;
