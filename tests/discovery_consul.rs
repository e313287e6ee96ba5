//! Consul as a source, against an agent that plays what the pages of its HTTP API say and what they warn of. Each test names
//! the page that it follows.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod consul_agent;
mod discovery_support;
mod kit;

use std::time::Duration;

use consul_agent::{Agent, Answer, instance};
use discovery_support::{known, status};
use kit::until;
use serde_json::{Value, json};
use unanimous::discovery::consul::{AgentAddress, ConsulSource, Health, Rate, TokenPlace};
use unanimous::discovery::{Discovery as _, Source, Sources, Spec};

const SECOND: Duration = Duration::from_secs(1);

/// A source that is as patient and as slow as a test can bear: the bounds of the loop are those of production, a hundred
/// times faster.
fn source(agent: &Agent) -> ConsulSource {
    let address = AgentAddress { url: agent.url(), token: None };
    ConsulSource {
        wait: 20 * SECOND,
        rate: Rate { burst: 2, refill: Duration::from_millis(150) },
        patience: 2 * SECOND,
        ..ConsulSource::new(address, "accounts")
    }
}

fn spec(source: ConsulSource) -> Spec {
    discovery_support::spec(Source::Consul(source), SECOND)
}

fn follow(source: ConsulSource) -> Sources {
    discovery_support::follow(Source::Consul(source), SECOND)
}

async fn until_known(sources: &Sources, expected: &[&str]) {
    until(&format!("{expected:?}"), async || known(sources) == expected).await;
}

const ONE: &str = "http://10.0.0.1:8000 10";
const TWO: &str = "http://10.0.0.2:8000 10";

fn one() -> Value {
    instance("10.0.0.1", 8000)
}

fn two() -> Value {
    instance("10.0.0.2", 8000)
}

