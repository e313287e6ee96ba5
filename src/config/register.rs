//! The `[consul.register]` section: the node's own entry in Consul.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::Url;

use super::discovery::{self, Consul, plain};
use super::file::{ConsulFile, RegisterFile, Text};
use super::findings::{Findings, Noted};
use crate::discovery::consul::register::Entry;

/// Consul refuses checks more often than this, and nobody wants to wait longer for one.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
/// Consul takes a minute at least.
const GONE_AFTER: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 30);

/// The entry; `None` where the node makes none, or where there is a mistake.
pub(super) fn register(file: &ConsulFile, consul: &Consul, findings: &mut Findings<'_>) -> Option<Entry> {
    file.register.as_ref().and_then(|file| entry(file, consul, findings).ok())
}

fn entry(file: &RegisterFile, consul: &Consul, findings: &mut Findings<'_>) -> Result<Entry, Noted> {
    let agent = consul.agent(None, &file.name, findings);
    let name = plain(&file.name, "the name of a service in Consul", findings);
    let id = file.id.as_ref().map(|id| plain(id, "the id of an entry in Consul", findings)).transpose();
    let address = file.address.as_ref().map(|text| plain(text, "an address", findings)).transpose();
    let port = file.port.as_ref().map(|port| discovery::port(port, findings)).transpose();
    let tags: Vec<_> = file.tags.iter().map(|tag| plain(tag, "a tag", findings)).collect();
    let check = file.check.as_ref().map(|check| check_url(check, findings)).transpose();
    let interval = findings.time(file.interval.as_ref(), Entry::INTERVAL, INTERVAL);
    let gone_after = findings.time(file.gone_after.as_ref(), Entry::GONE_AFTER, GONE_AFTER);
    let meta = file.meta.iter().map(|(name, value)| (name.get_ref().clone(), value.get_ref().clone()));
    Ok(Entry {
        agent: agent?,
        name: name?,
        id: id?,
        address: address?,
        port: port?.map(NonZeroU16::get),
        tags: tags.into_iter().collect::<Result<_, _>>()?,
        meta: meta.collect(),
        check: check?,
        interval,
        gone_after,
    })
}

fn check_url(text: &Text, findings: &mut Findings<'_>) -> Result<String, Noted> {
    let given = text.get_ref();
    let url = Url::parse(given).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.map(|url| url.as_str().to_owned()).ok_or_else(|| {
        format!(
            "`{given}` is not a URL; write that of /readyz as the agent reaches it, as in \"http://10.0.0.5:8001/readyz\""
        )
    });
    findings.keep(&text.span(), "bad check", url)
}
