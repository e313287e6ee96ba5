//! Which instances a service has, and where. One trait; for now the only source is the configuration file.
//!
//! A source answers at once from a snapshot it keeps; it never does I/O on the path of a request.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

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
}

/// Instances that never change: what the configuration file lists.
#[derive(Debug, Clone, Default)]
pub struct Fixed(BTreeMap<String, Arc<[Instance]>>);

impl FromIterator<(String, Vec<Instance>)> for Fixed {
    fn from_iter<I: IntoIterator<Item = (String, Vec<Instance>)>>(services: I) -> Self {
        Self(services.into_iter().map(|(name, list)| (name, list.into())).collect())
    }
}

impl Discovery for Fixed {
    fn instances(&self, service: &str) -> Arc<[Instance]> {
        self.0.get(service).cloned().unwrap_or_default()
    }
}
