//! What the configuration says of a merged answer and of its parts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::shape::Shape;
use super::values::{Question, Reference};
use crate::gateway::template::Template;

/// An answer made of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRoute {
    /// The parts, in the order of their members in the answer.
    pub parts: Vec<Part>,
    /// The longest one part may take, to its last byte. Default: 10 s.
    pub timeout: Duration,
    /// What becomes of a member that two parts give.
    pub on_conflict: OnConflict,
    /// The status of the answer.
    pub status: StatusRule,
    /// The member that lists the parts that are missing; `None`: there is none.
    pub list_missing: Option<Label>,
}

/// One part of a merged answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The service asked.
    pub service: String,
    /// The path asked for. What it takes from earlier answers is in `references`.
    pub path: Template,
    /// What is asked beyond the path.
    pub question: Question,
    /// What `path` takes from earlier answers, by the text in its braces.
    pub references: BTreeMap<String, Reference>,
    /// Its name in errors, in the log and in references.
    pub name: String,
    /// The member of the answer that holds it; `None`: its members go into the answer itself.
    pub member: Option<Label>,
    /// Whether the whole answer fails with it. Default: `true`.
    pub required: bool,
    /// What stands in for it where it is missing: JSON, and an object where there is no `member`.
    pub fallback: Option<String>,
    /// What is done to it before it is put with the others.
    pub shape: Shape,
    /// The header fields of its answer that the client gets.
    pub fields: Vec<HeaderName>,
    /// The most bytes of it; `None`: as many as of any answer.
    pub answer_max: Option<usize>,
    /// The longest it may take; `None`: as long as any part of the route.
    pub timeout: Option<Duration>,
}

/// What becomes of a member that two parts give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The whole answer fails.
    #[default]
    Error,
    /// That of the part declared first stays.
    First,
    /// That of the part declared last stays, at the place of the first.
    Last,
    /// Two arrays become one; anything else fails.
    Concat,
    /// Two arrays become one, and two objects, at any depth; anything else fails.
    Deep,
}

/// The status of a merged answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusRule {
    /// 200; 502, 503 or 504 where a required part is missing.
    #[default]
    Ok,
    /// The highest of all parts, those too that are missing.
    Worst,
    /// That of the part declared first, also where it is missing.
    First,
    /// This one in place of 200.
    Fixed(StatusCode),
}

/// The name of a member, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    plain: String,
    quoted: String,
}

impl Label {
    /// The name `plain`.
    #[must_use]
    pub fn new(plain: &str) -> Self {
        Self { plain: plain.to_owned(), quoted: serde_json::Value::from(plain).to_string() }
    }

    /// The name.
    #[must_use]
    pub fn plain(&self) -> &str {
        &self.plain
    }

    pub(super) fn name(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.plain.as_bytes())
    }

    pub(super) fn quoted(&self) -> &str {
        &self.quoted
    }
}

impl Part {
    /// The parts that it takes something from.
    #[must_use]
    pub fn waits_for(&self) -> BTreeSet<usize> {
        self.references.values().chain(self.question.references()).map(|reference| reference.part).collect()
    }
}
