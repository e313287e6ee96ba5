//! Answers of services as members of a JSON object, each with its exact text.

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Members of a JSON object, written in this order and with the text they have.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Adds a member at the end.
    pub fn push(&mut self, name: impl Into<String>, value: Box<RawValue>) {
        self.0.push((name.into(), value));
    }

    /// The object as text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and JSON texts can always be written")
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A body as a JSON value: JSON as it is, to the letter; anything else as
/// `{"content_type":..,"body":..}` (bytes that are no UTF-8 replaced); nothing as `null`.
#[must_use]
pub fn member(content_type: Option<&str>, body: &[u8]) -> Box<RawValue> {
    if body.is_empty() {
        return RawValue::NULL.to_owned();
    }
    if content_type.is_none_or(is_json)
        && let Ok(value) = serde_json::from_slice::<Box<RawValue>>(body)
    {
        return value;
    }
    wrapped(content_type, body)
}

/// A body that is not JSON, as `{"content_type":..,"body":..}`.
pub(super) fn wrapped(content_type: Option<&str>, body: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(body);
    to_raw_value(&Wrapped { content_type, body: &text }).expect("two strings can always be written")
}

/// A body that is not JSON.
#[derive(Serialize)]
struct Wrapped<'a> {
    content_type: Option<&'a str>,
    body: &'a str,
}

/// Whether a media type says JSON: `application/json`, `application/problem+json`, ..
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content_type: Option<&str>, body: &str) -> String {
        member(content_type, body.as_bytes()).get().to_owned()
    }

    #[test]
    fn json_keeps_its_exact_text() {
        let body = r#"{"sum":1.10, "id":12345678901234567890,"id":1E+2}"#;
        assert_eq!(text(Some("application/json; charset=utf-8"), body), body);
        assert_eq!(text(Some("application/hal+json"), " 1.0 "), "1.0");
        assert_eq!(text(None, "[1]"), "[1]");
    }

    #[test]
    fn anything_else_is_wrapped_with_its_type() {
        assert_eq!(text(Some("text/plain"), "12"), r#"{"content_type":"text/plain","body":"12"}"#);
        assert_eq!(text(None, "hello"), r#"{"content_type":null,"body":"hello"}"#);
        assert_eq!(
            text(Some("application/json"), "{broken"),
            r#"{"content_type":"application/json","body":"{broken"}"#
        );
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(text(Some("application/json"), ""), "null");
    }

    #[test]
    fn members_are_written_in_the_order_they_were_added() {
        let mut members = Members::default();
        members.push("b", member(None, b"1.10"));
        members.push("a", member(None, b"{}"));
        assert_eq!(members.to_json(), br#"{"b":1.10,"a":{}}"#);
    }
}
