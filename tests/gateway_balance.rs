//! Which instance of a service is asked: by turns, by load, by latency, by hash, and in a slow start.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod gateway_support;
mod kit;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_support::{beside, clients, gateway, gateway_over, get, parsed, status};
use kit::{Answer, Gate, Stub};
use unanimous::discovery::{Discovery, Endpoint, Instance};
use unanimous::gateway::Pools;

const ROUTES: &str = "
[[routes]]
id = \"user\"
match = { path = \"/users/{id}\" }
forward = { service = \"s\", timeout = \"10s\" }
[[routes]]
id = \"all\"
match = { path = \"/{*rest}\" }
forward = { service = \"s\", timeout = \"10s\" }
";

/// A service with these instances and these keys of `balance`.
fn config(instances: &[&Stub], balance: &str) -> String {
    let endpoints: Vec<_> = instances.iter().map(|stub| format!("{:?}", stub.url(""))).collect();
    format!("[services.s]\nendpoints = [{}]\n[services.s.balance]\n{balance}\n{ROUTES}", endpoints.join(", "))
}

async fn get_fine(gateway: SocketAddr, path: &str, headers: &[&str]) {
    let answer = get(gateway, path, headers).await;
    assert_eq!(status(&answer), "200", "{answer}");
}

#[tokio::test]
async fn by_turns_each_is_asked_as_often_as_its_weight_says() {
    let (one, two) = (Stub::start().await, Stub::start().await);
    let config = format!(
        "[services.s]\nendpoints = [{:?}, {{ url = {:?}, weight = 3 }}]\n{ROUTES}",
        one.url(""),
        two.url("")
    );
    let gateway = gateway(&config).await;
    for _ in 0..8 {
        get_fine(gateway, "/", &[]).await;
    }
    assert_eq!((one.count("/"), two.count("/")), (2, 6));
}

#[tokio::test]
async fn with_least_request_an_instance_that_is_busy_is_left_alone() {
    let (slow, quick, gate) = (Stub::start().await, Stub::start().await, Gate::closed());
    slow.always("/", Answer::ok().behind(&gate));
    let gateway = gateway(&config(&[&slow, &quick], "policy = \"least-request\"")).await;
    let answered = Arc::new(AtomicUsize::new(0));
    for number in 1..=20 {
        let done = answered.clone();
        beside(async move {
            get_fine(gateway, "/", &[]).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
        kit::until("it waits behind the gate or is answered", async || {
            slow.count("/") + answered.load(Ordering::Relaxed) == number
        })
        .await;
    }
    assert!(slow.count("/") <= 1, "{} of 20 wait behind one that does not answer", slow.count("/"));
    assert!(quick.count("/") >= 19);
    gate.open();
}

#[tokio::test]
async fn with_latency_an_instance_that_fails_fast_does_not_attract_everything() {
    let (fails, works) = (Stub::start().await, Stub::start().await);
    fails.always("/", Answer::status(429));
    works.always("/", Answer::ok().after(Duration::from_millis(20)));
    let gateway = gateway(&config(&[&fails, &works], "policy = \"latency\"")).await;
    for _ in 0..40 {
        get(gateway, "/", &[]).await;
    }
    assert!(fails.count("/") <= 4, "{} of 40 went to the one that refuses fast", fails.count("/"));
}

#[tokio::test]
async fn with_latency_the_faster_instance_gets_more() {
    let (fast, slow) = (Stub::start().await, Stub::start().await);
    slow.always("/", Answer::ok().after(Duration::from_millis(300)));
    let gateway = gateway(&config(&[&slow, &fast], "policy = \"latency\"")).await;
    for _ in 0..20 {
        get_fine(gateway, "/", &[]).await;
    }
    assert!(slow.count("/") <= 6, "{} of 20 went to the slow one", slow.count("/"));
}

/// Where each of these requests goes, by the place of the instance.
async fn places(gateway: SocketAddr, instances: &[&Stub], requests: &[(String, String)]) -> Vec<usize> {
    let mut places = Vec::new();
    for (path, header) in requests {
        for stub in instances {
            stub.forget();
        }
        let headers: &[&str] = if header.is_empty() { &[] } else { &[header] };
        get_fine(gateway, path, headers).await;
        places.push(instances.iter().position(|stub| stub.calls().len() == 1).unwrap());
    }
    places
}

#[tokio::test]
async fn a_hash_sends_the_same_value_to_the_same_instance() {
    let stubs = [Stub::start().await, Stub::start().await, Stub::start().await];
    let instances: Vec<&Stub> = stubs.iter().collect();
    let users = 0..12;
    let by_header = users.clone().map(|user| ("/".to_owned(), format!("X-User: {user}")));
    let by_cookie = users.clone().map(|user| ("/".to_owned(), format!("Cookie: a=1; sid={user}; b=2")));
    let by_path = users.map(|user| (format!("/users/{user}"), String::new()));
    let cases = [
        ("{ header = \"X-User\" }", by_header.collect::<Vec<_>>()),
        ("{ cookie = \"sid\" }", by_cookie.collect()),
        ("{ path = \"id\" }", by_path.collect()),
    ];
    for (hash, requests) in cases {
        let gateway = gateway(&config(&instances, &format!("policy = \"hash\"\nhash = {hash}"))).await;
        let first = places(gateway, &instances, &requests).await;
        assert_eq!(first, places(gateway, &instances, &requests).await, "{hash}");
        assert!(first.iter().collect::<BTreeSet<_>>().len() > 1, "{hash}: not all at one: {first:?}");
    }
}

#[tokio::test]
async fn of_a_hash_only_the_keys_of_an_instance_that_is_gone_move_and_they_come_back() {
    let mut stubs = [Stub::start().await, Stub::start().await, Stub::start().await];
    let requests: Vec<_> = (0..15).map(|user| ("/".to_owned(), format!("X-User: {user}"))).collect();
    let hash = "policy = \"hash\"\nhash = { header = \"x-user\" }";
    let gateway = gateway(&config(&stubs.each_ref(), hash)).await;
    let before = places(gateway, &stubs.each_ref(), &requests).await;
    stubs[0].stop().await;
    let without = places(gateway, &stubs.each_ref(), &requests).await;
    for (had, has) in before.iter().zip(&without) {
        assert!(if *had == 0 { *has != 0 } else { has == had }, "{before:?} {without:?}");
    }
    stubs[0].start_again().await;
    assert_eq!(places(gateway, &stubs.each_ref(), &requests).await, before);
}

/// Instances that a test changes.
#[derive(Default)]
struct Changing(Mutex<Arc<[Instance]>>);

impl Changing {
    fn are(&self, stubs: &[&Stub]) {
        let instance =
            |stub: &&Stub| Instance { endpoint: Endpoint::new(&stub.url("")), weight: NonZeroU16::MIN };
        *self.0.lock().unwrap() = stubs.iter().map(instance).collect();
    }
}

impl Discovery for Changing {
    fn instances(&self, _: &str) -> Arc<[Instance]> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn an_instance_that_comes_later_begins_slowly() {
    let (old, new) = (Stub::start().await, Stub::start().await);
    let discovery = Arc::new(Changing::default());
    discovery.are(&[&old]);
    let parsed = parsed(&config(&[&old], "slow_start = \"1h\""));
    let pools = Pools::new(clients(&parsed));
    let gateway = gateway_over(parsed, 1 << 20, &pools, discovery.clone()).await;
    get_fine(gateway, "/", &[]).await;
    discovery.are(&[&old, &new]);
    for _ in 0..22 {
        get_fine(gateway, "/", &[]).await;
    }
    assert_eq!((old.count("/"), new.count("/")), (21, 2), "a tenth of the weight of the other");
}
