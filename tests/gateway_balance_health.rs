//! Instances that are not well: what checks and failures make of them, and what of that survives a new configuration.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod gateway_support;
mod kit;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gateway_support::{clients, gateway_over, get, parsed, status};
use kit::{Answer, Stub};
use unanimous::discovery::{Discovery, Endpoint, Instance};
use unanimous::gateway::{Pools, Standing};

const CHECKED: &str = "health = { path = \"/health\", interval = \"250ms\", healthy = 1, unhealthy = 2 }";
const EJECTED: &str = "outlier = { consecutive = 2, base_time = \"1h\", max_time = \"1h\" }";

/// A service at these instances with more keys, and a route to it.
fn config(instances: &[&Stub], service: &str) -> String {
    let endpoints: Vec<_> = instances.iter().map(|stub| format!("{:?}", stub.url(""))).collect();
    format!(
        "[services.s]\nendpoints = [{}]\n{service}\n[[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\n\
         forward = {{ service = \"s\" }}\n",
        endpoints.join(", ")
    )
}

/// A gateway, and what is known of the services behind it.
struct Front {
    gateway: SocketAddr,
    pools: Arc<Pools>,
}

impl Front {
    async fn of(config: &str) -> Self {
        let pools = Pools::new(clients(&parsed(config)));
        let mut front = Self { gateway: SocketAddr::from(([127, 0, 0, 1], 1)), pools };
        front.reload(config).await;
        front
    }

    /// A gateway for another configuration over the same pools, as a reload makes it.
    async fn reload(&mut self, config: &str) {
        let config = parsed(config);
        let discovery = Arc::new(config.discovery());
        self.gateway = gateway_over(config, 1 << 20, &self.pools, discovery).await;
    }

    async fn ask(&self) -> String {
        status(&get(self.gateway, "/", &[]).await).to_owned()
    }

    /// So many requests, whatever comes of them.
    async fn asks(&self, times: usize) {
        for _ in 0..times {
            self.ask().await;
        }
    }

    fn standing(&self, stub: &Stub) -> Option<Standing> {
        let endpoint = Endpoint::new(&stub.url(""));
        let readings = self.pools.readings();
        let mut instances = readings.iter().flat_map(|service| &service.instances);
        instances.find(|instance| instance.endpoint == endpoint).map(|instance| instance.standing)
    }

    async fn until(&self, stub: &Stub, standing: Standing) {
        let what = format!("the instance is {standing:?}");
        kit::until(&what, async || self.standing(stub) == Some(standing)).await;
    }
}

#[tokio::test]
async fn an_instance_whose_checks_fail_is_left_out_until_they_are_good() {
    let (ill, well) = (Stub::start().await, Stub::start().await);
    let front = Front::of(&config(&[&ill, &well], CHECKED)).await;
    assert_eq!(front.ask().await, "200", "before the first check all are taken to be well");
    ill.always("/health", Answer::status(503));
    front.until(&ill, Standing::Unhealthy).await;
    ill.forget();
    front.asks(6).await;
    assert_eq!(ill.count("/"), 0);
    ill.always("/health", Answer::ok());
    front.until(&ill, Standing::Usable).await;
    front.asks(6).await;
    assert_eq!(ill.count("/"), 3);
    assert!(ill.calls_to("/health").iter().all(|call| call.header("user-agent") == "unanimous-health-check"));
}

#[tokio::test]
async fn a_check_that_hangs_or_answers_another_status_than_expected_is_bad() {
    let (hangs, other) = (Stub::start().await, Stub::start().await);
    hangs.always("/health", Answer::hang());
    other.always("/health", Answer::status(204));
    let checked = CHECKED.replace("healthy = 1", "timeout = \"50ms\", expect = [200, \"3xx\"], healthy = 1");
    let front = Front::of(&config(&[&hangs, &other], &checked)).await;
    front.until(&hangs, Standing::Unhealthy).await;
    front.until(&other, Standing::Unhealthy).await;
}

#[tokio::test]
async fn where_no_instance_is_well_all_are_used() {
    let (one, two) = (Stub::start().await, Stub::start().await);
    one.always("/health", Answer::status(404));
    two.always("/health", Answer::status(404));
    let front = Front::of(&config(&[&one, &two], CHECKED)).await;
    front.until(&one, Standing::Unhealthy).await;
    front.until(&two, Standing::Unhealthy).await;
    assert!(front.pools.readings()[0].is_panic);
    for _ in 0..4 {
        assert_eq!(front.ask().await, "200");
    }
    assert_eq!((one.count("/"), two.count("/")), (2, 2));
}

#[tokio::test]
async fn where_fewer_are_well_than_was_said_all_are_used() {
    let (ill, well) = (Stub::start().await, Stub::start().await);
    ill.always("/health", Answer::status(404));
    let front =
        Front::of(&config(&[&ill, &well], &format!("balance = {{ panic_percent = 51 }}\n{CHECKED}"))).await;
    front.until(&ill, Standing::Unhealthy).await;
    front.asks(4).await;
    assert_eq!((ill.count("/"), well.count("/")), (2, 2), "half of them are well");
}

