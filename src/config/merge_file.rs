//! The shape of `[routes.merge]`, key for key. What the values mean is checked in `merge.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as Derive;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::file::{Text, Time};

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct MergeFile {
    pub(super) parts: Spanned<Vec<PartFile>>,
    /// Of one part, to its last byte. Default: 10 s.
    pub(super) timeout: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) on_conflict: ConflictFile,
    pub(super) status: Option<Spanned<StatusFile>>,
    /// A member for the parts that are missing.
    pub(super) list_missing: Option<Text>,
}

#[derive(Debug, Clone, Copy, Default, Derive)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ConflictFile {
    #[default]
    Error,
    First,
    Last,
    Concat,
    Deep,
}

/// `"ok"`, `"worst"`, `"first"` or a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum StatusFile {
    Ok,
    Worst,
    First,
    Fixed(u16),
}

#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct PartFile {
    pub(super) service: Text,
    pub(super) path: Text,
    /// Left out: its members go into the answer itself.
    #[serde(rename = "as")]
    pub(super) member: Option<Text>,
    /// Default: `as`, else the service.
    pub(super) name: Option<Text>,
    /// Default: `true`.
    pub(super) required: Option<bool>,
    pub(super) fallback: Option<Spanned<toml::Value>>,
    /// Default: `GET`.
    pub(super) method: Option<Text>,
    pub(super) body: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) reads_only: bool,
    pub(super) target: Option<Text>,
    pub(super) allow: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) deny: Vec<Text>,
    #[serde(default)]
    pub(super) rename: BTreeMap<Text, Text>,
    #[serde(default, rename = "move")]
    pub(super) moves: BTreeMap<Text, Text>,
    #[serde(default)]
    pub(super) append: BTreeMap<Text, Vec<Text>>,
    /// Header fields of its answer that the client gets.
    #[serde(default)]
    pub(super) headers: Vec<Text>,
    /// Default: `node.answer_max`.
    pub(super) answer_max: Option<Spanned<u64>>,
    /// Default: that of the route.
    pub(super) timeout: Option<Spanned<Time>>,
}

impl<'de> Deserialize<'de> for StatusFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"ok\", \"worst\", \"first\" or a number like 203")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusFile, E> {
        match text {
            "ok" => Ok(StatusFile::Ok),
            "worst" => Ok(StatusFile::Worst),
            "first" => Ok(StatusFile::First),
            _ => Err(E::custom(format!(
                "`{text}` is no rule for the status; write \"ok\", \"worst\", \"first\" or a number like 203"
            ))),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<StatusFile, E> {
        // What is no number of a status is no 2xx either, and refused as that.
        Ok(StatusFile::Fixed(u16::try_from(number).unwrap_or_default()))
    }
}
