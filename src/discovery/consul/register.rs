//! The node's own entry in Consul: made when it serves, asserted every minute, in maintenance while it drains, and gone
//! before it closes its door.
//!
//! An agent forgets what it was told where it is set up anew, so that once is not enough. Maintenance outlives a restart of
//! the agent, so that a start takes it back. <https://developer.hashicorp.com/consul/api-docs/agent/service>

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AgentAddress;
use super::agent::Agent;
use crate::discovery::source::Pace;
use crate::discovery::trouble::Trouble;

/// What the configuration says of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whom to tell.
    pub agent: AgentAddress,
    /// The name of the service: what others look for.
    pub name: String,
    /// The name of this entry; `None`: the service, and where the node is reached.
    pub id: Option<String>,
    /// Where the node is reached; `None`: as it is advertised.
    pub address: Option<String>,
    /// Its port; `None`: as it is advertised.
    pub port: Option<u16>,
    /// Tags.
    pub tags: Vec<String>,
    /// What else is to be known.
    pub meta: BTreeMap<String, String>,
    /// The URL of `/readyz` as the agent reaches it; `None`: that of the admin listener.
    pub check: Option<String>,
    /// How often the agent asks it. Default: [`Entry::INTERVAL`].
    pub interval: Duration,
    /// How long the entry stays after the check has begun to fail. Default: [`Entry::GONE_AFTER`].
    pub gone_after: Duration,
}

/// What the node says of itself: the entry, and what the configuration may have left open of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What the configuration says of it.
    pub entry: Entry,
    /// No other entry of the agent may have it.
    pub id: String,
    /// Where the node is reached; `None`: at the address of the agent's node.
    pub address: Option<String>,
    /// Its port.
    pub port: u16,
    /// The URL of `/readyz`, as the agent reaches it.
    pub check: String,
}

impl Entry {
    /// How often the agent asks whether the node is ready.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// How long the entry stays after the check has begun to fail: longer than any recovery takes. An hour and not a
    /// minute, because an entry that is gone is one that nobody looks into.
    pub const GONE_AFTER: Duration = Duration::from_hours(1);

    /// What a node says of itself that is advertised as `advertised`, a URL, and whose probes are answered at `readyz`.
    #[must_use]
    pub fn of_node(mut self, advertised: &str, readyz: String, version: &str) -> Registration {
        let url = Url::parse(advertised).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or("localhost");
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.port.or_else(|| url.as_ref()?.port_or_known_default()).unwrap_or(80);
        // What is only advertised to this machine is no address for others: there the agent's own is meant.
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let address = self.address.clone().or_else(|| (!is_here).then(|| host.to_owned()));
        let id = self.id.clone().unwrap_or_else(|| {
            format!("{}-{}-{port}", self.name, address.as_deref().unwrap_or(host).replace(':', "-"))
        });
        let check = self.check.clone().unwrap_or(readyz);
        self.meta.entry("version".to_owned()).or_insert_with(|| version.to_owned());
        Registration { entry: self, id, address, port, check }
    }
}

impl Registration {
    /// How often the entry is asserted.
    const ASSERT_EVERY: Duration = Duration::from_mins(1);
    /// How long one call to the agent may take: it holds up the end of the node.
    const PATIENCE: Duration = Duration::from_secs(2);
    /// How long the agent waits for an answer of `/readyz`.
    const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

    /// The body of the call.
    fn body(&self) -> Value {
        let Entry { name, tags, meta, interval, gone_after, .. } = &self.entry;
        let mut body = json!({
            "ID": self.id,
            "Name": name,
            "Port": self.port,
            "Tags": tags,
            "Meta": meta,
            "Checks": [{
                "Name": "ready",
                "HTTP": self.check,
                "Interval": as_go_reads(*interval),
                "Timeout": as_go_reads(Self::CHECK_TIMEOUT),
                "DeregisterCriticalServiceAfter": as_go_reads(*gone_after),
            }],
        });
        if let (Some(address), Some(members)) = (&self.address, body.as_object_mut()) {
            members.insert("Address".to_owned(), json!(address));
        }
        body
    }
}

/// Keeps the entry. It stays as it is where this is only dropped, as after a crash: the agent's check is there for that.
#[derive(Debug)]
pub struct Registrar {
    registration: Arc<Registration>,
    asserting: CancellationToken,
}

impl Registrar {
    /// Begins to keep the entry, inside a runtime. What fails is tried again.
    #[must_use]
    pub fn start(registration: Registration) -> Self {
        let (registration, asserting) = (Arc::new(registration), CancellationToken::new());
        let keeping = keep(registration.clone());
        TaskTracker::new().spawn(asserting.clone().run_until_cancelled_owned(keeping));
        Self { registration, asserting }
    }

    /// Nobody should be sent here any more; those who come are still served. An entry that is asserted again would be
    /// without its maintenance, so that ends first.
    pub async fn drain(&self) {
        self.asserting.cancel();
        let query = [("enable", "true"), ("reason", "draining")];
        self.tell("could not be put into maintenance", "maintenance", &query).await;
    }

    /// Removes the entry.
    pub async fn leave(&self) {
        self.asserting.cancel();
        self.tell("could not be removed", "deregister", &[]).await;
    }

    async fn tell(&self, what: &str, operation: &str, query: &[(&str, &str)]) {
        let id = self.registration.id.as_str();
        let told = match Agent::new(self.registration.entry.agent.clone()) {
            Ok(agent) => put(&agent, &[operation, id], query, None).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = told {
            tracing::warn!(id, "the node's entry in Consul {what}: {trouble}");
        }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.asserting.cancel();
    }
}

async fn keep(registration: Arc<Registration>) {
    let (mut random, mut failed, mut is_new) = (fastrand::Rng::new(), 0_u32, true);
    let id = registration.id.as_str();
    loop {
        match assert(&registration, is_new).await {
            Ok(()) => {
                if is_new || failed > 0 {
                    tracing::info!(id, name = registration.entry.name, "the node is registered with Consul");
                }
                (failed, is_new) = (0, false);
                sleep(Registration::ASSERT_EVERY).await;
            }
            Err(trouble) => {
                if failed == 0 {
                    tracing::warn!(
                        id,
                        "the node could not be registered with Consul, which is tried again: {trouble}"
                    );
                }
                failed = failed.saturating_add(1);
                sleep(Pace::default().wait(failed, &mut random)).await;
            }
        }
    }
}

/// Registers the node; the first time it also takes back the maintenance of an earlier run.
async fn assert(registration: &Registration, is_new: bool) -> Result<(), Trouble> {
    let agent = Agent::new(registration.entry.agent.clone())?;
    let query = [("replace-existing-checks", "true")];
    put(&agent, &["register"], &query, Some(&registration.body())).await?;
    if is_new {
        put(&agent, &["maintenance", &registration.id], &[("enable", "false")], None).await?;
    }
    Ok(())
}

async fn put(
    agent: &Agent,
    operation: &[&str],
    query: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<(), Trouble> {
    let path: Vec<&str> = ["v1", "agent", "service"].iter().chain(operation).copied().collect();
    let answer = agent.ask(Method::PUT, &path, query, body, Registration::PATIENCE).await?;
    match answer.status.as_u16() {
        200..=299 => Ok(()),
        // There is no such entry: somebody has removed it already.
        404 if body.is_none() => Ok(()),
        403 => Err(Trouble::Denied),
        429 => Err(Trouble::Limited),
        other => Err(Trouble::Status(other)),
    }
}

/// A duration as the agent, a program in Go, reads it.
fn as_go_reads(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
