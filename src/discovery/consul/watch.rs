//! The feed: one blocking query after the other.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep_until};

use super::agent::Agent;
use super::answer::{Index, Meaning, meaning};
use super::bucket::Bucket;
use super::{ConsulSource, Health};
use crate::discovery::admit::Found;
use crate::discovery::follow::Feed;
use crate::discovery::trouble::Trouble;

/// How old an answer may be where the operators of Consul have made stale answers the default and we have not.
const AGE_MAX: Duration = Duration::from_secs(10);

/// The longest wait for a service of which no instance is known: until one is, every request to it fails.
const EMPTY_WAITS: Duration = Duration::from_secs(1);

/// Follows a service of Consul.
pub(in crate::discovery) struct ConsulFeed {
    source: ConsulSource,
    agent: Option<Agent>,
    index: Index,
    bucket: Bucket,
    /// Whether no instance was known at the last answer.
    is_empty: bool,
    /// Whether the question is the first, or the first after a failure, for which the loop has waited already.
    is_due: bool,
}

/// Who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    Leader,
}

impl ConsulFeed {
    pub(in crate::discovery) fn new(source: ConsulSource) -> Self {
        let bucket = Bucket::new(source.rate);
        Self { source, agent: None, index: Index::NONE, bucket, is_empty: false, is_due: true }
    }

    /// Asks with this index; an answer that is too old is asked of the leader instead, at once.
    async fn ask(&mut self, index: Index) -> Result<Found, Trouble> {
        let meaning = match self.ask_one(index, Who::Anybody).await? {
            Meaning::TooOld => self.ask_one(Index::NONE, Who::Leader).await?,
            known @ Meaning::Known { .. } => known,
        };
        match meaning {
            Meaning::Known { next, found } => {
                self.index = next;
                self.is_due = false;
                self.is_empty = found.instances.is_empty();
                Ok(found)
            }
            Meaning::TooOld => Err(Trouble::Unreadable("it is older than it may be".to_owned())),
        }
    }

    async fn ask_one(&mut self, index: Index, who: Who) -> Result<Meaning, Trouble> {
        self.is_due = true;
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => Agent::new(self.source.agent.clone())?,
        };
        let agent = self.agent.insert(agent);
        let source = &self.source;
        let path = ["v1", "health", "service", source.service.as_str()];
        let query = query(source, index, who);
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // The agent waits a sixteenth longer than it is asked to, so that not all come back at once.
        let waits = index.get().map_or(Duration::ZERO, |_| source.wait + source.wait / 16);
        let answer = agent.ask(Method::GET, &path, &query, None, waits + source.patience).await?;
        let age_max = match who {
            Who::Anybody => Some(source.stale.unwrap_or(AGE_MAX)),
            Who::Leader => None,
        };
        meaning(index, source.health, age_max, answer.status, &answer.headers, &answer.body)
    }
}

impl Feed for ConsulFeed {
    async fn next(&mut self) -> Result<Found, Trouble> {
        if !self.is_due {
            let now = Instant::now();
            let at = self.bucket.take(now);
            sleep_until(if self.is_empty { at.min(now + EMPTY_WAITS) } else { at }).await;
        }
        self.ask(self.index).await
    }

    async fn now(&mut self) -> Result<Found, Trouble> {
        self.ask(Index::NONE).await
    }
}

fn query(source: &ConsulSource, index: Index, who: Who) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    if let Some(index) = index.get() {
        query.push(("index", index.to_string()));
        query.push(("wait", format!("{}ms", source.wait.as_millis())));
    }
    match source.health {
        Health::Passing => query.push(("passing", "true".to_owned())),
        Health::Warning => {}
    }
    match (who, source.stale) {
        (Who::Leader, _) => query.push(("leader", String::new())),
        (Who::Anybody, Some(_)) => query.push(("stale", String::new())),
        (Who::Anybody, None) => {}
    }
    query.extend(source.datacenter.iter().map(|datacenter| ("dc", datacenter.clone())));
    // The parameter `tag` is deprecated; the configuration has checked that the tag has no quotes.
    query.extend(source.tag.iter().map(|tag| ("filter", format!("\"{tag}\" in Service.Tags"))));
    query
}
