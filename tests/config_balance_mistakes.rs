//! What balancing and failure can be told, and what is said of every mistake.

mod config_support;

use std::time::Duration;

use config_support::said_of;
use unanimous::balance::{Choice, HashOn, RetryRule};
use unanimous::config::{self, Config};
use unanimous::gateway::Action;

const WHOLE: &str = r#"
[services.users]
endpoints = ["http://a:1", { url = "http://b:1", weight = 3 }]
idempotent = true
[services.users.balance]
policy = "hash"
hash = { path = "id" }
panic_percent = 30
[services.users.health]
path = "/healthz?deep=1"
interval = "5s"
timeout = "1s"
healthy = 1
unhealthy = 4
expect = [204, "3xx"]
[services.users.outlier]
consecutive = 3
error_percent = 40
requests_min = 9
window = "20s"
base_time = "10s"
max_time = "1m"
max_percent = 30
[services.users.breaker]
error_percent = 60
requests_min = 8
window = "30s"
open = "2s"
open_max = "30s"
ramp = "20s"
[services.users.limit]
initial = 50
min = 10
max = 200
[services.users.retries]
percent = 10
per_second = 2
[[routes]]
id = "user"
match = { methods = ["POST"], path = "/users/{id}" }
forward = { service = "users", timeout = "10s", try_timeout = "3s", retry = { on = ["broken", "late", 503], tries = 3 } }
"#;

fn parsed(text: &str) -> Config {
    config::parse("gateway.toml", text, std::iter::empty()).expect("no mistake")
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let config = parsed(WHOLE);
    let service = &config.services["users"];
    let weights: Vec<u16> = service.instances().iter().map(|instance| instance.weight.get()).collect();
    assert_eq!(weights, [1, 3]);
    let policy = &service.policy;
    assert_eq!(policy.choice, Choice::Hash(HashOn::Path("id".to_owned())));
    assert_eq!((policy.panic_percent, policy.idempotent, policy.slow_start), (30, true, None));
    let health = policy.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.healthy, health.unhealthy), ("/healthz?deep=1", 1, 4));
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!(health.expect, [204..=204, 300..=399]);
    let outlier = policy.outlier.as_ref().unwrap();
    assert_eq!((outlier.consecutive, outlier.error_percent, outlier.requests_min), (3, Some(40), 9));
    assert_eq!(
        (outlier.window, outlier.base_time, outlier.max_time, outlier.max_percent),
        (Duration::from_secs(20), Duration::from_secs(10), Duration::from_mins(1), 30)
    );
    let breaker = policy.breaker.as_ref().unwrap();
    assert_eq!((breaker.error_percent, breaker.requests_min), (60, 8));
    let times = [breaker.window, breaker.open, breaker.open_max, breaker.ramp];
    assert_eq!(times, [30, 2, 30, 20].map(Duration::from_secs));
    let limit = policy.limit.as_ref().unwrap();
    assert_eq!((limit.initial, limit.min, limit.max), (50, 10, 200));
    assert_eq!((policy.retries.percent, policy.retries.per_second), (10, 2));
    let route = config.routes.iter().next().unwrap();
    let Action::Forward(forward) = &route.action else { unreachable!("it forwards") };
    assert_eq!(forward.try_timeout, Some(Duration::from_secs(3)));
    let rule = RetryRule { broken: true, late: true, statuses: vec![503], tries: 3 };
    assert_eq!(forward.retry, Some(rule));
}

#[test]
fn without_these_keys_nothing_is_done_but_asking_in_turn() {
    let config = parsed("[services.a]\nendpoints = [\"http://h:1\"]\n");
    let policy = &config.services["a"].policy;
    assert_eq!(policy.choice, Choice::RoundRobin);
    assert!(policy.health.is_none() && policy.outlier.is_none() && policy.breaker.is_none());
    assert!(policy.limit.is_none() && policy.slow_start.is_none() && !policy.idempotent);
    assert_eq!((policy.retries.percent, policy.retries.per_second), (20, 10));
}

/// What is said of a service with these lines, which begin in line 3.
fn said_of_service(lines: &str) -> String {
    said_of(&format!("[services.a]\nendpoints = [\"http://h:1\"]\n{lines}\n"))
}

/// What is said of a route with these keys of `forward`, in line 7.
fn said_of_forward(methods: &str, forward: &str) -> String {
    said_of(&format!(
        "[services.a]\nendpoints = [\"http://h:1\"]\n\n[[routes]]\nid = \"r\"\nmatch = {{ path = \"/a/{{id}}\"{methods} }}\n\
         forward = {{ service = \"a\", {forward} }}\n"
    ))
}

#[test]
fn an_endpoint_is_a_url_or_a_table_with_a_weight() {
    let said = |endpoint: &str| said_of(&format!("[services.a]\nendpoints = [{endpoint}]\n"));
    let url = "url = \"http://h:1\"";
    let cases = [
        ("7".to_owned(), "2:14: wrong type: this is an integer `7`, but a URL, or a table like { url = "),
        (format!("{{ {url}, weigth = 2 }}"), "unknown key `weigth`; did you mean `weight`?"),
        ("{ weight = 2 }".to_owned(), "the key `url` is missing here"),
        (format!("{{ {url}, weight = 0 }}"), "0 is out of bounds; write a number from 1 to 65535"),
        ("{ url = \"ftp://h\" }".to_owned(), "2:14: bad endpoint: `ftp://h` is not an http URL with a host"),
    ];
    for (endpoint, expected) in cases {
        assert!(said(&endpoint).contains(expected), "{endpoint}: {}", said(&endpoint));
    }
}

