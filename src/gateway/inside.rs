//! Looking into a JSON text without making values of it: every piece is the text that came. The text is known to be JSON;
//! of any other the pieces mean nothing.

use std::borrow::Cow;

use bytes::Bytes;

/// What stands directly in an object or an array.
pub(super) fn inside(text: &str) -> impl Iterator<Item = &str> {
    let mut left = text.get(1..text.len().saturating_sub(1)).unwrap_or_default().trim_ascii();
    std::iter::from_fn(move || {
        let (element, rest) = left.split_at_checked(element_end(left.as_bytes())).unwrap_or((left, ""));
        left = rest.strip_prefix(',').unwrap_or_default();
        Some(element.trim_ascii()).filter(|element| !element.is_empty())
    })
}

/// The name of what stands in an object, in its quotes, and its value.
pub(super) fn named(element: &str) -> (&str, &str) {
    let end = string_end(element.as_bytes(), 1);
    let (name, value) = element.split_at_checked(end).unwrap_or((element, ""));
    (name, value.trim_ascii_start().strip_prefix(':').unwrap_or_default().trim_ascii_start())
}

/// What a string in its quotes says: `"a"` and `"\u0061"` are one name. As bytes, because one that is no text, a lone
/// surrogate, is a name too.
pub(super) fn said(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_slice::<Bytes>(quoted).map_or(Cow::Borrowed(inner), |plain| Cow::Owned(plain.into()))
}

/// The comma behind the first element, or the end.
fn element_end(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at + 1);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Just behind the quote that ends the string whose first character is at `at`.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b'"') | None => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_text_that_came() {
        let elements = |text| inside(text).collect::<Vec<_>>();
        assert_eq!(
            elements(" [ 1.10 ,[2,3], \"a,]\\\"\" ,{\"b\":[ ]} ] ".trim()),
            ["1.10", "[2,3]", "\"a,]\\\"\"", "{\"b\":[ ]}"]
        );
        assert_eq!(elements("[ ]"), [""; 0]);
        assert_eq!(elements("{}"), [""; 0]);
        let members: Vec<_> = inside("{\"a\" : 1E+2, \"b:\\\"\":{\"c\":[4,5]} }").map(named).collect();
        assert_eq!(members, [("\"a\"", "1E+2"), ("\"b:\\\"\"", "{\"c\":[4,5]}")]);
    }

    #[test]
    fn a_name_is_what_it_says_however_it_is_written() {
        assert_eq!(said(br#""a\u0062""#).as_ref(), b"ab");
        assert_eq!(said(br#""""#).as_ref(), b"");
        assert_eq!(said(br#""\ud800""#), said(br#""\uD800""#));
    }
}
