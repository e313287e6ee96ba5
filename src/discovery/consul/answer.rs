//! What an answer to `GET /v1/health/service/NAME` means.
//!
//! Rules of the index: <https://developer.hashicorp.com/consul/api-docs/features/blocking>. The body:
//! <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>. How old it is:
//! <https://developer.hashicorp.com/consul/api-docs/features/consistency>.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Health;
use crate::discovery::admit::{Candidate, Found, Refused};
use crate::discovery::trouble::Trouble;

/// The state of a service that the agent last told of; changes after it are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Index(u64);

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// These are the instances.
    Known {
        /// What to ask with next.
        next: Index,
        /// The instances.
        found: Found,
    },
    /// The server has not heard of the leader for too long: ask the leader.
    TooOld,
}

impl Index {
    /// No state: the answer comes at once.
    pub const NONE: Self = Self(0);

    /// A state that an agent has told of.
    #[must_use]
    pub fn new(index: u64) -> Self {
        Self(index)
    }

    /// As it stands in a query; `None` where it is left out.
    #[must_use]
    pub fn get(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    /// The next one after an answer with `given`. One that goes back begins anew, or changes would be missed until it has
    /// caught up. One of 0 is a mistake of the agent, and asking with it would not wait.
    fn after(self, given: u64) -> Self {
        if given < self.0 { Self::NONE } else { Self(given.max(1)) }
    }
}

/// What an answer means that came to a question with the index `before`. `age_max`: how old it may be; `None`: as old as it
/// is.
pub fn meaning(
    before: Index,
    health: Health,
    age_max: Option<Duration>,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Meaning, Trouble> {
    match status.as_u16() {
        200 => {}
        403 => return Err(Trouble::Denied),
        429 => return Err(Trouble::Limited),
        other => return Err(Trouble::Status(other)),
    }
    if age_max.is_some_and(|age_max| is_older(headers, age_max)) {
        return Ok(Meaning::TooOld);
    }
    let index = header(headers, "x-consul-index").and_then(|text| text.parse().ok());
    let index = index.ok_or_else(|| Trouble::Unreadable("it has no X-Consul-Index".to_owned()))?;
    let entries: Option<Vec<&RawValue>> =
        serde_json::from_slice(body).map_err(|error| Trouble::Unreadable(error.to_string()))?;
    let found = entries.unwrap_or_default().into_iter().filter_map(|entry| candidate(entry, health));
    Ok(Meaning::Known { next: before.after(index), found: found.collect() })
}

fn is_older(headers: &HeaderMap, age_max: Duration) -> bool {
    let has_no_leader = header(headers, "x-consul-knownleader") == Some("false");
    let age = header(headers, "x-consul-lastcontact").and_then(|text| text.parse().ok());
    has_no_leader || age.is_some_and(|age| Duration::from_millis(age) > age_max)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// One entry of the list. What is not read may be missing or `null`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Option<Node>,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    address: Option<String>,
    port: Option<u16>,
    weights: Option<Weights>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: Option<u64>,
    warning: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: Option<String>,
}

/// What the checks of an instance say together: the worst of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Passing,
    Warning,
    /// Or in maintenance, which is a critical check too, or something that we do not know.
    Critical,
}

/// What is to be let in; `None` where it is well described and does not count.
fn candidate(entry: &RawValue, health: Health) -> Option<Result<Candidate, Refused>> {
    let Ok(entry) = serde_json::from_str::<Entry>(entry.get()) else { return Some(Err(Refused::Unreadable)) };
    let weights = entry.service.weights.unwrap_or_default();
    let weight = match (condition(entry.checks.as_deref().unwrap_or_default()), health) {
        // A service that is in the catalog by itself may have no weights, which the agent shows as 0.
        (Condition::Passing, _) => weights.passing.filter(|weight| *weight > 0).unwrap_or(1),
        (Condition::Warning, Health::Warning) => weights.warning.unwrap_or(1),
        (Condition::Warning, Health::Passing) | (Condition::Critical, _) => return None,
    };
    let is_given = |address: &String| !address.is_empty();
    // "If not provided, the agent's address is used": that of the node.
    let of_node = entry.node.and_then(|node| node.address);
    let host = entry.service.address.filter(is_given).or(of_node.filter(is_given));
    let Some(host) = host else { return Some(Err(Refused::Unreadable)) };
    Some(Ok(Candidate { host, port: entry.service.port.unwrap_or(0), weight }))
}

fn condition(checks: &[Check]) -> Condition {
    let conditions = checks.iter().map(|check| match check.status.as_deref() {
        Some("passing") => Condition::Passing,
        Some("warning") => Condition::Warning,
        Some(_) | None => Condition::Critical,
    });
    conditions.max().unwrap_or(Condition::Passing)
}

#[cfg(test)]
mod tests;
