//! DNS: the addresses of a name (A, AAAA), and services (SRV). This is how Kubernetes is asked too: the name of a headless
//! service has the addresses of its pods.
//!
//! A name is asked for again when its TTL has passed, within bounds. "There is no such name" is an answer without
//! instances; a server that fails or does not answer changes nothing.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | what is asked for, and the feed of addresses |
//! | `srv` | the feed of services |
//! | `lookup` | one question, with hickory-resolver |

mod lookup;
mod srv;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admit::{Candidate, Found};
use super::follow::Feed;
use super::trouble::Trouble;
use lookup::Names;

pub(super) use srv::SrvFeed;

/// The addresses of a name, all with one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSource {
    /// The name. The search list of the system applies unless it ends with a dot.
    pub name: String,
    /// The port that is called at each address.
    pub port: NonZeroU16,
    /// Which addresses.
    pub family: Family,
    /// How often to ask.
    pub refresh: Refresh,
    /// The name server to ask; `None`: those of the system, and its hosts file.
    pub server: Option<SocketAddr>,
}

/// A service of DNS (RFC 2782): its records name hosts, ports, priorities and weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvSource {
    /// The name, such as `_http._tcp.accounts.internal`.
    pub name: String,
    /// Which addresses of the hosts.
    pub family: Family,
    /// How often to ask.
    pub refresh: Refresh,
    /// The name server to ask; `None`: those of the system, and its hosts file.
    pub server: Option<SocketAddr>,
}

/// Which addresses of a name count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// All.
    #[default]
    Any,
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

/// The bounds within which a TTL is honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// Not sooner than this: a TTL of 0 would be a question a request. Default: 1 s.
    pub least: Duration,
    /// Not later than this: nobody waits a day for an instance to be noticed. Default: 60 s.
    pub most: Duration,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { least: Duration::from_secs(1), most: Duration::from_mins(1) }
    }
}

impl Refresh {
    /// The wait after an answer with this TTL.
    fn after(self, ttl: Duration) -> Duration {
        ttl.clamp(self.least, self.most.max(self.least))
    }
}

/// When the next question is due; at once where none was answered yet.
#[derive(Debug, Default)]
struct Due(Option<Instant>);

impl Due {
    /// Waits until it is, once. A question that is not answered is due again at once: the loop has waited by then.
    async fn wait(&mut self) {
        if let Some(due) = self.0 {
            sleep_until(due).await;
            self.0 = None;
        }
    }

    fn again(&mut self, refresh: Refresh, ttl: Duration) {
        self.0 = Some(Instant::now() + refresh.after(ttl));
    }
}

/// Follows the addresses of a name.
pub(super) struct DnsFeed {
    source: DnsSource,
    names: Names,
    due: Due,
}

impl DnsFeed {
    pub(super) fn new(source: DnsSource) -> Self {
        Self { names: Names::new(source.server), source, due: Due::default() }
    }
}

impl Feed for DnsFeed {
    async fn next(&mut self) -> Result<Found, Trouble> {
        self.due.wait().await;
        self.now().await
    }

    async fn now(&mut self) -> Result<Found, Trouble> {
        let answer = self.names.addresses(&self.source.name, self.source.family).await?;
        self.due.again(self.source.refresh, answer.ttl);
        let port = self.source.port.get();
        Ok(answer.records.into_iter().map(|ip: IpAddr| Ok(Candidate::at(ip, port))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_honoured_within_bounds() {
        let after = |seconds| Refresh::default().after(Duration::from_secs(seconds)).as_secs();
        assert_eq!([after(0), after(1), after(30), after(86_400)], [1, 1, 30, 60]);
    }
}
