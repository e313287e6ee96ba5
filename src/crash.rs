//! Named instants at which a test can end the process, between a record and what follows from it.
//!
//! `UNANIMOUS_CRASH_AT=after-decided` aborts the first time that point is reached, and
//! `after-decided:3` the third time. Only builds with debug assertions have this; in a release
//! build the function is empty.

/// Ends the process, if a test asked for it here.
#[cfg(debug_assertions)]
pub fn point(edge: Edge, name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("UNANIMOUS_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), times.parse().ok()?))
    });
    let Some((wanted, times)) = wanted else { return };
    let is_here = wanted.strip_prefix(edge.prefix()) == Some(name);
    if is_here && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        std::process::abort();
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_edge: Edge, _name: &str) {}

/// On which side of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It is about to be handed to the log.
    Before,
    /// The log has it, and nothing that follows from it was done.
    After,
}

#[cfg(debug_assertions)]
impl Edge {
    fn prefix(self) -> &'static str {
        match self {
            Self::Before => "before-",
            Self::After => "after-",
        }
    }
}
