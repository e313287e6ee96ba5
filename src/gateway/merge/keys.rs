//! What serde does not refuse in a JSON text that it only passes over: a key that an object has twice, and depth.
//!
//! Of two members with one name, one reader takes the first and another the last (CVE-2022-25757). An answer that is
//! merged is read by the gateway and by the client, and both must see the same.

use std::borrow::Cow;

use bytes::Bytes;

/// How deep objects and arrays may stand in each other: what most readers of JSON, serde's too, can take.
const DEPTH_MAX: usize = 128;

/// Why a JSON text is not merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadText {
    /// An object has two members with one name.
    DuplicateKey,
    /// Objects and arrays stand too deep in each other.
    TooDeep,
}

/// The keys of the objects that are open where the reading is.
#[derive(Default)]
struct Open<'a> {
    keys: Vec<Cow<'a, [u8]>>,
    /// For each open object where its keys begin; `None` for an array.
    begins: Vec<Option<usize>>,
}

/// Reads a text that is known to be JSON once, in one pass whatever its depth.
pub(super) fn check(text: &str) -> Result<(), BadText> {
    let bytes = text.as_bytes();
    let mut open = Open::default();
    let mut key_follows = false;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at + 1);
                if key_follows {
                    open.keys.push(name(bytes.get(at..end).unwrap_or_default()));
                }
                key_follows = false;
                at = end;
                continue;
            }
            b'{' => {
                open.begin(true)?;
                key_follows = true;
            }
            b'[' => {
                open.begin(false)?;
                key_follows = false;
            }
            b'}' | b']' => open.end()?,
            b',' => key_follows = open.in_object(),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

impl Open<'_> {
    fn begin(&mut self, is_object: bool) -> Result<(), BadText> {
        self.begins.push(is_object.then_some(self.keys.len()));
        if self.begins.len() > DEPTH_MAX { Err(BadText::TooDeep) } else { Ok(()) }
    }

    /// Sorted and compared with their neighbours, so that no choice of keys makes it slow.
    fn end(&mut self) -> Result<(), BadText> {
        let Some(Some(begin)) = self.begins.pop() else { return Ok(()) };
        let own = self.keys.get_mut(begin..).unwrap_or_default();
        own.sort_unstable();
        let twice = own.iter().zip(own.iter().skip(1)).any(|(one, next)| one == next);
        self.keys.truncate(begin);
        if twice { Err(BadText::DuplicateKey) } else { Ok(()) }
    }

    fn in_object(&self) -> bool {
        matches!(self.begins.last(), Some(Some(_)))
    }
}

/// Just behind the quote that ends the string whose first character is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b'"') | None => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// What a string in its quotes says: `"a"` and `"\u0061"` are one name. As bytes, because one that is no text, a lone
/// surrogate, is a name too.
pub(super) fn name(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_slice::<Bytes>(quoted).map_or(Cow::Borrowed(inner), |plain| Cow::Owned(plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_key_twice_in_one_object_is_found_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"b":[{"a":1, "c":{} , "a":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"x":{"k":1,"l":2,"k":3}}]"#,
            r#"{"\"":1,"\u0022":2}"#,
            r#"{"\ud800":1,"\uD800":2}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(check(text), Err(BadText::DuplicateKey), "{text}");
        }
    }

    #[test]
    fn the_same_key_in_two_objects_and_the_same_string_as_a_value_are_fine() {
        for text in [
            r#"{"a":{"a":{"a":"a"}},"b":{"a":"a"}}"#,
            r#"[{"a":1},{"a":1},"a","a"]"#,
            r#"{"a":["b","b",{"b":"b"}],"b":"b"}"#,
            r#"{"a":"{\"x\":1,\"x\":2}","A":"\\"}"#,
            "1.10",
            "\"\"",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&deep(128)), Ok(()));
        assert_eq!(check(&deep(129)), Err(BadText::TooDeep));
    }

    /// The same by another way: level by level, with serde.
    fn has_twice(text: &str) -> bool {
        if text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
            return items.iter().any(|item| has_twice(item.get()));
        }
        if !text.starts_with('{') {
            return false;
        }
        let members: BTreeMap<Bytes, &RawValue> = serde_json::from_str(text).unwrap();
        let count = text_members(text);
        members.len() < count || members.values().any(|value| has_twice(value.get()))
    }

    fn text_members(text: &str) -> usize {
        struct Count;
        impl<'de> serde::de::Visitor<'de> for Count {
            type Value = usize;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
                let mut count = 0;
                while map.next_entry::<&RawValue, &RawValue>()?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
        }
        serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(text), Count).unwrap()
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1.10".to_owned()),
            Just("null".to_owned()),
            r#"[ab\\\\"{},:\[\]]{0,4}"#.prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        let key =
            prop_oneof![Just("\"a\""), Just("\"\\u0061\""), Just("\"b\""), Just("\"\\\"\""), Just("\"{\"")];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let object = prop::collection::vec((key.clone(), inner.clone()), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key} :{value}")).collect();
                format!("{{{}}}", members.join(", "))
            });
            let array =
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,")));
            prop_oneof![object, array]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_reader_of_each_level_finds(text in json()) {
            prop_assert_eq!(check(&text).is_err(), has_twice(&text));
        }
    }
}
