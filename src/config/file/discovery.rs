//! The shape of what the file says of where services are, key for key.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as Derive;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

use super::{Text, Time};

/// `services.*.dns`; see `DnsSource`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DnsFile {
    pub(in crate::config) name: Text,
    pub(in crate::config) port: Spanned<u64>,
    pub(in crate::config) family: Option<FamilyFile>,
    pub(in crate::config) server: Option<Text>,
    pub(in crate::config) refresh_min: Option<Spanned<Time>>,
    pub(in crate::config) refresh_max: Option<Spanned<Time>>,
}

/// `services.*.srv`; see `SrvSource`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SrvFile {
    pub(in crate::config) name: Text,
    pub(in crate::config) family: Option<FamilyFile>,
    pub(in crate::config) server: Option<Text>,
    pub(in crate::config) refresh_min: Option<Spanned<Time>>,
    pub(in crate::config) refresh_max: Option<Spanned<Time>>,
}

#[derive(Debug, Clone, Copy, Derive)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum FamilyFile {
    Any,
    Ipv4,
    Ipv6,
}

/// `services.*.consul`; see `ConsulSource`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ConsulServiceFile {
    pub(in crate::config) service: Text,
    pub(in crate::config) agent: Option<Text>,
    pub(in crate::config) token_env: Option<Text>,
    pub(in crate::config) token_file: Option<Text>,
    pub(in crate::config) datacenter: Option<Text>,
    pub(in crate::config) tag: Option<Text>,
    pub(in crate::config) health: Option<PassingFile>,
    pub(in crate::config) stale: Option<Spanned<Time>>,
    pub(in crate::config) wait: Option<Spanned<Time>>,
}

#[derive(Debug, Clone, Copy, Derive)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum PassingFile {
    Passing,
    Warning,
}

/// `[consul]`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ConsulFile {
    pub(in crate::config) agent: Option<Text>,
    pub(in crate::config) token_env: Option<Text>,
    pub(in crate::config) token_file: Option<Text>,
    pub(in crate::config) register: Option<RegisterFile>,
}

/// `[consul.register]`; see `Entry`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RegisterFile {
    pub(in crate::config) name: Text,
    pub(in crate::config) id: Option<Text>,
    pub(in crate::config) address: Option<Text>,
    pub(in crate::config) port: Option<Spanned<u64>>,
    #[serde(default)]
    pub(in crate::config) tags: Vec<Text>,
    #[serde(default)]
    pub(in crate::config) meta: BTreeMap<Text, Text>,
    pub(in crate::config) check: Option<Text>,
    pub(in crate::config) interval: Option<Spanned<Time>>,
    pub(in crate::config) gone_after: Option<Spanned<Time>>,
}

/// One name, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Names(pub(in crate::config) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Names, E> {
        Ok(Names(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(Names(names))
    }
}
