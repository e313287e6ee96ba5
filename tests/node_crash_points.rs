//! The node aborts itself at every named point between a record and what follows from it. It is started again,
//! and what becomes of the transaction is what the recovery table says (design.md, section 6).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::{Answer, Node, Reply, Stub};
use serde_json::{Value, json};

const KEY: [(&str, &str); 1] = [("Idempotency-Key", "\"transfer-1\"")];

/// A node that has just aborted itself, and its participants.
struct Crashed {
    node: Node,
    accounts: Stub,
    ledger: Stub,
}

impl Crashed {
    /// Sends one transfer to a node that aborts itself at `point`.
    async fn at(point: &str) -> Self {
        Self::with(point, "", Answer::ok()).await
    }

    /// The same with more configuration, where the ledger answers its commit so.
    async fn with(point: &str, config: &str, commit: Answer) -> Self {
        let (accounts, ledger) = (Stub::start().await, Stub::start().await);
        accounts.always("/debit", Answer::json(200, json!({"balance": 7})));
        ledger.always("/tx/commit", commit);
        let mut node = Node::new(&format!("{config}{}", kit::two_branches(&accounts, &ledger)));
        node.env("UNANIMOUS_CRASH_AT", point).start().await;
        // At some points the client has its answer already.
        let _ = node.try_post("/transfers", &KEY, &json!({"amount": 5})).await;
        let mut crashed = Self { node, accounts, ledger };
        if !point.ends_with("resolved") && !point.ends_with("carried") {
            crashed.node.wait().await;
        }
        crashed
    }

    fn calls(&self, path: &str) -> (usize, usize) {
        (self.accounts.count(path), self.ledger.count(path))
    }

    fn commits(&self) -> (usize, usize) {
        self.calls("/tx/commit")
    }

    async fn restart(&mut self) {
        self.node.env_clear().start().await;
    }

    /// The same request with the same key.
    async fn send_again(&self) -> Reply {
        self.node.post_with("/transfers", &KEY, &json!({"amount": 5})).await
    }

    async fn aborts_at_restart(mut self) {
        self.restart().await;
        self.accounts.wait_for("/tx/abort", 1).await;
        self.ledger.wait_for("/tx/abort", 1).await;
        self.node.settled().await;
        assert_eq!(self.commits(), (0, 0), "no branch was told to commit");
        let again = self.send_again().await.expect(502).json();
        assert_eq!(again["status"], "failure");
        assert_eq!(again["reason"], json!({"kind": "restarted"}));
        assert_eq!(again["transaction"]["state"], "aborted");
        assert_eq!(self.commits(), (0, 0), "the key began nothing");
    }

