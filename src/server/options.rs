//! What the configuration says of the node itself: where it listens, and how much it lets in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// The `[node]` section: listeners and the limits on what a client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOptions {
    /// The directory of the log. Default: `./data`.
    pub data_dir: PathBuf,
    /// Where clients, and participants with questions, connect. Default: `127.0.0.1:8000`.
    pub listen: SocketAddr,
    /// Where operators connect. Default: `127.0.0.1:8001`.
    pub admin: SocketAddr,
    /// How participants reach this node: a base URL without a slash at its end. `None`: from the
    /// address that `listen` was bound to; ask [`NodeOptions::advertised`].
    pub advertise: Option<String>,
    /// Proxies in front of this node: what they say of their clients (`X-Forwarded-For` and its kind) is believed.
    /// Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each request of a client has a line in the log. Default: `false`.
    pub access_log: bool,
    /// After SIGTERM: how long connections are still accepted while `/readyz` says 503, so that a
    /// load balancer can notice. Default: 1 s.
    pub drain: Duration,
    /// After `drain`: how long requests in flight may take to finish. Default: 30 s.
    pub finish: Duration,
    /// How long a client may take to send its request line and headers. Default: 10 s.
    pub header_timeout: Duration,
    /// How long a client may leave its answer unread before its connection is cut. Default: 30 s.
    pub answer_timeout: Duration,
    /// The most bytes of request line and headers; hyper refuses less than 8192. Default: 65,536.
    pub header_max: usize,
    /// The most client connections at once; one more takes the place of an idle one, or is told 503. At most a quarter
    /// of the files that the system lets the process open. Default: 10,000.
    pub connections_max: usize,
    /// The most bytes of a request body that has to be held whole (transaction routes); 413 beyond.
    /// Default: 1 MiB.
    pub body_max: usize,
    /// The most bytes of bodies held at once by the whole process; 503 beyond. Default: 256 MiB.
    pub body_budget: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            listen: loopback(8000),
            admin: loopback(8001),
            advertise: None,
            trusted_proxies: Vec::new(),
            access_log: false,
            drain: Duration::from_secs(1),
            finish: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            header_max: 64 * 1024,
            connections_max: 10_000,
            body_max: 1024 * 1024,
            body_budget: 256 * 1024 * 1024,
        }
    }
}

impl NodeOptions {
    /// The base URL that participants are told, where the public listener was bound to `bound`.
    ///
    /// An unspecified address (`0.0.0.0`) cannot be called; loopback stands in for it. Set
    /// `node.advertise` where participants run on other machines.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| format!("http://{}", reachable(bound)))
    }
}

/// The address that reaches a listener from this machine.
pub(super) fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_listener_is_advertised_as_loopback_with_the_bound_port() {
        let options = NodeOptions::default();
        let bound = "0.0.0.0:43111".parse().unwrap();
        assert_eq!(options.advertised(bound), "http://127.0.0.1:43111");
        let bound = "[::]:43111".parse().unwrap();
        assert_eq!(options.advertised(bound), "http://[::1]:43111");
    }

    #[test]
    fn what_the_operator_advertises_wins_over_the_listener() {
        let advertise = Some("https://gateway.example.com".to_owned());
        let options = NodeOptions { advertise, ..NodeOptions::default() };
        assert_eq!(options.advertised(options.listen), "https://gateway.example.com");
    }
}
