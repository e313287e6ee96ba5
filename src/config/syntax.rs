//! Turns what the TOML reader says into what an operator can act on.

use super::findings::{Findings, nearest};

/// The value, or `None` with the reader's error noted.
pub(super) fn keep<T>(result: Result<T, toml::de::Error>, findings: &mut Findings<'_>) -> Option<T> {
    result
        .map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            findings.add(&at, sentence(error.message()));
        })
        .ok()
}

/// Serde has its errors as text only, so the text is what we can read.
fn sentence(message: &str) -> String {
    let message = message.trim_end();
    unknown(message, "unknown field ", "key")
        .or_else(|| unknown(message, "unknown variant ", "value"))
        .or_else(|| wrong_type(message))
        .or_else(|| missing(message))
        .unwrap_or_else(|| message.to_owned())
}

/// ``unknown field `a`, expected one of `b`, `c` ``: names the nearest of those that are known.
fn unknown(message: &str, prefix: &str, what: &str) -> Option<String> {
    let mut names = message.strip_prefix(prefix)?.split('`').skip(1).step_by(2);
    let name = names.next()?;
    let known: Vec<_> = names.collect();
    let list = known.join(", ");
    let Some(nearest) = nearest(name, known) else {
        return Some(format!("unknown {what} `{name}`; there is none here"));
    };
    Some(format!("unknown {what} `{name}`; did you mean `{nearest}`? Known here: {list}"))
}

/// `invalid type: integer `1`, expected a string`.
fn wrong_type(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.split_once(", expected ")?;
    Some(format!("wrong type: this is {}, but {} belongs here", article(found), article(expected)))
}

fn missing(message: &str) -> Option<String> {
    let name = message.strip_prefix("missing field ")?;
    Some(format!("the key {name} is missing here; add it"))
}

/// Serde's names of types, as one would say them.
fn article(name: &str) -> String {
    let plain = match name {
        "usize" | "u64" | "u32" | "u16" => "a number that is not negative",
        "i32" | "i64" => "a whole number",
        "map" => "a table",
        "sequence" | "a sequence" => "a list",
        "a boolean" => "true or false",
        _ if name.starts_with("struct ") || name.contains("File") => "a table",
        _ if name.starts_with(['a', 'e', 'i', 'o', 'u']) && !name.starts_with("a ") => {
            return format!("an {name}");
        }
        _ if name.starts_with("a ") => name,
        _ => return format!("a {name}"),
    };
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_comes_with_the_nearest_known_one() {
        assert_eq!(
            sentence("unknown field `liste`, expected one of `data_dir`, `listen`"),
            "unknown key `liste`; did you mean `listen`? Known here: data_dir, listen"
        );
        assert_eq!(
            sentence("unknown variant `x`, expected `envelope` or `request`"),
            "unknown value `x`; did you mean `request`? Known here: envelope, request"
        );
    }

    #[test]
    fn types_are_said_as_people_say_them() {
        assert_eq!(
            sentence("invalid type: integer `1`, expected a string"),
            "wrong type: this is an integer `1`, but a string belongs here"
        );
        assert_eq!(
            sentence("invalid value: integer `-1`, expected u64"),
            "wrong type: this is an integer `-1`, but a number that is not negative belongs here"
        );
        assert_eq!(
            sentence("invalid type: string \"x\", expected struct NodeFile"),
            "wrong type: this is a string \"x\", but a table belongs here"
        );
    }
}
