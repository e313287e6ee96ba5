//! Consul: the healthy instances of a service, by blocking queries to an agent, and the node's own entry.
//!
//! ```text
//!  ConsulFeed ── GET /v1/health/service/NAME?index=I&wait=55s ──► agent
//!      ▲  hangs until something changes, or until `wait` has passed
//!      └── answer::meaning(I, answer) ─► (next I, what is found) | why nothing is
//! ```
//!
//! The agent is spoken to over plain HTTP: it is on this machine, or behind something that speaks TLS for us.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | what is asked for, as plain data |
//! | [`answer`] | what an answer means, as one pure function |
//! | `bucket` | how fast the loop may turn |
//! | `agent` | one request to an agent |
//! | `watch` | the feed |
//! | [`register`] | the node's own entry |

mod agent;
pub mod answer;
mod bucket;
pub mod register;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use watch::ConsulFeed;

/// How to speak to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAddress {
    /// The base URL, without a slash at its end: `http://127.0.0.1:8500`.
    pub url: String,
    /// Where the ACL token is; `None`: there is none.
    pub token: Option<TokenPlace>,
}

/// Where an ACL token is. The token itself is in no configuration, and read at each use, so that it can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a variable of the environment.
    Variable(String),
    /// In a file, of which the ends are trimmed.
    File(PathBuf),
}

impl TokenPlace {
    /// Why there is no token now. It may come until it is needed, and is looked for at each use.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Variable(name) => {
                std::env::var_os(name).is_none().then(|| format!("the environment has no variable {name}"))
            }
            Self::File(path) => {
                let error = std::fs::File::open(path).err()?;
                Some(format!("{}: {error}", path.display()))
            }
        }
    }
}

/// A service of Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulSource {
    /// Whom to ask.
    pub agent: AgentAddress,
    /// The name of the service.
    pub service: String,
    /// Its datacenter; `None`: that of the agent.
    pub datacenter: Option<String>,
    /// A tag that an instance must have.
    pub tag: Option<String>,
    /// Which instances count.
    pub health: Health,
    /// Any server may answer whose data is not older than this; `None`: the leader does.
    pub stale: Option<Duration>,
    /// How long the agent holds a query in which nothing changes. Default: [`ConsulSource::WAIT`].
    pub wait: Duration,
    /// How fast the loop may turn.
    pub rate: Rate,
    /// How long an answer may take beyond what the agent waits on purpose. Default: [`ConsulSource::PATIENCE`].
    pub patience: Duration,
}

/// Which instances count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Those of which every check passes.
    #[default]
    Passing,
    /// Also those with a warning, with their weight for that.
    Warning,
}

/// A token bucket: `burst` queries at once, then one every `refill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Default: 2.
    pub burst: u32,
    /// Default: 15 s.
    pub refill: Duration,
}

impl ConsulSource {
    /// How long the agent holds a query, where the configuration does not say: just below the minute after which proxies
    /// commonly cut a connection that is silent.
    pub const WAIT: Duration = Duration::from_secs(55);
    /// How long an answer may take beyond that.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// A service, with the defaults of all else.
    #[must_use]
    pub fn new(agent: AgentAddress, service: &str) -> Self {
        Self {
            agent,
            service: service.to_owned(),
            datacenter: None,
            tag: None,
            health: Health::default(),
            stale: None,
            wait: Self::WAIT,
            rate: Rate::default(),
            patience: Self::PATIENCE,
        }
    }
}

impl Default for Rate {
    /// What the documentation of blocking queries asks for.
    fn default() -> Self {
        Self { burst: 2, refill: Duration::from_secs(15) }
    }
}

impl AgentAddress {
    /// Where an agent listens unless it is told otherwise.
    pub const DEFAULT_URL: &str = "http://127.0.0.1:8500";
}
