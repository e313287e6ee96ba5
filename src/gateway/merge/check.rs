//! Whether an answer can be merged: it is JSON, no object in it has a key twice, and it is not too deep.
//!
//! Of two members with one name, one reader takes the first and another the last (CVE-2022-25757). An answer that is
//! merged is read by the gateway and by the client, and both must see the same. serde makes values of a text, which costs
//! numbers their digits, or passes over it without a look at its keys; here it is read once, and nothing is made of it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::gateway::inside::said;

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

/// Reads a text to its end, or says what is wrong with it. What is no JSON is that before anything else.
pub(super) fn check(text: &str) -> Result<(), BadText> {
    let mut reader = Reader { text, at: 0, keys: Vec::new() };
    let read = reader.value(0).and_then(|()| match reader.after_space() {
        None => Ok(()),
        Some(_) => Err(BadText::NotJson),
    });
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    read.map_err(|bad| if is_json() { bad } else { BadText::NotJson })
}

/// The grammar of RFC 8259, one method a rule.
struct Reader<'a> {
    text: &'a str,
    /// What comes next.
    at: usize,
    /// The keys so far of the objects that are open.
    keys: Vec<Cow<'a, [u8]>>,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<(), BadText> {
        match self.after_space() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(BadText::TooDeep),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string(),
            Some(b't') => self.word("rue"),
            Some(b'f') => self.word("alse"),
            Some(b'n') => self.word("ull"),
            Some(b'-') => self.next().map_or(Err(BadText::NotJson), |digit| self.number(digit)),
            Some(digit) => self.number(digit),
            None => Err(BadText::NotJson),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), BadText> {
        let begin = self.keys.len();
        let mut next = self.after_space();
        if next == Some(b'}') {
            return Ok(());
        }
        loop {
            let quote = self.at.saturating_sub(1);
            expect(next, b'"')?;
            self.string()?;
            self.keys.push(said(self.text.get(quote..self.at).unwrap_or_default()));
            let colon = self.after_space();
            expect(colon, b':')?;
            self.value(depth)?;
            match self.after_space() {
                Some(b',') => next = self.after_space(),
                Some(b'}') => return self.end(begin),
                Some(_) | None => return Err(BadText::NotJson),
            }
        }
    }

    /// The end of an object. Its keys are sorted and compared with their neighbours, so that no choice of keys makes it slow.
    fn end(&mut self, begin: usize) -> Result<(), BadText> {
        let own = self.keys.get_mut(begin..).unwrap_or_default();
        own.sort_unstable();
        let twice = own.iter().zip(own.iter().skip(1)).any(|(one, next)| one == next);
        self.keys.truncate(begin);
        if twice { Err(BadText::DuplicateKey) } else { Ok(()) }
    }

    fn array(&mut self, depth: usize) -> Result<(), BadText> {
        let begin = self.at;
        if self.after_space() == Some(b']') {
            return Ok(());
        }
        self.at = begin;
        loop {
            self.value(depth)?;
            match self.after_space() {
                Some(b',') => {}
                Some(b']') => return Ok(()),
                Some(_) | None => return Err(BadText::NotJson),
            }
        }
    }

    fn string(&mut self) -> Result<(), BadText> {
        loop {
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(0..b' ') | None => return Err(BadText::NotJson),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), BadText> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') if (0..4).all(|_| self.next().is_some_and(|digit| digit.is_ascii_hexdigit())) => {
                Ok(())
            }
            Some(_) | None => Err(BadText::NotJson),
        }
    }

    /// A number without its sign, of which `first` was read.
    fn number(&mut self, first: u8) -> Result<(), BadText> {
        match first {
            b'0' => {}
            b'1'..=b'9' => while self.takes(|byte| byte.is_ascii_digit()) {},
            _ => return Err(BadText::NotJson),
        }
        if self.takes(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.takes(|byte| matches!(byte, b'e' | b'E')) {
            self.takes(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), BadText> {
        let begin = self.at;
        while self.takes(|byte| byte.is_ascii_digit()) {}
        if self.at > begin { Ok(()) } else { Err(BadText::NotJson) }
    }

    fn word(&mut self, rest: &str) -> Result<(), BadText> {
        let is_it = self.text.get(self.at..).is_some_and(|text| text.starts_with(rest));
        self.at += rest.len();
        if is_it { Ok(()) } else { Err(BadText::NotJson) }
    }

    /// Whether such a byte comes next; then it is read.
    fn takes(&mut self, is_such: impl Fn(u8) -> bool) -> bool {
        let is_there = self.text.as_bytes().get(self.at).is_some_and(|byte| is_such(*byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        byte
    }

    fn after_space(&mut self) -> Option<u8> {
        while self.takes(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {}
        self.next()
    }
}

fn expect(found: Option<u8>, expected: u8) -> Result<(), BadText> {
    if found == Some(expected) { Ok(()) } else { Err(BadText::NotJson) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
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

    /// Texts that are JSON but for a few letters.
    fn nearly_json() -> impl Strategy<Value = String> {
        let letter = prop::sample::select(r#"{}[]",:\\/u0019.+-eEtrfalsn x"#.chars().collect::<Vec<_>>());
        let letter = prop_oneof![9 => letter, 1 => any::<char>()];
        let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, letter), 0..4);
        let from = prop_oneof![json(), "-?[0-9.eE+-]{1,6}", r#""(\\\\[u"bx/]|[0-9a-f]|[\x00-\x7f]){0,6}""#];
        (from, changes).prop_map(|(text, changes)| {
            let mut letters: Vec<char> = text.chars().collect();
            for (place, change, letter) in changes {
                let place = place.index(letters.len() + 1);
                let removed = usize::from(change > 0 && place < letters.len());
                letters.splice(place..place + removed, (change < 2).then_some(letter));
            }
            letters.into_iter().collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_found_is_what_a_reader_of_each_level_finds(text in json()) {
            prop_assert_eq!(check(&text).is_err(), has_twice(&text));
        }

        #[test]
        fn what_is_json_is_what_serde_takes_for_it(text in nearly_json()) {
            let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(check(&text) != Err(BadText::NotJson), is_json, "{}", text);
        }
    }
}
