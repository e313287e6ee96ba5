//! Values of the configuration as JSON: what stands in for a part, and what a part is asked with.

use serde_json::Value as Json;
use toml::Value;

use crate::gateway::is_name;

/// A piece of a JSON text: as it is, or what stands in braces and is filled in for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hole {
    Text(String),
    Name(String),
}

/// What may stand in the braces of a part's path: a parameter, or the name of a part and a JSON Pointer.
pub(super) fn may_stand(name: &str) -> bool {
    is_name(name)
        || name.split_once('/').is_some_and(|(part, _)| !part.is_empty() && !name.contains(['{', '}']))
}

/// A value as JSON text.
pub(super) fn text(value: &Value) -> Result<String, String> {
    json(value).map(|json| json.to_string())
}

/// The same, where a string that is nothing but a name in braces is a hole.
pub(super) fn with_holes(value: &Value) -> Result<Vec<Hole>, String> {
    let mut holes = Vec::new();
    push(&json(value)?, &mut holes);
    Ok(holes)
}

fn json(value: &Value) -> Result<Json, String> {
    match value {
        Value::String(text) => Ok(Json::from(text.as_str())),
        Value::Integer(number) => Ok(Json::from(*number)),
        Value::Float(number) if number.is_finite() => Ok(Json::from(*number)),
        Value::Float(number) => Err(format!("JSON has no number `{number}`; write another value")),
        Value::Boolean(truth) => Ok(Json::from(*truth)),
        Value::Datetime(time) => Err(format!("JSON has no dates; write \"{time}\", a string")),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Table(members) => {
            let members = members.iter().map(|(name, value)| Ok((name.clone(), json(value)?)));
            members.collect::<Result<_, String>>().map(Json::Object)
        }
    }
}

fn push(value: &Json, holes: &mut Vec<Hole>) {
    match value {
        Json::String(text) => match hole(text) {
            Some(name) => holes.push(Hole::Name(name.to_owned())),
            None => push_text(value.to_string(), holes),
        },
        Json::Null | Json::Bool(_) | Json::Number(_) => push_text(value.to_string(), holes),
        Json::Array(items) => {
            push_text("[".to_owned(), holes);
            for (place, item) in items.iter().enumerate() {
                push_text(if place > 0 { "," } else { "" }.to_owned(), holes);
                push(item, holes);
            }
            push_text("]".to_owned(), holes);
        }
        Json::Object(members) => {
            push_text("{".to_owned(), holes);
            for (place, (name, item)) in members.iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                push_text(format!("{comma}{}:", Json::from(name.as_str())), holes);
                push(item, holes);
            }
            push_text("}".to_owned(), holes);
        }
    }
}

fn push_text(text: String, holes: &mut Vec<Hole>) {
    match holes.last_mut() {
        Some(Hole::Text(before)) => before.push_str(&text),
        Some(Hole::Name(_)) | None => holes.push(Hole::Text(text)),
    }
}

/// The name in braces that a string is, if it is nothing more: a question in GraphQL has braces too.
fn hole(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}').filter(|name| may_stand(name) && !name.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        toml::from_str::<toml::Table>(&format!("v = {text}")).unwrap().remove("v").unwrap()
    }

    #[test]
    fn a_value_of_the_file_becomes_json() {
        let json = text(&value(r#"{ a = [1, 2.5, "x", true], b = {} }"#)).unwrap();
        assert_eq!(json, r#"{"a":[1,2.5,"x",true],"b":{}}"#);
        assert!(text(&value("nan")).unwrap_err().contains("JSON has no number"));
        assert!(
            text(&value("[1979-05-27]")).unwrap_err().contains("JSON has no dates; write \"1979-05-27\"")
        );
    }

    #[test]
    fn a_string_that_is_a_name_in_braces_is_a_hole_and_any_other_is_text() {
        let holes =
            with_holes(&value(r#"{ a = "{id}", b = ["{account/ids/0}", "{ user { name } }", "x{id}"] }"#));
        let text = |text: &str| Hole::Text(text.to_owned());
        let name = |name: &str| Hole::Name(name.to_owned());
        assert_eq!(
            holes.unwrap(),
            [
                text("{\"a\":"),
                name("id"),
                text(",\"b\":["),
                name("account/ids/0"),
                text(",\"{ user { name } }\",\"x{id}\"]}")
            ]
        );
    }
}
