//! A bad network between the gateway and its banks: it loses, delays, repeats too late and tears, and it can be cut.
//!
//! ```text
//!            own namespace │ where we run
//!  clients ◄──────pair─────┼──► gateway's listeners
//!  gateway ──────pair 0────┼──► proxy ──► bank north       A partition takes a pair down, and where there are no
//!          ──────pair 1────┼──► proxy ──► bank south       namespaces it stops a proxy. The proxies are left out
//!          ──────pair 2────┼──► proxy ──► bank east        where nothing is to be lost or slow.
//! ```

pub mod proxy;
pub mod spaces;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use unanimous::cli::demo::harness::{Network, Place, Way, free_port};

use self::proxy::{Faults, Proxy, Tally};
use self::spaces::Spaces;

/// How many banks there are.
const BANKS: usize = 3;

/// The ways to all banks.
#[derive(Debug)]
pub struct Lines {
    lines: Vec<Line>,
    /// Where partitions are made; without, a proxy makes them.
    spaces: Option<Spaces>,
}

#[derive(Debug)]
struct Line {
    way: Way,
    proxy: Option<Proxy>,
}

impl Lines {
    /// Lays all of them. The proxies live as long as the value.
    pub async fn lay(faults: Faults, spaces: Option<Spaces>, seed: u64) -> io::Result<Self> {
        let mut lines = Vec::new();
        for (bank, seed) in (0..BANKS).zip(seed..) {
            let near = spaces.as_ref().map_or(Ipv4Addr::LOCALHOST, |_| spaces::near(bank));
            let at = |ip: Ipv4Addr| SocketAddr::from((ip, free_port()));
            lines.push(if spaces.is_some() && faults.are_none() {
                let at = at(near);
                Line { way: Way { listens: at, called: at }, proxy: None }
            } else {
                let way = Way { listens: at(Ipv4Addr::LOCALHOST), called: at(near) };
                let proxy = Proxy::start(way.called, way.listens, faults, seed).await?;
                Line { way, proxy: Some(proxy) }
            });
        }
        Ok(Self { lines, spaces })
    }

    /// Every fault so far.
    pub fn tally(&self) -> Tally {
        self.lines.iter().filter_map(|line| line.proxy.as_ref()).map(Proxy::tally).sum()
    }

    fn set(&self, bank: usize, open: bool) -> io::Result<()> {
        match (&self.spaces, &self.line(bank).proxy) {
            (Some(_), _) => spaces::set(bank, open)?,
            (None, Some(proxy)) => proxy.let_through(open),
            (None, None) => {}
        }
        Ok(())
    }

    fn line(&self, bank: usize) -> &Line {
        self.lines.get(bank).expect("there are as many lines as banks")
    }
}

impl Network for Lines {
    fn gateway(&self) -> Place {
        let loopback = || Place { before: Vec::new(), host: IpAddr::from(Ipv4Addr::LOCALHOST) };
        self.spaces.as_ref().map_or_else(loopback, Spaces::gateway)
    }

    fn bank(&self, bank: usize) -> Way {
        self.line(bank).way
    }

    fn cut(&self, bank: usize) -> io::Result<()> {
        self.set(bank, false)
    }

    fn heal(&self, bank: usize) -> io::Result<()> {
        self.set(bank, true)
    }
}
