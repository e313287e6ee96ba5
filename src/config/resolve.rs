//! The `[node]` and `[log]` sections, and the whole put together.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;

use super::discovery::{Consul, Usual};
use super::file::{CopyFile, File, LogFile, NodeFile, SyncFile, Text};
use super::findings::Findings;
use super::register::register;
use super::{Config, balancing, guards, routes, services};
use crate::coordinator::options::{CoordinatorOptions, KEPT_MAX};
use crate::gateway::GatewayOptions;
use crate::journal::options::{Copied, LogOptions, Sync};
use crate::server::options::NodeOptions;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
const YEAR: Duration = Duration::from_hours(365 * 24);

/// A wait that somebody sits through: more than an hour is a slip of the pen.
pub(super) const WAIT: RangeInclusive<Duration> = MILLISECOND..=HOUR;
/// A wait that may also be left out.
pub(super) const WAIT_OR_NONE: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// Bytes of one body or of all: zero would refuse everything.
pub(super) const BYTES: RangeInclusive<usize> = 1..=1 << 40;
/// hyper does not read heads in less than 8 KiB; 16 MiB of header fields are an attack.
const HEAD_BYTES: RangeInclusive<usize> = 8192..=16 << 20;
/// Bytes a second; with none there is no limit.
pub(super) const RATE_OR_NONE: RangeInclusive<usize> = 0..=1 << 30;
/// How many of something that costs memory each.
pub(super) const COUNT: RangeInclusive<usize> = 1..=10_000_000;

/// Makes a configuration of what the file says; every mistake goes to `findings`.
pub(super) fn resolve(file: &File, usual: &Usual, findings: &mut Findings<'_>) -> Option<Config> {
    let node = node(&file.node, findings);
    let log = log(&file.log, findings);
    let coordinator = coordinator(&file.node, findings);
    let gateway = gateway(&file.node, findings);
    let known = services::Known::of(&file.services, gateway.connect_timeout);
    let consul = Consul::of(&file.consul, usual, findings);
    let services = services::services(&file.services, &known, &consul, findings);
    services::check_loops(&file.services, file.node.listen.is_some().then_some(node.listen), findings);
    let register = register(&file.consul, &consul, findings);
    let guards = guards::guards(&file.routes, findings);
    let routes = routes::routes(&file.routes, &known, findings)?;
    balancing::check_hashes(&file.services, &routes, findings);
    Some(Config { node, log, coordinator, gateway, services, register, routes, guards })
}

fn node(file: &NodeFile, findings: &mut Findings<'_>) -> NodeOptions {
    let default = NodeOptions::default();
    let node = NodeOptions {
        data_dir: file.data_dir.as_ref().map_or(default.data_dir, |dir| PathBuf::from(dir.get_ref())),
        listen: address(file.listen.as_ref(), default.listen, findings),
        admin: address(file.admin.as_ref(), default.admin, findings),
        advertise: file.advertise.as_ref().and_then(|text| advertise(text, findings)),
        trusted_proxies: file.trusted_proxies.iter().filter_map(|text| network(text, findings)).collect(),
        access_log: file.access_log.unwrap_or(default.access_log),
        drain: findings.time(file.drain.as_ref(), default.drain, WAIT_OR_NONE),
        finish: findings.time(file.finish.as_ref(), default.finish, WAIT_OR_NONE),
        header_timeout: findings.time(file.header_timeout.as_ref(), default.header_timeout, WAIT),
        answer_timeout: findings.time(file.answer_timeout.as_ref(), default.answer_timeout, WAIT),
        header_max: findings.number(file.header_max.as_ref(), default.header_max, HEAD_BYTES),
        connections_max: findings.number(file.connections_max.as_ref(), default.connections_max, COUNT),
        body_max: findings.number(file.body_max.as_ref(), default.body_max, BYTES),
        body_budget: findings.number(file.body_budget.as_ref(), default.body_budget, BYTES),
    };
    check_node(&node, file, findings);
    node
}