    async fn commits_at_restart(mut self) {
        self.restart().await;
        self.node.settled().await;
        self.accounts.wait_for("/tx/commit", 1).await;
        self.ledger.wait_for("/tx/commit", 1).await;
        assert_eq!(self.calls("/tx/abort"), (0, 0), "no branch was told to abort");
        let again = self.send_again().await.expect(200).json();
        assert_eq!(again["status"], "success");
        assert_eq!(again["transaction"]["state"], "committed");
        assert_eq!(again["response"], json!({"accounts": {"balance": 7}, "ledger": {}}));
        assert_eq!(self.accounts.count("/debit"), 1, "work was asked for once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_begun_nothing_has_happened_and_the_key_begins_anew() {
    let mut crashed = Crashed::at("before-begun").await;
    assert_eq!(crashed.calls("/debit"), (0, 0));
    assert_eq!(crashed.calls("/credit"), (0, 0));
    crashed.restart().await;
    assert_eq!(crashed.node.in_doubt().await, Vec::<Value>::new());
    crashed.send_again().await.expect(200);
    assert_eq!(crashed.accounts.count("/debit"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_begun_no_work_was_sent_and_the_restart_aborts() {
    let crashed = Crashed::at("after-begun").await;
    assert_eq!((crashed.accounts.calls().len(), crashed.ledger.calls().len()), (0, 0));
    crashed.aborts_at_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_preparing_no_prepare_was_sent_and_the_restart_aborts() {
    let crashed = Crashed::at("before-preparing").await;
    assert_eq!(crashed.calls("/tx/prepare"), (0, 0));
    crashed.aborts_at_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_preparing_no_prepare_was_sent_and_the_restart_aborts() {
    let crashed = Crashed::at("after-preparing").await;
    assert_eq!(crashed.calls("/tx/prepare"), (0, 0));
    crashed.aborts_at_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_decided_all_said_yes_and_the_restart_still_aborts() {
    let crashed = Crashed::at("before-decided").await;
    assert_eq!(crashed.calls("/tx/prepare"), (1, 1));
    assert_eq!(crashed.commits(), (0, 0));
    crashed.aborts_at_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_decided_nobody_was_told_and_the_restart_commits() {
    let crashed = Crashed::at("after-decided").await;
    assert_eq!(crashed.commits(), (0, 0));
    crashed.commits_at_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn around_acked_and_ended_the_restart_commits() {
    for point in ["before-acked", "after-acked", "before-ended", "after-ended"] {
        let crashed = Crashed::at(point).await;
        assert_eq!(crashed.calls("/tx/abort"), (0, 0), "{point}");
        crashed.commits_at_restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_is_aborted_after_a_crash_around_its_last_record() {
    for point in ["before-decided", "after-decided", "before-acked", "before-ended", "after-ended"] {
        let (accounts, ledger) = (Stub::start().await, Stub::start().await);
        ledger.always("/credit", Answer::json(409, json!({"error": "closed"})));
        let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
        node.env("UNANIMOUS_CRASH_AT", point).start().await;
        let _ = node.try_post("/transfers", &KEY, &json!({"amount": 5})).await;
        node.wait().await;
        node.env_clear().start().await;
        node.settled().await;
        assert!(accounts.count("/tx/abort") >= 1, "{point}: who did the work was told to undo it");
        assert_eq!((accounts.count("/tx/commit"), ledger.count("/tx/commit")), (0, 0), "{point}");
        let again = node.post_with("/transfers", &KEY, &json!({"amount": 5})).await;
        // Before the decision was in the log the refusal was nobody's knowledge but ours.
        let expected = if point == "before-decided" { (502, "restarted") } else { (409, "refused") };
        assert_eq!((again.status, again.json()["reason"]["kind"].as_str().unwrap()), expected, "{point}");
        assert_eq!(accounts.count("/debit"), 1, "{point}: the key began nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn around_parked_the_branch_is_parked_again_and_the_other_is_told() {
    for point in ["before-parked", "after-parked"] {
        let mut crashed = Crashed::with(point, "", Answer::json(409, json!({"error": "no"}))).await;
        crashed.restart().await;
        crashed.accounts.wait_for("/tx/commit", 1).await;
        kit::until("the branch is parked", async || {
            let open = crashed.node.in_doubt().await;
            open.iter().any(|one| one["parked"] == true && one["branches"][1]["state"] == "parked")
        })
        .await;
        let open = crashed.node.in_doubt().await;
        assert_eq!(open.len(), 1, "{point}: {open:?}");
        assert_eq!(open[0]["outcome"], "committed", "{point}");
        assert!(open[0]["parked_reason"].as_str().unwrap().contains("409"), "{point}: {open:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn around_resolved_the_word_of_the_operator_counts_once_it_is_in_the_log() {
    for (point, is_kept) in [("before-resolved", false), ("after-resolved", true)] {
        let mut crashed = Crashed::with(point, "", Answer::json(409, json!({"error": "no"}))).await;
        kit::until("the branch is parked", async || {
            crashed.node.in_doubt().await.iter().any(|one| one["parked"] == true)
        })
        .await;
        let open = crashed.node.in_doubt().await;
        let id = open[0]["id"].as_str().unwrap().to_owned();
        let wish = json!({"branch": 1, "as": "committed", "reason": "booked by hand", "actor": "ann"});
        let url = crashed.node.admin_url(&format!("/v1/transactions/{id}/resolve"));
        let headers = [("content-type", "application/json")];
        let sent =
            kit::send(&kit::client(), http::Method::POST, &url, &headers, Some(wish.to_string())).await;
        assert!(sent.is_err(), "{point}: the node aborts before it answers");
        crashed.node.wait().await;
        crashed.restart().await;
        if is_kept {
            crashed.node.settled().await;
            assert_eq!(crashed.node.state(&id).await, "committed");
        } else {
            kit::until("the branch is parked", async || {
                crashed.node.in_doubt().await.iter().any(|one| one["parked"] == true)
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn around_carried_a_decided_transaction_stays_decided() {
    for point in ["before-carried", "after-carried"] {
        let log = "[log]\nretention = \"500ms\"\n";
        let mut crashed = Crashed::with(point, log, Answer::status(503)).await;
        let first = crashed.ledger.wait_for("/tx/commit", 1).await[0].transaction().to_owned();
        // What is carried is written behind newer records, so there must be some.
        crashed.ledger.always("/credit", Answer::status(409));
        while crashed.node.runs() {
            let _ = crashed.node.try_post("/transfers", &[], &json!({"amount": 6})).await;
        }
        crashed.node.wait().await;
        crashed.ledger.always("/tx/commit", Answer::ok());
        crashed.ledger.forget();
        crashed.restart().await;
        let told = crashed.ledger.wait_for("/tx/commit", 1).await;
        assert_eq!(told[0].transaction(), first, "{point}");
        crashed.node.settled().await;
        let aborted = crashed.ledger.calls_to("/tx/abort");
        assert!(aborted.iter().all(|call| call.transaction() != first), "{point}");
    }
}
