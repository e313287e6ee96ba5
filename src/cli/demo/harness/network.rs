//! What lies between the gateway and the banks. In the demo nothing; the kill test puts a bad network there.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::process::free_port;

/// The network between the gateway and the banks, which are numbered from 0.
pub trait Network: Debug + Send + Sync {
    /// Where the gateway runs.
    fn gateway(&self) -> Place;

    /// The way to a bank.
    fn bank(&self, bank: usize) -> Way;

    /// Cuts a bank off: nothing passes in either direction, and nobody is told.
    fn cut(&self, bank: usize) -> io::Result<()>;

    /// Ends that. What was under way may still come.
    fn heal(&self, bank: usize) -> io::Result<()>;
}

/// Where the gateway runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Words before the command that starts it.
    pub before: Vec<OsString>,
    /// Where its clients and operators find it.
    pub host: IpAddr,
}

/// How a bank is found.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Where it listens, and is asked by the proof.
    pub listens: SocketAddr,
    /// Where the gateway calls it.
    pub called: SocketAddr,
}

/// Loopback, which has no faults and cannot be cut.
#[derive(Debug, Clone, Copy)]
pub struct Loopback;

impl Network for Loopback {
    fn gateway(&self) -> Place {
        Place { before: Vec::new(), host: Ipv4Addr::LOCALHOST.into() }
    }

    fn bank(&self, _bank: usize) -> Way {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Way { listens: at, called: at }
    }

    fn cut(&self, _bank: usize) -> io::Result<()> {
        Err(io::Error::other("loopback cannot be cut"))
    }

    fn heal(&self, _bank: usize) -> io::Result<()> {
        Ok(())
    }
}
