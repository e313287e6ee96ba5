//! One question to DNS, and what its answer means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout;

use super::Family;
use crate::discovery::trouble::Trouble;

/// All servers, tries and types of one question together take no longer than this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where an answer that has nothing does not say for how long that holds.
const TTL_OF_NOTHING: Duration = Duration::from_secs(5);

/// Asks the servers of the system, or one that it is told.
pub(super) struct Names {
    server: Option<SocketAddr>,
    /// Made anew after every failure, so that a change of `/etc/resolv.conf` is noticed.
    asking: Option<Asking>,
}

struct Asking {
    resolver: TokioResolver,
    /// What may be appended to a name that does not end with a dot.
    search: Vec<Name>,
    /// A name with fewer dots is tried with the search list first.
    ndots: usize,
}

/// The records of one type, none where there is no such name, and how long that holds.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) records: Vec<T>,
    pub(super) ttl: Duration,
    /// Addresses that came with them unasked, by the name of their host.
    pub(super) glue: Vec<(Name, IpAddr)>,
}

impl Names {
    pub(super) fn new(server: Option<SocketAddr>) -> Self {
        Self { server, asking: None }
    }

    /// The addresses of a name. A type that fails is a failure of all: half of the addresses would look as if the other half
    /// were gone.
    pub(super) async fn addresses(&mut self, name: &str, family: Family) -> Result<Answer<IpAddr>, Trouble> {
        let of_types = match family {
            Family::Any => &[RecordType::A, RecordType::AAAA][..],
            Family::Ipv4 => &[RecordType::A],
            Family::Ipv6 => &[RecordType::AAAA],
        };
        let mut all = Answer { records: Vec::new(), ttl: Duration::MAX, glue: Vec::new() };
        let mut nothing_for = Duration::MAX;
        for of_type in of_types {
            let answer = self.ask(name, *of_type, RData::ip_addr).await?;
            // That there are no addresses of one family says nothing of how long those of the other hold.
            let ttl = if answer.records.is_empty() { &mut nothing_for } else { &mut all.ttl };
            *ttl = answer.ttl.min(*ttl);
            all.records.extend(answer.records);
        }
        all.ttl = if all.records.is_empty() { nothing_for } else { all.ttl };
        Ok(all)
    }

    /// The records of a service.
    pub(super) async fn services(&mut self, name: &str) -> Result<Answer<SRV>, Trouble> {
        let service =
            |data: &RData| if let RData::SRV(service) = data { Some(service.clone()) } else { None };
        self.ask(name, RecordType::SRV, service).await
    }

    async fn ask<T>(
        &mut self,
        name: &str,
        of_type: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, Trouble> {
        let asking = match self.asking.take() {
            Some(asking) => asking,
            None => Asking::new(self.server)?,
        };
        let answer =
            timeout(PATIENCE, asking.ask(name, of_type, read)).await.unwrap_or(Err(Trouble::Late))?;
        self.asking = Some(asking);
        Ok(answer)
    }
}

impl Asking {
    fn new(server: Option<SocketAddr>) -> Result<Self, Trouble> {
        let (config, mut options) = match server {
            Some(server) => (only(server), ResolverOpts::default()),
            None => read_system_conf().map_err(|error| Trouble::Dns(error.to_string()))?,
        };
        // The TTL is honoured here; a cache below would honour it a second time.
        options.cache_size = 0;
        if server.is_some() {
            options.use_hosts_file = ResolveHosts::Never;
            options.timeout = Duration::from_secs(2);
        }
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| Trouble::Dns(error.to_string()))?;
        Ok(Self { resolver, search, ndots })
    }

    /// The first of the names that has records. None of them is there only if every one of them was answered so.
    async fn ask<T>(
        &self,
        name: &str,
        of_type: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, Trouble> {
        let (mut ttl, mut trouble) = (Duration::MAX, None);
        for name in names(name, &self.search, self.ndots)? {
            match self.resolver.lookup(name, of_type).await {
                Ok(lookup) if lookup.answers().iter().any(|record| read(&record.data).is_some()) => {
                    return Ok(Answer::of(lookup.answers(), lookup.additionals(), read));
                }
                Ok(_) => {}
                Err(error) => match nothing(&error) {
                    Some(nothing_for) => ttl = ttl.min(nothing_for),
                    None => trouble = Some(Trouble::Dns(error.to_string())),
                },
            }
        }
        let ttl = if ttl == Duration::MAX { TTL_OF_NOTHING } else { ttl };
        trouble.map_or(Ok(Answer { records: Vec::new(), ttl, glue: Vec::new() }), Err)
    }
}

impl<T> Answer<T> {
    fn of(answers: &[Record], additionals: &[Record], read: impl Fn(&RData) -> Option<T>) -> Self {
        let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
        let glue =
            additionals.iter().filter_map(|record| Some((record.name.clone(), record.data.ip_addr()?)));
        Self {
            records: answers.iter().filter_map(|record| read(&record.data)).collect(),
            ttl: Duration::from_secs(ttl.into()),
            glue: glue.collect(),
        }
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    ResolverConfig::from_name_servers(vec![server])
}

/// How long it holds that there is no such name, or nothing of that type; `None` where the error says no such thing.
fn nothing(error: &NetError) -> Option<Duration> {
    let NetError::Dns(DnsError::NoRecordsFound(nothing)) = error else { return None };
    let is_said = matches!(nothing.response_code, ResponseCode::NXDomain | ResponseCode::NoError);
    is_said
        .then(|| nothing.negative_ttl.map_or(TTL_OF_NOTHING, |seconds| Duration::from_secs(seconds.into())))
}

/// The names to try for one that may be short, as resolv.conf(5) says.
fn names(name: &str, search: &[Name], ndots: usize) -> Result<Vec<Name>, Trouble> {
    let unreadable = |_| Trouble::Dns(format!("`{name}` is not a name"));
    let given = Name::from_str_relaxed(name).map_err(unreadable)?;
    let mut whole = given.clone();
    whole.set_fqdn(true);
    if given.is_fqdn() {
        return Ok(vec![whole]);
    }
    // One that becomes too long is none that anybody could have.
    let mut names: Vec<_> =
        search.iter().filter_map(|domain| given.clone().append_domain(domain).ok()).collect();
    let dots = name.matches('.').count();
    names.insert(if dots < ndots { names.len() } else { 0 }, whole);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_tried_with_the_search_list_and_a_whole_one_is_not() {
        let search =
            ["ns.svc.cluster.local.", "svc.cluster.local."].map(|name| Name::from_ascii(name).unwrap());
        let tried = |name: &str, ndots| -> Vec<String> {
            names(name, &search, ndots).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(tried("a.b.", 5), ["a.b."]);
        assert_eq!(tried("a.b", 5), ["a.b.ns.svc.cluster.local.", "a.b.svc.cluster.local.", "a.b."]);
        assert_eq!(tried("a.b", 1), ["a.b.", "a.b.ns.svc.cluster.local.", "a.b.svc.cluster.local."]);
        assert_eq!(tried("_http._tcp.a.", 1), ["_http._tcp.a."]);
        assert!(names("a..b", &search, 1).is_err());
    }
}
