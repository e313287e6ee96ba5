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
    let mut reader = Reader { text: text.as_bytes(), left: text.as_bytes(), keys: Vec::new() };
    let read = reader.value(0).and_then(|()| match reader.after_space() {
        None => Ok(()),
        Some(_) => Err(BadText::NotJson),
    });
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    read.map_err(|bad| if is_json() { bad } else { BadText::NotJson })
}

/// The grammar of RFC 8259, one method a rule. Each begins behind the byte that says which rule it is.
struct Reader<'a> {
    text: &'a [u8],
    /// The end of the text that was not read.
    left: &'a [u8],
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
            Some(b't') => self.word(b"rue"),
            Some(b'f') => self.word(b"alse"),
            Some(b'n') => self.word(b"ull"),
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
            expect(next, b'"')?;
            let quote = self.at() - 1;
            self.string()?;
            self.keys.push(said(self.text.get(quote..self.at()).unwrap_or_default()));
            expect(self.after_space(), b':')?;
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
        let first = self.left;
        if self.after_space() == Some(b']') {
            return Ok(());
        }
        self.left = first;
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
            self.skip(|byte| !matches!(byte, b'"' | b'\\' | 0..b' '));
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(_) | None => return Err(BadText::NotJson),
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
            b'1'..=b'9' => {
                self.skip(u8::is_ascii_digit);
            }
            _ => return Err(BadText::NotJson),
        }
        if let [b'.', left @ ..] = self.left {
            self.left = left;
            self.digits()?;
        }
        if let [b'e' | b'E', b'+' | b'-', left @ ..] | [b'e' | b'E', left @ ..] = self.left {
            self.left = left;
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), BadText> {
        if self.skip(u8::is_ascii_digit) > 0 { Ok(()) } else { Err(BadText::NotJson) }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), BadText> {
        self.left = self.left.strip_prefix(rest).ok_or(BadText::NotJson)?;
        Ok(())
    }

    /// How many bytes of this kind come next; they are read.
    fn skip(&mut self, is_such: impl Fn(&u8) -> bool) -> usize {
        let count = self.left.iter().position(|byte| !is_such(byte)).unwrap_or(self.left.len());
        self.left = self.left.get(count..).unwrap_or_default();
        count
    }

    fn at(&self) -> usize {
        self.text.len() - self.left.len()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(*first)
    }

    fn after_space(&mut self) -> Option<u8> {
        loop {
            match self.next() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => {}
                other => return other,
            }
        }
    }
}

fn expect(found: Option<u8>, expected: u8) -> Result<(), BadText> {
    if found == Some(expected) { Ok(()) } else { Err(BadText::NotJson) }
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

    /// Texts that are JSON but for a few letters.
    fn nearly_json() -> impl Strategy<Value = String> {
        let letter = prop::sample::select(r#"{}[]",:\\/u0019.+-eEtrfalsn x"#.chars().collect::<Vec<_>>());
        let letter = prop_oneof![9 => letter, 1 => any::<char>()];
        let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, letter), 0..4);
        let from = prop_oneof![
            json().prop_map(|(text, _)| text),
            "-?[0-9.eE+-]{1,6}",
            r#""(\\\\[u"bx/]|[0-9a-f]|[\x00-\x7f]){0,6}""#
        ];
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
        fn a_key_twice_is_found_wherever_it_is_and_nowhere_else((text, is_twice) in json()) {
            prop_assert_eq!(check(&text), if is_twice { Err(BadText::DuplicateKey) } else { Ok(()) });
        }

        #[test]
        fn what_is_json_is_what_serde_takes_for_it(text in nearly_json()) {
            let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(check(&text) != Err(BadText::NotJson), is_json, "{}", text);
        }
    }
}
