//! What an engineer on call has: `tx`, `dump` and `verify`, and the same over HTTP (contract sections 2, 6, 7).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use kit::{Answer, Node, Stub};
use serde_json::{Value, json};
use snapbox::str;
use tokio::io::{AsyncBufReadExt, BufReader};

async fn two() -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let config =
        kit::two_branches(&accounts, &ledger).replace("reply_within = \"2s\"", "reply_within = \"200ms\"");
    let mut node = Node::new(&config);
    node.start().await;
    (node, accounts, ledger)
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

/// A transaction with its branch 1 parked.
async fn parked(node: &Node, ledger: &Stub) -> String {
    ledger.next("/tx/commit", [Answer::json(409, json!({"error": "no such hold"}))]);
    let reply = node.post("/transfers", &json!({"amount": 5})).await.expect(202);
    let id = reply.transaction().to_owned();
    kit::until("it is parked", async || {
        node.get(&format!("/v1/transactions/{id}")).await.json()["parked"] == true
    })
    .await;
    id
}

/// Every file under `directory` with its bytes.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_branch_is_seen_retried_and_resolved_by_command() {
    let (node, _accounts, ledger) = two().await;
    let id = parked(&node, &ledger).await;
    let url = node.admin_url("");
    assert_eq!(node.metric("transactions_in_doubt").await, "1.0");
    assert_eq!(node.metric("transactions_parked").await, "1.0");
    let age: f64 = node.metric("oldest_in_doubt_seconds").await.parse().unwrap();
    assert!(age > 0.1 && age < 60.0, "{age}");

    let list = node.cli(&["tx", "list", "--url", &url, "--in-doubt"]).await;
    assert_eq!(code(&list), 0);
    assert!(out(&list).contains(&id) && out(&list).contains("an operator"), "{}", out(&list));
    let list = node.cli(&["tx", "list", "--url", &url, "--state", "committing", "--format", "json"]).await;
    let lines = kit::lines(&out(&list));
    assert_eq!((lines.len(), lines[0]["id"].as_str()), (1, Some(id.as_str())));
    let nothing = node.cli(&["tx", "list", "--url", &url, "--state", "aborted", "--format", "json"]).await;
    assert_eq!(out(&nothing), "");
    let shown = node.cli(&["tx", "show", &id, "--url", &url]).await;
    assert!(out(&shown).contains("no such hold"), "{}", out(&shown));

    ledger.forget();
    ledger.next("/tx/commit", [Answer::status(409)]);
    let retried = node.cli(&["tx", "retry", &id, "--url", &url]).await;
    assert_eq!(code(&retried), 0, "{}", err(&retried));
    ledger.wait_for("/tx/commit", 1).await;
    kit::until("it is parked still", async || node.in_doubt().await[0]["parked"] == true).await;

    let resolve = ["tx", "resolve", &id, "--url", &url, "--branch"];
    let wrong = node.cli(&[&resolve[..], &["0", "--as", "committed", "--reason", "x"]].concat()).await;
    assert_eq!(code(&wrong), 1);
    assert!(err(&wrong).contains("branch 0 is not parked"), "{}", err(&wrong));
    let right = ["1", "--as", "committed", "--reason", "booked by hand", "--actor", "ann"];
    let resolved = node.cli(&[&resolve[..], &right].concat()).await;
    assert_eq!(code(&resolved), 0, "{}", err(&resolved));
    node.wait_for_state(&id, "committed").await;
    node.settled().await;
    let log = node.log().await;
    let record = log.iter().find(|record| record["record"] == "resolved").expect("it is in the log");
    assert_eq!((&record["branch"], &record["reason"]), (&json!(1), &json!("booked by hand")));
    assert_eq!(record["actor"], "ann");
    assert_eq!(node.records(&id).await.last().unwrap(), "ended");
    let late = node.cli(&[&resolve[..], &right].concat()).await;
    assert_eq!(code(&late), 1);
    assert!(err(&late).contains("404"), "{}", err(&late));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_branch_that_was_mended_is_told_again_on_request_also_after_a_crash() {
    let (mut node, _accounts, ledger) = two().await;
    let id = parked(&node, &ledger).await;
    node.crash().await;
    node.wait_for_parked(&id).await;
    ledger.forget();
    ledger.next("/tx/commit", [Answer::status(409), Answer::status(409)]);
    for attempt in 1..=2 {
        node.admin_post(&format!("/v1/transactions/{id}/retry"), &json!({})).await.expect(200);
        let calls = ledger.wait_for("/tx/commit", attempt).await;
        assert_eq!(calls.iter().map(kit::Call::attempt).max(), Some(attempt));
    }
    let retried = node.cli(&["tx", "retry", &id, "--url", &node.admin_url("")]).await;
    assert_eq!(code(&retried), 0, "{}", err(&retried));
    node.wait_for_state(&id, "committed").await;
    assert_eq!(ledger.count("/tx/commit"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_told_the_end_of_a_transaction_finds_it_in_the_list() {
    let (node, _accounts, _ledger) = two().await;
    for _ in 0..20 {
        let id = node.post("/transfers", &json!({"amount": 5})).await.expect(200).transaction().to_owned();
        let list = kit::list(&node.admin("/v1/transactions?state=committed").await.expect(200).text);
        assert_eq!(list.iter().filter(|listed| listed["id"] == id.as_str()).count(), 1, "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let (node, _accounts, _ledger) = two().await;
    let plain = node.admin("/metrics").await.expect(200);
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(plain.text.contains("# TYPE unanimous_log_syncs_total counter"), "{}", plain.text);
    let accept = [("accept", "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5")];
    let open = node.send(http::Method::GET, &node.admin_url("/metrics"), &accept, None).await.expect(200);
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(open.text.ends_with("# EOF\n"), "{}", open.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_went_against_the_decision_is_told_as_it_is_also_after_a_crash() {
    let (mut node, accounts, ledger) = two().await;
    ledger.next("/tx/commit", [Answer::status(409)]);
    // The other branch is still to be told, so that the transaction outlives the crash.
    accounts.always("/tx/commit", Answer::status(503));
    let again = async |node: &Node| {
        node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({"amount": 5})).await
    };
    let id = again(&node).await.expect(202).transaction().to_owned();
    node.wait_for_parked(&id).await;
    let url = node.admin_url("");
    let wish = ["--branch", "1", "--as", "aborted", "--reason", "the hold had lapsed"];
    let resolved = node.cli(&[&["tx", "resolve", &id, "--url", &url][..], &wish].concat()).await;
    assert_eq!(code(&resolved), 0, "{}", err(&resolved));
    assert!(out(&resolved).contains("1 (ledger): resolved as aborted"), "{}", out(&resolved));
    let settled = json!({"branch": 1, "service": "ledger", "state": "resolved", "as": "aborted"});
    let reason = json!({"kind": "resolved", "service": "ledger", "branch": 1, "as": "aborted"});

    let is_told = async |node: &Node, state: &str| {
        node.wait_for_state(&id, state).await;
        let seen = node.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
        assert_eq!((&seen["outcome"], &seen["branches"][1]), (&json!("committed"), &settled));
        let told = again(node).await.expect(409).json();
        assert_eq!((&told["status"], &told["reason"]), (&json!("failure"), &reason));
        assert_eq!(told["transaction"], json!({"id": id, "state": state}));
    };
    is_told(&node, "committing").await;
    node.crash().await;
    is_told(&node, "committing").await;
    accounts.always("/tx/commit", Answer::ok());
    is_told(&node, "committed").await;
    node.crash().await;
    is_told(&node, "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_http_with_problems_where_it_does_not_fit() {
    let (node, _accounts, ledger) = two().await;
    let id = parked(&node, &ledger).await;
    let shown = node.admin(&format!("/v1/transactions/{id}")).await.expect(200).json();
    assert_eq!((&shown["parked"], &shown["branches"][1]["state"]), (&json!(true), &json!("parked")));
    let resolve = format!("/v1/transactions/{id}/resolve");
    let wish = |branch: usize| json!({"branch": branch, "as": "committed", "reason": "seen", "actor": "bob"});
    let refused = node.admin_post(&resolve, &wish(0)).await.expect(409);
    assert_eq!(refused.json()["code"], "not_parked");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    for bad in [
        json!({}),
        json!({"branch": 1, "as": "done", "reason": "x"}),
        json!({"branch": 1, "as": "committed", "reason": " "}),
    ] {
        node.admin_post(&resolve, &bad).await.expect(400);
    }
    let nobody = "/v1/transactions/4b6f9a52-0f2e-4d3c-9a55-0242ac120002";
    node.admin_post(&format!("{nobody}/resolve"), &wish(1)).await.expect(404);
    node.admin_post(&format!("{nobody}/retry"), &json!({})).await.expect(404);
    node.admin(nobody).await.expect(404);
    assert_eq!(node.in_doubt().await.len(), 1, "nothing of this has changed anything");
    node.admin_post(&resolve, &wish(1)).await.expect(200);
    node.wait_for_state(&id, "committed").await;
    assert_eq!(node.admin("/livez").await.expect(200).text, "ok\n");
    for name in ["transactions_parked", "transactions_in_doubt", "oldest_in_doubt_seconds"] {
        assert_eq!(node.metric(name).await, "0.0", "{name}");
    }
    node.admin("/v1/log?from=x").await.expect(400);
    node.admin("/v1/nothing").await.expect(404);
    let bogus = node.admin("/v1/transactions?state=bogus").await.expect(400);
    assert_eq!(bogus.json()["code"], "bad_query");
    let method = node.admin_post("/livez", &json!({})).await.expect(405);
    assert_eq!(
        (method.header("allow"), method.header("content-type")),
        ("GET,HEAD", "application/problem+json")
    );
    let bogus = node.cli(&["tx", "list", "--url", &node.admin_url(""), "--state", "bogus"]).await;
    assert_eq!(code(&bogus), 2);
    assert!(err(&bogus).contains("committing"), "{}", err(&bogus));
    let page = node.admin("/v1/log?from=2&limit=1").await.expect(200);
    assert_eq!(kit::lines(&page.text)[0]["lsn"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_that_was_left_and_each_end_is_counted_once() {
    let (node, _accounts, ledger) = two().await;
    ledger.next("/credit", [Answer::ok(), Answer::status(409), Answer::ok()]);
    for status in [200, 409, 200] {
        node.post("/transfers", &json!({"amount": 5})).await.expect(status);
    }
    node.settled().await;
    for (state, times) in [("working", "3"), ("preparing", "2"), ("committing", "2"), ("aborting", "1")] {
        let counted = node.metric(&format!("phase_duration_seconds_count{{phase=\"{state}\"}}")).await;
        assert_eq!(counted, times, "{state}");
    }
    for (outcome, times) in [("committed", "2"), ("aborted", "1")] {
        let counted = node.metric(&format!("transactions_total{{outcome=\"{outcome}\"}}")).await;
        assert_eq!(counted, times, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dump_prints_the_log_in_both_formats() {
    let (mut node, _accounts, ledger) = two().await;
    let id = node.post("/transfers", &json!({"amount": 5})).await.expect(200).transaction().to_owned();
    ledger.next("/credit", [Answer::status(409)]);
    node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({"amount": 5})).await.expect(409);
    node.settled().await;
    let open = parked(&node, &ledger).await;
    node.terminate().await;
    let (directory, before) = (node.data_dir(), contents(&node.data_dir()));
    let directory = directory.to_str().unwrap();

    let table = node.cli(&["dump", "--data-dir", directory, "--transaction", &id]).await;
    assert_eq!(code(&table), 0, "{}", err(&table));
    snapbox::assert_data_eq!(
        out(&table),
        str![[r"
     lsn  time                      transaction                           record     says
       2  [..]Z  [..]  begun      route=transfer deadline=[..]Z branches=accounts,ledger
       3  [..]Z  [..]  preparing  read_only=
       4  [..]Z  [..]  decided    decision=commit votes=0:yes,1:yes
       5  [..]Z  [..]  acked      branch=[..]
       6  [..]Z  [..]  ended      outcome=committed

"]]
    );
    let json = node.cli(&["dump", "--data-dir", directory, "--transaction", &id, "--format", "json"]).await;
    snapbox::assert_data_eq!(
        out(&json).replace(&id, "ID"),
        str![[r#"
{"lsn":2,"time":"[..]Z","transaction":"ID","record":"begun","route":"transfer","deadline":"[..]Z","branches":[{"service":"accounts","method":"POST","work":"/debit","prepare":"/tx/prepare","commit":"/tx/commit","abort":"/tx/abort"},{"service":"ledger","method":"POST","work":"/credit","prepare":"/tx/prepare","commit":"/tx/commit","abort":"/tx/abort"}]}
{"lsn":3,"time":"[..]Z","transaction":"ID","record":"preparing","read_only":[]}
{"lsn":4,"time":"[..]Z","transaction":"ID","record":"decided","decision":"commit","votes":{"0":"yes","1":"yes"}}
{"lsn":5,"time":"[..]Z","transaction":"ID","record":"acked","branch":[..]}
{"lsn":6,"time":"[..]Z","transaction":"ID","record":"ended","outcome":"committed"}

"#]]
    );
    let all = kit::lines(&out(&node.cli(&["dump", "--data-dir", directory, "--format", "json"]).await));
    let lsns: Vec<_> = all.iter().map(|record| record["lsn"].as_u64().unwrap()).collect();
    assert_eq!(lsns, (1..=lsns.len() as u64).collect::<Vec<_>>(), "from 1, without gaps");
    assert_eq!(all[0]["record"], "opened");
    let keyed = all.iter().find(|record| record["idempotency_key"] == "k");
    assert_eq!(keyed.unwrap()["record"], "begun");
    let aborted = all.iter().find(|record| record["decision"] == "abort").unwrap();
    assert_eq!((&aborted["reason"]["kind"], &aborted["reason"]["branch"]), (&json!("refused"), &json!(1)));

    let some =
        node.cli(&["dump", "--data-dir", directory, "--from", "3", "--limit", "2", "--format", "json"]).await;
    let lsns: Vec<_> = kit::lines(&out(&some)).iter().map(|record| record["lsn"].clone()).collect();
    assert_eq!(lsns, [3, 4]);
    let doubt = node.cli(&["dump", "--data-dir", directory, "--in-doubt", "--format", "json"]).await;
    let doubt = kit::lines(&out(&doubt));
    assert!(
        !doubt.is_empty() && doubt.iter().all(|record| record["transaction"] == open.as_str()),
        "{doubt:?}"
    );
    let sound = node.cli(&["verify", "--data-dir", directory]).await;
    assert_eq!((code(&sound), out(&sound).ends_with("sound\n")), (0, true), "{}", out(&sound));
    assert_eq!(contents(&node.data_dir()), before, "nothing in the directory has changed");
    let usage = node.cli(&["dump", "--data-dir", directory, "--follow"]).await;
    assert_eq!((code(&usage), code(&node.cli(&["dump"]).await)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_a_live_node_is_not_read_but_its_url_is_named() {
    let (node, _accounts, _ledger) = two().await;
    let id = node.post("/transfers", &json!({"amount": 5})).await.expect(200).transaction().to_owned();
    node.settled().await;
    // The witness follows what was committed last within 100 ms.
    kit::until("the log is at rest", async || {
        let before = contents(&node.data_dir());
        tokio::time::sleep(Duration::from_millis(300)).await;
        contents(&node.data_dir()) == before
    })
    .await;
    let (directory, before) = (node.data_dir(), contents(&node.data_dir()));
    for command in ["dump", "verify"] {
        let refused = node.cli(&[command, "--data-dir", directory.to_str().unwrap()]).await;
        assert_eq!((code(&refused), out(&refused).as_str()), (1, ""), "{command}");
        assert!(err(&refused).contains("--url"), "{command}: {}", err(&refused));
    }
    assert!(contents(&directory) == before, "nothing in the directory has changed");
    let dump = node.cli(&["dump", "--url", &node.admin_url(""), "--format", "json"]).await;
    assert_eq!(kit::lines(&out(&dump)), node.log().await, "the same lines as GET /v1/log");
    let one =
        ["dump", "--url", &node.admin_url(""), "--transaction", &id, "--limit", "1", "--format", "json"];
    assert_eq!(kit::lines(&out(&node.cli(&one).await))[0]["record"], "begun");
    let nobody = node.cli(&["dump", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(code(&nobody), 1);
    assert!(err(&nobody).contains("node.admin"), "{}", err(&nobody));
    // Whatever else is taken for it, is said.
    let neither = node.cli(&["dump"]).await;
    assert!(code(&neither) == 2 && err(&neither).contains("--url"), "{}", err(&neither));
    let public = node.cli(&["tx", "list", "--url", &node.url("")]).await;
    assert!(code(&public) == 1 && err(&public).contains("where clients connect"), "{}", err(&public));
    let secure = node.cli(&["tx", "list", "--url", "https://127.0.0.1:1"]).await;
    assert!(code(&secure) == 1 && err(&secure).contains("plain http"), "{}", err(&secure));
}

#[tokio::test(flavor = "multi_thread")]
async fn dump_follows_a_live_node() {
    let (node, _accounts, _ledger) = two().await;
    let mut dump = tokio::process::Command::new(env!("CARGO_BIN_EXE_unanimous"))
        .args(["dump", "--follow", "--format", "json", "--url", &node.admin_url("")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dump.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line =
            tokio::time::timeout(kit::PATIENCE, lines.next_line()).await.expect("a line comes").unwrap();
        serde_json::from_str::<Value>(&line.unwrap()).unwrap()["record"].as_str().unwrap().to_owned()
    };
    assert_eq!(next().await, "opened");
    for _ in 0..2 {
        node.post("/transfers", &json!({"amount": 5})).await.expect(200);
        for record in ["begun", "preparing", "decided", "acked", "ended"] {
            assert_eq!(next().await, record);
        }
    }
}
