//! The `[services.NAME]` sections.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use reqwest::Url;
use toml::Spanned;

use super::Service;
use super::balancing::{self, Retryable};
use super::discovery::{Consul, spec};
use super::failover::failovers;
use super::file::{BodyFile, ProtocolFile, RetryFile, ServiceFile, Text, TransactionFile};
use super::findings::{Findings, Noted, nearest};
use super::resolve::{COUNT, WAIT};
use crate::clients::Speaks;
use crate::discovery::Endpoint;
use crate::gateway::{Params, Template};
use crate::participant::options::{CallBody, Retry, TransactionOptions};

/// The services that the file declares, for those who refer to them: good or bad, they are there.
pub(super) struct Known<'a> {
    files: BTreeMap<&'a str, &'a ServiceFile>,
    connect_timeout: Duration,
}

impl<'a> Known<'a> {
    pub(super) fn of(files: &'a BTreeMap<Text, ServiceFile>, connect_timeout: Duration) -> Self {
        let files = files.iter().map(|(name, file)| (name.get_ref().as_str(), file)).collect();
        Self { files, connect_timeout }
    }

    /// Whether a service speaks HTTP/2.
    pub(super) fn is_http2(&self, service: &str) -> bool {
        self.files.get(service).is_some_and(|file| speaks(file) == Speaks::Http2)
    }

    /// What a route has to fit that asks this service more than once.
    pub(super) fn retryable<'b>(&self, service: &'b str) -> Retryable<'b> {
        let is_idempotent = self.files.get(service).and_then(|file| file.idempotent).unwrap_or_default();
        Retryable { service, is_idempotent, connect_timeout: self.connect_timeout }
    }

    /// The name of a service that exists.
    pub(super) fn service(&self, name: &Text, findings: &mut Findings<'_>) -> Result<String, Noted> {
        self.named(name.get_ref(), &name.span(), findings)
    }

    /// The same, where the name stands in something at `at`.
    pub(super) fn named(
        &self,
        given: &str,
        at: &Range<usize>,
        findings: &mut Findings<'_>,
    ) -> Result<String, Noted> {
        if self.files.contains_key(given) {
            return Ok(given.to_owned());
        }
        let nearest = nearest(given, self.files.keys().copied()).map(|known| format!("write `{known}` or "));
        let message = format!(
            "there is no service `{given}`; {}declare it as [services.{given}]",
            nearest.unwrap_or_default()
        );
        findings.refuse(at, message)
    }

    /// The name of a service that says how to commit and abort.
    pub(super) fn participant(&self, name: &Text, findings: &mut Findings<'_>) -> Result<String, Noted> {
        let service = self.service(name, findings)?;
        if self.files.get(service.as_str()).is_some_and(|file| file.transaction.is_some()) {
            return Ok(service);
        }
        let message = format!(
            "the service `{service}` does not say how to commit and abort, so it cannot take part in a \
             transaction; add [services.{service}.transaction] with `commit` and `abort`"
        );
        findings.refuse(&name.span(), message)
    }
}

/// All services; one with a mistake may be missing or incomplete, and the mistake is noted.
pub(super) fn services(
    files: &BTreeMap<Text, ServiceFile>,
    known: &Known<'_>,
    consul: &Consul,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    let mut failovers = failovers(files, known, findings);
    for (name, file) in files {
        check_name(name, findings);
        let spec = spec(name, file, consul, findings);
        let transaction = file.transaction.as_ref().map(|file| transaction(file, findings)).transpose();
        let policy = balancing::policy(file, findings);
        if let (Ok(mut spec), Ok(policy), Ok(transaction)) = (spec, policy, transaction) {
            let speaks = speaks(file);
            let transaction = transaction.map(|options| TransactionOptions { speaks, ..options });
            spec.stand_ins = failovers.remove(name.get_ref()).unwrap_or_default().into();
            let service = Service { spec, policy, transaction, section: String::new() };
            services.insert(name.get_ref().clone(), service);
        }
    }
    services
}

/// An endpoint that certainly is the node itself: what is sent there comes back. Only where `listen` is said: it may also be given on
/// the command line.
pub(super) fn check_loops(
    files: &BTreeMap<Text, ServiceFile>,
    listen: Option<SocketAddr>,
    findings: &mut Findings<'_>,
) {
    let Some(listen) = listen else { return };
    for file in files.values().filter_map(|file| file.endpoints.as_ref()).flat_map(Spanned::get_ref) {
        if is_at(&file.get_ref().url, listen) == Some(true) {
            let message = "this is the node's own `listen`, and what it sends there is a loop; write the address of the service";
            findings.add(&file.span(), message);
        }
    }
}

