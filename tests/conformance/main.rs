//! `unanimous conformance`: right participants break no rule, wrong ones just those that they are made to break, and
//! whatever a participant does the attack ends and says what it saw.
#![allow(unreachable_pub, reason = "the parts of this test are modules of one crate")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "most faults change one arm of one table")]

#[path = "../kit/mod.rs"]
mod kit;
mod run;
mod unkind;
mod wrong;

use futures_util::{StreamExt, stream};
use kit::Process;
use run::{Run, conformance};
use serde_json::json;
use unanimous::cli::conformance::rules::RULES;
use wrong::{Counter, Fault};

/// A process that is killed and started again by a command of the shell, as a user would write it.
struct Restartable {
    directory: tempfile::TempDir,
    url: String,
}

impl Restartable {
    /// `command` is the program with `PORT` and `DIR` in it.
    async fn start(command: &str) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), kit::free_port().to_string());
        let home = directory.path().display().to_string();
        let command = command.replace("PORT", &port).replace("DIR", &home);
        let script = format!(
            "[ -f {home}/pid ] && kill -9 $(cat {home}/pid)\n{command} >/dev/null 2>&1 &\necho $! >{home}/pid\n"
        );
        std::fs::write(directory.path().join("restart"), script).unwrap();
        let it = Self { directory, url: format!("http://127.0.0.1:{port}") };
        assert!(std::process::Command::new("sh").arg(it.script()).status().unwrap().success());
        let client = kit::client();
        kit::until("it listens", async || client.get(&it.url).send().await.is_ok()).await;
        it
    }

    fn script(&self) -> String {
        self.directory.path().join("restart").display().to_string()
    }

    fn restart(&self) -> String {
        format!("sh {}", self.script())
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        let script = format!("kill -9 $(cat {}/pid)", self.directory.path().display());
        let _ = std::process::Command::new("sh").args(["-c", &script]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_of_the_demo_breaks_no_rule() {
    let bank = env!("CARGO_BIN_EXE_unanimous").to_owned();
    let command = format!("{bank} demo-bank --name north --listen 127.0.0.1:PORT --data-dir DIR/bank");
    let bank = Restartable::start(&command).await;
    let run = conformance(&[
        &bank.url,
        "--work=/transfer",
        "--prepare=/tx/prepare",
        "--commit=/tx/commit",
        "--abort=/tx/abort",
        r#"--body={"account":0,"amount":-1}"#,
        r#"--refused-body={"account":0,"amount":-100000}"#,
        "--look=/sum",
        "--timeout=20s",
        "--restart-command",
        &bank.restart(),
    ])
    .await;
    run.keeps_every_rule();
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_py_breaks_no_rule() {
    if kit::missing("python3") {
        return;
    }
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bank.py");
    let bank = Restartable::start(&format!("python3 {examples} PORT DIR/bank.db")).await;
    let paths = [
        &bank.url,
        "--work=/debit",
        "--prepare=/tx/prepare",
        "--commit=/tx/commit",
        "--abort=/tx/abort",
        r#"--body={"account":"alice","amount":1}"#,
    ];
    let restart = bank.restart();
    let everything = [
        r#"--refused-body={"account":"alice","amount":1000}"#,
        "--look=/accounts",
        "--timeout=20s",
        "--restart-command",
        &restart,
    ];
    let run = conformance(&[&paths[..], &everything].concat()).await;
    run.keeps_every_rule();
    let doubt = "from before the restart is still open";
    assert!(!run.stderr().contains(doubt), "{}", run.stderr());
    // A command that kills nobody.
    let kills_nobody = ["--rule=promise-survives", "--restart-command=true"];
    let run = conformance(&[&paths[..], &kills_nobody].concat()).await;
    assert!(run.stderr().contains(doubt), "{}", run.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_two_systems_breaks_no_rule_that_can_be_judged() {
    let port = kit::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let address = format!("127.0.0.1:{port}");
    let _system = Process::start(&kit::example("two-systems"), &["system1", &address], &url).await;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/two-systems/unanimous.toml");
    let run = conformance(&[
        &url,
        "--config",
        config,
        "--route=transaction",
        "--branch=0",
        r#"--body={"order":17}"#,
        r#"--refused-body={"order":17,"refuse":"system1"}"#,
    ])
    .await;
    run.breaks(&[]);
    run.cannot_judge("prepare-again", "it is asked for no prepare");
    run.cannot_judge("promise-survives", "it is not restarted");
    let work = &run.rule("usual")["exchanges"][0]["request"];
    assert_eq!(work["body"], json!(r#"{"order":17}"#));
}

/// Each thing that can be wrong with a participant, and the rules that it breaks, in the order of the table.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::Nothing, &[]),
    (Fault::RefusesWorkAgain, &["work-again", "work-after-commit", "work-at-once", "work-survives-commit"]),
    (Fault::WorksAgain, &["work-again", "work-at-once"]),
    (Fault::LooksThenWorks, &["work-at-once", "abort-beside-work"]),
    (Fault::RefusesPrepareAgain, &["prepare-again", "prepare-at-once", "prepare-survives"]),
    (Fault::RefusesLatePrepare, &["prepare-after-commit"]),
    (
        Fault::RefusesCommitAgain,
        &["commit-again", "commit-at-once", "smaller-epoch", "promise-survives", "commit-survives"],
    ),
    (
        Fault::CommitsAgain,
        &[
            "commit-again",
            "work-after-commit",
            "commit-at-once",
            "smaller-epoch",
            "promise-survives",
            "commit-survives",
            "work-survives-commit",
        ],
    ),
    (Fault::LooksThenCommits, &["commit-at-once"]),
    (Fault::OneAtATime, &["work-at-once", "prepare-at-once", "commit-at-once", "abort-at-once"]),
    (
        Fault::RefusesAbortAgain,
        &["abort-again", "abort-at-once", "abort-after-late-work", "abort-of-what-survived"],
    ),
    (
        Fault::UndoesTooMuch,
        &["abort-again", "abort-at-once", "abort-after-late-work", "abort-of-what-survived"],
    ),
    (Fault::NeverAborts, &["abort", "abort-at-once", "two-transactions", "abort-of-what-survived"]),
    (
        Fault::ForgetsTheFinished,
        &[
            "commit-again",
            "work-after-commit",
            "prepare-after-commit",
            "commit-at-once",
            "abort-after-commit",
            "smaller-epoch",
            "promise-survives",
            "commit-survives",
            "work-survives-commit",
            "abort-survives-commit",
        ],
    ),
    (Fault::RefusesUnknownAbort, &["abort-before-work"]),
    (Fault::ForgetsUnknownAbort, &["late-work", "abort-survives"]),
    (Fault::RefusesAbortAfterLateWork, &["abort-after-late-work", "abort-of-what-survived"]),
    (Fault::ForgetsAborts, &["work-after-abort", "abort-of-what-survived", "work-survives-abort"]),
    (Fault::PreparesAnything, &["prepare-after-abort", "prepare-before-work"]),
    (Fault::CommitsTheUnknown, &["commit-before-work", "another-branch"]),
    (Fault::CommitsTheAborted, &["commit-after-abort"]),
    (Fault::AbortsTheCommitted, &["abort-after-commit", "abort-survives-commit"]),
    (Fault::MissesTheCommitted, &["abort-after-commit", "abort-survives-commit"]),
    (Fault::FailsToRefuse, &["refusal"]),
    (Fault::RefusesOnce, &["refusal-again"]),
    (Fault::CommitsTheRefused, &["prepare-after-refusal", "commit-after-refusal"]),
    (Fault::RefusesAbortOfRefused, &["abort-after-refusal"]),
    (Fault::KnowsNoBranches, &["another-branch", "two-branches"]),
    (Fault::AbortsAll, &["two-transactions", "promise-survives", "prepare-survives"]),
    (Fault::RefusesTheNextLife, &["greater-epoch"]),
    (Fault::SpoiltByTheFormerLife, &["smaller-epoch"]),
    (Fault::ComparesNodes, &["another-node"]),
    (Fault::ForgetsPromises, &["promise-survives", "prepare-survives"]),
    (
        Fault::ForgetsEndsAtRestart,
        &[
            "abort-survives",
            "work-survives-abort",
            "commit-survives",
            "work-survives-commit",
            "abort-survives-commit",
        ],
    ),
    (Fault::ForgetsEffects, &["effects-survive"]),
    (Fault::TidiesAbortsAtStart, &["work-survives-abort"]),
    (Fault::CommitsTheRecoveredAgain, &["promise-survives"]),
    (Fault::ForgetsTheRecoveredAborted, &["abort-of-what-survived"]),
    (Fault::AbortsTheCommittedOfBefore, &["abort-survives-commit"]),
    (
        Fault::WritesLate,
        &[
            "abort-survives",
            "work-survives-abort",
            "commit-survives",
            "work-survives-commit",
            "abort-survives-commit",
            "effects-survive",
        ],
    ),
    (Fault::LosesPatience, &["promise-holds"]),
    (Fault::Hangs, &["commit-again", "in-time"]),
    (
        Fault::Redirects,
        &["abort-again", "abort-at-once", "abort-after-late-work", "abort-of-what-survived", "clear-answers"],
    ),
    (
        Fault::VotesInTheHeader,
        &[
            "late-work",
            "work-after-abort",
            "prepare-after-abort",
            "prepare-before-work",
            "commit-before-work",
            "commit-after-abort",
            "abort-after-commit",
            "refusal",
            "another-branch",
            "abort-of-what-survived",
            "abort-survives",
            "work-survives-abort",
            "abort-survives-commit",
            "vote",
        ],
    ),
    (
        Fault::Chatters,
        &["work-again", "work-after-commit", "work-at-once", "work-survives-commit", "whole-answers"],
    ),
    (Fault::NeverCommits, &["usual"]),
    (Fault::Asks, &[]),
    (Fault::RefusesTheFormerLife, &[]),
    (Fault::ShowsLate, &[]),
    (Fault::ComesUpLate, &[]),
    (Fault::PutsOff, &[]),
    (Fault::RestsOnce, &["prepare-again"]),
];

/// Which of two calls is first is not known, so that a rule about them may be broken by chance.
const RACE: &str = "abort-beside-work";

async fn attacked(fault: Fault) -> Run {
    let counter = Counter::start(fault).await;
    let restart = counter.restart();
    let more = ["--look=/", "--restart-command", &restart];
    conformance(&[&[counter.url.as_str()], PATHS, &more, options(fault)].concat()).await
}

/// Waits that a busy machine does not exceed, and only rules that can show the fault where each call takes its time.
fn options(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Hangs => &["--timeout=2s", "--patience=0s", "--rule=commit-again", "--rule=in-time"],
        Fault::LosesPatience => &["--timeout=20s", "--hold=4s", "--rule=promise-holds"],
        Fault::OneAtATime => &[
            "--timeout=20s",
            "--rule=work-at-once",
            "--rule=prepare-at-once",
            "--rule=commit-at-once",
            "--rule=abort-at-once",
        ],
        Fault::PutsOff => &["--timeout=20s", "--patience=20s"],
        Fault::RestsOnce => &["--timeout=20s", "--patience=4s"],
        _ => &["--timeout=20s", "--patience=100ms"],
    }
}

const PATHS: &[&str] = &[
    "--work=/raise",
    "--prepare=/prepare",
    "--commit=/commit",
    "--abort=/abort",
    r#"--refused-body={"impossible":true}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_participant_breaks_just_the_rules_that_it_is_made_to_break() {
    let runs = stream::iter(FAULTS).map(async |(fault, rules)| (fault, *rules, attacked(*fault).await));
    let mut findings = Vec::new();
    let mut runs = runs.buffer_unordered(8);
    while let Some((fault, rules, run)) = runs.next().await {
        let is_certain = |rule: &String| rule != RACE || rules.contains(&RACE);
        let broken: Vec<_> = run.of("broken").into_iter().filter(is_certain).collect();
        if broken != rules {
            findings.push(format!("{fault:?} broke {broken:?} and not {rules:?}\n{}", run.told("broken")));
        }
        if rules.is_empty() {
            run.keeps_every_rule();
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn every_rule_is_broken_by_some_wrong_participant() {
    let never = RULES.iter().filter(|rule| !FAULTS.iter().any(|(_, rules)| rules.contains(&rule.id)));
    assert_eq!(never.map(|rule| rule.id).collect::<Vec<_>>(), Vec::<&str>::new());
}
