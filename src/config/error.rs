//! What is said of a configuration that cannot be used: where, what, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used. The command line answers with exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What the file and the environment say is wrong; at least one mistake, in the order of the file.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// What is wrong and what to do, as a sentence.
    pub message: String,
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File {
        /// The file as it was named.
        name: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In a variable of the environment.
    Variable(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
