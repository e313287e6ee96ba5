//! The feed of services: SRV records, and the addresses of the hosts that they name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::SRV;

use super::lookup::Names;
use super::{Due, Family, SrvSource};
use crate::discovery::admit::{Candidate, Found, Refused};
use crate::discovery::follow::Feed;
use crate::discovery::trouble::Trouble;

/// The most hosts that are looked up for one answer; addresses that came with it are not counted.
const LOOKUPS_MAX: usize = 128;

/// Follows a service.
pub(in crate::discovery) struct SrvFeed {
    source: SrvSource,
    names: Names,
    due: Due,
    /// The last addresses of each host, for when it cannot be looked up.
    known: HashMap<Name, Vec<IpAddr>>,
}

impl SrvFeed {
    pub(in crate::discovery) fn new(source: SrvSource) -> Self {
        Self { names: Names::new(source.server), source, due: Due::default(), known: HashMap::new() }
    }

    /// The addresses of each host, and how long they hold. A host that cannot be looked up has those that it had; where
    /// that is so of all, nothing is known.
    async fn hosts(
        &mut self,
        services: &[SRV],
        glue: &[(Name, IpAddr)],
    ) -> Result<(HashMap<Name, Vec<IpAddr>>, Duration), Trouble> {
        let (mut hosts, mut ttl, mut trouble) = (HashMap::new(), Duration::MAX, None);
        let mut lookups = 0;
        for service in services {
            let host = &service.target;
            if hosts.contains_key(host) || host.is_root() {
                continue;
            }
            let came: Vec<_> =
                glue.iter().filter(|(name, ip)| name == host && self.source.family.has(*ip)).collect();
            if !came.is_empty() {
                hosts.insert(host.clone(), came.into_iter().map(|(_, ip)| *ip).collect());
                continue;
            }
            lookups += 1;
            if lookups > LOOKUPS_MAX {
                break;
            }
            let mut name = host.clone();
            name.set_fqdn(true);
            match self.names.addresses(&name.to_string(), self.source.family).await {
                Ok(answer) => {
                    ttl = ttl.min(answer.ttl);
                    hosts.insert(host.clone(), answer.records);
                }
                Err(failed) => {
                    trouble = Some(failed);
                    hosts.extend(self.known.get(host).map(|known| (host.clone(), known.clone())));
                }
            }
        }
        self.known.clone_from(&hosts);
        match trouble {
            Some(trouble) if hosts.values().all(Vec::is_empty) => Err(trouble),
            Some(_) | None => Ok((hosts, ttl)),
        }
    }
}

impl Feed for SrvFeed {
    async fn next(&mut self) -> Result<Found, Trouble> {
        self.due.wait().await;
        self.now().await
    }

    async fn now(&mut self) -> Result<Found, Trouble> {
        let answer = self.names.services(&self.source.name).await?;
        let (hosts, ttl) = self.hosts(&answer.records, &answer.glue).await?;
        self.due.again(self.source.refresh, answer.ttl.min(ttl));
        Ok(best(&answer.records, &hosts))
    }
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Ipv4 => ip.is_ipv4(),
            Self::Ipv6 => ip.is_ipv6(),
        }
    }
}

/// The instances of the lowest priority that has any: the others are there for when those are gone. A weight of 0 is the
/// smallest share and not none (RFC 2782).
fn best(services: &[SRV], hosts: &HashMap<Name, Vec<IpAddr>>) -> Found {
    let mut by_priority: BTreeMap<u16, Vec<Result<Candidate, Refused>>> = BTreeMap::new();
    for service in services {
        let weight = service.weight.max(1).into();
        let addresses = hosts.get(&service.target).into_iter().flatten();
        let candidates = addresses.map(|ip| Ok(Candidate { weight, ..Candidate::at(*ip, service.port) }));
        by_priority.entry(service.priority).or_default().extend(candidates);
    }
    let mut found = by_priority.into_values().map(|entries| entries.into_iter().collect::<Found>());
    let first = found.next().unwrap_or_default();
    if first.instances.is_empty() {
        return found.find(|found| !found.instances.is_empty()).unwrap_or(first);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16, host: &str) -> SRV {
        SRV::new(priority, weight, port, Name::from_ascii(host).unwrap())
    }

    fn shown(services: &[SRV]) -> Vec<String> {
        let host = |name: &str, ips: &[[u8; 4]]| {
            (Name::from_ascii(name).unwrap(), ips.iter().map(|ip| IpAddr::from(*ip)).collect())
        };
        let hosts =
            [host("a.", &[[10, 0, 0, 1]]), host("b.", &[[10, 0, 0, 2], [10, 0, 0, 3]]), host("gone.", &[])];
        let found = best(services, &hosts.into_iter().collect());
        found.instances.iter().map(|instance| format!("{} {}", instance.endpoint, instance.weight)).collect()
    }

    #[test]
    fn the_lowest_priority_that_has_an_address_counts_and_no_other() {
        let services = [service(20, 1, 8080, "b."), service(10, 5, 8080, "a."), service(10, 0, 8081, "a.")];
        assert_eq!(shown(&services), ["http://10.0.0.1:8080 5", "http://10.0.0.1:8081 1"]);
        let services = [service(10, 1, 8080, "gone."), service(10, 1, 0, "a."), service(20, 7, 8080, "b.")];
        assert_eq!(shown(&services), ["http://10.0.0.2:8080 7", "http://10.0.0.3:8080 7"]);
    }

    #[test]
    fn a_service_that_says_it_is_not_there_has_no_instance() {
        assert!(shown(&[service(0, 0, 0, ".")]).is_empty());
        assert!(shown(&[]).is_empty());
    }
}
