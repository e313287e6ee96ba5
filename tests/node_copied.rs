//! A data directory that is a copy: refused, and what a node does with it once somebody has said what is known of it (G4, G6).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs;

use kit::{Answer, Node, Stub};
use serde_json::json;

/// A node that was killed while a transaction was undecided, the id of that, and one that had committed before.
async fn killed_with_one_undecided() -> (Node, Stub, Stub, String, String) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    accounts.always("/debit", Answer::ok());
    ledger.next("/credit", [Answer::ok(), Answer::hang()]);
    ledger.always("/credit", Answer::ok());
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    node.start().await;
    let committed = node.post("/transfers", &json!({})).await.expect(200).transaction().to_owned();
    let body = json!({});
    let asking = node.try_post("/transfers", &[], &body);
    let watching = async {
        let calls = ledger.wait_for("/credit", 2).await;
        calls[1].transaction().to_owned()
    };
    let undecided = tokio::select! {
        biased;
        undecided = watching => undecided,
        _ = asking => panic!("it hangs"),
    };
    node.kill().await;
    (node, accounts, ledger, committed, undecided)
}

/// Puts a copy of the data directory in its place.
fn move_by_copying(node: &Node) {
    let (place, away) = (node.data_dir(), node.data_dir().with_extension("away"));
    fs::rename(&place, &away).unwrap();
    kit::copy_tree(&away, &place);
    fs::remove_dir_all(&away).unwrap();
}

/// Makes another transaction, and puts the directory back as it was before. The id of that transaction.
async fn one_more_that_is_forgotten(node: &mut Node) -> String {
    let backup = tempfile::tempdir().unwrap();
    kit::copy_tree(&node.data_dir(), backup.path());
    node.start().await;
    let later = node.post("/transfers", &json!({})).await.expect(200).transaction().to_owned();
    node.settled().await;
    node.terminate().await;
    fs::remove_dir_all(node.data_dir()).unwrap();
    kit::copy_tree(backup.path(), &node.data_dir());
    later
}

async fn is_refused(node: &mut Node) {
    let said_before = node.stderr().len();
    assert_eq!(node.spawn().wait().await.code(), Some(74), "{}", node.stderr());
    let words = &node.stderr()[said_before..];
    assert!(words.contains("is a copy of a log, or was restored: `start-1` was file "), "{words}");
    assert!(words.contains("`log.accept_copy = \"complete\"`"), "it says what to do: {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_copy_goes_on_where_the_node_was_killed() {
    let (mut node, accounts, _ledger, committed, undecided) = killed_with_one_undecided().await;
    move_by_copying(&node);
    is_refused(&mut node).await;
    let verified = node.cli(&["verify", "--data-dir", node.data_dir().to_str().unwrap()]).await;
    let words = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success() && words.contains("note: the directory is a copy"), "{words}");

    node.env("UNANIMOUS__LOG__ACCEPT_COPY", "complete").start().await;
    node.wait_for_state(&undecided, "aborted").await;
    assert_eq!(node.state(&committed).await, "committed");
    assert_eq!(accounts.calls_to("/tx/abort").len(), 1);
    node.terminate().await;
    // It is at home there now.
    node.env_clear().start().await;
    assert_eq!(node.state(&undecided).await, "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_copy_aborts_nothing_and_says_of_nothing_that_it_never_was() {
    let (mut node, accounts, _ledger, committed, undecided) = killed_with_one_undecided().await;
    let later = one_more_that_is_forgotten(&mut node).await;
    is_refused(&mut node).await;
    accounts.forget();
    node.env("UNANIMOUS__LOG__ACCEPT_COPY", "outdated").start().await;
    node.wait_for_parked(&undecided).await;
    assert!(accounts.calls().is_empty(), "nobody knows whether it was committed since");
    assert_eq!(node.state(&committed).await, "committed");
    let told = node.get(&format!("/v1/transactions/{later}")).await.expect(410);
    assert_eq!(told.json()["code"], "expired", "it was forgotten, and nobody says that it never was");
    assert!(node.log().await.iter().any(|record| record["record"] == "gave_up"));
    let new = node.post("/transfers", &json!({})).await.expect(200);
    assert_eq!(node.state(new.transaction()).await, "committed");
    for call in accounts.calls() {
        assert!(
            call.header("transaction-epoch").parse::<u64>().unwrap() > 1_000_000,
            "later than any before"
        );
    }
}

/// A rescue is no way round that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rescued_of_an_outdated_copy_knows_as_little() {
    let (mut node, accounts, _ledger, committed, undecided) = killed_with_one_undecided().await;
    let later = one_more_that_is_forgotten(&mut node).await;
    let from = node.data_dir().display().to_string();
    let to = |name: &str| node.data_dir().with_file_name(name).display().to_string();
    let complete = ["salvage", "--data-dir", &from, "--to", &to("complete"), "--accept-copy", "complete"];
    assert_eq!(node.cli(&complete).await.status.code(), Some(0), "where somebody says that it is");
    let rescued = node.cli(&["salvage", "--data-dir", &from, "--to", &to("rescued")]).await;
    let words = String::from_utf8(rescued.stdout).unwrap();
    assert_eq!(rescued.status.code(), Some(1), "{words}");
    assert!(
        words.contains("the directory is a copy, or was restored")
            && words.contains("--accept-copy complete"),
        "{words}"
    );

    accounts.forget();
    let there = to("rescued");
    node.arg("--data-dir").arg(&there).start().await;
    node.wait_for_parked(&undecided).await;
    assert!(accounts.calls().is_empty(), "nobody knows whether it was committed since");
    assert_eq!(node.state(&committed).await, "committed");
    let told = node.get(&format!("/v1/transactions/{later}")).await.expect(410);
    assert_eq!(told.json()["code"], "expired", "it was forgotten, and nobody says that it never was");
    node.post("/transfers", &json!({})).await.expect(200);
    for call in accounts.calls() {
        let epoch = call.header("transaction-epoch").parse::<u64>().unwrap();
        assert!(epoch > 1_000_000, "later than any before");
    }
}