/// An agent whose first answers are those that it is told to give, and a source that follows it.
async fn scripted(answers: impl IntoIterator<Item = Answer>) -> (Agent, Sources) {
    let agent = Agent::start().await;
    agent.script(answers);
    let sources = follow(source(&agent));
    (agent, sources)
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: the index is taken from the answer before, and a
/// change is told of at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_known_at_once_and_a_query_waits_at_the_index_of_the_last_answer() {
    let agent = Agent::start().await;
    agent.set("accounts", &[one()]);
    let sources = follow(source(&agent));
    until_known(&sources, &[ONE]).await;
    agent.wait_for_queries(2).await;
    agent.set("accounts", &[two(), one()]);
    until_known(&sources, &[ONE, TWO]).await;
    let queries = agent.wait_for_queries(3).await;
    let indexes: Vec<_> = queries.iter().map(consul_agent::Asked::index).collect();
    assert_eq!(indexes, [None, Some(10), Some(11)]);
    assert_eq!(queries[0].parameter("wait"), None);
    assert_eq!(queries[1].parameter("wait"), Some("20000ms"));
    assert!(queries.iter().all(|query| query.path == "/v1/health/service/accounts"));
    assert!(queries.iter().all(|query| query.parameter("passing") == Some("true")), "{queries:?}");
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: "Reset the index if it goes backwards".
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_goes_back_makes_the_next_query_ask_anew() {
    let (agent, sources) = scripted([
        Answer::list(100, &json!([one()])),
        Answer::list(40, &json!([two()])),
        Answer::list(41, &json!([one(), two()])),
    ])
    .await;
    until_known(&sources, &[ONE, TWO]).await;
    let queries = agent.wait_for_queries(4).await;
    let indexes: Vec<_> = queries.iter().map(consul_agent::Asked::index).collect();
    assert_eq!(indexes[..4], [None, Some(100), None, Some(41)]);
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: "Sanity check index is greater than zero".
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_zero_is_waited_at_as_one() {
    let (agent, sources) = scripted([Answer::list(0, &json!([one()]))]).await;
    agent.set("accounts", &[one()]);
    until_known(&sources, &[ONE]).await;
    let queries = agent.wait_for_queries(2).await;
    assert_eq!(queries[1].index(), Some(1));
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: "the return of a blocking request is no guarantee of
/// a change".
#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_under_a_new_index_changes_nothing() {
    let agent = Agent::start().await;
    agent.set("accounts", &[one(), two()]);
    let sources = follow(source(&agent));
    until_known(&sources, &[ONE, TWO]).await;
    let (before, mut changes) = (sources.instances("accounts"), sources.changes("accounts").unwrap());
    changes.borrow_and_update();
    agent.wait_for_queries(2).await;
    agent.set("accounts", &[two(), one()]);
    agent.wait_for_queries(3).await;
    assert!(!changes.has_changed().unwrap(), "another order is no change");
    assert!(std::sync::Arc::ptr_eq(&before, &sources.instances("accounts")));
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: the agent holds a query for `wait` and up to a
/// sixteenth more, which is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_in_which_nothing_changes_hangs_for_its_wait_and_is_asked_again() {
    let agent = Agent::start().await;
    agent.set("accounts", &[one()]);
    // What it may take beyond the wait is less than the sixteenth that the agent adds.
    let patience = Duration::from_millis(600);
    let sources = follow(ConsulSource { wait: SECOND, patience, ..source(&agent) });
    let queries = agent.wait_for_queries(4).await;
    assert!(queries[3].at - queries[2].at >= SECOND);
    assert_eq!((status(&sources).failures, known(&sources)), (0, vec![ONE.to_owned()]));
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: "Rate limit": a token bucket with a burst of 2.
#[tokio::test(flavor = "multi_thread")]
async fn where_everything_changes_all_the_time_the_loop_is_slow_and_otherwise_it_never_waits() {
    let churn = (1..=30).map(|index| {
        Answer::list(index, &json!([instance("10.0.0.1", 8000 + u16::try_from(index).unwrap())]))
    });
    let (agent, _sources) = scripted(churn).await;
    let queries = agent.wait_for_queries(7).await;
    let gaps: Vec<_> = queries.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps[..2].iter().all(|gap| *gap < Duration::from_millis(140)), "the first go at once: {gaps:?}");
    let (first, last) = (queries[2].at, queries[6].at);
    assert!(last - first >= Duration::from_millis(4 * 150 - 30), "then one a while: {gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_an_instance_is_asked_for_each_second_however_often_it_changed() {
    let agent = Agent::start().await;
    let empty = |index| Answer::list(index, &json!([]));
    agent.script([
        Answer::list(1, &json!([one()])),
        empty(2),
        empty(3),
        empty(4),
        Answer::list(5, &json!([two()])),
    ]);
    let rate = Rate { burst: 2, refill: 60 * SECOND };
    let sources = follow(ConsulSource { rate, ..source(&agent) });
    until_known(&sources, &[TWO]).await;
}

/// <https://developer.hashicorp.com/consul/docs/agent/limits>: 429 where requests are limited. 500 is what an agent says
/// without a leader, 403 what ACLs say (<https://developer.hashicorp.com/consul/api-docs/api-structure>): none of them means
/// that there are no instances.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_changes_nothing_and_the_query_is_repeated_with_the_same_index() {
    let (agent, sources) = scripted([
        Answer::list(7, &json!([one()])),
        Answer::status(500, "No cluster leader"),
        Answer::status(429, "rate limit exceeded, try again later or against a different server"),
        Answer::status(403, "Permission denied: token with AccessorID '0' lacks permission 'service:read'"),
        Answer::status(404, ""),
        Answer::status(301, ""),
        Answer::indexed("9", "Permission denied"),
        Answer::list(8, &json!([one(), two()])),
    ])
    .await;
    until("the sixth failure", async || status(&sources).failures >= 6).await;
    until_known(&sources, &[ONE, TWO]).await;
    let queries = agent.queries();
    assert!(queries[1..8].iter().all(|query| query.index() == Some(7)), "{queries:?}");
    let status = status(&sources);
    assert!(status.is_up && status.failures == 6 && status.trouble.is_none(), "{status:?}");
}

/// <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>, cut on the way, not JSON,
/// and without the header that every such answer has.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_whole_is_none() {
    let index = |index: &str| vec![("X-Consul-Index", index.to_owned())];
    let list = json!([one(), two()]).to_string();
    let (_agent, sources) = scripted([
        Answer::list(7, &json!([one()])),
        Answer::Cut(index("8"), list.clone()),
        Answer::indexed("8", &list[..list.len() - 2]),
        Answer::indexed("8", "<html>It works!</html>"),
        Answer::status(200, "[]"),
    ])
    .await;
    until("the fourth failure", async || status(&sources).failures >= 4).await;
    assert_eq!(known(&sources), [ONE]);
}

/// Nobody's page says that an agent may answer with 10 MB; it is not read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_not_taken() {
    let long = format!("[{}]", " ".repeat(10 * 1024 * 1024));
    let (_agent, sources) = scripted([Answer::list(7, &json!([one()])), Answer::indexed("8", &long)]).await;
    until("the failure", async || status(&sources).failures >= 1).await;
    assert_eq!(known(&sources), [ONE]);
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: a read without an index "returns at once". An agent
/// that is stuck does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_silent_or_stops_in_its_headers_is_late() {
    for stuck in [Answer::Silence, Answer::SlowHead] {
        let agent = Agent::start().await;
        agent.script([stuck, Answer::list(7, &json!([one()]))]);
        let patience = Duration::from_millis(300);
        let sources = follow(ConsulSource { patience, ..source(&agent) });
        until_known(&sources, &[ONE]).await;
        assert_eq!(status(&sources).failures, 1);
    }
}