/// What no key can be wrong in alone.
fn check_node(node: &NodeOptions, file: &NodeFile, findings: &mut Findings<'_>) {
    if node.data_dir.as_os_str().is_empty() {
        let at = file.data_dir.as_ref().map_or(0..0, toml::Spanned::span);
        findings.add(&at, "the data directory has no name; write a path like \"./data\"");
    }
    if node.body_budget / 2 < node.body_max {
        let at = file.body_budget.as_ref().or(file.body_max.as_ref()).map_or(0..0, toml::Spanned::span);
        let message = format!(
            "calls to one service may hold half of `body_budget` ({}), and one body may have `body_max` ({}): make \
             the first at least twice the second",
            node.body_budget, node.body_max
        );
        findings.add(&at, message);
    }
    if node.listen == node.admin && node.listen.port() != 0 {
        let at = file.admin.as_ref().or(file.listen.as_ref()).map_or(0..0, toml::Spanned::span);
        findings.add(&at, format!("`listen` and `admin` are both {}; give one another port", node.admin));
    }
}

fn log(file: &LogFile, findings: &mut Findings<'_>) -> LogOptions {
    let default = LogOptions::default();
    let sync = match file.sync {
        None => default.sync,
        Some(SyncFile::EveryTransition) => Sync::EveryTransition,
        Some(SyncFile::Decisions) => Sync::Decisions,
    };
    let accept_copy = match file.accept_copy {
        None => default.accept_copy,
        Some(CopyFile::No) => Copied::Refuse,
        Some(CopyFile::Complete) => Copied::Complete,
        Some(CopyFile::Outdated) => Copied::Outdated,
    };
    LogOptions {
        sync,
        accept_copy,
        retention: findings.time(file.retention.as_ref(), default.retention, MILLISECOND..=10 * YEAR),
        accept_damage: file.accept_damage.unwrap_or(default.accept_damage),
        room_min: file.room_min.or(default.room_min),
        stall_max: default.stall_max,
    }
}

fn coordinator(file: &NodeFile, findings: &mut Findings<'_>) -> CoordinatorOptions {
    let default = CoordinatorOptions::default();
    let open = file.open_transactions_max.as_ref();
    CoordinatorOptions {
        open_transactions_max: findings.number(open, default.open_transactions_max, COUNT),
        answer_kept_max: findings.number(
            file.answer_kept_max.as_ref(),
            default.answer_kept_max,
            0..=KEPT_MAX,
        ),
    }
}

fn gateway(file: &NodeFile, findings: &mut Findings<'_>) -> GatewayOptions {
    let default = GatewayOptions::default();
    GatewayOptions {
        body_timeout: findings.time(file.body_timeout.as_ref(), default.body_timeout, WAIT),
        body_rate_min: findings.number(file.body_rate_min.as_ref(), default.body_rate_min, RATE_OR_NONE),
        connect_timeout: findings.time(file.connect_timeout.as_ref(), default.connect_timeout, WAIT),
        pool_idle: findings.time(file.pool_idle.as_ref(), default.pool_idle, WAIT),
        tunnel_idle: findings.time(file.tunnel_idle.as_ref(), default.tunnel_idle, WAIT),
        answer_max: findings.number(file.answer_max.as_ref(), default.answer_max, BYTES),
    }
}

fn address(text: Option<&Text>, default: SocketAddr, findings: &mut Findings<'_>) -> SocketAddr {
    let Some(text) = text else { return default };
    text.get_ref().parse().unwrap_or_else(|_| {
        let (given, port) = (text.get_ref(), default.port());
        let message = format!(
            "`{given}` is not an address to listen on; write IP and port, as in \"{default}\" or \
             \"0.0.0.0:{port}\""
        );
        findings.add(&text.span(), message);
        default
    })
}

/// A range of addresses, or one address.
pub(super) fn network(text: &Text, findings: &mut Findings<'_>) -> Option<IpNet> {
    let given = text.get_ref();
    let one = || given.parse::<IpAddr>().ok().map(IpNet::from);
    let network = given.parse().ok().or_else(one).map(|network: IpNet| network.trunc());
    if network.is_none() {
        let message =
            format!("`{given}` is no range of addresses; write one like \"10.0.0.0/8\" or \"fd00::/8\"");
        findings.add(&text.span(), message);
    }
    network
}

fn advertise(text: &Text, findings: &mut Findings<'_>) -> Option<String> {
    let is_base = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let Some(url) = Url::parse(text.get_ref()).ok().filter(is_base) else {
        let given = text.get_ref();
        let message = format!(
            "`{given}` is not a URL that participants can call; write one like \"http://gateway.internal:8000\""
        );
        findings.add(&text.span(), message);
        return None;
    };
    Some(url.as_str().trim_end_matches('/').to_owned())
}
