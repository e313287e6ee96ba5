//! The shape of the configuration file, key for key. What the values mean is checked elsewhere.

mod discovery;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize as Derive;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::answers::{RedirectFile, RespondFile};
use super::balancing_file::{
    BalanceFile, BreakerFile, EndpointFile, HealthFile, LimitFile, OutlierFile, RetriesFile, RouteRetryFile,
};
use super::hosts::HostsFile;
use super::merge_file::MergeFile;
use super::rewrites::{HeaderEditFile, QueryEditFile, ShareFile};
pub(super) use discovery::{
    ConsulFile, ConsulServiceFile, DnsFile, FamilyFile, Names, PassingFile, RegisterFile, SrvFile,
};

pub(super) type Text = Spanned<String>;

#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: NodeFile,
    pub(super) consul: ConsulFile,
    pub(super) log: LogFile,
    pub(super) services: BTreeMap<Text, ServiceFile>,
    pub(super) routes: Vec<RouteFile>,
}

/// `[node]`; for meanings and defaults see `NodeOptions`, `GatewayOptions` and `CoordinatorOptions`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NodeFile {
    pub(super) data_dir: Option<Text>,
    pub(super) listen: Option<Text>,
    pub(super) admin: Option<Text>,
    pub(super) advertise: Option<Text>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Text>,
    pub(super) access_log: Option<bool>,
    pub(super) drain: Option<Spanned<Time>>,
    pub(super) finish: Option<Spanned<Time>>,
    pub(super) header_timeout: Option<Spanned<Time>>,
    pub(super) body_timeout: Option<Spanned<Time>>,
    pub(super) body_rate_min: Option<Spanned<u64>>,
    pub(super) answer_timeout: Option<Spanned<Time>>,
    pub(super) header_max: Option<Spanned<u64>>,
    pub(super) connections_max: Option<Spanned<u64>>,
    pub(super) body_max: Option<Spanned<u64>>,
    pub(super) body_budget: Option<Spanned<u64>>,
    pub(super) connect_timeout: Option<Spanned<Time>>,
    pub(super) pool_idle: Option<Spanned<Time>>,
    pub(super) tunnel_idle: Option<Spanned<Time>>,
    pub(super) answer_max: Option<Spanned<u64>>,
    pub(super) open_transactions_max: Option<Spanned<u64>>,
    pub(super) answer_kept_max: Option<Spanned<u64>>,
}

/// `[log]`; see `LogOptions`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogFile {
    pub(super) sync: Option<SyncFile>,
    pub(super) retention: Option<Spanned<Time>>,
    pub(super) accept_damage: Option<bool>,
    pub(super) accept_copy: Option<CopyFile>,
    pub(super) room_min: Option<u64>,
}

#[derive(Debug, Clone, Copy, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CopyFile {
    No,
    Complete,
    Outdated,
}

#[derive(Debug, Clone, Copy, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SyncFile {
    EveryTransition,
    Decisions,
}

/// `[services.NAME]`: one of the first five says where it is.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceFile {
    /// `http://host:port`, one an instance.
    pub(super) endpoints: Option<Spanned<Vec<Spanned<EndpointFile>>>>,
    pub(super) dns: Option<Spanned<DnsFile>>,
    pub(super) srv: Option<Spanned<SrvFile>>,
    /// A file that is watched.
    pub(super) file: Option<Text>,
    pub(super) consul: Option<Spanned<ConsulServiceFile>>,
    /// Default: `false`.
    pub(super) optional: Option<Spanned<bool>>,
    pub(super) keep: Option<Spanned<Time>>,
    pub(super) failover: Option<Spanned<Names>>,
    #[serde(default)]
    pub(super) balance: BalanceFile,
    pub(super) breaker: Option<BreakerFile>,
    pub(super) health: Option<HealthFile>,
    pub(super) idempotent: Option<bool>,
    pub(super) limit: Option<LimitFile>,
    pub(super) outlier: Option<OutlierFile>,
    #[serde(default)]
    pub(super) retries: RetriesFile,
    pub(super) transaction: Option<TransactionFile>,
    pub(super) protocol: Option<ProtocolFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProtocolFile {
    Http1,
    Http2,
}

/// `[services.NAME.transaction]`; see `TransactionOptions`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionFile {
    pub(super) prepare: Option<Text>,
    pub(super) commit: Text,
    pub(super) abort: Text,
    #[serde(default)]
    pub(super) body: BodyFile,
    pub(super) timeout: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) retry: RetryFile,
    pub(super) calls_max: Option<Spanned<u64>>,
}

