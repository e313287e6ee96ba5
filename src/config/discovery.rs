//! Where the instances of a service are looked for: `endpoints`, `dns`, `srv`, `file` or `consul`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use toml::Spanned;

use super::balancing;
use super::balancing_file::EndpointFile;
use super::file::{
    ConsulFile, ConsulServiceFile, DnsFile, FamilyFile, PassingFile, ServiceFile, SrvFile, Text, Time,
};
use super::findings::{Findings, Noted};
use super::resolve::WAIT_OR_NONE;
use crate::discovery::admit::INSTANCES_MAX;
use crate::discovery::consul::{AgentAddress, ConsulSource, Health, TokenPlace};
use crate::discovery::dns::{DnsSource, Family, Refresh, SrvSource};
use crate::discovery::{Instance, Source, Spec};

/// How often to ask DNS: more often is a load without a use, less often a mistake.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
/// The agent holds a query for ten minutes at most.
const HELD: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
/// A name of DNS has no more.
const NAME_BYTES_MAX: usize = 253;

/// What the environment says in the variables that users of Consul know.
#[derive(Debug, Default)]
pub(super) struct Usual {
    address: Option<String>,
    is_over_tls: bool,
    token: Option<TokenPlace>,
}

impl Usual {
    pub(super) fn of(env: &[(String, String)]) -> Self {
        let find = |wanted: &str| {
            let found = env.iter().find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let variable = "CONSUL_HTTP_TOKEN";
        let token = find(variable).map(|_| TokenPlace::Variable(variable.to_owned()));
        let file = || find("CONSUL_HTTP_TOKEN_FILE").map(|path| TokenPlace::File(path.into()));
        Self {
            address: find("CONSUL_HTTP_ADDR"),
            is_over_tls: find("CONSUL_HTTP_SSL").is_some_and(|value| value == "true" || value == "1"),
            token: token.or_else(file),
        }
    }
}

/// How to speak to Consul, for whoever does.
pub(super) struct Consul {
    /// Where the agent is, or what is wrong with what `CONSUL_HTTP_ADDR` says of it. Without a service or an entry of the
    /// node in Consul nobody cares.
    url: Result<String, String>,
    token: Option<TokenPlace>,
}

impl Consul {
    pub(super) fn of(file: &ConsulFile, usual: &Usual, findings: &mut Findings<'_>) -> Self {
        let url = match &file.agent {
            Some(text) => {
                let url = findings.keep(&text.span(), "bad agent", agent_url(text.get_ref()));
                Ok(url.unwrap_or_else(|Noted| AgentAddress::DEFAULT_URL.to_owned()))
            }
            None => usual_url(usual),
        };
        let token = token_place(file.token_env.as_ref(), file.token_file.as_ref(), findings);
        Self { url, token: token.or_else(|| usual.token.clone()) }
    }

