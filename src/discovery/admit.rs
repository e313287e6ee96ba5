//! Which addresses of an answer are let in.
//!
//! Whoever may write to a registry could otherwise send the gateway's calls to the metadata service of the cloud, which
//! gives away the credentials of the machine. Addresses that no instance can have are refused, one by one: the others of
//! the same answer count. What a *name* leads to is looked at in the same way whenever it is called, in
//! `clients::addresses`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use reqwest::Url;

use super::{Endpoint, Instance};
use crate::clients::addresses::is_forbidden;

/// More instances than this of one service are not taken: each costs memory wherever calls are balanced.
pub const INSTANCES_MAX: usize = 1024;

/// A name of DNS has no more.
const HOST_BYTES_MAX: usize = 253;

/// One entry of an answer, before it is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// An address or a name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of the calls; with none it is left out, and nothing is wrong with it.
    pub weight: u64,
}

/// Why an entry is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It cannot be made out where it is.
    #[error("cannot be read")]
    Unreadable,
    /// Its port is 0 or none.
    #[error("have no port")]
    NoPort,
    /// No service can be there, but something that must not be called may.
    #[error("have an address that is link-local, multicast, unspecified or a cloud's metadata service")]
    Forbidden,
    /// There are too many.
    #[error("are more than the {INSTANCES_MAX} that are taken")]
    TooMany,
}

/// What an answer has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The instances, each once, in the order of their endpoints.
    pub instances: Vec<Instance>,
    /// How many entries were not let in, and why.
    pub refused: BTreeMap<Refused, usize>,
}

impl FromIterator<Result<Candidate, Refused>> for Found {
    fn from_iter<I: IntoIterator<Item = Result<Candidate, Refused>>>(entries: I) -> Self {
        let (mut weights, mut refused) = (BTreeMap::<Endpoint, NonZeroU16>::new(), BTreeMap::new());
        for entry in entries {
            let admitted = entry.and_then(|candidate| Ok((candidate.endpoint()?, candidate.weight())));
            match admitted {
                Ok((endpoint, Some(weight))) => {
                    // Registered twice: the larger share counts, whatever the order of the answer.
                    let known = weights.entry(endpoint).or_insert(weight);
                    *known = weight.max(*known);
                }
                Ok((_, None)) => {}
                Err(reason) => *refused.entry(reason).or_default() += 1,
            }
        }
        if let Some(more) = weights.len().checked_sub(INSTANCES_MAX).filter(|more| *more > 0) {
            refused.insert(Refused::TooMany, more);
        }
        let instances = weights.into_iter().take(INSTANCES_MAX);
        let instances = instances.map(|(endpoint, weight)| Instance { endpoint, weight }).collect();
        Self { instances, refused }
    }
}

impl Candidate {
    /// A candidate with the weight of most.
    #[must_use]
    pub fn at(ip: IpAddr, port: u16) -> Self {
        Self { host: ip.to_string(), port, weight: 1 }
    }

    fn weight(&self) -> Option<NonZeroU16> {
        NonZeroU16::new(u16::try_from(self.weight).unwrap_or(u16::MAX))
    }

    fn endpoint(&self) -> Result<Endpoint, Refused> {
        if self.port == 0 {
            return Err(Refused::NoPort);
        }
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Err(_) if self.host.len() > HOST_BYTES_MAX || !self.host.chars().all(is_of_name) => {
                return Err(Refused::Unreadable);
            }
            Err(_) => self.host.clone(),
        };
        // The client reads the URL in the same way, so that `0xa9fea9fe` is an address here as it would be there.
        let url = Url::parse(&format!("http://{host}:{}", self.port)).map_err(|_| Refused::Unreadable)?;
        let host = url.host_str().ok_or(Refused::Unreadable)?;
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        if ip.is_ok_and(is_forbidden) {
            return Err(Refused::Forbidden);
        }
        Ok(Endpoint::new(url.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn said(host: &str, port: u16) -> Result<String, Refused> {
        let candidate = Candidate { host: host.to_owned(), port, weight: 1 };
        candidate.endpoint().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn an_endpoint_is_written_as_the_configuration_would_write_it() {
        let url = |text: &str| Ok(text.to_owned());
        assert_eq!(said("10.0.0.1", 9001), url("http://10.0.0.1:9001"));
        assert_eq!(said("2001:db8::1", 9001), url("http://[2001:db8::1]:9001"));
        assert_eq!(said("10.0.0.1", 80), url("http://10.0.0.1"));
        assert_eq!(said("db.Example.com", 1), url("http://db.example.com:1"));
        assert_eq!(said("127.0.0.1", 1), url("http://127.0.0.1:1"));
    }

    #[test]
    fn an_address_that_no_instance_can_have_is_refused_however_it_is_written() {
        let hosts = [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0376.0251.254",
            "169.254.43518",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ];
        for host in hosts {
            assert_eq!(said(host, 80), Err(Refused::Forbidden), "{host}");
        }
    }

    #[test]
    fn what_would_change_the_rest_of_the_url_is_refused() {
        let long = "a".repeat(254);
        let hosts = [
            "",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a b",
            "a:1",
            "[::1]",
            "[::1",
            "fe80::1%eth0",
            "%31",
            "1.2.3.4.5.",
            "\u{ff11}.1.1.1",
            &long,
        ];
        for host in hosts {
            let said = said(host, 80);
            assert!(matches!(said, Err(Refused::Unreadable)), "{host}: {said:?}");
        }
        assert_eq!(said("10.0.0.1", 0), Err(Refused::NoPort));
    }

    #[test]
    fn each_counts_once_in_an_order_of_its_own_and_what_is_bad_is_left_out_alone() {
        let candidate = |host: &str, weight| Ok(Candidate { host: host.to_owned(), port: 80, weight });
        let found: Found = [
            candidate("10.0.0.2", 1),
            candidate("10.0.0.1", 3),
            candidate("169.254.169.254", 1),
            candidate("10.0.0.2", 70_000),
            candidate("10.0.0.3", 0),
            Err(Refused::Unreadable),
        ]
        .into_iter()
        .collect();
        let instances: Vec<_> = found
            .instances
            .iter()
            .map(|instance| (instance.endpoint.as_str(), instance.weight.get()))
            .collect();
        assert_eq!(instances, [("http://10.0.0.1", 3), ("http://10.0.0.2", u16::MAX)]);
        assert_eq!(found.refused, BTreeMap::from([(Refused::Unreadable, 1), (Refused::Forbidden, 1)]));
    }

    #[test]
    fn of_too_many_always_the_same_are_taken() {
        let all = (0..1030).map(|n| Ok(Candidate::at(Ipv4Addr::from(0x0a00_0000 + n).into(), 80)));
        let (forward, backward): (Found, Found) = (all.clone().collect(), all.rev().collect());
        assert_eq!(forward.instances.len(), INSTANCES_MAX);
        assert_eq!(forward, backward);
        assert_eq!(forward.refused, BTreeMap::from([(Refused::TooMany, 6)]));
    }
}
