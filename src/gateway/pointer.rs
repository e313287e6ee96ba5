//! JSON Pointer (RFC 6901) that cuts a part out of a JSON text, byte for byte.
//!
//! The part keeps its exact text: an amount of `1.10` or an id of twenty digits must not pass through
//! a floating-point number on its way to a branch.

use std::fmt;

use super::inside::{inside, named, said};

/// A pointer into a JSON document; the empty one names the whole document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

/// Why a pointer of the configuration is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Neither empty nor beginning with a slash.
    #[error("a JSON Pointer begins with a slash, as in `/to`")]
    NoSlash,
    /// `~` without 0 or 1 after it.
    #[error("in a JSON Pointer `~` is written `~0`, and a slash in a name `~1`")]
    Tilde,
}

impl Pointer {
    /// Reads a pointer from the configuration.
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self { text: String::new(), tokens: Vec::new() });
        }
        let tokens = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        let tokens = tokens.split('/').map(unescape).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The names and numbers on the way, decoded.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The part of `document`, a JSON text, that the pointer names; of members with the same name, the last one.
    #[must_use]
    pub fn cut<'a>(&self, document: &'a str) -> Option<&'a str> {
        self.tokens.iter().try_fold(document.trim_ascii(), |part, token| step(part, token))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn step<'a>(part: &'a str, token: &str) -> Option<&'a str> {
    if part.starts_with('{') {
        let members = inside(part).map(named).filter(|(name, _)| *said(name.as_bytes()) == *token.as_bytes());
        return members.last().map(|(_, value)| value);
    }
    if part.starts_with('[') { inside(part).nth(index(token)?) } else { None }
}

/// `0`, `1`, .. without leading zeros, as RFC 6901 wants it.
pub(super) fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = token.len() > 1 && token.starts_with('0');
    if digits && !leading_zero { token.parse().ok() } else { None }
}

fn unescape(token: &str) -> Result<String, PointerError> {
    let mut name = String::with_capacity(token.len());
    let mut left = token.chars();
    while let Some(letter) = left.next() {
        match letter {
            '~' => name.push(escaped(left.next())?),
            _ => name.push(letter),
        }
    }
    Ok(name)
}

fn escaped(digit: Option<char>) -> Result<char, PointerError> {
    match digit {
        Some('0') => Ok('~'),
        Some('1') => Ok('/'),
        Some(_) | None => Err(PointerError::Tilde),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pointer: &str, document: &str) -> Option<String> {
        Pointer::parse(pointer).unwrap().cut(document).map(str::to_owned)
    }

    #[test]
    fn the_cut_part_keeps_its_exact_text() {
        let document = r#"{"to":{"amount": 1.10,  "id":12345678901234567890}, "x":[1e2, 1E+2]}"#;
        assert_eq!(cut("/to", document).unwrap(), r#"{"amount": 1.10,  "id":12345678901234567890}"#);
        assert_eq!(cut("/to/amount", document).unwrap(), "1.10");
        assert_eq!(cut("/to/id", document).unwrap(), "12345678901234567890");
        assert_eq!(cut("/x/1", document).unwrap(), "1E+2");
        assert_eq!(cut("", "  [1 ,2] ").unwrap(), "[1 ,2]");
    }

    #[test]
    fn the_examples_of_rfc_6901_hold() {
        let document =
            r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let cases = [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ];
        for (pointer, part) in cases {
            assert_eq!(cut(pointer, document).as_deref(), Some(part), "{pointer}");
        }
    }

    #[test]
    fn a_document_that_is_nested_without_end_is_cut_like_any_other() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(cut("/to", &format!("{{\"to\":{deep}}}")), Some(deep));
    }

    #[test]
    fn a_name_that_is_no_text_hides_nothing() {
        let document = r#"{"\ud800":1, "to":2, "\ud800\u0041":3}"#;
        assert_eq!(cut("/to", document).as_deref(), Some("2"));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for pointer in ["/b", "/a/2", "/a/01", "/a/-", "/a/+1", "/a/x", "/a/0/b", "/a/"] {
            assert_eq!(cut(pointer, r#"{"a":[1,2]}"#), None, "{pointer}");
        }
    }

    #[test]
    fn a_pointer_that_is_none_is_refused() {
        assert_eq!(Pointer::parse("to"), Err(PointerError::NoSlash));
        assert_eq!(Pointer::parse("/a~2"), Err(PointerError::Tilde));
        assert_eq!(Pointer::parse("/a~"), Err(PointerError::Tilde));
    }
}
