//! What a client is told of its transaction: the table of contract section 4, and `GET /v1/transactions/{id}`.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use kit::{Answer, Gate, Node, Stub};
use serde_json::json;

async fn two(section: &str, replace: (&str, &str)) -> (Node, Stub, Stub) {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let config = kit::two_branches(&accounts, &ledger).replace(replace.0, replace.1);
    let mut node = Node::with_section(section, &config);
    node.start().await;
    (node, accounts, ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_is_200_with_what_each_branch_said_in_declared_order() {
    let (node, accounts, ledger) = two("", ("", "")).await;
    accounts.always(
        "/debit",
        Answer::bytes(200, "application/json", r#"{"b": 1.10, "a": 12345678901234567890.000}"#),
    );
    ledger.always("/credit", Answer::bytes(201, "text/plain", "written"));
    let reply = node.post("/transfers", &json!({"amount": 5})).await.expect(200);
    let id = reply.transaction();
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(
        reply.text,
        format!(
            r#"{{"status":"success","transaction":{{"id":"{id}","state":"committed"}},"response":{{"accounts":{{"b": 1.10, "a": 12345678901234567890.000}},"ledger":{{"content_type":"text/plain","body":"written"}}}}}}"#
        )
    );
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(reply.header("location"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_part_twice_has_numbered_members() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let services = kit::service("zeta", &accounts, false) + &kit::service("alpha", &ledger, false);
    let route = r#"
        [[routes]]
        id = "r"
        match = { methods = ["POST"], path = "/r/{from}" }
        [routes.transaction]
        branches = [ { service = "zeta", path = "/debit/{from}" }, { service = "alpha", path = "/a" }, { service = "zeta", path = "/b" } ]
    "#;
    accounts.always("/debit/a%20b", Answer::json(200, json!(1)));
    ledger.always("/a", Answer::json(200, json!(2)));
    accounts.always("/b", Answer::json(200, json!(3)));
    let mut node = Node::new(&format!("{services}{route}"));
    node.start().await;
    let reply = node.post("/r/a%20b", &json!({})).await.expect(200);
    assert!(reply.text.ends_with(r#""response":{"zeta#1":1,"alpha":2,"zeta#2":3}}"#), "{}", reply.text);
    assert_eq!(accounts.count("/tx/prepare"), 0, "the work answer was the vote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_409_and_says_who_and_what_each_answered() {
    let (node, accounts, ledger) = two("", ("", "")).await;
    accounts.always("/debit", Answer::json(200, json!({"held": 5})));
    ledger.always("/credit", Answer::json(422, json!({"error": "closed"})).after(Duration::from_millis(50)));
    let reply = node.post("/transfers", &json!({"amount": 5})).await.expect(409);
    let told = reply.json();
    assert_eq!(told["status"], "failure");
    assert!(["aborting", "aborted"].contains(&told["transaction"]["state"].as_str().unwrap()));
    assert_eq!(told["transaction"]["id"], reply.transaction());
    assert_eq!(told["reason"], json!({"kind": "refused", "service": "ledger", "branch": 1, "status": 422}));
    assert_eq!(told["response"].to_string(), r#"{"accounts":{"held":5},"ledger":{"error":"closed"}}"#);
    // A no to prepare is the same.
    ledger.always("/credit", Answer::ok());
    accounts.always("/tx/prepare", Answer::status(409));
    let told = node.post("/transfers", &json!({"amount": 5})).await.expect(409).json();
    assert_eq!(told["reason"], json!({"kind": "refused", "service": "accounts", "branch": 0, "status": 409}));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_is_502_and_late_is_504() {
    let (node, accounts, mut ledger) = two("", ("timeout = \"5s\"", "timeout = \"700ms\"")).await;
    accounts.next("/debit", [Answer::status(503)]);
    let told = node.post("/transfers", &json!({})).await.expect(502).json();
    assert_eq!(told["status"], "failure");
    assert_eq!(
        told["reason"],
        json!({"kind": "unreachable", "service": "accounts", "branch": 0, "status": 503})
    );

    // The deadline of the transaction, while prepare gets no answer.
    ledger.next("/tx/prepare", [Answer::hang()]);
    let reply = node.post("/transfers", &json!({})).await.expect(504);
    assert_eq!(reply.json()["reason"]["kind"], "late");
    assert_ne!(reply.transaction(), "");

    ledger.stop().await;
    let told = node.post("/transfers", &json!({})).await.expect(502).json();
    assert_eq!(told["reason"], json!({"kind": "unreachable", "service": "ledger", "branch": 1}));
    assert_eq!(told["response"]["ledger"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_is_still_to_come_is_202_and_the_location_tells_the_rest() {
    let (node, accounts, _ledger) = two("", ("reply_within = \"2s\"", "reply_within = \"100ms\"")).await;
    let gate = Gate::closed();
    accounts.always("/tx/commit", Answer::ok().behind(&gate));
    let reply = node.post("/transfers", &json!({"amount": 5})).await.expect(202);
    let (id, told) = (reply.transaction().to_owned(), reply.json());
    assert_eq!(told["status"], "pending");
    assert_eq!(told["transaction"], json!({"id": id, "state": "committing"}));
    assert_eq!(told["response"], json!({"accounts": {}, "ledger": {}}));
    assert_eq!(reply.header("location"), format!("/v1/transactions/{id}"));
    let status = node.get(reply.header("location")).await.expect(200).json();
    assert_eq!(
        (status["state"].as_str(), status["outcome"].as_str()),
        (Some("committing"), Some("committed"))
    );
    gate.open();
    node.wait_for_state(&id, "committed").await;
    let status = node.get(reply.header("location")).await.expect(200).json();
    assert_eq!(status["outcome"], "committed");
    assert_eq!(status["branches"][1], json!({"branch": 1, "service": "ledger", "state": "confirmed"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_open_transactions_are_503_and_nothing_is_begun() {
    let (node, accounts, _ledger) = two("open_transactions_max = 4", ("", "")).await;
    let gate = Gate::closed();
    accounts.always("/debit", Answer::ok().behind(&gate));
    let body = json!({"amount": 5});
    let (first, second, refused) =
        tokio::join!(node.post("/transfers", &body), node.post("/transfers", &body), async {
            accounts.wait_for("/debit", 2).await;
            let undecided = node.in_doubt().await;
            let id = undecided[0]["id"].as_str().unwrap();
            let told = node.get(&format!("/v1/transactions/{id}")).await.expect(200).json();
            assert_eq!(
                (told["state"].as_str(), told["outcome"].as_str()),
                (Some("working"), Some("undecided"))
            );
            let refused = node.post("/transfers", &body).await;
            gate.open();
            refused
        });
    assert_eq!((first.status, second.status, refused.status), (200, 200, 503));
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.json()["code"], "overloaded");
    assert!(refused.text.contains("accounts"), "half of them may wait for one service: {}", refused.text);
    assert_eq!(accounts.count("/debit"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_no_node_made_was_never_seen_and_one_of_another_node_is_misdirected() {
    let (node, _accounts, _ledger) = two("", ("", "")).await;
    let (other, _more, _stubs) = two("", ("", "")).await;
    let reply = other.post("/transfers", &json!({})).await.expect(200);
    let elsewhere = node.get(&format!("/v1/transactions/{}", reply.transaction())).await.expect(421);
    assert_eq!(elsewhere.json()["code"], "other_node");
    for nobody in ["4b6f9a52-0f2e-4d3c-9a55-0242ac120002", "no-uuid"] {
        let told = node.get(&format!("/v1/transactions/{nobody}")).await.expect(404);
        assert_eq!(told.json()["code"], "never_seen");
        assert_eq!(told.header("content-type"), "application/problem+json");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_retention_no_answer_is_given_also_where_nothing_else_happens() {
    let (mut node, accounts, _ledger) =
        two("", ("[services.accounts]", "[log]\nretention = \"1s\"\n[services.accounts]")).await;
    let keyed = async |node: &Node| {
        let reply = node.post_with("/transfers", &[("Idempotency-Key", "k")], &json!({})).await.expect(200);
        reply.transaction().to_owned()
    };
    let id = keyed(&node).await;
    let path = format!("/v1/transactions/{id}");
    node.get(&path).await.expect(200);
    assert_eq!(keyed(&node).await, id);
    kit::until("the transaction is expired", async || {
        let told = node.get(&path).await;
        assert!([200, 410].contains(&told.status), "{told:?}");
        told.status == 410
    })
    .await;
    let told = node.get(&path).await.expect(410);
    assert_eq!(told.json()["code"], "expired");
    assert_eq!(
        kit::list(&node.admin("/v1/transactions").await.expect(200).text),
        [] as [serde_json::Value; 0]
    );
    node.crash().await;
    node.get(&path).await.expect(410);
    assert_ne!(keyed(&node).await, id, "the key is free again");
    assert_eq!(accounts.count("/debit"), 2);
}

/// The client would get a part of it; what the service said of its work is known all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_work_that_is_too_long_is_no_yes_and_a_no_that_is_too_long_is_a_no() {
    let (node, _accounts, ledger) = two("answer_max = 10_000", ("", "")).await;
    for (status, told, kind) in [(200, 502, "unreachable"), (409, 409, "refused")] {
        ledger.always("/credit", Answer::bytes(status, "text/plain", vec![b'x'; 20_000]));
        let reason = node.post("/transfers", &json!({})).await.expect(told).json()["reason"].clone();
        assert_eq!((&reason["kind"], &reason["status"]), (&json!(kind), &json!(status)), "{reason}");
    }
    ledger.wait_for("/tx/abort", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_transaction_is_the_nodes_own_however_it_is_written() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let route =
        "[[routes]]\nid = \"all\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"accounts\" }\n";
    let mut node = Node::new(&format!("{}{route}", kit::two_branches(&accounts, &ledger)));
    node.start().await;
    let never = "00000000-0000-7000-8000-000000000000";
    for path in ["/v1/transactions/", "/v1/%74ransactions/", "/%761/transactions/"] {
        let reply = node.get(&format!("{path}{never}")).await.expect(404);
        assert_eq!(reply.json()["code"], "never_seen", "{path}");
    }
    assert!(accounts.calls().is_empty(), "none of them is for a service");
    node.get("/v1/transactions").await.expect(200);
    assert_eq!(accounts.count("/v1/transactions"), 1);
}
