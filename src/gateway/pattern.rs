//! The path pattern of a route: `/a/{id}/b`, with `{*rest}` as its last segment if at all.
//!
//! A parameter takes one whole segment that is not empty. `{*rest}` takes all that follows its slash,
//! also nothing: `/{*rest}` matches every path. A slash at the end counts: `/a` and `/a/` are two paths.

use std::fmt;

use super::path::{BadPath, CleanPath};

/// A pattern that a path can be held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Step>);

/// What a match bound: names of the pattern, with the text of the path, still percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<(String, String)>);

/// Why a pattern of the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text of the pattern itself could never be matched.
    #[error("{0}, so no request could ever match it")]
    Path(#[from] BadPath),
    /// A `{` or `}` that is not around a whole segment.
    #[error("`{0}` mixes text and parameter; a parameter takes a whole segment, as in `/a/{{id}}/b`")]
    Partial(String),
    /// `:id`, as others write a parameter.
    #[error(
        "`{0}` would be this very text; write a parameter as `{{id}}`, and a colon that is meant as `%3A`"
    )]
    Colon(String),
    /// `*`, as others write the rest.
    #[error(
        "`{0}` would be this very text; write `{{*rest}}` for all that follows, and a star that is meant as `%2A`"
    )]
    Star(String),
    /// What can only be a regular expression.
    #[error(
        "`{0}` would be this very text, and there are no regular expressions; write a parameter as `{{id}}`, or characters that \
         are meant percent-encoded, like `%5B` for `[`"
    )]
    Expression(String),
    /// A parameter without a usable name.
    #[error("`{0}` is not a parameter name; use letters, digits and `_`, as in `{{account_id}}`")]
    Name(String),
    /// The same name twice.
    #[error("the parameter `{0}` occurs twice; give each its own name")]
    Twice(String),
    /// `{*rest}` before the end.
    #[error("`{{*{0}}}` takes all that follows, so it has to be the last segment")]
    RestNotLast(String),
}

/// How one pattern ranks against another, the greater first. Where two patterns match the same path they
/// are alike up to the first segment of different kind, and a literal beats a parameter beats the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    exact: bool,
    kinds: Vec<Kind>,
}

/// One step of a path that is held against a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A segment that is this text.
    Literal(String),
    /// A segment that is not empty, under this name.
    Param(String),
    /// All that follows, under this name; the last step.
    Rest(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Rest,
    Param,
    Literal,
}

impl Pattern {
    /// Reads a pattern from the configuration.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pattern = Self(Vec::new());
        let segments = text.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let mut literals = String::new();
        for segment in segments.split('/') {
            if let Some(Step::Rest(rest)) = pattern.0.pop_if(|step| matches!(step, Step::Rest(_))) {
                return Err(PatternError::RestNotLast(rest));
            }
            pattern.push(segment, &mut literals)?;
        }
        CleanPath::parse(&literals)?;
        Ok(pattern)
    }

    /// What `path` binds where it matches, `None` where it does not.
    #[must_use]
    pub fn matches(&self, path: &CleanPath) -> Option<Params> {
        let mut params = Params::default();
        let mut left = Some(path.segments());
        for step in &self.0 {
            let (head, tail) = split_first(left?);
            match step {
                Step::Rest(name) => {
                    params.bind(name, left?);
                    return Some(params);
                }
                Step::Literal(text) if text == head => {}
                Step::Param(name) if !head.is_empty() => params.bind(name, head),
                Step::Literal(_) | Step::Param(_) => return None,
            }
            left = tail;
        }
        left.is_none().then_some(params)
    }

    /// The names that a match binds.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Param(name) | Step::Rest(name) => Some(name.as_str()),
            Step::Literal(_) => None,
        })
    }

    /// The steps from the root.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether some path matches both. For patterns of the same rank, where it is exact.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let same = |(one, two): (&Step, &Step)| match (one, two) {
            (Step::Literal(one), Step::Literal(two)) => one == two,
            (Step::Param(_) | Step::Rest(_), _) | (_, Step::Param(_) | Step::Rest(_)) => true,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    pub(super) fn rank(&self) -> Rank {
        let kind = |step: &Step| match step {
            Step::Literal(_) => Kind::Literal,
            Step::Param(_) => Kind::Param,
            Step::Rest(_) => Kind::Rest,
        };
        let kinds: Vec<_> = self.0.iter().map(kind).collect();
        Rank { exact: kinds.iter().all(|kind| *kind == Kind::Literal), kinds }
    }

    /// Adds one segment. `literals` collects the pattern with a stand-in for each parameter, so that
    /// the rules for paths hold for it too.
    fn push(&mut self, segment: &str, literals: &mut String) -> Result<(), PatternError> {
        literals.push('/');
        if let Some(name) = parameter(segment)? {
            literals.push('p');
            return self.push_param(name);
        }
        refuse_foreign(segment)?;
        literals.push_str(segment);
        let clean = if segment.is_empty() { String::new() } else { clean_segment(segment)? };
        self.0.push(Step::Literal(clean));
        Ok(())
    }

    fn push_param(&mut self, name: &str) -> Result<(), PatternError> {
        let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
        if !is_name(name) {
            return Err(PatternError::Name(name.to_owned()));
        }
        if self.params().any(|known| known == name) {
            return Err(PatternError::Twice(name.to_owned()));
        }
        let name = name.to_owned();
        self.0.push(if is_rest { Step::Rest(name) } else { Step::Param(name) });
        Ok(())
    }
}

