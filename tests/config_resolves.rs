//! What a configuration becomes: defaults, the sample of the contract, and variables of the environment.

use std::time::Duration;

use proptest::prelude::*;
use unanimous::config::{self, Config, ConfigError};
use unanimous::gateway::Action;
use unanimous::journal::options::{Copied, Sync};
use unanimous::participant::options::CallBody;

const SAMPLE: &str = include_str!("config_sample.toml");

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::parse("gateway.toml", text, env)
}

fn sample(env: &[(&str, &str)]) -> Config {
    parse(SAMPLE, env).expect("the sample is fine")
}

fn said_of(text: &str, env: &[(&str, &str)]) -> String {
    parse(text, env).expect_err("a mistake").to_string()
}

#[test]
fn an_empty_file_is_a_node_with_all_defaults() {
    let config = parse("", &[]).unwrap();
    assert_eq!(config.node, unanimous::server::options::NodeOptions::default());
    assert_eq!(config.log.sync, Sync::EveryTransition);
    assert!(!config.log.accept_damage);
    assert_eq!(config.log.accept_copy, Copied::Refuse, "a copy is not taken for the log");
    assert_eq!(config.coordinator.open_transactions_max, 20_000);
    assert_eq!(config.routes.iter().count(), 0);
}

#[test]
fn the_sample_of_the_contract_is_read_to_the_letter() {
    let config = sample(&[]);
    assert_eq!(config.node.advertised(config.node.listen), "http://127.0.0.1:8000");
    assert_eq!(config.log.retention, Duration::from_hours(24));
    let accounts = &config.services["accounts"];
    assert_eq!(accounts.instances()[0].endpoint.as_str(), "http://127.0.0.1:9001");
    let transaction = accounts.transaction.as_ref().unwrap();
    assert_eq!(transaction.prepare.as_deref(), Some("/tx/prepare"));
    assert_eq!((transaction.commit.as_str(), transaction.abort.as_str()), ("/tx/commit", "/tx/abort"));
    assert_eq!((transaction.body, transaction.timeout), (CallBody::Envelope, Duration::from_secs(2)));
    assert_eq!(transaction.retry.initial, Duration::from_millis(50));
    let ids: Vec<_> = config.routes.iter().map(|route| route.id.as_str()).collect();
    assert_eq!(ids, ["overview", "transfer", "account"]);
}

#[test]
fn a_transaction_route_keeps_its_branches_in_order() {
    let config = sample(&[]);
    let route = config.routes.iter().find(|route| route.id == "transfer").unwrap();
    let Action::Transaction(transaction) = &route.action else { panic!("{route:?}") };
    let branches: Vec<_> = transaction
        .branches
        .iter()
        .map(|branch| (branch.service.as_str(), branch.path.to_string()))
        .collect();
    assert_eq!(branches, [("accounts", "/debit".to_owned()), ("ledger", "/credit".to_owned())]);
    assert_eq!(transaction.branches[1].body.as_ref().map(ToString::to_string).as_deref(), Some("/to"));
    assert_eq!(transaction.timeout, Duration::from_secs(10));
    assert_eq!(transaction.reply_within, Duration::from_secs(5));
}

#[test]
fn a_variable_overrides_the_file_whatever_its_case() {
    let config = sample(&[
        ("UNANIMOUS__NODE__LISTEN", "0.0.0.0:9000"),
        ("unanimous__log__accept_damage", "true"),
        ("UNANIMOUS__LOG__ACCEPT_COPY", "outdated"),
        ("UNANIMOUS__NODE__CONNECTIONS_MAX", "7"),
        ("UNRELATED", "x"),
        ("UNANIMOUS_CRASH", "x"),
    ]);
    assert_eq!(config.node.listen, "0.0.0.0:9000".parse().unwrap());
    assert!(config.log.accept_damage);
    assert_eq!(config.log.accept_copy, Copied::Outdated);
    assert_eq!(config.node.connections_max, 7);
}

#[test]
fn a_variable_reaches_services_by_name_and_routes_by_id() {
    let config = sample(&[
        ("UNANIMOUS__SERVICES__ACCOUNTS__TRANSACTION__TIMEOUT", "9s"),
        ("UNANIMOUS__SERVICES__LEDGER__ENDPOINTS", "http://a:1, http://b:2"),
        ("UNANIMOUS__ROUTES__TRANSFER__TRANSACTION__REPLY_WITHIN", "1s"),
    ]);
    assert_eq!(config.services["accounts"].transaction.as_ref().unwrap().timeout, Duration::from_secs(9));
    let endpoints: Vec<_> =
        config.services["ledger"].instances().iter().map(|instance| instance.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["http://a:1", "http://b:2"]);
    let transfer = config.routes.iter().find(|route| route.id == "transfer").unwrap();
    assert!(
        matches!(&transfer.action, Action::Transaction(route) if route.reply_within == Duration::from_secs(1))
    );
}

#[test]
fn a_variable_sets_what_the_file_leaves_out() {
    let config =
        parse("", &[("UNANIMOUS__NODE__DATA_DIR", "/var/lib/1"), ("UNANIMOUS__LOG__SYNC", "decisions")])
            .unwrap();
    assert_eq!(config.node.data_dir.to_str(), Some("/var/lib/1"));
    assert_eq!(config.log.sync, Sync::Decisions);
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text_where_one_belongs() {
    let config = parse("", &[("UNANIMOUS__NODE__DATA_DIR", "2024")]).unwrap();
    assert_eq!(config.node.data_dir.to_str(), Some("2024"));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let said = said_of(SAMPLE, &[("UNANIMOUS__NODE__LISTN", "x")]);
    assert_eq!(
        said,
        "environment variable UNANIMOUS__NODE__LISTN: no key goes by this name; did you mean UNANIMOUS__NODE__LISTEN?"
    );
    let said = said_of(SAMPLE, &[("UNANIMOUS__SERVICES__NOBODY__TRANSACTION__TIMEOUT", "2s")]);
    assert!(said.contains("the file has no `nobody` under `services`; declare it there"), "{said}");
    let said = said_of(SAMPLE, &[("UNANIMOUS__NODE__DRAIN", "soon")]);
    assert!(said.starts_with("environment variable UNANIMOUS__NODE__DRAIN: bad duration \"soon\""), "{said}");
    let said = said_of(SAMPLE, &[("UNANIMOUS__NODE__BODY_MAX", "much")]);
    assert!(said.starts_with("environment variable UNANIMOUS__NODE__BODY_MAX: wrong type"), "{said}");
    let said = said_of("", &[("UNANIMOUS__NODE__LISTEN", "x")]);
    assert!(
        said.starts_with("environment variable UNANIMOUS__NODE__LISTEN: `x` is not an address"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn a_sample_with_anything_in_it_never_panics(at in 0..SAMPLE.len(), cut in 0usize..40, noise in ".{0,12}") {
        let text = format!("{}{noise}{}", &SAMPLE[..at], SAMPLE.get(at + cut..).unwrap_or_default());
        let _ = parse(&text, &[]);
    }

    #[test]
    fn a_variable_with_anything_in_it_never_panics(name in "[A-Z_]{0,20}", text in ".{0,12}") {
        for name in [format!("UNANIMOUS__{name}"), "UNANIMOUS__NODE__BODY_MAX".to_owned()] {
            let _ = parse(SAMPLE, &[(&name, &text)]);
        }
    }
}
