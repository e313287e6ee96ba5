//! Which instances a service has, and where: from the configuration file, DNS, a watched file or Consul.
//!
//! ```text
//!  Spec ─► Sources ─► one task a service ─► Feed::next ─► what is let in ─► is it believed? ─► snapshot
//!             ▲                              (dns, file,      (admit)          (belief)           │
//!             └──────────── Discovery::instances, at every request ◄──────────────────────────────┘
//! ```
//!
//! A source answers at once from a snapshot it keeps; it never does I/O on the path of a request. What fails changes
//! nothing: the last good answer is kept for as long as it takes.
//!
//! It is *not* where health is judged, nor who is called next: that is the gateway's affair. It knows nothing of routes,
//! transactions and the log.
//!
//! | file | holds |
//! |---|---|
//! | [`source`] | where to look, as plain data |
//! | [`sources`] | all services, each with its snapshot; replaced at a reload |
//! | `state` | the snapshot of one service, and how its source does |
//! | `follow` | the loop that every source runs in: belief, backoff, a line at each change |
//! | [`admit`] | which addresses of an answer are let in |
//! | `belief` | whether an answer that has nothing is believed |
//! | [`trouble`] | why there was no answer |
//! | [`dns`] | DNS: addresses, and services |
//! | [`file`](mod@file) | a watched file |
//! | [`consul`] | Consul, by blocking queries; and the node's own entry in it |

pub mod admit;
mod belief;
pub mod consul;
pub mod dns;
pub mod file;
mod follow;
pub mod source;
pub mod sources;
mod state;
pub mod trouble;

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

pub use source::{Pace, Source, Spec};
pub use sources::Sources;
pub use state::Status;
use tokio::sync::watch;

/// The base URL of one instance of a service: scheme and authority, no path: `http://127.0.0.1:9001`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<str>);

impl Endpoint {
    /// An endpoint from a base URL that the configuration has checked.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self(Arc::from(base.trim_end_matches('/')))
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where it is; its identity too: what is known of its health is known of this.
    pub endpoint: Endpoint,
    /// Its share of the calls beside that of the others, at least 1. Default: 1.
    pub weight: NonZeroU16,
}

impl Instance {
    /// An instance with the weight of most.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, weight: NonZeroU16::MIN }
    }
}

/// A source of instances.
pub trait Discovery: Send + Sync + 'static {
    /// The instances of `service` as last known, in a stable order; empty where it has none.
    fn instances(&self, service: &str) -> Arc<[Instance]>;

    /// The services to ask in the place of `service`, in this order, while it has no instance that is well. For forwarding and
    /// merging only: a branch of a transaction is one service, and another has not seen what it promised.
    fn stand_ins(&self, _service: &str) -> Arc<[String]> {
        Arc::default()
    }

    /// A counter that moves whenever the instances of `service` change; `None` where they cannot.
    fn changes(&self, _service: &str) -> Option<watch::Receiver<u64>> {
        None
    }
}
