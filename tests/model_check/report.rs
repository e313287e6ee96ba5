//! Runs checks, says how many states each has, and shows the shortest way to what is wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};
use tokio::time::Instant;
use unanimous::journal::options::Sync;
use unanimous::txn::Branches;

use super::check::Check;
use super::promises::{SOMETIMES, promises};

/// What came of one check.
pub struct Result {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    pub took: Duration,
    /// Promises that some state breaks.
    pub broken: BTreeSet<&'static str>,
    /// What happens in some state.
    pub happens: BTreeSet<&'static str>,
}

/// Visits every state of one model.
pub fn run(check: &Check) -> Result {
    let began = Instant::now();
    let checker = check.clone().checker().spawn_dfs().join();
    let found = checker.discoveries();
    Result {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        broken: promises().filter(|name| found.contains_key(name)).collect(),
        happens: SOMETIMES.iter().map(|(name, _)| *name).filter(|name| found.contains_key(name)).collect(),
    }
}

/// What came of several checks.
#[derive(Default)]
pub struct Sum {
    checks: usize,
    states: usize,
    took: Duration,
    /// What happens in some state of some check.
    pub happens: BTreeSet<&'static str>,
}

/// Visits every state, and says how a promise is broken if one is.
pub fn survive(check: &Check) -> Result {
    let result = run(check);
    println!("{result}  {check}");
    for promise in &result.broken {
        println!("{check}: \"{promise}\" is broken\n{}", way_to(check, promise));
    }
    assert!(result.broken.is_empty(), "{check}: {:?}", result.broken);
    result
}

/// A short way to a state in which `promise` is broken, for people.
fn way_to(check: &Check, promise: &'static str) -> String {
    let only = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = check.clone().checker().finish_when(only).spawn_bfs().join();
    let Some(path) = checker.discovery(promise) else { return "it is not found again".to_owned() };
    let last = format!("{:?}", path.last_state());
    let steps = path.into_actions().into_iter().map(|action| format!("  {action:?}"));
    steps.chain([last]).collect::<Vec<_>>().join("\n")
}

impl FromIterator<Result> for Sum {
    fn from_iter<I: IntoIterator<Item = Result>>(results: I) -> Self {
        let mut sum = Self::default();
        for Result { states, took, happens, .. } in results {
            sum.checks += 1;
            sum.states += states;
            sum.took += took;
            sum.happens.extend(happens);
        }
        sum
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checks, states, took, .. } = self;
        write!(f, "{checks} checks, {states} states, {:.1} s", took.as_secs_f64())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sync = match self.sync {
            Sync::EveryTransition => "every-transition",
            Sync::Decisions => "decisions",
        };
        let key = if self.has_key() { ", a key" } else { "" };
        let count = self.shape.branches.count();
        write!(f, "{count} branches, prepare {:?}, {sync}{key}", self.shape.prepare)
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, took, .. } = self;
        write!(f, "{states:>9} states {steps:>10} steps, {depth:>3} deep, {:>6.1} s", took.as_secs_f64())
    }
}

/// Every kind of log.
const LOGS: [(Sync, bool); 3] =
    [(Sync::EveryTransition, false), (Sync::Decisions, false), (Sync::Decisions, true)];

/// One check for each log, with `count` branches of which each of these sets is asked to prepare.
///
/// A key makes no difference where every transition is waited for.
pub fn checks(count: usize, prepare: impl IntoIterator<Item = Branches>) -> Vec<Check> {
    let checks = prepare
        .into_iter()
        .flat_map(|prepare| LOGS.map(|(sync, has_key)| Check::new(count, prepare, sync, has_key)));
    checks.collect()
}

/// Sets of the first branches, from none to `count`: where branches are interchangeable, every choice there is.
pub fn every_number_of(count: usize) -> impl Iterator<Item = Branches> {
    (0..=count).map(|prepare| Branches::first_of(prepare).expect("a model has few branches"))
}

/// Every choice of some of `count` branches.
pub fn every_choice_of(count: usize) -> impl Iterator<Item = Branches> {
    let all = Branches::first_of(count).expect("a model has few branches");
    (0..1_u32 << count)
        .map(move |choice| all.iter().filter(|branch| choice >> branch.index() & 1 == 1).collect())
}

/// All of one branch, and of two branches each choice and each log, but not each with each.
pub fn short_form() -> Vec<Check> {
    let mut all = checks(1, every_number_of(1));
    let two = LOGS.into_iter().zip(every_number_of(2));
    all.extend(two.map(|((sync, has_key), prepare)| Check::new(2, prepare, sync, has_key)));
    all
}
