//! What a run has shown, in words: how much was done to it, how long it took to recover, and whether the promise was kept.

use std::fmt::{self, Display};
use std::time::Duration;

use unanimous::cli::demo::harness::{Crash, Partition, Report, Stage};

use crate::attack::proxy::Tally;

/// So many problems are printed; the rest are counted.
const PROBLEMS: usize = 30;

/// From so many kills on, some must have hit a transaction, or the run has shown nothing.
const KILLS_THAT_SHOW: usize = 20;

/// A report beside what the network did.
#[derive(Debug)]
pub struct Verdict<'a> {
    pub report: &'a Report,
    pub tally: Tally,
}

impl Verdict<'_> {
    /// How often the gateway was killed.
    pub fn kills(&self) -> usize {
        self.report.crashes.iter().map(|crash| crash.kills).sum()
    }

    /// How many transactions the kills left in doubt.
    pub fn in_doubt(&self) -> usize {
        self.report.crashes.iter().map(|crash| crash.in_doubt.len()).sum()
    }

    /// All that is wrong. Empty: every promise was kept, and the run has shown that.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.report.proof.problems.clone();
        if self.kills() >= KILLS_THAT_SHOW && self.in_doubt() == 0 {
            problems.push("the kills fell between transactions and have shown nothing".to_owned());
        }
        problems
    }

    fn at_stage(&self, stage: Stage) -> usize {
        self.report.crashes.iter().map(|crash| crash.at_stage(stage)).sum()
    }

    fn faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = self.tally;
        writeln!(
            f,
            "killed        the gateway {} times, banks {} times",
            self.kills(),
            self.report.bank_kills
        )?;
        if tally != Tally::default() {
            writeln!(
                f,
                "network       {} requests passed, {} met a fault: {} lost, {} late, {} hung, {} answers lost, {} torn",
                tally.passed,
                tally.bad(),
                tally.requests_lost,
                tally.late,
                tally.hung,
                tally.answers_lost,
                tally.torn
            )?;
        }
        let stages = [Stage::Working, Stage::Preparing, Stage::Committing, Stage::Aborting];
        let [working, preparing, committing, aborting] = stages.map(|stage| self.at_stage(stage));
        writeln!(
            f,
            "in doubt      {} transactions at the kills: {working} working, {preparing} preparing, \
             {committing} to commit, {aborting} to abort",
            self.in_doubt()
        )
    }

    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { crashes, partitions, .. } = self.report;
        if !crashes.is_empty() {
            let ready = spread(crashes.iter().map(|crash| crash.ready_after));
            let ended = spread(crashes.iter().filter_map(ended));
            writeln!(f, "recovery      ready again after {ready}; all in doubt had ended after {ended}")?;
        }
        if !partitions.is_empty() {
            let waited: usize = partitions.iter().map(|partition| partition.in_doubt).sum();
            let lasted: Duration = partitions.iter().map(|partition| partition.lasted).sum();
            let ended = spread(partitions.iter().filter_map(ended_behind));
            writeln!(
                f,
                "partitions    {}, together {lasted:.1?}; {waited} transactions waited behind them, \
                 all ended after {ended}",
                partitions.len()
            )?;
        }
        Ok(())
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (proof, (before, after)) = (&self.report.proof, self.report.proof.totals());
        let (committed, pending) = proof.told_committed;
        writeln!(f, "transactions  {} committed, {} aborted", proof.committed, proof.aborted)?;
        writeln!(
            f,
            "clients       were told \"committed\" {committed} times ({pending} with confirmations to come), \
             \"aborted\" {} times",
            proof.told_aborted
        )?;
        writeln!(f, "keys          sent again {} times", proof.asked_again)?;
        if self.report.others > 0 {
            writeln!(f, "others        {} requests answered", self.report.others)?;
        }
        writeln!(f, "log           {} records", proof.records)?;
        writeln!(f, "money         {before} before, {after} after")?;
        writeln!(f, "time          {:.1} s", self.report.took.as_secs_f64())
    }
}

impl Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults(f)?;
        self.times(f)?;
        self.figures(f)?;
        let problems = self.problems();
        if problems.is_empty() {
            return writeln!(
                f,
                "\nNo money was made or lost, what was told is real, and nothing is in doubt."
            );
        }
        writeln!(f, "\nTHE PROMISE WAS BROKEN: {} problems", problems.len())?;
        for problem in problems.iter().take(PROBLEMS) {
            writeln!(f, "  {problem}")?;
        }
        let rest = problems.len().saturating_sub(PROBLEMS);
        if rest > 0 { writeln!(f, "  and {rest} more") } else { Ok(()) }
    }
}

/// An error and everything behind it.
pub fn sentences(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Only of a kill that left something in doubt.
fn ended(crash: &Crash) -> Option<Duration> {
    if crash.in_doubt.is_empty() { None } else { crash.ended_after }
}

fn ended_behind(partition: &Partition) -> Option<Duration> {
    (partition.in_doubt > 0).then_some(partition.ended_after)
}

/// The middle one and the longest.
fn spread(spans: impl Iterator<Item = Duration>) -> String {
    let mut spans: Vec<Duration> = spans.collect();
    spans.sort_unstable();
    match (spans.get(spans.len() / 2), spans.last()) {
        (Some(middle), Some(longest)) => {
            format!("p50 {} ms, max {} ms", middle.as_millis(), longest.as_millis())
        }
        _ => "no time".to_owned(),
    }
}
