//! `match.host`: one host, or a list of them.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::file::Text;
use super::findings::Noted;
use super::routes::Reader;
use crate::gateway::HostPattern;

/// As the file has it.
#[derive(Debug)]
pub(super) enum HostsFile {
    One(String),
    Several(Vec<Text>),
}

impl Reader<'_, '_, '_> {
    pub(super) fn hosts(&mut self, given: &Spanned<HostsFile>) -> Result<Vec<HostPattern>, Noted> {
        let (at, texts) = match given.get_ref() {
            HostsFile::One(text) => return Ok(vec![self.host(text, &given.span())?]),
            HostsFile::Several(texts) => (given, texts),
        };
        if texts.is_empty() {
            return self
                .refuse(at, "no host is listed, so nothing could match; leave `host` out to match any");
        }
        let mut hosts = Vec::new();
        for text in texts {
            let host = self.host(text.get_ref(), &text.span())?;
            if hosts.contains(&host) {
                return self.refuse(text, format!("the host `{host}` is listed twice; take one out"));
            }
            hosts.push(host);
        }
        Ok(hosts)
    }

    fn host(&mut self, text: &str, at: &Range<usize>) -> Result<HostPattern, Noted> {
        HostPattern::parse(text).or_else(|error| self.findings.refuse(at, error.to_string()))
    }
}

impl<'de> Deserialize<'de> for HostsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HostsVisitor)
    }
}

struct HostsVisitor;

impl<'de> Visitor<'de> for HostsVisitor {
    type Value = HostsFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a host or a list of hosts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HostsFile, E> {
        Ok(HostsFile::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HostsFile, A::Error> {
        let mut hosts = Vec::new();
        while let Some(host) = list.next_element()? {
            hosts.push(host);
        }
        Ok(HostsFile::Several(hosts))
    }
}
