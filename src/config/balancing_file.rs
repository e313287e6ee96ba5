//! The shape of what the file says of balancing and failure; what it means is in `balancing`.

use std::fmt;

use serde::Deserialize as Derive;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::file::{Text, Time};

/// One of `endpoints`: a URL, or a table with a URL and a weight.
#[derive(Debug)]
pub(super) struct EndpointFile {
    pub(super) url: String,
    pub(super) weight: Option<Spanned<u64>>,
}

/// `[services.NAME.balance]`; see `Policy`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BalanceFile {
    pub(super) policy: Option<Spanned<ChoiceFile>>,
    pub(super) hash: Option<Spanned<HashFile>>,
    pub(super) slow_start: Option<Spanned<Time>>,
    pub(super) panic_percent: Option<Spanned<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ChoiceFile {
    RoundRobin,
    LeastRequest,
    Latency,
    Hash,
}

/// One of these says where a request goes.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HashFile {
    pub(super) header: Option<Text>,
    pub(super) cookie: Option<Text>,
    pub(super) path: Option<Text>,
}

/// `[services.NAME.health]`; see `HealthPolicy`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthFile {
    pub(super) path: Text,
    pub(super) interval: Option<Spanned<Time>>,
    pub(super) timeout: Option<Spanned<Time>>,
    pub(super) healthy: Option<Spanned<u64>>,
    pub(super) unhealthy: Option<Spanned<u64>>,
    pub(super) expect: Option<Spanned<Vec<Spanned<WordOrStatus>>>>,
}

/// `[services.NAME.outlier]`; see `OutlierPolicy`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OutlierFile {
    pub(super) consecutive: Option<Spanned<u64>>,
    pub(super) error_percent: Option<Spanned<u64>>,
    pub(super) requests_min: Option<Spanned<u64>>,
    pub(super) window: Option<Spanned<Time>>,
    pub(super) base_time: Option<Spanned<Time>>,
    pub(super) max_time: Option<Spanned<Time>>,
    pub(super) max_percent: Option<Spanned<u64>>,
}

/// `[services.NAME.breaker]`; see `BreakerPolicy`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BreakerFile {
    pub(super) error_percent: Option<Spanned<u64>>,
    pub(super) requests_min: Option<Spanned<u64>>,
    pub(super) window: Option<Spanned<Time>>,
    pub(super) open: Option<Spanned<Time>>,
    pub(super) open_max: Option<Spanned<Time>>,
    pub(super) ramp: Option<Spanned<Time>>,
}

/// `[services.NAME.limit]`; see `LimitPolicy`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitFile {
    pub(super) initial: Option<Spanned<u64>>,
    pub(super) min: Option<Spanned<u64>>,
    pub(super) max: Option<Spanned<u64>>,
}

/// `[services.NAME.retries]`; see `RetryBudgetPolicy`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetriesFile {
    pub(super) percent: Option<Spanned<u64>>,
    pub(super) per_second: Option<Spanned<u64>>,
}

/// `forward.retry` of a route; see `RetryRule`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteRetryFile {
    pub(super) on: Spanned<Vec<Spanned<WordOrStatus>>>,
    pub(super) tries: Option<Spanned<u64>>,
}

/// A status, or a word that stands for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WordOrStatus {
    Word(String),
    Status(u64),
}

impl<'de> Deserialize<'de> for EndpointFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

/// By hand, because an untagged enum would say of each mistake only that no variant fits.
struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = EndpointFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a table like { url = \"http://127.0.0.1:9001\", weight = 3 },")
    }

    fn visit_str<E: de::Error>(self, url: &str) -> Result<EndpointFile, E> {
        Ok(EndpointFile { url: url.to_owned(), weight: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointFile, A::Error> {
        #[derive(Derive)]
        #[serde(deny_unknown_fields)]
        struct Table {
            url: String,
            weight: Option<Spanned<u64>>,
        }
        let Table { url, weight } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(EndpointFile { url, weight })
    }
}

impl<'de> Deserialize<'de> for WordOrStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrStatusVisitor)
    }
}

struct WordOrStatusVisitor;

impl Visitor<'_> for WordOrStatusVisitor {
    type Value = WordOrStatus;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status like 503, or a word,")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOrStatus, E> {
        Ok(WordOrStatus::Word(word.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, status: i64) -> Result<WordOrStatus, E> {
        // What is no number of a status is refused with the others that are out of bounds.
        Ok(WordOrStatus::Status(u64::try_from(status).unwrap_or_default()))
    }

    fn visit_u64<E: de::Error>(self, status: u64) -> Result<WordOrStatus, E> {
        Ok(WordOrStatus::Status(status))
    }
}
