//! Whether an answer can be merged: it is JSON, no object in it has a key twice, and it is not too deep.
//!
//! Of two members with one name, one reader takes the first and another the last (CVE-2022-25757). An answer that is
//! merged is read by the gateway and by the client, and both must see the same. serde says what is JSON, and passes over
//! the rest; what it does not look at is looked at here.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::gateway::inside::{said, string_end};

/// How deep objects and arrays may stand in each other: what most readers of JSON, serde's too, can take.
const DEPTH_MAX: usize = 128;

/// Why a text is not merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadText {
    /// It is no JSON.
    NotJson,
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

/// What is wrong with a text. What is no JSON is that before anything else.
pub(super) fn check(text: &str) -> Result<(), BadText> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => check_json(text.as_bytes()),
        Err(_) => Err(BadText::NotJson),
    }
}

/// Reads a text that is known to be JSON once, in one pass whatever its depth.
fn check_json(text: &[u8]) -> Result<(), BadText> {
    let mut open = Open::default();
    let mut key_follows = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = string_end(text, at + 1);
                if key_follows {
                    open.keys.push(said(text.get(at..end).unwrap_or_default()));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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

    /// A JSON text, and whether an object in it has a key twice.
    fn json() -> impl Strategy<Value = (String, bool)> {
        let leaf = prop_oneof![
            Just("1.10".to_owned()),
            Just("null".to_owned()),
            r#"[ab\\\\"{},:\[\]]{0,4}"#.prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        let key = prop::sample::select(vec![
            ("\"a\"", 'a'),
            ("\"\\u0061\"", 'a'),
            ("\"b\"", 'b'),
            ("\"\\\"\"", '"'),
            ("\"{\"", '{'),
        ]);
        leaf.prop_map(|text| (text, false)).prop_recursive(4, 24, 4, move |inner| {
            let object = prop::collection::vec((key.clone(), inner.clone()), 0..4).prop_map(|members| {
                let names: BTreeSet<_> = members.iter().map(|((_, name), _)| name).collect();
                let is_twice = names.len() < members.len() || members.iter().any(|(_, (_, twice))| *twice);
                let members: Vec<_> =
                    members.iter().map(|((key, _), (value, _))| format!("{key} :{value}")).collect();
                (format!("{{{}}}", members.join(", ")), is_twice)
            });
            let array = prop::collection::vec(inner, 0..4).prop_map(|items| {
                let (items, twice): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (format!("[{}]", items.join(" ,")), twice.contains(&true))
            });
            prop_oneof![object, array]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_key_twice_is_found_wherever_it_is_and_nowhere_else((text, is_twice) in json()) {
            prop_assert_eq!(check(&text), if is_twice { Err(BadText::DuplicateKey) } else { Ok(()) });
        }
    }
}