#[tokio::test]
async fn an_instance_that_fails_again_and_again_is_ejected() {
    let (fails, works) = (Stub::start().await, Stub::start().await);
    fails.always("/", Answer::status(500));
    let front = Front::of(&config(&[&fails, &works], EJECTED)).await;
    front.asks(20).await;
    assert_eq!((fails.count("/"), works.count("/")), (2, 18));
    assert_eq!(front.standing(&fails), Some(Standing::Ejected));
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_ejected_too_and_no_client_notices() {
    let (gone, works) = (Stub::stopped(), Stub::start().await);
    let front = Front::of(&config(&[&gone, &works], EJECTED)).await;
    for _ in 0..6 {
        assert_eq!(front.ask().await, "200");
    }
    assert_eq!(front.standing(&gone), Some(Standing::Ejected));
}

#[tokio::test]
async fn no_more_are_ejected_than_the_cap_allows() {
    let stubs = [Stub::start().await, Stub::start().await, Stub::start().await];
    for stub in &stubs {
        stub.always("/", Answer::status(500));
    }
    let front = Front::of(&config(&stubs.each_ref(), EJECTED)).await;
    front.asks(30).await;
    let out = stubs.iter().filter(|stub| front.standing(stub) == Some(Standing::Ejected)).count();
    assert_eq!(out, 1, "half of three, rounded down");
}

#[tokio::test]
async fn a_good_check_takes_an_ejected_instance_back() {
    let (fails, works) = (Stub::start().await, Stub::start().await);
    fails.always("/", Answer::status(500));
    let front = Front::of(&config(&[&fails, &works], EJECTED)).await;
    front.asks(6).await;
    assert_eq!(front.standing(&fails), Some(Standing::Ejected));
    let mut front = front;
    front.reload(&config(&[&fails, &works], &format!("{EJECTED}\n{CHECKED}"))).await;
    front.until(&fails, Standing::Usable).await;
}

#[tokio::test]
async fn what_is_known_of_an_instance_survives_a_reload_that_changes_the_others() {
    let (fails, works, more) = (Stub::start().await, Stub::start().await, Stub::start().await);
    fails.always("/", Answer::status(500));
    let mut front = Front::of(&config(&[&fails, &works], EJECTED)).await;
    front.asks(6).await;
    assert_eq!(fails.count("/"), 2);
    front.reload(&config(&[&more, &works, &fails], EJECTED)).await;
    front.asks(6).await;
    assert_eq!((fails.count("/"), more.count("/")), (2, 3));
    assert_eq!(front.standing(&fails), Some(Standing::Ejected));
    front.reload(&config(&[&works, &fails], "")).await;
    assert_eq!(front.standing(&fails), Some(Standing::Usable), "nobody wants ejection any more");
}

#[tokio::test]
async fn health_survives_a_reload_and_the_checks_go_on() {
    let (ill, well) = (Stub::start().await, Stub::start().await);
    ill.always("/health", Answer::status(503));
    let mut front = Front::of(&config(&[&ill, &well], CHECKED)).await;
    front.until(&ill, Standing::Unhealthy).await;
    for _ in 0..5 {
        front.reload(&config(&[&ill, &well], CHECKED)).await;
        assert_eq!(front.standing(&ill), Some(Standing::Unhealthy));
        assert_eq!(front.pools.checks_running(), 2, "none was begun anew beside another");
    }
    ill.always("/health", Answer::ok());
    front.until(&ill, Standing::Usable).await;
}

/// Instances that a test changes.
#[derive(Default)]
struct Changing(Mutex<Arc<[Instance]>>);

impl Changing {
    fn are(&self, stubs: &[&Stub]) {
        let instance = |stub: &&Stub| Instance::new(Endpoint::new(&stub.url("")));
        *self.0.lock().unwrap() = stubs.iter().map(instance).collect();
    }
}

impl Discovery for Changing {
    fn instances(&self, _: &str) -> Arc<[Instance]> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn checks_follow_discovery_and_end_with_the_pools() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (one, two, three) = (Stub::start().await, Stub::start().await, Stub::start().await);
    let before = tasks();
    let (discovery, parsed) = (Arc::new(Changing::default()), parsed(&config(&[&one], CHECKED)));
    let pools = Pools::new(clients(&parsed));
    pools.configure(parsed.policies(), discovery.clone());
    for (stubs, count) in [(vec![&one, &two], 2), (vec![&one, &two, &three], 3), (vec![&two], 1), (vec![], 0)]
    {
        discovery.are(&stubs);
        let what = format!("{count} instances are checked");
        kit::until(&what, async || pools.checks_running() == count).await;
    }
    discovery.are(&[&three]);
    three.forget();
    three.wait_for("/health", 1).await;
    drop(pools);
    // Each connection to a stub is a task too, and ends with the client.
    kit::until("all tasks have ended", async || tasks() <= before).await;
}
