//! The kit for tests with real processes: a gateway node, scripted participants, HTTP in one line.
//!
//! ```text
//!  test ──► Node (the real program, killed and started again) ──► Stub (a participant in this process,
//!                                                                      which answers as it is told)
//! ```
//!
//! ```ignore
//! mod kit;
//! use kit::{Answer, Node, Stub};
//!
//! #[tokio::test(flavor = "multi_thread")]
//! async fn one_no_aborts_both() {
//!     let (accounts, ledger) = (Stub::start().await, Stub::start().await);
//!     ledger.always("/credit", Answer::json(409, json!({"error": "no"})));
//!     let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
//!     node.start().await;
//!     let reply = node.post("/transfers", &json!({"amount": 5})).await;
//!     assert_eq!(reply.status, 409);
//!     accounts.wait_for("/tx/abort", 1).await;
//!     node.kill().await;
//! }
//! ```
//!
//! Every wait here gives up after [`PATIENCE`] with a panic that says what it waited for.
#![allow(dead_code, reason = "each test file uses a part of the kit")]
#![allow(unused_imports, reason = "each test file uses a part of the kit")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own, and the kit a module in it")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "what a node said is shown where its test fails")]

mod answer;
mod asked;
mod asking;
mod caller;
mod disk;
mod files;
mod node;
mod process;
mod skipped;
mod stub;
mod web;
mod wire;

use std::time::Duration;

pub use answer::{Answer, Gate};
pub use asked::{Asked, ask_until_one_fails, calls_are_true};
pub use caller::Caller;
pub use disk::{Kind, SmallDisk};
pub(crate) use files::{copy_tree, damage};
pub use node::Node;
pub use skipped::skipped;

pub use process::{Process, example, missing};
pub use stub::Stub;
pub use unanimous::cli::demo::harness::free_port;
pub use web::{Reply, client, get, lines, list, send};
pub use wire::Call;

/// The longest any wait of the kit may take. Two cores shared with other tests are slow now and then.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `check` every few milliseconds until it says true; panics with `what` after [`PATIENCE`].
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, asking).await;
    assert!(done.is_ok(), "waited {PATIENCE:?} for this, in vain: {what}");
}

/// A configuration with one transaction route, `POST /transfers`, over `accounts` (`/debit`) and `ledger`
/// (`/credit`), both with prepare. Retries come soon, so that a test need not wait for them.
pub fn two_branches(accounts: &Stub, ledger: &Stub) -> String {
    let route = r#"
        [[routes]]
        id = "transfer"
        match = { methods = ["POST"], path = "/transfers" }
        [routes.transaction]
        timeout = "5s"
        reply_within = "2s"
        branches = [
          { service = "accounts", method = "POST", path = "/debit" },
          { service = "ledger",   method = "POST", path = "/credit" },
        ]
    "#;
    format!("{}{}{route}", service("accounts", accounts, true), service("ledger", ledger, true))
}

/// The configuration of a service at `stub`; without `prepare` its answer to the work call is its vote.
pub fn service(name: &str, stub: &Stub, prepare: bool) -> String {
    let prepare = if prepare { "prepare = \"/tx/prepare\"" } else { "" };
    format!(
        r#"
        [services.{name}]
        endpoints = ["{url}"]
        [services.{name}.transaction]
        {prepare}
        commit  = "/tx/commit"
        abort   = "/tx/abort"
        timeout = "1s"
        retry   = {{ initial = "10ms", max = "100ms", jitter = true }}
        "#,
        url = stub.url(""),
    )
}
