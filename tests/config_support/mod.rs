//! What the tests of mistakes in a configuration share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use unanimous::config;

/// Two services, of which one takes part in transactions; 9 lines.
pub(crate) const SERVICES: &str = r#"[services.accounts]
endpoints = ["http://127.0.0.1:9001"]
[services.accounts.transaction]
commit = "/tx/commit"
abort  = "/tx/abort"

[services.ledger]
endpoints = ["http://127.0.0.1:9002"]

"#;

/// What is said of `text`, one mistake a line.
pub(crate) fn said_of(text: &str) -> String {
    let env = std::iter::empty();
    config::parse("gateway.toml", text, env).expect_err("the configuration has a mistake").to_string()
}

/// What is said of a file that has [`SERVICES`] and then `routes`, which begin in line 10.
pub(crate) fn said_of_routes(routes: &str) -> String {
    said_of(&format!("{SERVICES}{routes}"))
}

/// A route with this `match` and what follows it.
pub(crate) fn route(rest: &str) -> String {
    format!("[[routes]]\nid = \"r\"\n{rest}\n")
}
