//! A node whose services are looked for: when it is ready, what it does before, and what it says of itself in Consul.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod consul_agent;
mod kit;

use std::time::Duration;

use consul_agent::{Agent, instance};
use http::Method;
use kit::{Answer, Node, Stub};
use serde_json::{Value, json};

/// Both branches in one route. Whoever waits for a service waits long, unless woken.
const ROUTE: &str = r#"
    [[routes]]
    id = "transfer"
    match = { methods = ["POST"], path = "/transfers" }
    [routes.transaction]
    timeout = "5s"
    reply_within = "200ms"
    branches = [ { service = "accounts", path = "/debit" }, { service = "ledger", path = "/credit" } ]
"#;

/// The participant `name`, looked for in Consul.
fn in_consul(name: &str) -> String {
    format!(
        "[services.{name}]\nconsul = {{ service = \"{name}\" }}\n\
         transaction = {{ commit = \"/tx/commit\", abort = \"/tx/abort\", retry = {{ initial = \"60s\", max = \"60s\" }} }}\n"
    )
}

fn at(stub: &Stub) -> Value {
    instance("127.0.0.1", stub.url("").rsplit(':').next().unwrap().parse().unwrap())
}

/// What `/readyz` says, 0 while nobody answers.
async fn readyz(node: &Node) -> (u16, String) {
    match kit::send(&kit::client(), Method::GET, &node.admin_url("/readyz"), &[], None).await {
        Ok(reply) => (reply.status, reply.text),
        Err(_) => (0, String::new()),
    }
}

