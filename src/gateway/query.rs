//! The parameters of a query, as far as routing looks at them.

use std::borrow::Cow;

use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};

/// Whether `query` has the parameter `name` exactly once, with exactly the value `expected`. More than
/// once is no match: the gateway and a backend could each believe another one.
pub(super) fn has_once(query: &str, name: &str, expected: &str) -> bool {
    let mut values = pairs(query).filter(|(known, _)| known == name).map(|(_, value)| value);
    values.next().is_some_and(|value| value == expected) && values.next().is_none()
}

/// The values that the parameter `name` has, decoded.
pub(super) fn values(query: &str, name: &str) -> Vec<String> {
    pairs(query).filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect()
}

/// The parameters of `query` whose names are none of `names`, each as it is written.
pub(super) fn without<'a>(query: &'a str, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter(|pair| !names.contains(&&*decode(pair.split('=').next().unwrap_or_default())))
}

/// The query as a request line can have it: bytes above ASCII are encoded (RFC 3986, 2.1), as those of the path are.
pub(super) fn in_ascii(query: String) -> String {
    if query.is_ascii() { query } else { utf8_percent_encode(&query, CONTROLS).to_string() }
}

/// Names and values, decoded as HTML forms encode them (`+` is a space).
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_matches_decoded() {
        assert!(has_once("a=1&full=1", "full", "1"));
        assert!(has_once("f%75ll=a+b%2B", "full", "a b+"));
        assert!(has_once("full", "full", ""));
        assert!(!has_once("full=2", "full", "1"));
        assert!(!has_once("", "full", "1"));
    }

    #[test]
    fn a_parameter_given_twice_matches_nothing() {
        assert!(!has_once("full=1&full=1", "full", "1"));
        assert!(!has_once("full=1&full=2", "full", "1"));
    }
}