/// <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>: one entry that is not as the
/// sample response is left out alone. `Service.Address` may be empty: then it is that of the node
/// (<https://developer.hashicorp.com/consul/api-docs/agent/service#register-service>, `Address`).
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_node_does_not_take_the_others_with_it() {
    let with = |pointer: &str, value: Value| {
        let mut entry = one();
        *entry.pointer_mut(pointer).unwrap() = value;
        entry
    };
    let mut without_service = one();
    without_service.as_object_mut().unwrap().remove("Service");
    let list = json!([
        without_service,
        with("/Service", Value::Null),
        with("/Service/Port", json!(0)),
        with("/Service/Address", json!("169.254.169.254")),
        with("/Service/Address", json!("")),
        with("/Service/Meta", Value::Null),
        with("/Node/Meta", Value::Null),
    ]);
    let (_agent, sources) = scripted([Answer::list(7, &list)]).await;
    until_known(&sources, &[ONE, "http://10.1.10.12:8000 10"]).await;
    assert_eq!(status(&sources).failures, 0);
}

/// <https://developer.hashicorp.com/consul/api-docs/features/blocking>: a snapshot that was restored, or a server that has
/// just begun, answers 200 with an empty list for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_counts_when_it_comes_a_second_time() {
    let agent = Agent::start().await;
    agent.set("accounts", &[one()]);
    let sources = follow(source(&agent));
    until_known(&sources, &[ONE]).await;
    agent.wait_for_queries(2).await;
    agent.set("accounts", &[]);
    agent.wait_for_queries(3).await;
    assert_eq!(known(&sources), [ONE], "once is not enough");
    agent.set("accounts", &[two()]);
    until_known(&sources, &[TWO]).await;
    let asked = agent.queries().len();
    agent.set("accounts", &[]);
    until_known(&sources, &[]).await;
    let queries = agent.queries();
    assert!(
        queries[asked..].iter().any(|query| query.index().is_none()),
        "it was read once more: {queries:?}"
    );
}

/// An agent that is restarted: connections are refused, and then it is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_is_asked_until_it_is_back() {
    let mut agent = Agent::start().await;
    agent.set("accounts", &[one()]);
    let sources = follow(source(&agent));
    until_known(&sources, &[ONE]).await;
    agent.stop().await;
    until("some failures", async || status(&sources).failures >= 3).await;
    assert!(!status(&sources).is_up);
    assert_eq!(known(&sources), [ONE]);
    agent.set("accounts", &[two()]);
    agent.start_again().await;
    until_known(&sources, &[TWO]).await;
    assert!(status(&sources).is_up);
}

/// <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>, `passing`, and
/// <https://developer.hashicorp.com/consul/api-docs/agent/service#register-service>, `Weights`.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_warning_an_instance_counts_where_that_is_asked_for_and_has_its_weight_for_it() {
    let mut warned = two();
    warned["Checks"][0]["Status"] = json!("warning");
    let mut critical = instance("10.0.0.3", 8000);
    critical["Checks"][0]["Status"] = json!("critical");
    let agent = Agent::start().await;
    agent.set("accounts", &[one(), warned, critical]);
    let sources = follow(ConsulSource { health: Health::Warning, ..source(&agent) });
    until_known(&sources, &[ONE, "http://10.0.0.2:8000 1"]).await;
    assert_eq!(agent.queries()[0].parameter("passing"), None);
}

