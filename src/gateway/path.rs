//! The path of a request, put into one normal form before anything looks at it.
//!
//! Routing and sending must see the same path: a gateway that matches `/public/..%2e/admin` as one
//! thing and sends it as another can be walked around. So a path is normalised once, at the edge;
//! what could mean two things is refused; and what is sent is the very text that was matched.
//!
//! Normal form (RFC 3986, section 6.2.2): every byte that is not a `pchar` is percent-encoded, hex
//! digits are upper case, unreserved characters are never encoded. `%2F` stays as it is: it is part of
//! a segment, not the end of one.

use std::fmt::{self, Write as _};

/// A path in normal form: begins with `/`, has no dot segment, and no empty one but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanPath(String);

/// Why a path is refused. Each of these is read differently by different servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not a path from the root: empty, `*`, or without the first slash.
    #[error("the path has to begin with a slash")]
    NotAbsolute,
    /// `//` inside the path, which many servers read as `/`.
    #[error("the path has an empty segment (two slashes in a row)")]
    EmptySegment,
    /// `.` or `..`, plain, encoded, or hidden before `;` or beside `%2F`.
    #[error("the path has a dot segment (`.` or `..`)")]
    DotSegment,
    /// `\` or `%5C`, which some servers read as `/`.
    #[error("the path has a backslash")]
    Backslash,
    /// NUL, a control character or DEL, plain or encoded.
    #[error("the path has a control character")]
    Control,
    /// `#` or `?`, which would end the path in the middle.
    #[error("the path has a `#` or `?` inside; write them as %23 and %3F")]
    Delimiter,
    /// A `%` without two hex digits after it.
    #[error("the path has a `%` that is not followed by two hex digits")]
    Encoding,
    /// A parameter that goes into a JSON body, where only text can stand.
    #[error("the path has a parameter that is not text in UTF-8")]
    NoText,
}

impl CleanPath {
    /// Puts `raw`, a path without its query, into normal form.
    pub fn parse(raw: &str) -> Result<Self, BadPath> {
        let segments = raw.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let mut clean = String::with_capacity(raw.len());
        let mut ended = false;
        for segment in segments.split('/') {
            if ended {
                return Err(BadPath::EmptySegment);
            }
            ended = segment.is_empty();
            clean.push('/');
            push_segment(&mut clean, segment)?;
        }
        Ok(Self(clean))
    }

    /// The path as it is matched and sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first slash: the segments, with slashes between them.
    pub(super) fn segments(&self) -> &str {
        self.0.strip_prefix('/').unwrap_or_default()
    }
}

impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn push_segment(clean: &mut String, segment: &str) -> Result<(), BadPath> {
    let start = clean.len();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => push_encoded(clean, decode(bytes.next(), bytes.next())?)?,
            b'#' | b'?' => return Err(BadPath::Delimiter),
            _ => push_raw(clean, byte)?,
        }
    }
    let dots = clean.get(start..).is_some_and(has_dot_segment);
    if dots { Err(BadPath::DotSegment) } else { Ok(()) }
}

/// A byte that came as it is.
fn push_raw(clean: &mut String, byte: u8) -> Result<(), BadPath> {
    refuse(byte)?;
    if is_pchar(byte) {
        clean.push(char::from(byte));
    } else {
        push_hex(clean, byte);
    }
    Ok(())
}

/// A byte that came percent-encoded: only what is unreserved may lose its encoding, because only there
/// do both forms mean the same.
fn push_encoded(clean: &mut String, byte: u8) -> Result<(), BadPath> {
    refuse(byte)?;
    push_reserved(clean, byte);
    Ok(())
}

/// Bytes as one segment of a path, or one name or value of a query: all that could mean something there is encoded.
pub(super) fn encoded(bytes: impl Iterator<Item = u8>) -> String {
    let mut text = String::with_capacity(bytes.size_hint().0);
    bytes.for_each(|byte| push_reserved(&mut text, byte));
    text
}

