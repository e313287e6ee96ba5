//! What `/metrics` says, as Prometheus reads it, and the dashboard that shows it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use kit::{Answer, Node, Stub};
use serde_json::{Value, json};

/// A node that has done a little of everything.
async fn busy_node() -> (Node, Stub) {
    let stub = Stub::start().await;
    stub.next("/debit", [Answer::status(409)]);
    let more = r#"
        [services.accounts.health]
        path = "/health"
        [services.accounts.outlier]
        [services.accounts.breaker]
        [services.accounts.limit]

        [services.elsewhere]
        dns = { name = "nobody.invalid.", port = 80, server = "127.0.0.1:1" }
        optional = true

        [[routes]]
        id = "transfer"
        match = { methods = ["POST"], path = "/transfers" }
        [routes.transaction]
        branches = [ { service = "accounts", path = "/debit" } ]

        [[routes]]
        id = "all"
        match = { methods = ["GET"], path = "/{*rest}" }
        rate_limits = [ { requests = 1, per = "1h" } ]
        forward = { service = "accounts" }
    "#;
    let mut node = Node::new(&(kit::service("accounts", &stub, true) + more));
    node.start().await;
    for _ in 0..2 {
        node.get("/x").await;
        node.post("/transfers", &json!({})).await;
    }
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    (node, stub)
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_of_the_metrics() {
    let found = Command::new("tests/tools/promtool").stderr(Stdio::null()).output().unwrap();
    if !found.status.success() {
        return kit::skipped("no promtool, and no package of Debian to take it from");
    }
    let promtool = String::from_utf8(found.stdout).unwrap();
    let (node, _stub) = busy_node().await;
    let text = node.admin("/metrics").await.expect(200).text;
    let mut child = Command::new(promtool.trim())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let lines = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && lines.is_empty(), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_only_metrics_that_there_are_and_each_alert_of_the_operators_page() {
    let text = std::fs::read_to_string("deploy/grafana-dashboard.json").unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let shown: BTreeSet<String> = expressions.iter().flat_map(|expression| names(expression)).collect();

    let (node, _stub) = busy_node().await;
    let text = node.admin("/metrics").await.expect(200).text;
    let family = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
    let known: BTreeSet<String> = text.lines().filter_map(family).collect();
    let base = |name: &String| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .map_or(name.clone(), str::to_owned)
    };
    let unknown: Vec<_> =
        shown.iter().filter(|name| !known.contains(*name) && !known.contains(&base(name))).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {known:?}");
    for wanted in [
        "unanimous_transactions_parked",
        "unanimous_oldest_in_doubt_seconds",
        "unanimous_config_last_reload_successful",
    ] {
        assert!(shown.contains(wanted), "{wanted} is on no panel");
    }
    // Panels that lie on each other hide each other.
    let places: BTreeSet<String> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
    assert_eq!(places.len(), panels.len());
}

/// The metrics of ours that an expression names.
fn names(expression: &str) -> Vec<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("unanimous_")).map(str::to_owned).collect()
}