/// <https://developer.hashicorp.com/consul/api-docs/features/consistency>: with `stale` any server answers, there is "no
/// upper limit" on the age of what it knows, and headers tell of it. `leader` asks the leader.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_that_is_too_old_is_asked_of_the_leader() {
    let agent = Agent::start().await;
    agent.script([
        Answer::list(7, &json!([one()]))
            .with("X-Consul-LastContact", "4000")
            .with("X-Consul-KnownLeader", "true"),
        Answer::list(8, &json!([two()]))
            .with("X-Consul-LastContact", "6000")
            .with("X-Consul-KnownLeader", "true"),
        Answer::list(9, &json!([one(), two()])),
        Answer::list(10, &json!([two()])).with("X-Consul-KnownLeader", "false"),
        Answer::status(500, "No cluster leader"),
    ]);
    let sources = follow(ConsulSource { stale: Some(5 * SECOND), ..source(&agent) });
    until_known(&sources, &[ONE, TWO]).await;
    until("the failure", async || status(&sources).failures >= 1).await;
    assert_eq!(known(&sources), [ONE, TWO]);
    let who =
        |query: &consul_agent::Asked| (query.query.contains_key("stale"), query.query.contains_key("leader"));
    let who: Vec<_> = agent.queries().iter().take(5).map(who).collect();
    assert_eq!(who, [(true, false), (true, false), (false, true), (true, false), (false, true)]);
}

/// <https://developer.hashicorp.com/consul/api-docs/api-structure#authentication>: the token is in a header, not in the URL.
/// <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>, `dc` and `filter`.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_file_is_sent_in_its_header_and_read_again_when_it_changes() {
    let (agent, token) = (Agent::start().await, tempfile::NamedTempFile::new().unwrap());
    agent.set("accounts", &[one()]);
    std::fs::write(token.path(), "first-secret\n").unwrap();
    let address = AgentAddress { url: agent.url(), token: Some(TokenPlace::File(token.path().to_owned())) };
    let (datacenter, tag) = (Some("dc2".to_owned()), Some("primary".to_owned()));
    let source = ConsulSource { agent: address, datacenter, tag, ..source(&agent) };
    assert!(!format!("{source:?}").contains("secret"), "{source:?}");
    let sources = follow(source);
    agent.wait_for_queries(2).await;
    std::fs::write(token.path(), "second-secret").unwrap();
    agent.touch("accounts");
    let queries = agent.wait_for_queries(3).await;
    let sent: Vec<_> = queries.iter().map(|query| query.headers["x-consul-token"].as_str()).collect();
    assert_eq!(sent, ["first-secret", "first-secret", "second-secret"]);
    for query in &queries {
        assert_eq!(query.parameter("dc"), Some("dc2"));
        assert_eq!(query.parameter("filter"), Some("\"primary\" in Service.Tags"));
        assert!(!query.query.values().any(|value| value.contains("secret")), "{query:?}");
    }
    assert_eq!(known(&sources), [ONE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_a_source_alone_that_has_not_changed_and_never_empties_another() {
    let agent = Agent::start().await;
    agent.set("accounts", &[one()]);
    let sources = follow(source(&agent));
    until_known(&sources, &[ONE]).await;
    agent.wait_for_queries(2).await;

    let same = Sources::new([("accounts".to_owned(), spec(source(&agent)))], Some(&sources));
    assert_eq!(known(&same), [ONE]);
    drop(sources);
    agent.set("accounts", &[two()]);
    until_known(&same, &[TWO]).await;
    let queries = agent.wait_for_queries(3).await;
    assert_eq!(
        queries.iter().filter(|query| query.index().is_none()).count(),
        1,
        "one loop, never begun anew"
    );

    agent.script([Answer::status(500, "")]);
    let other = ConsulSource { service: "other".to_owned(), ..source(&agent) };
    let changed = Sources::new([("accounts".to_owned(), spec(other))], Some(&same));
    assert_eq!(known(&changed), [TWO], "what it was before is kept until the first answer");
    agent.set("other", &[instance("10.0.0.9", 8000)]);
    until_known(&changed, &["http://10.0.0.9:8000 10"]).await;

    drop(same);
    let asked = || agent.queries().iter().filter(|query| query.path.ends_with("/accounts")).count();
    let before = asked();
    agent.set("accounts", &[one()]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(asked(), before, "nobody follows what nobody needs");
}
