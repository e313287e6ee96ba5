//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header).
//!
//! The draft makes it a structured-field string, in quotes. Most clients send it bare, so a bare
//! token is taken too, and means the same. Anything else is refused rather than guessed at: a key
//! that two parties read differently is worse than none.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::plan::ClientKey;

/// The longest key that is taken, in bytes: room for several UUIDs.
pub const KEY_MAX: usize = 255;

/// Why a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// More than one header.
    #[error("there is more than one Idempotency-Key; send one")]
    Several,
    /// Empty.
    #[error("the Idempotency-Key is empty; leave the header out or send a key")]
    Empty,
    /// Too long.
    #[error("the Idempotency-Key has more than {KEY_MAX} bytes")]
    TooLong,
    /// Neither a quoted string nor a bare token.
    #[error("the Idempotency-Key is neither a string in quotes nor letters, digits and -._~:/+=@ without")]
    Malformed,
}

/// The key of a request; `None` where the client sent none.
pub fn of(headers: &HeaderMap) -> Result<Option<String>, BadKey> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BadKey::Several);
    }
    let text = value.to_str().map_err(|_| BadKey::Malformed)?.trim();
    parse(text).map(Some)
}

/// The key, and what it stands for.
#[must_use]
pub fn standing_for(key: String, asked: &Asked<'_>) -> ClientKey {
    ClientKey { key, fingerprint: fingerprint(asked) }
}

/// The request that a key stands for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// The path that was matched.
    pub path: &'a str,
    /// The query as it came.
    pub query: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// The key in a header's value.
pub fn parse(text: &str) -> Result<String, BadKey> {
    let key = match text.strip_prefix('"') {
        Some(rest) => unquote(rest)?,
        // A colon in front begins a byte sequence (RFC 9651, 3.3.5), which has another meaning.
        None if text.bytes().all(is_bare) && !text.starts_with(':') => text.to_owned(),
        None => return Err(BadKey::Malformed),
    };
    match key.len() {
        0 => Err(BadKey::Empty),
        1..=KEY_MAX => Ok(key),
        _ => Err(BadKey::TooLong),
    }
}

/// The rest of a structured-field string (RFC 9651, 3.3.3) after its first quote.
fn unquote(text: &str) -> Result<String, BadKey> {
    let mut key = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return if letters.next().is_none() { Ok(key) } else { Err(BadKey::Malformed) },
            '\\' => match letters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                Some(_) | None => return Err(BadKey::Malformed),
            },
            ' '..='~' => key.push(letter),
            _ => return Err(BadKey::Malformed),
        }
    }
    Err(BadKey::Malformed)
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(&byte)
}

/// SHA-256 of method, path, query and body, each with its length so that none runs into the next.
fn fingerprint(asked: &Asked<'_>) -> [u8; 32] {
    let (method, query) = (asked.method.as_str(), asked.query.unwrap_or_default());
    let parts = [method.as_bytes(), asked.path.as_bytes(), query.as_bytes(), asked.body];
    let digest = parts.iter().fold(Sha256::new(), |digest, part| {
        digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
    });
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_quoted_or_bare_and_means_the_same() {
        assert_eq!(parse("\"8e03978e-40d5\""), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(parse("8e03978e-40d5"), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(parse(r#""a \"b\" \\""#), Ok(r#"a "b" \"#.to_owned()));
    }

    #[test]
    fn other_kinds_of_values_are_refused() {
        for text in
            ["\"a", "\"a\"b", "\"a\";x=1", "\"a\", \"b\"", "a, b", ":YQ==:", "a;b", "\"\\x\"", "a\u{e9}"]
        {
            assert_eq!(parse(text), Err(BadKey::Malformed), "{text}");
        }
        assert_eq!(parse("\"\""), Err(BadKey::Empty));
        assert_eq!(parse(&"k".repeat(256)), Err(BadKey::TooLong));
    }

    #[test]
    fn a_fingerprint_tells_requests_apart() {
        let asked = Asked { method: &http::Method::POST, path: "/a", query: Some("b"), body: b"c" };
        let moved = Asked { path: "/ab", query: Some(""), ..asked };
        assert_ne!(fingerprint(&asked), fingerprint(&moved));
        assert_eq!(fingerprint(&asked), fingerprint(&asked.clone()));
    }
}