#[derive(Debug, Clone, Copy, Default, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BodyFile {
    #[default]
    Envelope,
    Request,
}

#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryFile {
    pub(super) initial: Option<Spanned<Time>>,
    pub(super) max: Option<Spanned<Time>>,
    pub(super) jitter: Option<bool>,
}

/// `[[routes]]`: one of `forward` to `respond` says what becomes of a request.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    pub(super) id: Text,
    #[serde(rename = "match")]
    pub(super) matches: MatchFile,
    /// Default: 0.
    pub(super) priority: Option<i32>,
    pub(super) forward: Option<ForwardFile>,
    pub(super) merge: Option<MergeFile>,
    pub(super) transaction: Option<TransactionRouteFile>,
    pub(super) redirect: Option<RedirectFile>,
    pub(super) respond: Option<RespondFile>,
    pub(super) allow: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) deny: Vec<Text>,
    pub(super) rate_limits: Option<Spanned<Vec<RateFile>>>,
    pub(super) body_max: Option<Spanned<u64>>,
    pub(super) cors: Option<CorsFile>,
    #[serde(default)]
    pub(super) compress: bool,
}

/// One of `rate_limits`; see `Rate`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RateFile {
    pub(super) requests: Spanned<u64>,
    pub(super) per: Spanned<Time>,
    pub(super) burst: Option<Spanned<u64>>,
    pub(super) by: Option<Spanned<ByFile>>,
    pub(super) header: Option<Text>,
}

#[derive(Debug, Clone, Copy, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ByFile {
    Client,
    Header,
    Route,
}

/// `cors = { .. }`; see `Cors`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct CorsFile {
    pub(super) origins: Spanned<Vec<Text>>,
    pub(super) methods: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) headers: Vec<Text>,
    #[serde(default)]
    pub(super) expose: Vec<Text>,
    pub(super) credentials: Option<Spanned<bool>>,
    pub(super) max_age: Option<Spanned<Time>>,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchFile {
    pub(super) path: Text,
    pub(super) methods: Option<Spanned<Vec<Text>>>,
    pub(super) host: Option<Spanned<HostsFile>>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) query: BTreeMap<Text, Text>,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct ForwardFile {
    /// One of these two is there.
    pub(super) service: Option<Text>,
    pub(super) split: Option<Spanned<Vec<ShareFile>>>,
    /// Left out: the path of the request.
    pub(super) path: Option<Text>,
    pub(super) retry: Option<Spanned<RouteRetryFile>>,
    pub(super) host: Option<Text>,
    #[serde(default)]
    pub(super) query: QueryEditFile,
    #[serde(default)]
    pub(super) request_headers: HeaderEditFile,
    #[serde(default)]
    pub(super) response_headers: HeaderEditFile,
    /// To the head of the answer. Default: 30 s.
    pub(super) timeout: Option<Spanned<Time>>,
    /// The same for one try. Left out: as long as there is time.
    pub(super) try_timeout: Option<Spanned<Time>>,
    /// Left out: that of the node.
    pub(super) body_rate_min: Option<Spanned<u64>>,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionRouteFile {
    /// To the decision. Default: 10 s.
    pub(super) timeout: Option<Spanned<Time>>,
    /// After the decision. Default: 5 s.
    pub(super) reply_within: Option<Spanned<Time>>,
    pub(super) branches: Spanned<Vec<BranchFile>>,
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct BranchFile {
    pub(super) service: Text,
    /// Default: `POST`.
    pub(super) method: Option<Text>,
    pub(super) path: Text,
    /// A JSON Pointer into the request. Left out: the whole body as it came.
    pub(super) body: Option<Text>,
}

/// A duration, written as a string with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, a string with a unit like \"2s\",")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        let wrong =
            |error| E::custom(format!("bad duration \"{text}\": {error}; write it like \"250ms\" or \"2s\""));
        humantime::parse_duration(text).map(Time).map_err(wrong)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
        Err(E::custom(format!(
            "a duration needs a unit, as in \"2s\"; write \"{number}s\" if seconds are meant"
        )))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Time, E> {
        Err(E::custom(format!("a duration needs a unit, as in \"2s\" or \"250ms\"; {number} has none")))
    }
}