/// The address of the agent as `CONSUL_HTTP_ADDR` has it.
fn address(agent: &Agent) -> String {
    agent.url().strip_prefix("http://").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_when_it_knows_where_every_required_service_is() {
    let (mut agent, stub) = (Agent::start().await, Stub::start().await);
    agent.stop().await;
    let optional = "[services.later]\nfile = \"/no/such/file.toml\"\noptional = true\n";
    let mut node = Node::new(&(in_consul("accounts") + &in_consul("ledger") + optional + ROUTE));
    node.env("CONSUL_HTTP_ADDR", &address(&agent)).spawn();
    let expected = "waiting for where these services are: accounts (consul: it could not be reached), ledger (consul: it \
                    could not be reached)\n";
    let waits = (503, expected.to_owned());
    kit::until("the node says what it waits for", async || readyz(&node).await == waits).await;
    let reply = node.post("/transfers", &json!({})).await.expect(502);
    assert_eq!(reply.json()["reason"]["kind"], "unreachable");

    agent.set("accounts", &[at(&stub)]);
    agent.set("ledger", &[at(&stub)]);
    agent.start_again().await;
    kit::until("the node is ready", async || readyz(&node).await.0 == 200).await;
    node.post("/transfers", &json!({})).await.expect(200);
    for (name, value) in [
        ("discovery_up{service=\"accounts\",source=\"consul\"}", "1"),
        ("discovery_instances{service=\"accounts\",source=\"consul\"}", "1"),
        ("discovery_up{service=\"later\",source=\"file\"}", "0"),
        ("discovery_last_success_timestamp_seconds{service=\"later\",source=\"file\"}", "0"),
    ] {
        let found = node.metric(name).await;
        assert_eq!(found.trim_end_matches(".0"), value, "{name}");
    }
    assert_ne!(node.metric("discovery_failures_total{service=\"accounts\",source=\"consul\"}").await, "0");
}

/// A node with a transaction that neither branch has confirmed: `accounts` is listed, `ledger` in Consul.
async fn in_doubt(agent: &Agent, accounts: &Stub, ledger: &Stub) -> (Node, String) {
    agent.set("ledger", &[at(ledger)]);
    let mut node = Node::new(&(kit::service("accounts", accounts, false) + &in_consul("ledger") + ROUTE));
    node.env("CONSUL_HTTP_ADDR", &address(agent)).start().await;
    accounts.always("/tx/commit", Answer::status(503));
    ledger.always("/tx/commit", Answer::status(503));
    let id = node.post("/transfers", &json!({})).await.expect(202).transaction().to_owned();
    (node, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_is_finished_before_discovery_answers_and_the_rest_as_soon_as_it_does() {
    let (mut agent, accounts, ledger) = (Agent::start().await, Stub::start().await, Stub::start().await);
    let (mut node, id) = in_doubt(&agent, &accounts, &ledger).await;
    node.kill().await;
    agent.stop().await;
    for stub in [&accounts, &ledger] {
        stub.forget();
        stub.always("/tx/commit", Answer::ok());
    }

    node.spawn();
    accounts.wait_for("/tx/commit", 1).await;
    let (status, said) = readyz(&node).await;
    assert_eq!(status, 503);
    assert!(said.contains("ledger (consul"), "{said}");
    assert_eq!((ledger.count("/tx/commit"), node.state(&id).await.as_str()), (0, "committing"));

    // It would be told again after a minute; that its instance is found wakes it.
    agent.start_again().await;
    node.wait_for_state(&id, "committed").await;
    assert_eq!(ledger.count("/tx/commit"), 1);
}

/// As above; the configuration of the second start has neither the service nor the route.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_kept_from_an_earlier_configuration_is_told_as_soon_as_it_is_found() {
    let (mut agent, accounts, ledger) = (Agent::start().await, Stub::start().await, Stub::start().await);
    let (mut node, id) = in_doubt(&agent, &accounts, &ledger).await;
    node.kill().await;
    agent.stop().await;
    for stub in [&accounts, &ledger] {
        stub.forget();
        stub.always("/tx/commit", Answer::ok());
    }
    node.configure("", &kit::service("accounts", &accounts, false));
    node.start().await;
    accounts.wait_for("/tx/commit", 1).await;
    agent.start_again().await;
    node.wait_for_state(&id, "committed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_reload_takes_out_is_told_as_soon_as_it_is_found_elsewhere() {
    let (agent, accounts, ledger) = (Agent::start().await, Stub::start().await, Stub::start().await);
    let (node, id) = in_doubt(&agent, &accounts, &ledger).await;
    node.configure("", &kit::service("accounts", &accounts, false));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    accounts.always("/tx/commit", Answer::ok());
    let elsewhere = Stub::start().await;
    elsewhere.always("/tx/commit", Answer::ok());
    agent.set("ledger", &[at(&elsewhere)]);
    node.wait_for_state(&id, "committed").await;
    assert_eq!(elsewhere.count("/tx/commit"), 1);
}

/// A branch is one service. Another has not seen what it promised, and is not asked in its place.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_stands_in_for_a_branch_of_a_transaction() {
    let (agent, backup, ledger) = (Agent::start().await, Stub::start().await, Stub::start().await);
    let accounts = in_consul("accounts").replace("consul =", "failover = \"backup\"\nconsul =");
    let look = "[[routes]]\nid = \"look\"\nmatch = { methods = [\"GET\"], path = \"/look\" }\n\
                forward = { service = \"accounts\" }\n";
    let config = accounts
        + &kit::service("backup", &backup, false)
        + &kit::service("ledger", &ledger, false)
        + ROUTE
        + look;
    let mut node = Node::new(&config);
    node.env("CONSUL_HTTP_ADDR", &address(&agent)).start().await;
    node.get("/look").await.expect(200);
    assert_eq!(backup.count("/look"), 1, "what is forwarded goes to the stand-in");
    let reply = node.post("/transfers", &json!({})).await.expect(502);
    assert_eq!(
        (&reply.json()["reason"]["kind"], &reply.json()["reason"]["service"]),
        (&json!("unreachable"), &json!("accounts"))
    );
    node.settled().await;
    assert_eq!(backup.calls().len(), 1, "{:?}", backup.calls());
}

/// <https://developer.hashicorp.com/consul/api-docs/agent/service>: register, maintenance ("persistent and will be
/// automatically restored on agent restart"), deregister.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_itself_drains_in_the_registry_and_leaves_it_before_its_door_closes() {
    let agent = Agent::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-secret").unwrap();
    let config = format!(
        "[consul]\nagent = \"{}\"\ntoken_file = {:?}\n[consul.register]\nname = \"gateway\"\nid = \"gateway-1\"\ntags = [\"edge\"]\n\
         meta = {{ zone = \"a\" }}\ninterval = \"5s\"\n",
        agent.url(),
        token.path().display().to_string(),
    );
    let mut node = Node::with_section("drain = \"300ms\"", &config);
    node.start().await;
    agent.try_door(node.url("").strip_prefix("http://").unwrap());
    let (register, maintenance) = (
        "/v1/agent/service/register?replace-existing-checks=true",
        "/v1/agent/service/maintenance/gateway-1",
    );
    kit::until("the node is registered", async || agent.told().len() >= 2).await;
    assert_eq!(agent.told(), [register.to_owned(), format!("{maintenance}?enable=false")]);
    let body: Value = serde_json::from_str(&agent.asked()[0].body).unwrap();
    let port: u16 = node.url("").rsplit(':').next().unwrap().parse().unwrap();
    let expected = json!({
        "ID": "gateway-1", "Name": "gateway", "Port": port, "Tags": ["edge"],
        "Meta": {"version": env!("CARGO_PKG_VERSION"), "zone": "a"},
        "Checks": [{"Name": "ready", "HTTP": node.admin_url("/readyz"), "Interval": "5000ms", "Timeout": "2000ms",
                    "DeregisterCriticalServiceAfter": "3600000ms"}]
    });
    assert_eq!(body, expected);

    assert!(node.terminate().await.success());
    let told = agent.told();
    assert_eq!(
        told[2..],
        [
            format!("{maintenance}?enable=true&reason=draining"),
            "/v1/agent/service/deregister/gateway-1?".to_owned()
        ]
    );
    let asked = agent.asked();
    assert!(asked[2..].iter().all(|asked| asked.door_is_open), "its door was open until it had left");
    assert!(asked.iter().all(|asked| asked.headers["x-consul-token"] == "the-secret"));
    assert!(!node.stderr().contains("the-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_answer_neither_stops_the_node_from_starting_nor_from_ending() {
    let mut agent = Agent::start().await;
    agent.stop().await;
    let config = "[consul.register]\nname = \"gateway\"\n";
    let mut node = Node::with_section("drain = \"0s\"", config);
    node.env("CONSUL_HTTP_ADDR", &agent.url()).start().await;
    agent.start_again().await;
    kit::until("the node is registered", async || agent.told().len() >= 2).await;
    let port = node.url("").rsplit(':').next().unwrap().to_owned();
    assert!(agent.told()[1].contains(&format!("/gateway-127.0.0.1-{port}?")), "{:?}", agent.told());
    agent.is_deaf(true);
    let begun = tokio::time::Instant::now();
    assert!(node.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(node.stderr().contains("the node's entry in Consul could not be removed"), "{}", node.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_while_the_registry_is_down_empties_no_pool_and_a_ready_node_stays_ready() {
    let (mut agent, stub) = (Agent::start().await, Stub::start().await);
    agent.set("accounts", &[at(&stub)]);
    let route = |id: &str| {
        let matches = format!("match = {{ methods = [\"GET\"], path = \"/{id}\" }}");
        format!("[[routes]]\nid = \"{id}\"\n{matches}\nforward = {{ service = \"accounts\" }}\n")
    };
    let config = in_consul("accounts") + &route("look");
    let mut node = Node::new(&config);
    node.env("CONSUL_HTTP_ADDR", &address(&agent)).start().await;
    agent.stop().await;
    kit::until("the source fails", async || {
        node.metric("discovery_up{service=\"accounts\",source=\"consul\"}").await.starts_with('0')
    })
    .await;
    node.configure("", &(config + &route("another") + &in_consul("ledger")));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    for path in ["/look", "/another"] {
        node.get(path).await.expect(200);
    }
    assert_eq!(readyz(&node).await.0, 200, "what a reload adds is not waited for");
    agent.set("ledger", &[at(&stub)]);
    agent.start_again().await;
    kit::until("the new one is found", async || {
        node.metric("discovery_instances{service=\"ledger\",source=\"consul\"}").await.starts_with('1')
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_a_reload_puts_in_the_place_of_one_that_never_answered_is_waited_for() {
    let (mut agent, stub) = (Agent::start().await, Stub::start().await);
    agent.stop().await;
    let mut node = Node::new(&(in_consul("accounts") + &in_consul("ledger") + ROUTE));
    node.env("CONSUL_HTTP_ADDR", &address(&agent)).spawn();
    kit::until("the node says what it waits for", async || {
        readyz(&node).await.1.contains("accounts (consul")
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accounts.toml");
    let looked_for = format!("file = {:?}", file.display().to_string());
    let accounts = in_consul("accounts").replace("consul = { service = \"accounts\" }", &looked_for);
    node.configure("", &(accounts + &kit::service("ledger", &stub, false) + ROUTE));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    let (status, said) = readyz(&node).await;
    assert_eq!(status, 503);
    assert!(said.starts_with("waiting for where these services are: accounts (file"), "{said}");
    std::fs::write(&file, format!("[[instances]]\nurl = \"{}\"\n", stub.url(""))).unwrap();
    kit::until("the node is ready", async || readyz(&node).await.0 == 200).await;
    std::fs::remove_file(&file).unwrap();
    node.configure("", &(in_consul("accounts") + &in_consul("ledger") + ROUTE));
    node.admin_post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(readyz(&node).await.0, 200, "what was ready stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_a_registry_leads_nowhere_that_an_address_from_it_may_not() {
    let stub = Stub::start().await;
    let port = stub.url("").rsplit(':').next().unwrap().to_owned();
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let config = format!(
        "[services.s]\nfile = {:?}\n[[routes]]\nid = \"s\"\nmatch = {{ path = \"/s\" }}\nforward = {{ service = \"s\" }}\n",
        file.path()
    );
    // The unspecified address leads to this machine.
    for (name, addresses, status) in
        [("well", "127.0.0.1", 200), ("ill", "0.0.0.0", 502), ("both", "0.0.0.0 both\n127.0.0.1", 200)]
    {
        std::fs::write(file.path(), format!("[[instances]]\nurl = \"http://{name}:{port}\"\n")).unwrap();
        stub.forget();
        let mut node = Node::new(&config);
        if !node.hosts(&format!("{addresses} {name}\n")) {
            return;
        }
        node.start().await;
        let reply = node.get("/s").await.expect(status);
        assert_eq!(stub.count("/s"), usize::from(status == 200), "{name}");
        if status == 502 {
            assert_eq!(reply.json()["code"], "unreachable");
        }
    }
}
