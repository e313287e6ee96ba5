//! A model check of the real machine and the real rules of the log: every state there is, not a sample of them.
//!
//! ```text
//!  Txn::on ─► Record ─► Sync::waits_for ─► disk ─► Replay ─► Txn::owed     the real ones
//!     ▲                                      │ a crash takes any of what was not synced
//!  events ◄── wire ◄──► services             └──► promises                 the model
//!             loses, delays, repeats, reorders
//! ```
//!
//! One transaction, its branches, any number of crashes. It visits every state: of one branch and a part of two here; in the long
//! form of one, two and three, for every choice of branches that are asked to prepare and for every way to sync. Not in it: threads,
//! time other than "the deadline has passed", damage, more than one transaction (`docs/decisions/0011-every-state-with-stateright.md`).
//!
//! ```text
//! UNANIMOUS_MODEL=long cargo test --release --test model_check -- --nocapture --test-threads 1
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`world`] | one state |
//! | [`check`] | the steps |
//! | [`node`], [`disk`], [`branch`] | what they do to the node, the log, and a branch |
//! | [`promises`], [`ending`] | what must hold in every state |
//! | [`essence`], [`exact`] | which states count as one, and proof that they may |
//! | [`bugs`] | deliberate bugs, which the promises must notice |
//! | [`report`] | running, counting, printing |

#![allow(unreachable_pub, reason = "the parts of the model are modules of this test alone")]
#![allow(clippy::panic, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "what was found is printed")]

#[path = "model_check/branch.rs"]
mod branch;
#[path = "model_check/bugs.rs"]
mod bugs;
#[path = "model_check/check.rs"]
mod check;
#[path = "model_check/disk.rs"]
mod disk;
#[path = "model_check/ending.rs"]
mod ending;
#[path = "model_check/essence.rs"]
mod essence;
#[path = "model_check/exact.rs"]
mod exact;
#[path = "model_check/node.rs"]
mod node;
#[path = "model_check/promises.rs"]
mod promises;
#[path = "model_check/report.rs"]
mod report;
#[path = "model_check/world.rs"]
mod world;

use std::collections::BTreeSet;

use promises::SOMETIMES;
use report::{Sum, checks, every_choice_of, every_number_of, run, short_form, survive};

#[test]
fn every_promise_holds_in_every_state_short_or_long_form() {
    let checks = if is_long_form() {
        (1..=3).flat_map(|count| checks(count, every_number_of(count))).collect()
    } else {
        short_form()
    };
    let sum: Sum = checks.iter().map(survive).collect();
    println!("{sum}");
    let missing: Vec<_> = SOMETIMES.iter().filter(|(name, _)| !sum.happens.contains(name)).collect();
    assert!(missing.is_empty(), "the model does not reach {missing:?} any more");
}

#[test]
fn what_counts_as_one_has_the_same_promises_and_the_same_future() {
    let all = |count| checks(count, every_choice_of(count));
    for check in if is_long_form() { [all(1), all(2)].concat() } else { all(1) } {
        let visited = exact::visit(&check);
        println!("{:>9} states count as {:>7}  {check}", visited.states, visited.essences);
        assert_eq!(visited.essences, run(&check).states, "{check}");
    }
}

#[test]
fn every_deliberate_bug_breaks_the_promises_that_it_should_and_no_others() {
    let mut wrong = Vec::new();
    for case in &bugs::CASES {
        let (result, expected) = (run(&case.check()), case.breaks.iter().copied().collect::<BTreeSet<_>>());
        println!("{result}  {:?}: {:?}", case.bug, result.broken);
        if result.broken != expected {
            wrong.push(format!("{:?}: {:?} instead of {expected:?}", case.bug, result.broken));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let noticed: BTreeSet<_> = bugs::CASES.iter().flat_map(|case| case.breaks).copied().collect();
    assert_eq!(noticed, promises::promises().collect(), "some promise is broken by no bug");
}

fn is_long_form() -> bool {
    std::env::var("UNANIMOUS_MODEL").is_ok_and(|form| form == "long")
}