#[test]
fn a_hash_says_of_what_and_only_a_hash_does() {
    let cases = [
        ("balance = { policy = \"hash\" }", "3:22: a hash of what? Add what says where a request goes"),
        ("balance = { hash = { header = \"x\" } }", "3:20: `hash` counts only with `policy = \"hash\"`"),
        (
            "balance = { policy = \"latency\", hash = { header = \"x\" } }",
            "`hash` counts only with `policy = \"hash\"`; write that, or take `hash` out",
        ),
        ("balance = { policy = \"hash\", hash = {} }", "keep one of `header`, `cookie` and `path`"),
        (
            "balance = { policy = \"hash\", hash = { header = \"x\", path = \"id\" } }",
            "keep one of `header`, `cookie` and `path`",
        ),
        ("balance = { policy = \"hash\", hash = { header = \"x y\" } }", "bad header name"),
        ("balance = { policy = \"hash\", hash = { cookie = \"a=b\" } }", "cannot be the name of a cookie"),
        (
            "balance = { policy = \"hash\", hash = { header = \"x\" }, slow_start = \"9s\" }",
            "a hash has no slow start",
        ),
        (
            "balance = { policy = \"least-requests\" }",
            "unknown value `least-requests`; did you mean `least-request`?",
        ),
        (
            "balance = { policy = \"least_conn\" }",
            "unknown value `least_conn`; did you mean `least-request`?",
        ),
        ("balance = { panic_percent = 10 }", "nothing says that an instance is not usable"),
    ];
    for (lines, expected) in cases {
        assert!(said_of_service(lines).contains(expected), "{lines}: {}", said_of_service(lines));
    }
}

#[test]
fn a_hash_of_a_path_parameter_that_no_route_binds_is_refused() {
    let said = said_of(&WHOLE.replace("hash = { path = \"id\" }", "hash = { path = \"user\" }"));
    assert!(said.contains("gateway.toml:7:17: no path of a route to `users` binds `{user}`"), "{said}");
    assert!(said.contains("for this hash; write the name as a route has it"), "{said}");
}

#[test]
fn health_outlier_breaker_and_limit_have_to_make_sense() {
    let cases = [
        ("health = {}", "the key `path` is missing here"),
        ("health = { path = \"/h/{id}\" }", "bad `health` path: it cannot have parameters"),
        (
            "health = { path = \"/h\", interval = \"1ms\" }",
            "1ms is out of bounds; write a duration from 50ms to 1h",
        ),
        (
            "health = { path = \"/h\", interval = \"1s\", timeout = \"2s\" }",
            "a check would not be over when the next is due; make `timeout` at most `interval`",
        ),
        ("health = { path = \"/h\", expect = [] }", "no answer would be good; list statuses"),
        ("health = { path = \"/h\", expect = [99] }", "this is no status; write one from 200 to 599"),
        ("health = { path = \"/h\", expect = [\"ok\"] }", "this is no status; write one from 200 to 599"),
        ("health = { path = \"/h\", unhealthy = 0 }", "0 is out of bounds"),
        ("outlier = { max_percent = 0 }", "0 is out of bounds; write a number from 1 to 100"),
        ("outlier = { base_time = \"1m\", max_time = \"1s\" }", "make `max_time` at least `base_time`"),
        (
            "outlier = { base_time = \"10m\" }",
            "the first time is longer than the longest, 5m where `max_time` is left out",
        ),
        (
            "breaker = { open = \"2m\" }",
            "the first time is longer than the longest, 1m where `open_max` is left out",
        ),
        ("outlier = { requests_min = 5 }", "`requests_min` counts only with `error_percent`"),
        ("breaker = { error_percent = 101 }", "101 is out of bounds; write a number from 1 to 100"),
        ("breaker = { open = \"1m\", open_max = \"1s\" }", "make `open_max` at least `open`"),
        ("limit = { min = 9, max = 3 }", "the limit cannot be at least 9 and at most 3"),
        ("limit = { min = 2, max = 9, initial = 10 }", "`initial` is out of the bounds 2 to 9 of this limit"),
        ("retries = { percent = 101 }", "101 is out of bounds; write a number from 0 to 100"),
        ("limits = { max = 3 }", "unknown key `limits`; did you mean `limit`?"),
    ];
    for (lines, expected) in cases {
        assert!(said_of_service(lines).contains(expected), "{lines}: {}", said_of_service(lines));
    }
}

#[test]
fn a_retry_has_to_be_one_that_can_come() {
    let post = ", methods = [\"POST\", \"PATCH\"]";
    let cases = [
        ("", "retry = { on = [] }", "7:43: nothing would be tried again"),
        (
            "",
            "retry = { on = [\"brocken\"] }",
            "did you mean `broken`? Known here: broken, late, and statuses",
        ),
        ("", "retry = { on = [200] }", "200 is no status to try again after; write statuses from 400 to 599"),
        ("", "retry = { on = [1.5] }", "but a status like 503, or a word, belongs here"),
        ("", "retry = { on = [503], tries = 1 }", "1 is out of bounds; write a number from 2 to 10"),
        ("", "retry = { on = [\"late\"] }", "add `try_timeout`"),
        ("", "retry = {}", "the key `on` is missing here"),
        (post, "retry = { on = [503] }", "none of the methods of this route is ever sent twice"),
        (
            "",
            "timeout = \"3s\", try_timeout = \"3s\"",
            "make `try_timeout` shorter than `timeout`, or take it out",
        ),
        ("", "try_timeout = \"1s\"", "make `try_timeout` longer than `node.connect_timeout` (2s)"),
    ];
    for (methods, forward, expected) in cases {
        let said = said_of_forward(methods, forward);
        assert!(said.contains(expected), "{forward}: {said}");
    }
}
