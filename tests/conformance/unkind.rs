//! Participants that hang, stammer or are not there, and people who write the command wrongly: it ends, and says why.

use std::time::Duration;

use tokio::time::Instant;

use crate::PATHS;
use crate::kit::{self, Answer, Node, Stub};
use crate::run::{Run, command, conformance};
use crate::wrong::{Counter, Fault};

const STUB: &[&str] = &["--work=/debit", "--prepare=/tx/prepare", "--commit=/tx/commit", "--abort=/tx/abort"];

async fn stubbed(stub: &Stub, more: &[&str]) -> Run {
    let url = stub.url("");
    conformance(&[&[url.as_str(), "--timeout=2s", "--patience=100ms"], STUB, more].concat()).await
}

/// What it said on stderr, where it ended with this code and printed no rule.
async fn refused(arguments: &[&str], code: i32) -> String {
    let output = command(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_never_answers_is_told_so_in_a_moment() {
    let stub = Stub::start().await;
    stub.always("/debit", Answer::hang());
    let began = Instant::now();
    let run = stubbed(&stub, &[]).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    run.breaks(&["usual", "in-time"]);
    run.cannot_judge("commit-again", "the usual course does not work");
    assert_eq!(stub.count("/debit"), 1, "work that may have arrived is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_no_answer() {
    let stub = Stub::start().await;
    stub.always("/tx/commit", Answer::garbage());
    stubbed(&stub, &[]).await.breaks(&["usual", "whole-answers"]);
    stub.always("/tx/commit", Answer::ok());
    stub.always("/debit", Answer::cut_midway());
    stubbed(&stub, &[]).await.breaks(&["usual", "whole-answers"]);
    stub.always("/debit", Answer::big(3_000_000));
    let run = stubbed(&stub, &[]).await;
    run.breaks(&["usual", "whole-answers"]);
    let because = run.rule("whole-answers")["because"].as_str().unwrap().to_owned();
    assert!(because.contains("more than 1048576 bytes"), "{because}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_says_yes_to_everything_breaks_every_rule_about_a_no() {
    let stub = Stub::start().await;
    let run = stubbed(&stub, &[]).await;
    run.breaks(&[
        "abort-beside-work",
        "late-work",
        "work-after-abort",
        "prepare-after-abort",
        "prepare-before-work",
        "commit-before-work",
        "commit-after-abort",
        "abort-after-commit",
        "another-branch",
    ]);
    run.cannot_judge("refusal", "--refused-body");
    run.cannot_judge("effects-survive", "--restart-command");
    let output = command(&[&[stub.url("").as_str()], STUB].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Mend `late-work` first"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_runs_out_of_what_it_is_asked_for_breaks_no_rule_by_that() {
    let stub = Stub::start().await;
    stub.next("/debit", [Answer::ok(), Answer::status(409)]);
    let run = stubbed(&stub, &["--rule=commit-again"]).await;
    run.is_incomplete();
    run.cannot_judge("commit-again", "has it run out of what --body asks for?");
    stub.next("/debit", [&[Answer::ok()][..], &vec![Answer::status(409); 8]].concat());
    let run = stubbed(&stub, &["--rule=work-at-once"]).await;
    run.is_incomplete();
    run.cannot_judge("work-at-once", "has it run out of what --body asks for?");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_votes_read_only_is_left_out_of_what_follows() {
    let stub = Stub::start().await;
    stub.always("/debit", Answer::ok().header("Transaction-Vote", "read-only"));
    let run = stubbed(&stub, &[]).await;
    run.is_incomplete();
    run.cannot_judge("usual", "it votes read-only");
    assert_eq!(stub.count("/tx/commit") + stub.count("/tx/abort"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_is_not_there_or_refuses_the_work_cannot_be_judged() {
    let nobody = Stub::stopped();
    let said = refused(&[&[nobody.url("").as_str()], STUB].concat(), 1).await;
    assert!(said.contains("cannot be reached") && said.contains("Connection refused"), "{said}");
    let picky = Stub::start().await;
    picky.always("/debit", Answer::bytes(422, "text/plain", "no\u{1b}[31m account"));
    let said = refused(&[&[picky.url("").as_str()], STUB].concat(), 1).await;
    assert!(said.contains("refuses the work") && said.contains("422 no\u{fffd}[31m account"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_written_wrongly_is_said_what_is_wrong_with_it() {
    let url = "http://127.0.0.1:9";
    let wrong: &[(&[&str], &str)] = &[
        (&[], "<URL>"),
        (&[url, "--work=/w"], "--commit"),
        (&["https://a.example"], "https"),
        (&["http://a.example/path"], "has a path"),
        (&[url, "--rule=commit-agian"], "commit-again"),
        (&[url, "--work=debit"], "slash"),
        (&[url, "--header=nonsense"], "is no header"),
        (&[url, "--body=@/nowhere/at-all"], "/nowhere/at-all"),
        (&[url, "--config=examples/bank.toml"], "--route"),
        (&["--config=examples/bank.toml", "--route=transfers"], "transfer, overview"),
        (&["--config=examples/bank.toml", "--route=overview"], "not a transaction"),
        (&["--config=examples/bank.toml", "--route=transfer", "--body={}"], "/from"),
        (
            &["--config=examples/bank.toml", "--route=transfer", "--branch=2", r#"--body={"from":1,"to":2}"#],
            "2 branches",
        ),
    ];
    for (arguments, expected) in wrong {
        let paths: &[&str] = match arguments {
            [first, ..] if first.ends_with("example") || first.ends_with("path") => STUB,
            [_, second] if second.starts_with("--work=d") => &STUB[1..],
            [_, second] if ["--rule", "--head", "--body"].contains(&&second[..6]) => STUB,
            _ => &[],
        };
        let said = refused(&[arguments, paths].concat(), 2).await;
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    refused(&["--config=tests/check_golden/bad.toml", "--route=x"], 78).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let said = refused(&[&[url, listen.as_str()], STUB].concat(), 1).await;
    assert!(said.contains("cannot listen on"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_does_one_piece_of_work_at_a_time_breaks_no_rule() {
    for fault in [Fault::HasOneSeat, Fault::HasOneSeatToWaitFor] {
        let counter = Counter::start(fault).await;
        let restart = counter.restart();
        let more = ["--timeout=20s", "--look=/", "--restart-command", &restart];
        let run = conformance(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
        run.breaks(&[]);
        assert_eq!(run.of("unjudged"), ["two-branches", "two-transactions"], "{}", run.told("unjudged"));
        run.cannot_judge("two-transactions", "takes on no other work");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_does_not_work_leaves_its_rules_unjudged() {
    let counter = Counter::start(Fault::Nothing).await;
    let paths = [&[counter.url.as_str()], PATHS].concat();
    let run = conformance(&[&paths[..], &["--restart-command=echo no such unit; exit 3"]].concat()).await;
    run.is_incomplete();
    run.cannot_judge("promise-survives", "exit status: 3: no such unit");
    let slow = ["--restart-command=sleep 60", "--restart-within=100ms"];
    let run = conformance(&[&paths[..], &slow].concat()).await;
    run.is_incomplete();
    run.cannot_judge("commit-survives", "did not end within 100ms");
    // Nobody is at the keyboard.
    let run = conformance(&[&paths[..], &["--ask-restart"]].concat()).await;
    run.cannot_judge("abort-survives", "nobody said");
    assert!(run.stderr().contains("Now kill the participant"), "{}", run.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_does_not_judge_what_it_was_asked_to_is_no_success() {
    let counter = Counter::start(Fault::Nothing).await;
    let paths = [&[counter.url.as_str()], PATHS].concat();
    // An option that is left out takes its rules with it, unless one is asked for by name.
    let run = conformance(&[&paths[..], &["--rule=vote"]].concat()).await;
    run.breaks(&[]);
    let run = conformance(&[&paths[..], &["--rule=promise-survives"]].concat()).await;
    run.is_incomplete();
    run.cannot_judge("promise-survives", "--restart-command");
    let shown_elsewhere = ["--rule=vote", "--look=/nowhere"];
    conformance(&[&paths[..], &shown_elsewhere].concat()).await.is_incomplete();
    let output = command(&[&paths[..], &shown_elsewhere].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let (look, end) =
        (format!("GET {}/nowhere was answered 404", counter.url), "so this ends with exit code 1");
    assert!(text.contains(&look) && text.contains(end), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_comes_up_after_a_restart_is_waited_for() {
    let counter = Counter::start(Fault::ComesUpLate).await;
    let restart = counter.restart();
    let more = ["--patience=100ms", "--restart-command", &restart];
    let run = conformance(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
    run.breaks(&[]);
    assert!(run.of("kept").iter().any(|rule| rule == "promise-survives"), "{}", run.told("unjudged"));

    // What never shows its work again is not said to have lost it.
    let counter = Counter::start(Fault::ShowsLate).await;
    let restart = counter.restart();
    let more =
        ["--rule=effects-survive", "--look=/", "--restart-within=500ms", "--restart-command", &restart];
    let run = conformance(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
    run.is_incomplete();
    run.cannot_judge("effects-survive", "within 500ms of the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_do_not_know_of_each_other_break_the_rules_about_repeats() {
    let (one, other) = (Counter::start(Fault::Nothing).await, Counter::start(Fault::Nothing).await);
    let run = conformance(&[&[one.url.as_str(), other.url.as_str()], PATHS].concat()).await;
    let broken = run.of("broken");
    for rule in ["commit-again", "prepare-again"] {
        assert!(broken.iter().any(|broken| broken == rule), "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_rules_that_are_asked_for_are_tried_after_the_usual_course() {
    let counter = Counter::start(Fault::CommitsAgain).await;
    let more = ["--rule=commit-again", "--rule=vote", "--look=/"];
    let run = conformance(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
    run.breaks(&["commit-again"]);
    assert_eq!(run.of("kept"), ["usual", "vote"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_for_people_says_what_was_sent_what_came_back_and_why_it_matters() {
    let counter = Counter::start(Fault::CommitsAgain).await;
    let more = ["--rule=commit-again", "--look=/", "--body={\"sum\":1}"];
    let output = command(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "kept      usual: Work that can be done",
        "BROKEN    commit-again: A repeat of the commit is answered 2xx, and changes nothing more.\n  because one commit was confirmed, and `/counter` changed by 3, and not by 1",
        "  sent    commit, attempt 2 -> 200",
        "  why     The node tells a commit until",
        "  mend    Write down what became of each Transaction-Id and Transaction-Branch",
        &format!("  the last call was\n    POST {}/commit\n    transaction-id: ", counter.url),
        "\n    idempotency-key: \"",
        "2 rules: 1 kept, 1 broken, 0 could not be judged.\nBroken: commit-again.\nMend `commit-again` first",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("real work") && said.contains("instance for tests"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_leaves_open_is_settled_in_the_life_of_the_node_that_asked_for_it() {
    let stub = Stub::start().await;
    // Of the usual course, of the node, and of the other one, which has to let go of its work now.
    stub.next("/tx/prepare", [Answer::ok(), Answer::ok(), Answer::status(409)]);
    stubbed(&stub, &["--rule=another-node"]).await.breaks(&["another-node"]);
    let epochs = |operation: &str| -> Vec<u64> {
        let calls = stub.calls().into_iter().filter(|call| call.operation() == operation);
        calls.map(|call| call.header("transaction-epoch").parse().unwrap()).collect()
    };
    assert_eq!(epochs("abort"), [1], "a later first life would be fenced off by a greater one");

    stub.forget();
    stub.next("/tx/commit", [Answer::ok(), Answer::status(409), Answer::status(409)]);
    stubbed(&stub, &["--rule=smaller-epoch"]).await.breaks(&["smaller-epoch"]);
    let told = epochs("commit");
    assert_eq!((told.len(), told[3]), (4, told[2]), "a smaller one may be refused: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_straight_after_another_one_is_a_later_life_of_the_node() {
    let counter = Counter::start(Fault::RefusesTheFormerLife).await;
    let listen = format!("--listen=127.0.0.1:{}", kit::free_port());
    let more = [listen.as_str(), "--rule=greater-epoch", "--rule=smaller-epoch", "--timeout=20s"];
    for _ in 0..2 {
        let run = conformance(&[&[counter.url.as_str()], PATHS, &more].concat()).await;
        run.breaks(&[]);
        assert_eq!(run.of("kept"), ["usual", "greater-epoch", "smaller-epoch"], "{}", run.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_what_a_node_sends() {
    let (stub, ledger) = (Stub::start().await, Stub::start().await);
    let config = kit::two_branches(&stub, &ledger);
    let mut node = Node::new(&config);
    node.start().await;
    node.post("/transfers", &serde_json::json!({"amount": 5})).await.expect(200);
    let of_node = stub.calls();
    stub.forget();

    let body = r#"--body={"amount":5}"#;
    stubbed(&stub, &["--rule=abort", body]).await;
    let of_command = stub.calls();
    for call in &of_node {
        let like = of_command.iter().find(|other| other.operation() == call.operation());
        let like = like.unwrap_or_else(|| panic!("no {} was sent", call.operation()));
        let names = |call: &kit::Call| {
            // The test's client has one of its own on the work call.
            let names = call.headers.keys().map(ToString::to_string);
            names.filter(|name| name != "accept").collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names(like), names(call), "{}", call.operation());
        assert_eq!((&like.method, &like.path), (&call.method, &call.path));
        let shape = |call: &kit::Call| {
            let id = call.transaction().to_owned();
            assert!(call.header("transaction-coordinator").ends_with(&format!("/v1/transactions/{id}")));
            (
                call.text().replace(&id, "ID"),
                call.header("idempotency-key").replace(&id, "ID"),
                call.attempt(),
            )
        };
        assert_eq!(shape(like), shape(call));
    }
}
