//! Where things stand: byte positions of the text turned into lines, columns and variables.

use std::ops::Range;

use super::env::Variable;
use super::error::Place;

/// The text of the file, and the variables that were put into its tree.
///
/// A value from variable number `n` is given the position `text.len() + 1 + n`, just behind the text, so
/// that one kind of position serves for both.
#[derive(Debug)]
pub(super) struct Source<'a> {
    name: &'a str,
    text: &'a str,
    variables: &'a [Variable],
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str, variables: &'a [Variable]) -> Self {
        Self { name, text, variables }
    }

    /// The position of what variable number `n` says.
    pub(super) fn of_variable(&self, n: usize) -> Range<usize> {
        let start = self.text.len() + 1 + n;
        start..start + 1
    }

    /// The place of what begins at byte `at`.
    pub(super) fn place(&self, at: usize) -> Place {
        let variable = at.checked_sub(self.text.len() + 1).and_then(|n| self.variables.get(n));
        if let Some(variable) = variable {
            return Place::Variable(variable.name().to_owned());
        }
        let (line, column) = self.line_and_column(at);
        Place::File { name: self.name.to_owned(), line, column }
    }

    /// How a message speaks of another place.
    pub(super) fn mention(&self, at: usize) -> String {
        match self.place(at) {
            Place::File { line, .. } => format!("line {line}"),
            Place::Variable(name) => name,
        }
    }

    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, at: usize) -> (usize, usize) {
        Source::new("f", text, &[]).line_and_column(at)
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("ab\ncd", 1), (1, 2));
        assert_eq!(place("ab\ncd", 3), (2, 1));
        assert_eq!(place("\u{e9}\u{e9}x", 4), (1, 3));
        assert_eq!(place("ab\n", 99), (2, 1));
    }
}