fn is_at(url: &str, listen: SocketAddr) -> Option<bool> {
    let url = Url::parse(url).ok()?;
    let address: IpAddr = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
    let every = listen.ip().is_unspecified() && address.is_ipv4() == listen.is_ipv4();
    let is_here = address == listen.ip() || (every && address.is_loopback());
    Some(is_here && url.port_or_known_default() == Some(listen.port()))
}

/// The name is a member of answers (`name#1` where it occurs twice), a label of metrics and a part of
/// the names of variables.
fn check_name(name: &Text, findings: &mut Findings<'_>) {
    let text = name.get_ref();
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
        findings.add(
            &name.span(),
            format!(
                "`{text}` cannot be the name of a service; use 1 to 64 letters, digits, `-`, `_` and `.`"
            ),
        );
    }
}

/// What a service speaks.
pub(super) fn speaks(file: &ServiceFile) -> Speaks {
    match file.protocol {
        Some(ProtocolFile::Http2) => Speaks::Http2,
        Some(ProtocolFile::Http1) | None => Speaks::Http1,
    }
}

/// The endpoint that a base URL names, or what is wrong with it.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let example = "write scheme, host and port, as in \"http://127.0.0.1:9001\"";
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL ({error}); {example}"))?;
    let blame = if url.scheme() == "https" {
        "is https, which calls to services do not speak yet"
    } else if url.scheme() != "http" || !url.has_host() {
        "is not an http URL with a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "has a user name or password, which is never sent"
    } else if url.query().is_some() || url.fragment().is_some() {
        "has a query or a fragment, which belong to the paths of routes"
    } else if url.port() == Some(0) {
        "has the port 0, which nobody listens on"
    } else if url.path() != "/" {
        "has a path; paths belong to routes and to [services.NAME.transaction]"
    } else {
        return Ok(Endpoint::new(url.as_str()));
    };
    Err(format!("`{text}` {blame}; {example}"))
}

fn transaction(file: &TransactionFile, findings: &mut Findings<'_>) -> Result<TransactionOptions, Noted> {
    let prepare = file.prepare.as_ref().map(|path| call_path("prepare", path, findings)).transpose();
    let commit = call_path("commit", &file.commit, findings);
    let abort = call_path("abort", &file.abort, findings);
    let timeout = findings.time(file.timeout.as_ref(), TransactionOptions::TIMEOUT, WAIT);
    let calls_max = findings.number(file.calls_max.as_ref(), TransactionOptions::CALLS_MAX, COUNT);
    let retry = retry(&file.retry, findings);
    let body = match file.body {
        BodyFile::Envelope => CallBody::Envelope,
        BodyFile::Request => CallBody::Request,
    };
    Ok(TransactionOptions {
        speaks: Speaks::default(),
        prepare: prepare?,
        commit: commit?,
        abort: abort?,
        body,
        timeout,
        retry,
        calls_max,
    })
}

/// The path of a call that no request's parameters go into: after a crash there is no request.
pub(super) fn call_path(what: &str, path: &Text, findings: &mut Findings<'_>) -> Result<String, Noted> {
    let template =
        findings.keep(&path.span(), &format!("bad `{what}` path"), Template::parse(path.get_ref()))?;
    if template.params().next().is_some() {
        let message = format!(
            "bad `{what}` path: it cannot have parameters; the header Transaction-Id says what is meant"
        );
        return findings.refuse(&path.span(), message);
    }
    let target = template.fill(&Params::default());
    findings.keep(&path.span(), &format!("bad `{what}` path"), target).map(|target| target.with_query(None))
}

fn retry(file: &RetryFile, findings: &mut Findings<'_>) -> Retry {
    let default = Retry::default();
    let initial = findings.time(file.initial.as_ref(), default.initial, WAIT);
    let max = findings.time(file.max.as_ref(), default.max.max(initial), WAIT);
    if max < initial {
        let at = file.max.as_ref().map_or(0..0, Spanned::span);
        findings.add(&at, "the longest wait is shorter than the first one; make `max` at least `initial`");
    }
    Retry { initial, max, jitter: file.jitter.unwrap_or(default.jitter) }
}
