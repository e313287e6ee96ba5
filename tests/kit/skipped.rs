//! A word that a test has tested nothing.

use std::fs::OpenOptions;
use std::io::{Write, stderr};

/// What was skipped, for `.ci/run`, which says so at its end.
const LIST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../skipped.txt");

/// Says so past the capture of the test harness, which would hide it.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let said = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = stderr().write_all(format!("SKIPPED: {said}").as_bytes());
    let list = OpenOptions::new().create(true).append(true).open(LIST);
    let _ = list.and_then(|mut list| list.write_all(said.as_bytes()));
}
