//! The example `examples/discovery.toml`, beside an agent of Consul, a name server, and a file.

mod consul_agent;
mod dns_server;
mod kit;

use consul_agent::{Agent, instance};
use dns_server::Server;
use kit::{Node, Stub};

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_finds_its_services_as_its_comments_say() {
    let (agent, names, directory) =
        (Agent::start().await, Server::start().await, tempfile::tempdir().expect("a directory"));
    let (orders, far, stock, prices) =
        (Stub::start().await, Stub::start().await, Stub::start().await, Stub::start().await);
    let file = directory.path().join("prices.toml");
    names.addresses("stock.shop.svc.cluster.local.", 5, &["127.0.0.1"]);
    let ports = [("8500", port(&agent.url())), ("9002", port(&far.url("")))];
    let mut node = Node::from_file("examples/discovery.toml", &ports);
    node.env("UNANIMOUS__SERVICES__STOCK__DNS__SERVER", &names.address.to_string());
    node.env("UNANIMOUS__SERVICES__STOCK__DNS__PORT", &port(&stock.url("")).to_string());
    node.env("UNANIMOUS__SERVICES__PRICES__FILE", &file.display().to_string());
    node.start().await;

    node.get("/stock/1").await.expect(200);
    assert_eq!(stock.count("/stock/1"), 1);
    node.get("/orders/1").await.expect(200);
    assert_eq!(far.count("/orders/1"), 1, "no instance is near");
    agent.set("orders", &[instance("127.0.0.1", port(&orders.url("")))]);
    kit::until("the near one is asked", async || {
        node.get("/orders/2").await.expect(200);
        orders.count("/orders/2") > 0
    })
    .await;

    node.get("/prices/1").await.expect(502);
    std::fs::write(&file, format!("[[instances]]\nurl = \"{}\"\n", prices.url(""))).expect("writes");
    kit::until("the file is read", async || node.get("/prices/1").await.status == 200).await;
    assert!(agent.told().iter().any(|told| told.contains("/register?")), "{:?}", agent.told());
    assert!(node.terminate().await.success());
    assert!(agent.told().last().is_some_and(|told| told.contains("/deregister/")), "{:?}", agent.told());
}
