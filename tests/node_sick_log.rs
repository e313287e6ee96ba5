//! A log that cannot be written, cannot be understood, or is damaged: what the node does, and what is left (G5, G6).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::convert::Infallible;
use std::process::Output;

use futures_util::future::join_all;
use kit::{Answer, Asked, Node, Reply, Stub};
use serde_json::json;
use unanimous_wal::{Lsn, verify};

/// Clients at once while the log fails.
const CLIENTS: usize = 12;

/// How long a file of the node may get before a write fails: opening a new log takes less.
const ROOM: u64 = 6 * 1024 * 1024;

async fn two_with_big_answers() -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    // Each answer is kept with its key, so that the room is soon used up.
    accounts.always("/debit", Answer::big(20_000));
    let node = Node::new(&kit::two_branches(&accounts, &ledger));
    (node, accounts, ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_stops_the_node_and_what_was_told_is_true_after_a_restart() {
    let (mut node, accounts, ledger) = two_with_big_answers().await;
    node.file_size_max(Some(ROOM)).start().await;
    let clients = (0..CLIENTS).map(|client| kit::ask_until_one_fails(&node, client));
    let asked: Vec<Asked> = join_all(clients).await.into_iter().flatten().collect();
    let ended = node.wait().await;
    assert_eq!(ended.code(), Some(74), "{}", node.stderr());
    let sentence = "unanimous: the log failed: could not sync the log: File too large (os error 27)";
    assert!(node.stderr().contains(sentence), "{}", node.stderr());
    assert!(asked.iter().filter(|asked| asked.status() == 200).count() > CLIENTS, "it worked before");
    let failed: Vec<&Reply> =
        asked.iter().filter_map(|asked| asked.told.as_ref()).filter(|told| told.status == 503).collect();
    assert!(!failed.is_empty(), "somebody whose answer was not durable was told so");
    assert!(failed.iter().any(|told| told.json()["code"] == "log_failed"), "{failed:#?}");

    node.file_size_max(None).start().await;
    node.settled().await;
    for asked in &asked {
        asked.is_true(&node).await;
    }
    kit::calls_are_true(&node, &[&accounts, &ledger]).await;
    node.terminate().await;
    let verified = node.cli(&["verify", "--data-dir", node.data_dir().to_str().unwrap()]).await;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}

/// Every record in the directory of a stopped node, as it is on the disk.
fn bytes_of_log(node: &Node) -> Vec<(Lsn, Vec<u8>)> {
    let mut records = Vec::new();
    let read = verify::read_only(&node.data_dir()).unwrap().read_all(|lsn, bytes| {
        records.push((lsn, bytes.to_vec()));
        Ok::<(), Infallible>(())
    });
    read.unwrap();
    records
}

/// All that a command wrote.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_a_newer_version_is_said_to_be_one_and_nobody_touches_it() {
    let (mut node, _accounts, _ledger) = two_with_big_answers().await;
    node.start().await;
    let told = node.post("/transfers", &json!({})).await.expect(200);
    node.terminate().await;
    let log = unanimous_wal::open(&node.data_dir(), unanimous_wal::Options::default()).unwrap();
    let wal = log.read_all(|_, _| Ok::<(), Infallible>(())).unwrap().start().unwrap();
    // The first byte of a record is its format, and this program writes 1.
    let newer =
        wal.append(b"\x02whatever the next version has to say".to_vec(), ()).await.unwrap().lsn().unwrap();
    wal.append(b"\x02and more".to_vec(), ()).await.unwrap();
    wal.close().await.unwrap();
    let before = bytes_of_log(&node);

    let is_told = |words: &str| {
        assert!(words.contains(&format!("record {newer} ")), "{words}");
        assert!(words.contains("written by a newer version (format 2, this program knows 1)"), "{words}");
        assert!(!words.contains("damage"), "{words}");
    };
    for accept_damage in ["false", "true"] {
        node.env_clear().env("UNANIMOUS__LOG__ACCEPT_DAMAGE", accept_damage);
        let said_before = node.stderr().len();
        assert_eq!(node.spawn().wait().await.code(), Some(74), "{}", node.stderr());
        is_told(&node.stderr()[said_before..]);
    }
    let directory = node.data_dir().display().to_string();
    let verified = node.cli(&["verify", "--data-dir", &directory]).await;
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    is_told(&said(&verified));
    let dumped = node.cli(&["dump", "--data-dir", &directory]).await;
    assert_eq!(dumped.status.code(), Some(1), "{dumped:?}");
    is_told(&said(&dumped));
    assert!(said(&dumped).contains(told.transaction()), "what this version wrote is shown: {dumped:?}");

    assert!(bytes_of_log(&node) == before, "the log holds what it held");
    assert!(!node.data_dir().join("aside-1").exists(), "there was nothing to repair");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_started_only_by_an_explicit_word_and_what_is_given_up_is_kept_aside() {
    let (mut node, accounts, _ledger) = two_with_big_answers().await;
    accounts.always("/debit", Answer::ok());
    node.start().await;
    let mut told = Vec::new();
    for number in 0..10 {
        let key = format!("\"request {number}\"");
        let reply = node.post_with("/transfers", &[("Idempotency-Key", &key)], &json!({})).await.expect(200);
        told.push(reply.transaction().to_owned());
    }
    node.kill().await;
    let before = bytes_of_log(&node);
    // Without the second copy, by which the damage would be mended.
    std::fs::remove_file(node.data_dir().join("ring")).unwrap();
    let store = node.data_dir().join("store").join("db");
    let mut bytes = std::fs::read(&store).unwrap();
    let place = bytes.windows(9).position(|bytes| bytes == b"request 5").unwrap();
    bytes[place] ^= 1;
    std::fs::write(&store, &bytes).unwrap();

    let damaged = first_unreadable(&node).await;
    assert!(
        before[damaged - 1..].iter().any(|(_, bytes)| holds(bytes, b"request 5")),
        "from record {damaged} on"
    );
    // It refuses as often as it is asked, and leaves everything as it is.
    for _ in 0..2 {
        let said_before = node.stderr().len();
        assert_eq!(node.spawn().wait().await.code(), Some(74), "{}", node.stderr());
        let words = &node.stderr()[said_before..];
        assert!(words.contains(&format!("the log cannot be read at record {damaged}")), "{words}");
        assert!(words.contains("nothing was changed"), "{words}");
        assert!(std::fs::read(&store).unwrap() == bytes, "something was changed");
    }

    let said_before = node.stderr().len();
    node.env("UNANIMOUS__LOG__ACCEPT_DAMAGE", "true").start().await;
    let words = node.stderr()[said_before..].to_owned();
    assert!(words.contains("giving up everything from the damage on"), "{words}");
    assert!(words.contains(&format!("record {damaged}")) && words.contains("aside-1"), "{words}");
    let aside = node.data_dir().join("aside-1").join("store").join("db");
    assert!(std::fs::read(aside).unwrap() == bytes, "the copy has all that was given up");
    node.settled().await;
    for kept in &told[..5] {
        assert_eq!(node.state(kept).await, "committed");
    }
    for lost in &told[5..] {
        let told = node.get(&format!("/v1/transactions/{lost}")).await.expect(410);
        assert_eq!(told.json()["code"], "expired", "what was given up is not known, and not guessed");
    }
    assert!(node.log().await.iter().any(|record| record["record"] == "gave_up"));
    let new = node.post("/transfers", &json!({})).await.expect(200);
    node.terminate().await;

    let dumped = node.cli(&["dump", "--data-dir", node.data_dir().to_str().unwrap()]).await;
    assert_eq!(dumped.status.code(), Some(0), "{dumped:?}");
    for shown in told[..5].iter().map(String::as_str).chain([new.transaction()]) {
        assert!(said(&dumped).contains(shown), "{shown}: {dumped:?}");
    }
    let after = bytes_of_log(&node);
    assert!(after.starts_with(&before[..damaged - 1]), "as it was before the damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_before_the_damage_is_parked_and_not_aborted() {
    is_parked_and_not_aborted(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_the_witness_is_missing_too() {
    is_parked_and_not_aborted(true).await;
}

async fn is_parked_and_not_aborted(without_witness: bool) {
    let (_, accounts, ledger) = two_with_big_answers().await;
    let mut node = Node::with_section(
        "open_transactions_max = 2",
        &(kit::two_branches(&accounts, &ledger) + OF_ACCOUNTS),
    );
    accounts.always("/debit", Answer::json(200, json!({"said": "only in the decision"})));
    ledger.always("/credit", Answer::ok());
    node.start().await;
    let reply = node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({})).await.expect(200);
    let id = reply.transaction().to_owned();
    node.kill().await;
    // Without the second copy, by which the damage would be mended.
    std::fs::remove_file(node.data_dir().join("ring")).unwrap();
    let store = node.data_dir().join("store").join("db");
    let mut bytes = std::fs::read(&store).unwrap();
    let place = bytes.windows(20).position(|bytes| bytes == b"only in the decision").unwrap();
    bytes[place] ^= 1;
    std::fs::write(&store, &bytes).unwrap();
    if without_witness {
        std::fs::remove_file(node.data_dir().join("witness")).unwrap();
    }
    accounts.forget();
    ledger.forget();

    node.env("UNANIMOUS__LOG__ACCEPT_DAMAGE", "true").start().await;
    // A second start finds the same, though nothing is damaged any more.
    for _ in 0..2 {
        node.wait_for_parked(&id).await;
        let seen = node.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
        assert_eq!(seen["outcome"], "undecided");
        let refused = node.admin_post(&format!("/v1/transactions/{id}/retry"), &json!({})).await.expect(409);
        assert_eq!(refused.json()["code"], "damaged");
        node.env_clear().crash().await;
    }
    accounts.always("/debit", Answer::ok());
    for branch in [0, 1] {
        // Half of two may wait for one service, and this one waits for an operator's word about its branches.
        node.post("/transfers", &json!({})).await.expect(503);
        node.post("/debits", &json!({})).await.expect(if branch == 0 { 503 } else { 200 });
        let wish = json!({"branch": branch, "as": "committed", "reason": "seen there"});
        node.admin_post(&format!("/v1/transactions/{id}/resolve"), &wish).await.expect(200);
    }
    node.settled().await;
    assert_eq!((accounts.count("/debit"), ledger.calls().len()), (1, 0), "nobody was told to undo a commit");
    node.get(&format!("/v1/transactions/{id}")).await.expect(410);
    let again = node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({})).await.expect(409);
    assert_eq!((again.transaction(), &again.json()["code"]), (id.as_str(), &json!("settled_by_hand")));
}

/// A route over one of the two services.
const OF_ACCOUNTS: &str = r#"
    [[routes]]
    id = "debit"
    match = { methods = ["POST"], path = "/debits" }
    [routes.transaction]
    branches = [ { service = "accounts", method = "POST", path = "/debit" } ]
"#;

/// The record that `verify` names.
async fn first_unreadable(node: &Node) -> usize {
    let verified = node.cli(&["verify", "--data-dir", node.data_dir().to_str().unwrap()]).await;
    let words = said(&verified);
    let (_, rest) =
        words.split_once("WRONG: the log cannot be read at record ").unwrap_or_else(|| panic!("{words}"));
    rest.split_once(':').unwrap().0.parse().unwrap()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|bytes| bytes == part)
}
