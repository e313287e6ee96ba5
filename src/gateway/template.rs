//! The path that a call to a backend gets: `/accounts/{id}?full=1`, filled from what the route bound.
//!
//! A parameter in the path keeps the percent-encoding it came with, so it stays one segment. In the
//! query it is encoded anew, so it stays one value. The filled path goes through the same normal form
//! as that of a request, and is refused where it would not survive it.

use std::fmt;

use super::path::{BadPath, CleanPath, encoded};
use super::pattern::{Params, is_name};

/// A path, perhaps with a query, with `{name}` where a parameter of the route goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    path: Vec<Piece>,
    query: Option<Vec<Piece>>,
}

/// Path and query of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The path, in normal form.
    pub path: CleanPath,
    /// The query that the template has of its own, without the `?`.
    pub query: Option<String>,
}

/// Why a path of the configuration cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No backend could be asked for it.
    #[error("{0}")]
    Path(#[from] BadPath),
    /// A brace without its partner, or without a name.
    #[error(
        "`{0}` is not a parameter; write `{{name}}` with letters, digits and `_`, and nothing else in braces"
    )]
    Brace(String),
    /// The query has a character that cannot be sent.
    #[error("the query `{0}` has a character that has to be percent-encoded")]
    Query(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(String),
}

impl Template {
    /// Reads a template from the configuration.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, is_name)
    }

    /// The same, with what may stand in braces: more than names of parameters, for who knows what to fill in.
    pub fn parse_with(text: &str, may_stand: fn(&str) -> bool) -> Result<Self, TemplateError> {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let pieces = |text| pieces(text, may_stand);
        let template =
            Self { text: text.to_owned(), path: pieces(path)?, query: query.map(pieces).transpose()? };
        let sample = concat(&template.path, |_| "p".to_owned());
        CleanPath::parse(&sample)?;
        check_query(template.query.as_deref().unwrap_or_default())?;
        Ok(template)
    }

    /// The names that have to be bound.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.path_params().chain(names(self.query.as_deref().unwrap_or_default()))
    }

    /// Those that have to be bound for the path.
    pub fn path_params(&self) -> impl Iterator<Item = &str> {
        names(&self.path)
    }

    /// The call's path and query. A parameter that is not bound counts as empty; the configuration has
    /// made sure that there is none.
    pub fn fill(&self, params: &Params) -> Result<Target, BadPath> {
        self.fill_with(|name| params.get(name).unwrap_or_default().to_owned())
    }

    /// The same, with what `bound` gives for each name: percent-encoded, as a segment of a path.
    pub fn fill_with(&self, bound: impl Fn(&str) -> String) -> Result<Target, BadPath> {
        let path = CleanPath::parse(&concat(&self.path, &bound))?;
        let query = self.query.as_deref().map(|query| concat(query, |name| for_query(&bound(name))));
        Ok(Target { path, query })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Target {
    /// Path and query as they go into the request line: the template's own query, else the client's.
    #[must_use]
    pub fn with_query(&self, client: Option<&str>) -> String {
        match self.query.as_deref().or(client) {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

fn names(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Param(name) => Some(name.as_str()),
        Piece::Text(_) => None,
    })
}

fn pieces(text: &str, may_stand: fn(&str) -> bool) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut left = text;
    while let Some((before, after)) = left.split_once('{') {
        let (name, tail) = after.split_once('}').ok_or_else(|| TemplateError::Brace(left.to_owned()))?;
        let name = name.strip_prefix('*').unwrap_or(name);
        if !may_stand(name) || before.contains('}') {
            return Err(TemplateError::Brace(text.to_owned()));
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Param(name.to_owned()));
        left = tail;
    }
    if left.contains('}') {
        return Err(TemplateError::Brace(text.to_owned()));
    }
    pieces.push(Piece::Text(left.to_owned()));
    Ok(pieces)
}

fn check_query(query: &[Piece]) -> Result<(), TemplateError> {
    let sample = concat(query, |_| "p".to_owned());
    let sendable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\'');
    if sample.bytes().all(sendable) { Ok(()) } else { Err(TemplateError::Query(sample)) }
}

fn concat(pieces: &[Piece], bound: impl Fn(&str) -> String) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Param(name) => bound(name),
    };
    pieces.iter().map(text).collect()
}

/// A segment, made fit to be one value of a query: `&`, `=` and `+` mean something there.
pub(super) fn for_query(segment: &str) -> String {
    encoded(percent_encoding::percent_decode_str(segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::pattern::Pattern;

    fn fill(pattern: &str, path: &str, template: &str) -> Result<String, BadPath> {
        let path = CleanPath::parse(path).unwrap();
        let params = Pattern::parse(pattern).unwrap().matches(&path).unwrap();
        Template::parse(template).unwrap().fill(&params).map(|target| target.with_query(None))
    }

    #[test]
    fn a_parameter_goes_into_the_path_as_it_came() {
        assert_eq!(fill("/a/{id}", "/a/7", "/x/{id}/y"), Ok("/x/7/y".to_owned()));
        assert_eq!(fill("/a/{id}", "/a/b%2Fc%3Fd", "/x/{id}"), Ok("/x/b%2Fc%3Fd".to_owned()));
        assert_eq!(fill("/a/{*rest}", "/a/b/c", "/x/{rest}"), Ok("/x/b/c".to_owned()));
    }

    #[test]
    fn a_parameter_in_the_query_stays_one_value() {
        assert_eq!(fill("/a/{id}", "/a/b&c=d+%2f", "/x?id={id}"), Ok("/x?id=b%26c%3Dd%2B%2F".to_owned()));
    }

    #[test]
    fn a_filled_path_that_would_climb_is_refused() {
        assert_eq!(fill("/a/{x}/{y}", "/a/b/c", "/x/{x}{y}"), Ok("/x/bc".to_owned()));
        assert_eq!(fill("/a/{*rest}", "/a/", "/x/{rest}/y"), Err(BadPath::EmptySegment));
        assert_eq!(fill("/a/{x}", "/a/...", "/x/{x}"), Ok("/x/...".to_owned()));
        assert_eq!(fill("/a/{x}", "/a/;v", "/x/..{x}"), Err(BadPath::DotSegment));
    }

    #[test]
    fn the_query_of_the_template_wins_over_that_of_the_client() {
        let target = Target { path: CleanPath::parse("/x").unwrap(), query: None };
        assert_eq!(target.with_query(Some("a=1")), "/x?a=1");
        let target = Target { query: Some("b=2".to_owned()), ..target };
        assert_eq!(target.with_query(Some("a=1")), "/x?b=2");
    }

    #[test]
    fn a_template_that_cannot_be_called_is_refused() {
        assert_eq!(Template::parse("x"), Err(TemplateError::Path(BadPath::NotAbsolute)));
        assert_eq!(Template::parse("/a/../b"), Err(TemplateError::Path(BadPath::DotSegment)));
        assert!(matches!(Template::parse("/a/{id"), Err(TemplateError::Brace(_))));
        assert!(matches!(Template::parse("/a/id}"), Err(TemplateError::Brace(_))));
        assert!(matches!(Template::parse("/a/{}"), Err(TemplateError::Brace(_))));
        assert!(matches!(Template::parse("/a?b c"), Err(TemplateError::Query(_))));
    }
}
