//! Where a service's instances are looked for, as plain data that the configuration makes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Instance;
use super::consul::ConsulSource;
use super::dns::{DnsSource, SrvSource};

/// Where to look, and what to make of what is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where to look.
    pub source: Source,
    /// Whether the node is ready without its first answer. Default: no.
    pub is_optional: bool,
    /// How long the last instances are kept after an answer that has none. Default: [`Spec::KEEP`].
    pub keep: Duration,
    /// The wait after an answer that did not come. Default: [`Pace::default`].
    pub retry: Pace,
    /// The services to ask in its place while it has no instance, in order.
    pub stand_ins: Arc<[String]>,
}

/// One source of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What the configuration lists.
    Fixed(Vec<Instance>),
    /// The addresses of a name.
    Dns(DnsSource),
    /// A service of DNS.
    Srv(SrvSource),
    /// A file that is watched: TOML, or JSON where its name ends so.
    File(PathBuf),
    /// A service of Consul.
    Consul(ConsulSource),
}

/// Exponential backoff with full jitter: a wait from `least` to `least` doubled once a failure, up to `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The shortest wait. Default: 1 s.
    pub least: Duration,
    /// The longest. Default: 60 s.
    pub most: Duration,
}

impl Spec {
    /// How long the last instances are kept after an answer that has none, where the configuration does not say: an
    /// orchestrator that replaces all instances at once has new ones by then.
    pub const KEEP: Duration = Duration::from_secs(30);

    /// What is looked for there, with the defaults of all else.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            is_optional: false,
            keep: Self::KEEP,
            retry: Pace::default(),
            stand_ins: Arc::default(),
        }
    }

    /// Whether both look at the same place and believe the same.
    pub(super) fn looks_as(&self, other: &Self) -> bool {
        self.source == other.source && self.keep == other.keep && self.retry == other.retry
    }
}

impl Source {
    /// What the configuration, `/readyz` and the metrics call it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "endpoints",
            Self::Dns(_) => "dns",
            Self::Srv(_) => "srv",
            Self::File(_) => "file",
            Self::Consul(_) => "consul",
        }
    }

    /// The instances that are listed and not looked for.
    #[must_use]
    pub fn listed(&self) -> &[Instance] {
        match self {
            Self::Fixed(instances) => instances,
            Self::Dns(_) | Self::Srv(_) | Self::File(_) | Self::Consul(_) => &[],
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { least: Duration::from_secs(1), most: Duration::from_mins(1) }
    }
}

impl Pace {
    /// The wait after the `failed`th failure in a row, from 1. Jitter is drawn from the whole of it, so that many gateways
    /// do not come back to a registry at once.
    pub(super) fn wait(self, failed: u32, random: &mut fastrand::Rng) -> Duration {
        let most = self.least.saturating_mul(1 << failed.min(16)).min(self.most).max(self.least);
        self.least + most.saturating_sub(self.least).mul_f64(random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_are_never_shorter_than_the_shortest() {
        let mut random = fastrand::Rng::with_seed(1);
        let pace = Pace::default();
        let mut longest = |failed| (0..200).map(|_| pace.wait(failed, &mut random)).max().unwrap();
        assert!(longest(1) <= Duration::from_secs(2));
        assert!(longest(3) > Duration::from_secs(4) && longest(3) <= Duration::from_secs(8));
        assert!(longest(9) > Duration::from_secs(40) && longest(u32::MAX) <= Duration::from_mins(1));
        assert!((0..200).all(|failed| pace.wait(failed, &mut random) >= Duration::from_secs(1)));
    }
}
