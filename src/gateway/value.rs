//! A value that the configuration gives to a header field or a query parameter: text, with `{name}` where a
//! parameter of the route goes. `{{` is one brace.

use super::pattern::{Params, is_name};

/// A value, to be filled from what the route bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(Vec<Piece>);

/// Why a value of the configuration cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` has a brace that is part of no parameter; write `{{name}}` with letters, digits and `_`, and `{{{{` or \
     `}}}}` where a brace is meant"
)]
pub struct ValueError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(String),
}

impl Value {
    /// Reads a value from the configuration.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '{' | '}' if letters.next_if_eq(&letter).is_some() => plain.push(letter),
                '{' => {
                    let mut name = String::new();
                    while let Some(letter) = letters.next_if(|letter| *letter != '}') {
                        name.push(letter);
                    }
                    if letters.next().is_none() || !is_name(&name) {
                        return Err(ValueError(text.to_owned()));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Param(name));
                }
                '}' => return Err(ValueError(text.to_owned())),
                letter => plain.push(letter),
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// The names that have to be bound.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Param(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text, with each parameter as the path has it: percent-encoded, so that none can hold what would end
    /// a header field.
    #[must_use]
    pub fn fill(&self, params: &Params) -> String {
        self.fill_with(params, str::to_owned, str::to_owned)
    }

    /// The text, with what `of_text` and `of_param` make of its pieces.
    pub(super) fn fill_with(
        &self,
        params: &Params,
        of_text: impl Fn(&str) -> String,
        of_param: impl Fn(&str) -> String,
    ) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => of_text(text),
            Piece::Param(name) => of_param(params.get(name).unwrap_or_default()),
        });
        pieces.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::path::CleanPath;
    use crate::gateway::pattern::Pattern;

    fn filled(text: &str) -> Result<String, ValueError> {
        let path = CleanPath::parse("/7/a%2Fb%20c").unwrap();
        let params = Pattern::parse("/{id}/{name}").unwrap().matches(&path).unwrap();
        Value::parse(text).map(|value| value.fill(&params))
    }

    #[test]
    fn a_parameter_goes_in_as_the_path_has_it() {
        assert_eq!(filled("account {id}, {name}.").as_deref(), Ok("account 7, a%2Fb%20c."));
        assert_eq!(filled("").as_deref(), Ok(""));
    }

    #[test]
    fn two_braces_are_one() {
        assert_eq!(filled("{{\"id\":\"{id}\"}}").as_deref(), Ok("{\"id\":\"7\"}"));
        assert_eq!(filled("{{id}}").as_deref(), Ok("{id}"));
    }

    #[test]
    fn a_brace_that_is_part_of_no_parameter_is_refused() {
        for text in ["{", "{id", "}", "id}", "{}", "{a b}", "{{{id", "{id}}", "{id} {id"] {
            assert_eq!(filled(text), Err(ValueError(text.to_owned())));
        }
    }
}