/// The pattern as the configuration would write it, with its literals in normal form.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Literal(text) => write!(f, "/{text}"),
            Step::Param(name) => write!(f, "/{{{name}}}"),
            Step::Rest(name) => write!(f, "/{{*{name}}}"),
        })
    }
}

impl Params {
    /// The names and what they were bound to, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// What `name` was bound to, still percent-encoded.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    fn bind(&mut self, name: &str, text: &str) {
        self.0.push((name.to_owned(), text.to_owned()));
    }
}

/// `account_id`: what may stand between braces.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What people who know other gateways write would be taken for text, and never match what they mean.
fn refuse_foreign(segment: &str) -> Result<(), PatternError> {
    let named = segment.strip_prefix(':').and_then(|name| name.chars().next());
    if named.is_some_and(|first| first.is_alphabetic() || first == '_') {
        return Err(PatternError::Colon(segment.to_owned()));
    }
    if segment.contains('*') {
        return Err(PatternError::Star(segment.to_owned()));
    }
    if segment.contains(['[', ']', '^', '|']) {
        return Err(PatternError::Expression(segment.to_owned()));
    }
    Ok(())
}

fn parameter(segment: &str) -> Result<Option<&str>, PatternError> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    match name {
        Some(name) if !name.contains(['{', '}']) => Ok(Some(name)),
        Some(_) | None => Err(PatternError::Partial(segment.to_owned())),
    }
}

fn clean_segment(segment: &str) -> Result<String, BadPath> {
    CleanPath::parse(&format!("/{segment}")).map(|path| path.segments().to_owned())
}

/// The first segment, and what follows its slash if there is one.
pub(super) fn split_first(segments: &str) -> (&str, Option<&str>) {
    segments.split_once('/').map_or((segments, None), |(head, tail)| (head, Some(tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and texts that a match binds, as `name=text`, with commas between them.
    fn bound(pattern: &str, path: &str) -> Option<String> {
        let params = Pattern::parse(pattern).unwrap().matches(&CleanPath::parse(path).unwrap())?;
        let pairs: Vec<_> = params.0.iter().map(|(name, text)| format!("{name}={text}")).collect();
        Some(pairs.join(","))
    }

    fn rank(pattern: &str) -> Rank {
        Pattern::parse(pattern).unwrap().rank()
    }

    #[test]
    fn a_literal_matches_itself_however_the_request_encodes_it() {
        assert_eq!(bound("/a/b", "/a/%62").as_deref(), Some(""));
        assert_eq!(bound("/caf\u{e9}", "/caf%c3%a9").as_deref(), Some(""));
        assert_eq!(bound("/a", "/a/"), None);
        assert_eq!(bound("/", "/").as_deref(), Some(""));
    }

    #[test]
    fn a_parameter_takes_one_segment_and_keeps_its_encoding() {
        assert_eq!(bound("/a/{id}/b", "/a/x%2Fy/b").as_deref(), Some("id=x%2Fy"));
        assert_eq!(bound("/a/{id}", "/a/"), None);
        assert_eq!(bound("/a/{id}", "/a/b/c"), None);
        assert_eq!(bound("/a/{id}", "/a"), None);
    }

    #[test]
    fn the_rest_takes_all_that_follows_its_slash() {
        assert_eq!(bound("/a/{*rest}", "/a/b/c").as_deref(), Some("rest=b/c"));
        assert_eq!(bound("/a/{*rest}", "/a/").as_deref(), Some("rest="));
        assert_eq!(bound("/a/{*rest}", "/a"), None);
        assert_eq!(bound("/{*rest}", "/").as_deref(), Some("rest="));
    }

    #[test]
    fn a_literal_ranks_above_a_parameter_and_that_above_the_rest() {
        let order =
            ["/a/b/c", "/a/b", "/a/b/c/{x}", "/a/b/{x}", "/a/{x}/c", "/a/{x}", "/a/{*x}", "/{x}", "/{*x}"];
        for pair in order.windows(2) {
            assert!(rank(pair[0]) > rank(pair[1]), "{} before {}", pair[0], pair[1]);
        }
        assert_eq!(rank("/a/{x}"), rank("/b/{y}"));
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        assert_eq!(Pattern::parse("a"), Err(PatternError::Path(BadPath::NotAbsolute)));
        assert_eq!(Pattern::parse("/a//b"), Err(PatternError::Path(BadPath::EmptySegment)));
        assert_eq!(Pattern::parse("/a/../{x}"), Err(PatternError::Path(BadPath::DotSegment)));
        assert_eq!(Pattern::parse("/a/x{id}"), Err(PatternError::Partial("x{id}".to_owned())));
        assert_eq!(Pattern::parse("/{}"), Err(PatternError::Name(String::new())));
        assert_eq!(Pattern::parse("/{a}/{a}"), Err(PatternError::Twice("a".to_owned())));
        assert_eq!(Pattern::parse("/{*a}/b"), Err(PatternError::RestNotLast("a".to_owned())));
    }

    #[test]
    fn a_pattern_prints_as_it_was_written() {
        for text in ["/", "/a/{id}/b", "/a/", "/{*rest}"] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
        }
    }
}
