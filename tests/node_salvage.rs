//! From "exit 74: damaged" to a node that serves: `unanimous salvage`, and what it leaves to an operator.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use kit::{Answer, Node, Stub, damage};
use serde_json::{Value, json};

struct Rescue {
    to: PathBuf,
    lines: Vec<Value>,
    output: Output,
}

impl Rescue {
    /// Of the node's log, which must not be changed by it.
    async fn of(node: &Node) -> Self {
        let to = node.data_dir().with_file_name("rescued");
        let store = node.data_dir().join("store/db");
        let before = std::fs::read(&store).unwrap();
        let (from, there) = (node.data_dir().display().to_string(), to.display().to_string());
        let arguments = ["salvage", "--data-dir", &from, "--to", &there, "--format", "json"];
        let output = node.cli(&arguments).await;
        assert!(std::fs::read(&store).unwrap() == before, "the damaged log is as it was");
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { to, lines, output }
    }

    fn found(&self, kind: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["found"] == kind).collect()
    }
}

/// Four transactions: two that ended, and two that the ledger has confirmed and accounts not.
async fn four_transfers(accounts: &Stub, ledger: &Stub) -> (Node, Vec<String>) {
    let mut node = Node::new(&kit::two_branches(accounts, ledger));
    node.start().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        accounts.always("/debit", Answer::json(200, json!({"said": format!("in decision {number}")})));
        accounts.always("/tx/commit", if number >= 2 { Answer::status(503) } else { Answer::ok() });
        let key = format!("\"key {number}\"");
        let told = node.post_with("/transfers", &[("Idempotency-Key", &key)], &json!({})).await;
        ids.push(told.expect(if number >= 2 { 202 } else { 200 }).transaction().to_owned());
    }
    node.kill().await;
    accounts.always("/tx/commit", Answer::ok());
    accounts.forget();
    ledger.forget();
    (node, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_undecided_where_records_are_missing_is_parked_and_settled_by_an_operator() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (mut node, ids) = four_transfers(&accounts, &ledger).await;
    damage(&node.data_dir(), b"in decision 1");
    damage(&node.data_dir(), b"in decision 2");
    assert_eq!(node.spawn().wait().await.code(), Some(74), "{}", node.stderr());

    let rescue = Rescue::of(&node).await;
    assert_eq!(rescue.output.status.code(), Some(1), "something is missing: {:?}", rescue.output);
    let missing = rescue.found("missing");
    assert_eq!(missing.len(), 2, "{:?}", rescue.lines);
    assert!(missing.iter().all(|gap| gap["remains"][0]["file"] == "store/db"), "{missing:?}");
    // Of the second transfer its end is there, and says what was decided.
    let questions = rescue.found("in_question");
    assert_eq!(questions.len(), 1, "{:?}", rescue.lines);
    let question = questions[0];
    assert_eq!((&question["transaction"], &question["why"]), (&json!(ids[2]), &json!("undecided")));
    assert_eq!(
        (&question["state"], &question["branches"][1]["service"]),
        (&json!("preparing"), &json!("ledger"))
    );
    assert_eq!(question["later"][0]["says"], "acked by branch 1", "{question}");

    let to = rescue.to.display().to_string();
    let verified = node.cli(&["verify", "--data-dir", &to]).await;
    let words = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(words.matches("WRONG").count(), 1, "only what is in question: {words}");
    assert!(words.contains(&ids[2]) && words.contains("this log was rescued from a damaged one"), "{words}");
    node.arg("--data-dir").arg(&to).start().await;
    node.wait_for_parked(&ids[2]).await;
    for ended in [&ids[0], &ids[1], &ids[3]] {
        node.wait_for_state(ended, "committed").await;
    }
    node.post_with("/transfers", &[("Idempotency-Key", "\"key 1\"")], &json!({})).await.expect(200);
    let resolve = format!("/v1/transactions/{}/resolve", ids[2]);
    let wish = |branch: usize| json!({"branch": branch, "as": "committed", "reason": "seen there"});
    node.admin_post(&resolve, &wish(0)).await.expect(200);
    for (branch, why) in [(0, "it is settled"), (2, "there is none")] {
        let refused = node.admin_post(&resolve, &wish(branch)).await.expect(409);
        assert_eq!(refused.json()["code"], "not_parked", "{why}");
    }
    node.admin_post(&resolve, &wish(1)).await.expect(200);
    node.settled().await;
    assert_eq!(ledger.calls().len(), 0, "it has confirmed what is decided");
    let told: Vec<_> = accounts.calls().iter().map(|call| call.transaction().to_owned()).collect();
    assert_eq!(told, [ids[3].clone()], "nobody was told anything that is not known");
    node.post("/transfers", &json!({})).await.expect(200);
    node.terminate().await;
    let verified = node.cli(&["verify", "--data-dir", &to]).await;
    assert_eq!(verified.status.code(), Some(0), "nothing is left in question: {verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_decided_is_told_again_and_what_was_lost_wholly_is_not_guessed() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (mut node, ids) = four_transfers(&accounts, &ledger).await;
    // The beginning of one: its decision and its end are there, and whom it concerned is lost.
    damage(&node.data_dir(), b"key 0");
    // All of the last one.
    let log = node.cli(&["dump", "--data-dir", &node.data_dir().display().to_string()]).await;
    assert_eq!(log.status.code(), Some(1), "{log:?}");
    damage(&node.data_dir(), b"key 3");
    damage(&node.data_dir(), b"in decision 3");

    let rescue = Rescue::of(&node).await;
    let summary = rescue.found("rescued")[0];
    assert_eq!((&summary["to_tell"], &summary["in_question"]), (&json!(1), &json!(1)), "{:?}", rescue.lines);
    let question = rescue.found("in_question")[0];
    assert_eq!((&question["transaction"], &question["why"]), (&json!(ids[3]), &json!("no_beginning")));
    node.arg("--data-dir").arg(&rescue.to.display().to_string()).start().await;
    accounts.wait_for("/tx/commit", 1).await;
    node.wait_for_state(&ids[2], "committed").await;
    assert_eq!(
        (accounts.count("/tx/commit"), ledger.count("/tx/commit")),
        (1, 0),
        "the ledger has confirmed"
    );
    let told = node.get(&format!("/v1/transactions/{}", ids[0])).await.expect(410).json();
    assert_eq!(told["code"], "expired", "never_seen would mean that an abort is safe");
    assert!(told["detail"].as_str().unwrap().contains("damaged and given up"), "{told}");
    let held = node.get(&format!("/v1/transactions/{}", ids[3])).await.expect(200).json();
    assert_eq!((&held["outcome"], &held["parked"]), (&json!("undecided"), &json!(true)), "{held}");
}

/// Nobody knows whom to tell, and it does not vanish.
#[tokio::test(flavor = "multi_thread")]
async fn a_decided_transaction_whose_beginning_is_lost_is_parked_until_an_operator_has_settled_it() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (mut node, ids) = four_transfers(&accounts, &ledger).await;
    damage(&node.data_dir(), b"key 3");
    let rescue = Rescue::of(&node).await;
    let question = rescue.found("in_question")[0];
    assert_eq!((&question["transaction"], &question["why"]), (&json!(ids[3]), &json!("no_beginning")));
    assert_eq!((&question["state"], &question["parked"]), (&json!("committing"), &json!(true)));
    let to = rescue.to.display().to_string();
    let verified = node.cli(&["verify", "--data-dir", &to]).await;
    let words = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.code() == Some(1) && words.contains(&ids[3]), "{words}");

    node.arg("--data-dir").arg(&to).start().await;
    node.wait_for_parked(&ids[3]).await;
    node.wait_for_state(&ids[2], "committed").await;
    let held = node.get(&format!("/v1/transactions/{}", ids[3])).await.expect(200).json();
    assert_eq!((&held["state"], &held["outcome"]), (&json!("committing"), &json!("committed")), "{held}");
    assert_eq!(
        (&held["branches"][0]["service"], &held["branches"][1]["state"]),
        (&json!("?"), &json!("confirmed"))
    );
    let listed = node.admin("/v1/transactions").await.expect(200).json().to_string();
    assert!(listed.contains(&ids[3]), "{listed}");
    let parked = "/parked_reason";
    assert!(
        held.pointer(parked).unwrap().to_string().contains("still to be resolved: branch 0, 1"),
        "{held}"
    );
    for branch in [0, 1] {
        let wish = json!({"branch": branch, "as": "committed", "reason": "seen there"});
        let resolve = format!("/v1/transactions/{}/resolve", ids[3]);
        let held = node.admin_post(&resolve, &wish).await.expect(200).json();
        let left = held.pointer(parked).unwrap().to_string();
        assert_eq!(left.contains("still to be resolved: branch 1"), branch == 0, "{held}");
    }
    node.settled().await;
    node.get(&format!("/v1/transactions/{}", ids[3])).await.expect(410);
    assert_eq!(accounts.count("/tx/commit"), 1, "nobody was told anything of it");
    node.kill().await;
    node.start().await;
    node.settled().await;
    node.terminate().await;
    let verified = node.cli(&["verify", "--data-dir", &to]).await;
    assert_eq!(verified.status.code(), Some(0), "nothing is left in question: {verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_end_leaves_everything_in_question_that_was_open_there() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    node.start().await;
    ledger.always("/tx/prepare", Answer::hang());
    // A client that hangs up, and a transaction that goes on.
    let open = json!({});
    let asking = node.try_post("/transfers", &[("Idempotency-Key", "\"open\"")], &open);
    let _ = tokio::time::timeout(Duration::from_millis(500), asking).await;
    ledger.wait_for("/tx/prepare", 1).await;
    // One more, whose decision is the last record of all.
    accounts.always("/debit", Answer::json(200, json!({"said": "in the last"})));
    // After the answer of the other, which is in the record only if it was there by then.
    ledger.always("/credit", Answer::status(409).after(Duration::from_millis(500)));
    ledger.always("/tx/abort", Answer::hang());
    accounts.always("/tx/abort", Answer::hang());
    let told = node.post_with("/transfers", &[("Idempotency-Key", "\"no\"")], &json!({})).await.expect(409);
    node.kill().await;
    damage(&node.data_dir(), b"in the last");

    let rescue = Rescue::of(&node).await;
    let questions = rescue.found("in_question");
    assert_eq!(questions.len(), 2, "{:?}", rescue.lines);
    assert!(questions.iter().any(|question| question["transaction"] == told.transaction()), "{questions:?}");
    accounts.forget();
    node.arg("--data-dir").arg(&rescue.to.display().to_string()).start().await;
    for question in questions {
        node.wait_for_parked(question["transaction"].as_str().unwrap()).await;
    }
    assert_eq!(accounts.calls().len(), 0, "nothing is presumed to be aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_whose_decision_is_lost_is_known_by_its_end_and_why_is_not() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    node.start().await;
    accounts.always("/debit", Answer::json(200, json!({"said": "in decision"})));
    // After the answer of the other, which is in the record only if it was there by then.
    ledger.always("/credit", Answer::status(409).after(Duration::from_millis(500)));
    let (key, body) = ([("Idempotency-Key", "\"no\"")], json!({}));
    let told = node.post_with("/transfers", &key, &body).await.expect(409);
    node.wait_for_state(told.transaction(), "aborted").await;
    node.terminate().await;
    damage(&node.data_dir(), b"in decision");
    let rescue = Rescue::of(&node).await;
    assert_eq!(rescue.found("in_question"), [&Value::Null; 0], "its end says what it was");
    node.arg("--data-dir").arg(&rescue.to.display().to_string()).start().await;
    let again = node.post_with("/transfers", &key, &body).await.expect(409).json();
    assert_eq!(
        (&again["transaction"]["state"], &again["reason"]["kind"]),
        (&json!("aborted"), &json!("lost")),
        "{again}"
    );
    let asked = node.get(&format!("/v1/transactions/{}", told.transaction())).await.expect(200).json();
    assert_eq!((&asked["outcome"], &asked["reason"]["kind"]), (&json!("aborted"), &json!("lost")), "{asked}");
}

/// `verify` says on stdout what it found, whatever is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_log_is_seen_also_without_its_witness_and_without_its_marker() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (node, _) = four_transfers(&accounts, &ledger).await;
    let directory = node.data_dir().display().to_string();
    let verified = async || {
        let output = node.cli(&["verify", "--data-dir", &directory]).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, sound) = verified().await;
    let first_line = sound.lines().next().unwrap().to_owned();
    assert!(code == Some(0) && sound.ends_with("sound\n"), "{sound}");
    std::fs::write(node.data_dir().join("witness"), b"").unwrap();
    let (code, words) = verified().await;
    assert!(code == Some(1) && words.contains("WRONG: ") && words.contains("`witness`"), "{words}");
    assert_eq!(words.lines().next(), Some(first_line.as_str()), "every record can be read");
    assert!(words.contains("next: `unanimous salvage --data-dir DIR"), "{words}");
    std::fs::write(node.data_dir().join("INIT"), b"\xff").unwrap();
    let (code, words) = verified().await;
    assert!(code == Some(1) && words.contains("WRONG: ") && words.contains("`INIT`"), "{words}");
    assert!(words.lines().next().is_some_and(|line| line.ends_with(": no record can be read")), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_and_a_directory_that_is_not_empty_are_refused() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    node.start().await;
    let rescue = Rescue::of(&node).await;
    let words = String::from_utf8_lossy(&rescue.output.stderr).into_owned();
    assert_eq!((rescue.output.status.code(), rescue.to.exists()), (Some(1), false), "{words}");
    assert!(words.contains("in use by another process"), "{words}");
    node.terminate().await;

    let from = node.data_dir().display().to_string();
    for (to, expected) in [
        (node.config().parent().unwrap().to_owned(), "is not empty"),
        (node.data_dir().join("new"), "inside the damaged one"),
        (node.data_dir(), "inside the damaged one"),
    ] {
        let refused = node.cli(&["salvage", "--data-dir", &from, "--to", &to.display().to_string()]).await;
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{words}");
        assert!(words.contains(expected), "{words}");
    }
    let rescue = Rescue::of(&node).await;
    assert_eq!(rescue.output.status.code(), Some(0), "a sound log is rescued whole: {:?}", rescue.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_certainly_older_is_not_complete_though_somebody_says_so() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (node, _) = four_transfers(&accounts, &ledger).await;
    std::fs::write(node.data_dir().join("start-9"), "of a later start").unwrap();
    let (from, to) = (node.data_dir().display().to_string(), node.data_dir().with_file_name("rescued"));
    let to = to.display().to_string();
    let arguments = ["salvage", "--data-dir", &from, "--to", &to, "--accept-copy", "complete"];
    let words = String::from_utf8(node.cli(&arguments).await.stdout).unwrap();
    assert!(words.contains("It has forgotten what was done since"), "{words}");
    assert!(!words.contains("say so"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_before_is_told_again() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (node, _) = four_transfers(&accounts, &ledger).await;
    damage(&node.data_dir(), b"in decision 1");
    let rescue = Rescue::of(&node).await;
    assert_eq!(rescue.found("rescued")[0]["given_up"], 0, "{:?}", rescue.lines);
    let (from, to) =
        (rescue.to.display().to_string(), rescue.to.with_file_name("again").display().to_string());
    let again = node.cli(&["salvage", "--data-dir", &from, "--to", &to]).await;
    let words = String::from_utf8(again.stdout).unwrap();
    assert!(words.contains("note: 1 records say `gave_up`"), "{words}");
    assert!(words.contains("nothing more is missing"), "{words}");
    assert_eq!(again.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_no_success_though_nobody_reads_what_is_said() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (node, _) = four_transfers(&accounts, &ledger).await;
    let from = node.data_dir().display().to_string();
    let to = node.data_dir().with_file_name("rescued").display().to_string();
    let ended = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let errors = writer.try_clone().unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_unanimous"));
        program.args(arguments).stdout(writer).stderr(errors).status().unwrap().code()
    };
    let dump = ["dump", "--data-dir", &from];
    assert_eq!((ended(&["verify", "--data-dir", &from]), ended(&dump)), (Some(0), Some(0)));
    damage(&node.data_dir(), b"in decision 2");
    assert_eq!(ended(&["verify", "--data-dir", &from]), Some(1));
    assert_eq!(ended(&dump), Some(1));
    assert_eq!(ended(&["salvage", "--data-dir", &from, "--to", &to]), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rescued_is_told_also_where_there_is_no_room_to_check_it() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let (node, _) = four_transfers(&accounts, &ledger).await;
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_unanimous"));
    let to = node.data_dir().with_file_name("rescued");
    program.arg("salvage").arg("--data-dir").arg(node.data_dir()).arg("--to").arg(&to);
    let output = program.env("TMPDIR", to.with_file_name("absent")).output().unwrap();
    let (said, failed) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(said.contains("nothing is missing") && said.contains("2 ended"), "{said}");
    assert!(failed.contains("could not be read back for a check"), "{failed}");
    assert_eq!(output.status.code(), Some(1));
}