    /// The agent that whatever stands at `at` asks, `own` if it has one of its own.
    pub(super) fn agent<T>(
        &self,
        own: Option<&Text>,
        at: &Spanned<T>,
        findings: &mut Findings<'_>,
    ) -> Result<AgentAddress, Noted> {
        let url = match own {
            Some(text) => findings.keep(&text.span(), "bad agent", agent_url(text.get_ref()))?,
            None => findings.keep(&at.span(), "CONSUL_HTTP_ADDR", self.url.as_ref())?.clone(),
        };
        Ok(AgentAddress { url, token: self.token.clone() })
    }
}

fn token_place(
    variable: Option<&Text>,
    file: Option<&Text>,
    findings: &mut Findings<'_>,
) -> Option<TokenPlace> {
    if let (Some(_), Some(second)) = (variable, file) {
        findings.add(&second.span(), "the token is in `token_env` and in `token_file`; keep one of them");
    }
    let variable = variable.map(|name| TokenPlace::Variable(name.get_ref().clone()));
    variable.or_else(|| file.map(|path| TokenPlace::File(path.get_ref().into())))
}

fn usual_url(usual: &Usual) -> Result<String, String> {
    let Some(address) = &usual.address else { return Ok(AgentAddress::DEFAULT_URL.to_owned()) };
    let has_scheme = address.contains("://");
    let scheme = if usual.is_over_tls { "https" } else { "http" };
    agent_url(&if has_scheme { address.clone() } else { format!("{scheme}://{address}") })
}

fn agent_url(text: &str) -> Result<String, String> {
    let example = format!("write it like \"{}\"", AgentAddress::DEFAULT_URL);
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL ({error}); {example}"))?;
    let blame = if url.scheme() == "https" {
        "is https, which is not spoken to Consul yet; ask the agent of this machine over http"
    } else if url.scheme() != "http" || !url.has_host() {
        "is not an http URL with a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "has a user name or password, which is never sent; an ACL token goes by `token_env` or `token_file`"
    } else if url.query().is_some() || url.fragment().is_some() {
        "has a query or a fragment"
    } else {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    };
    Err(format!("`{text}` {blame}; {example}"))
}

/// Where a service is looked for. Who stands in for it is added later.
pub(super) fn spec(
    name: &Text,
    file: &ServiceFile,
    consul: &Consul,
    findings: &mut Findings<'_>,
) -> Result<Spec, Noted> {
    let given = [
        file.endpoints.is_some(),
        file.dns.is_some(),
        file.srv.is_some(),
        file.file.is_some(),
        file.consul.is_some(),
    ];
    let blame = match given.into_iter().filter(|given| *given).count() {
        0 => "does not say where it is; add one of",
        1 => return one(name, file, consul, findings),
        _ => "says in more than one way where it is; keep one of",
    };
    let name_of = name.get_ref();
    let message = format!("the service `{name_of}` {blame} `endpoints`, `dns`, `srv`, `file` and `consul`");
    findings.refuse(&name.span(), message)
}

fn one(name: &Text, file: &ServiceFile, consul: &Consul, findings: &mut Findings<'_>) -> Result<Spec, Noted> {
    let is_optional = file.optional.as_ref().is_some_and(|optional| *optional.get_ref());
    let keep = findings.time(file.keep.as_ref(), Spec::KEEP, WAIT_OR_NONE);
    let source = if let Some(endpoints) = &file.endpoints {
        refuse_of_fixed(file, findings);
        Source::Fixed(instances(name, endpoints, findings))
    } else if let Some(dns) = &file.dns {
        Source::Dns(of_dns(dns.get_ref(), findings)?)
    } else if let Some(srv) = &file.srv {
        Source::Srv(of_srv(srv.get_ref(), findings)?)
    } else if let Some(path) = &file.file {
        Source::File(of_file(path, findings)?)
    } else if let Some(service) = &file.consul {
        Source::Consul(of_consul(service, consul, findings)?)
    } else {
        return Err(Noted);
    };
    Ok(Spec { is_optional, keep, ..Spec::new(source) })
}

/// What is listed is always there: keys about answers that may not come are a misunderstanding.
fn refuse_of_fixed(file: &ServiceFile, findings: &mut Findings<'_>) {
    let keys = [
        ("optional", file.optional.as_ref().map(Spanned::span)),
        ("keep", file.keep.as_ref().map(Spanned::span)),
    ];
    for (key, at) in keys {
        if let Some(at) = at {
            let message = format!(
                "`{key}` is for instances that are looked for, and `endpoints` lists them; take it out"
            );
            findings.add(&at, message);
        }
    }
}

fn instances(
    name: &Text,
    list: &Spanned<Vec<Spanned<EndpointFile>>>,
    findings: &mut Findings<'_>,
) -> Vec<Instance> {
    let given = list.get_ref();
    if given.is_empty() || given.len() > INSTANCES_MAX {
        let (name, count) = (name.get_ref(), given.len());
        let message = format!(
            "the service `{name}` has {count} endpoints; list 1 to {INSTANCES_MAX}, as in \
             [\"http://127.0.0.1:9001\"]"
        );
        findings.add(&list.span(), message);
    }
    let mut instances: Vec<Instance> = Vec::new();
    for file in given {
        let Ok(instance) = balancing::instance(file, findings) else { continue };
        if instances.iter().any(|known| known.endpoint == instance.endpoint) {
            let message = format!(
                "the endpoint {} is listed twice; keep one, with a `weight` if it is to get more",
                instance.endpoint
            );
            findings.add(&file.span(), message);
        }
        instances.push(instance);
    }
    instances
}

fn of_dns(file: &DnsFile, findings: &mut Findings<'_>) -> Result<DnsSource, Noted> {
    let name = dns_name(&file.name, findings);
    let server = file.server.as_ref().map(|server| server_address(server, findings)).transpose();
    let port = port(&file.port, findings);
    let refresh = refresh(file.refresh_min.as_ref(), file.refresh_max.as_ref(), findings);
    Ok(DnsSource { name: name?, port: port?, family: family(file.family), refresh, server: server? })
}

pub(super) fn port(given: &Spanned<u64>, findings: &mut Findings<'_>) -> Result<NonZeroU16, Noted> {
    let port = u16::try_from(*given.get_ref()).ok().and_then(NonZeroU16::new);
    let port = port.ok_or("there is no such port; write a number from 1 to 65535");
    findings.keep(&given.span(), "bad port", port)
}

fn of_srv(file: &SrvFile, findings: &mut Findings<'_>) -> Result<SrvSource, Noted> {
    let name = dns_name(&file.name, findings);
    let server = file.server.as_ref().map(|server| server_address(server, findings)).transpose();
    let refresh = refresh(file.refresh_min.as_ref(), file.refresh_max.as_ref(), findings);
    Ok(SrvSource { name: name?, family: family(file.family), refresh, server: server? })
}

fn family(file: Option<FamilyFile>) -> Family {
    match file {
        None | Some(FamilyFile::Any) => Family::Any,
        Some(FamilyFile::Ipv4) => Family::Ipv4,
        Some(FamilyFile::Ipv6) => Family::Ipv6,
    }
}

fn dns_name(name: &Text, findings: &mut Findings<'_>) -> Result<String, Noted> {
    let text = name.get_ref();
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(letter);
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.parse::<IpAddr>().is_ok() {
        let message =
            format!("`{text}` is an address and no name; write endpoints = [\"http://{text}:PORT\"]");
        return findings.refuse(&name.span(), message);
    }
    if labels.len() > NAME_BYTES_MAX || !labels.split('.').all(is_label) {
        let message = format!("`{text}` is not a name of DNS; write one like \"accounts.internal.\"");
        return findings.refuse(&name.span(), message);
    }
    Ok(text.clone())
}

fn server_address(text: &Text, findings: &mut Findings<'_>) -> Result<SocketAddr, Noted> {
    let given = text.get_ref();
    let address = given.parse().or_else(|_| given.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    let address = address
        .map_err(|_| format!("`{given}` is not an address; write IP and port, as in \"127.0.0.1:5353\""));
    findings.keep(&text.span(), "bad name server", address)
}

fn refresh(
    least: Option<&Spanned<Time>>,
    most: Option<&Spanned<Time>>,
    findings: &mut Findings<'_>,
) -> Refresh {
    let default = Refresh::default();
    let refresh = Refresh {
        least: findings.time(least, default.least, REFRESH),
        most: findings.time(most, default.most, REFRESH),
    };
    if refresh.most < refresh.least {
        let at = most.or(least).map_or(0..0, Spanned::span);
        findings.add(&at, "`refresh_max` is shorter than `refresh_min`; make it at least as long");
    }
    refresh
}

fn of_file(path: &Text, findings: &mut Findings<'_>) -> Result<PathBuf, Noted> {
    let given = path.get_ref();
    let path_of = PathBuf::from(given);
    let is_known = path_of
        .extension()
        .is_some_and(|end| ["toml", "json"].iter().any(|known| end.eq_ignore_ascii_case(known)));
    if !is_known {
        let message = format!("`{given}` is neither TOML nor JSON by its name; let it end in .toml or .json");
        return findings.refuse(&path.span(), message);
    }
    Ok(path_of)
}

fn of_consul(
    at: &Spanned<ConsulServiceFile>,
    consul: &Consul,
    findings: &mut Findings<'_>,
) -> Result<ConsulSource, Noted> {
    let file = at.get_ref();
    let mut agent = consul.agent(file.agent.as_ref(), at, findings);
    let token = token_place(file.token_env.as_ref(), file.token_file.as_ref(), findings);
    if let (Ok(agent), Some(token)) = (&mut agent, token) {
        agent.token = Some(token);
    }
    let service = plain(&file.service, "the name of a service in Consul", findings);
    let datacenter = file.datacenter.as_ref().map(|text| plain(text, "a datacenter", findings)).transpose();
    let tag = file.tag.as_ref().map(|text| plain(text, "a tag", findings)).transpose();
    let stale = file.stale.as_ref().map(|stale| findings.time(Some(stale), Duration::ZERO, HELD));
    let wait = findings.time(file.wait.as_ref(), ConsulSource::WAIT, HELD);
    let health = match file.health {
        None | Some(PassingFile::Passing) => Health::Passing,
        Some(PassingFile::Warning) => Health::Warning,
    };
    let source = ConsulSource::new(agent?, &service?);
    Ok(ConsulSource { datacenter: datacenter?, tag: tag?, health, stale, wait, ..source })
}

/// A word that means nothing in a URL or in an expression of Consul.
pub(super) fn plain(text: &Text, what: &str, findings: &mut Findings<'_>) -> Result<String, Noted> {
    let given = text.get_ref();
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/=+@".contains(letter);
    if given.is_empty() || given.len() > 256 || !given.chars().all(fine) {
        let message =
            format!("`{given}` cannot be {what}; use 1 to 256 letters, digits and characters of `-_.:/=+@`");
        return findings.refuse(&text.span(), message);
    }
    Ok(given.clone())
}
