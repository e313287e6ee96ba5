//! What happened in a run, for people: written down only when somebody is going to read it.

use std::fmt;

/// The lines of a run.
#[derive(Debug, Default)]
pub struct History {
    lines: Option<Vec<String>>,
}

impl History {
    /// One that remembers, or one that does not and costs nothing.
    pub fn new(is_wanted: bool) -> Self {
        Self { lines: is_wanted.then(Vec::new) }
    }

    pub fn note(&mut self, at_ms: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!(
                "{:>9.3}s  {}",
                std::time::Duration::from_millis(at_ms).as_secs_f64(),
                line()
            ));
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().flatten().try_for_each(|line| writeln!(f, "{line}"))
    }
}
