//! What a call takes out of the request and out of earlier answers: for its path, its query and its body.
//!
//! In a path a value stays one segment and in a query one value, whatever is in it. In a body it stays the JSON that it
//! was, so that a number keeps its text there too.

use std::fmt::Write as _;

use http::Method;
use percent_encoding::percent_decode_str;

use super::missing::Missing;
use super::parts::Part;
use crate::gateway::path::{BadPath, encoded};
use crate::gateway::pattern::Params;
use crate::gateway::pointer::Pointer;

/// The longest value, in bytes, that goes from an answer into a path or a query: a longer one is no id, and heads of requests
/// are limited everywhere.
const VALUE_BYTES_MAX: usize = 1024;

/// A value of an earlier answer, as its service gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The place of the part among all.
    pub part: usize,
    /// Where in its answer.
    pub pointer: Pointer,
    /// Whether it is a segment of the path, or a piece of one.
    pub in_path: bool,
}

/// What is asked beyond the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// GET, or another method that only asks.
    pub method: Method,
    /// The JSON that goes with it; `None`: none.
    pub body: Option<Vec<Piece>>,
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands here.
    Text(String),
    /// A parameter of the route's path, as a JSON string.
    Param(String),
    /// The text in braces, for errors, and the value it stands for.
    Answer(String, Reference),
}

/// The text of an earlier answer, or `None` where it is no JSON.
type Answer<'a> = Option<&'a str>;

impl Question {
    /// A GET with nothing more.
    #[must_use]
    pub fn get() -> Self {
        Self { method: Method::GET, body: None }
    }

    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.body.iter().flatten().filter_map(|piece| match piece {
            Piece::Answer(_, reference) => Some(reference),
            Piece::Text(_) | Piece::Param(_) => None,
        })
    }

    /// The body, where there is one. `answer` gives the text of an earlier answer.
    pub(super) fn body<'a>(
        &self,
        params: &Params,
        answer: impl Fn(usize) -> Answer<'a>,
    ) -> Result<Option<String>, Missing> {
        let Some(pieces) = &self.body else { return Ok(None) };
        let mut body = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Param(name) => {
                    let text = percent_decode_str(params.get(name).unwrap_or_default()).decode_utf8();
                    let text = text.map_err(|_| Missing::Path(BadPath::NoText))?;
                    write!(body, "{}", serde_json::Value::from(text))
                        .expect("writing to a string cannot fail");
                }
                Piece::Answer(text, reference) => {
                    let value = answer(reference.part).and_then(|answer| reference.pointer.cut(answer));
                    body.push_str(value.ok_or_else(|| Missing::NoValue(text.clone()))?);
                }
            }
        }
        Ok(Some(body))
    }
}

/// Path and query of the call for a part; `query` is that of the client.
pub(super) fn target<'a>(
    part: &Part,
    params: &Params,
    query: Option<&str>,
    answer: impl Fn(usize) -> Answer<'a>,
) -> Result<String, Missing> {
    let mut values = Vec::with_capacity(part.references.len());
    for (text, reference) in &part.references {
        let value = answer(reference.part).and_then(|answer| reference.pointer.cut(answer));
        let value = value.ok_or_else(|| Missing::NoValue(text.clone()))?;
        values.push((text.as_str(), one_value(value, reference.in_path, text)?));
    }
    let bound = |name: &str| match values.iter().find(|(text, _)| *text == name) {
        Some((_, value)) => value.clone(),
        None => params.get(name).unwrap_or_default().to_owned(),
    };
    match part.path.fill_with(bound) {
        Ok(target) => Ok(target.with_query(query)),
        // A segment of a request alone is always fine.
        Err(_) if !values.is_empty() => {
            Err(Missing::BadValue(values.iter().map(|(text, _)| *text).collect::<Vec<_>>().join(", ")))
        }
        Err(reason) => Err(Missing::Path(reason)),
    }
}

/// A JSON scalar, percent-encoded. `null` is no value, and an empty segment would be another path.
fn one_value(value: &str, in_path: bool, text: &str) -> Result<String, Missing> {
    let bad = || Missing::BadValue(text.to_owned());
    let plain = match value.as_bytes().first() {
        Some(b'n') => return Err(Missing::NoValue(text.to_owned())),
        Some(b'"') => serde_json::from_str(value).map_err(|_| bad())?,
        Some(b'{' | b'[') | None => return Err(bad()),
        Some(_) => value.to_owned(),
    };
    if plain.len() > VALUE_BYTES_MAX || (in_path && plain.is_empty()) {
        return Err(bad());
    }
    Ok(encoded(plain.bytes()))
}