fn push_reserved(text: &mut String, byte: u8) {
    if is_unreserved(byte) { text.push(char::from(byte)) } else { push_hex(text, byte) }
}

fn refuse(byte: u8) -> Result<(), BadPath> {
    match byte {
        b'\\' => Err(BadPath::Backslash),
        _ if byte.is_ascii_control() => Err(BadPath::Control),
        _ => Ok(()),
    }
}

pub(super) fn push_hex(text: &mut String, byte: u8) {
    write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
}

fn decode(high: Option<u8>, low: Option<u8>) -> Result<u8, BadPath> {
    let digit = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16);
    let (high, low) = digit(high).zip(digit(low)).ok_or(BadPath::Encoding)?;
    u8::try_from(high * 16 + low).map_err(|_| BadPath::Encoding)
}

/// Whether a server that decodes `%2F` first, or drops `;parameters`, would see `.` or `..` here.
fn has_dot_segment(segment: &str) -> bool {
    let is_dots = |piece: &str| {
        let name = piece.split(';').next().unwrap_or_default();
        matches!(name.split("%3B").next(), Some("." | ".."))
    };
    segment.split("%2F").any(is_dots)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> String {
        CleanPath::parse(raw).unwrap().to_string()
    }

    fn refused(raw: &str) -> BadPath {
        CleanPath::parse(raw).unwrap_err()
    }

    #[test]
    fn a_plain_path_stays_as_it_is() {
        for path in ["/", "/a", "/a/", "/a/b.c/~d", "/a;v=1/b@c:d", "/(x)/!$&'*+,="] {
            assert_eq!(clean(path), path);
        }
    }

    #[test]
    fn unreserved_characters_lose_their_encoding_and_all_else_gains_one() {
        assert_eq!(clean("/%61%7e/b"), "/a~/b");
        assert_eq!(clean("/a\"b<c>{d}|e^f`"), "/a%22b%3Cc%3E%7Bd%7D%7Ce%5Ef%60");
        assert_eq!(clean("/caf\u{e9}"), "/caf%C3%A9");
    }

    #[test]
    fn an_encoded_slash_stays_inside_its_segment() {
        assert_eq!(clean("/a%2fb/c%3Fd%23e"), "/a%2Fb/c%3Fd%23e");
    }

    #[test]
    fn dot_segments_are_refused_in_every_disguise() {
        for path in [
            "/.",
            "/..",
            "/a/../b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/..;x=1/b",
            "/a%2F..%2Fb",
            "/..%2f",
            "/a/..%3bx/b",
        ] {
            assert_eq!(refused(path), BadPath::DotSegment, "{path}");
        }
        assert_eq!(clean("/a/.../.b/..c"), "/a/.../.b/..c");
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        assert_eq!(refused("/a\\b"), BadPath::Backslash);
        assert_eq!(refused("/a%5cb"), BadPath::Backslash);
        assert_eq!(refused("/a%00"), BadPath::Control);
        assert_eq!(refused("/a%0d%0aHost:x"), BadPath::Control);
        assert_eq!(refused("/a\u{7f}"), BadPath::Control);
        assert_eq!(refused("/a#b"), BadPath::Delimiter);
        assert_eq!(refused("/a?b"), BadPath::Delimiter);
        assert_eq!(refused("//a"), BadPath::EmptySegment);
        assert_eq!(refused("/a//b"), BadPath::EmptySegment);
        assert_eq!(refused("//"), BadPath::EmptySegment);
    }

    #[test]
    fn broken_percent_encoding_is_refused() {
        for path in ["/%", "/a%2", "/%zz", "/%+1", "/%2/a"] {
            assert_eq!(refused(path), BadPath::Encoding, "{path}");
        }
    }

    #[test]
    fn a_path_that_does_not_begin_at_the_root_is_refused() {
        for path in ["", "*", "a/b", "%2Fa"] {
            assert_eq!(refused(path), BadPath::NotAbsolute, "{path}");
        }
    }
}
