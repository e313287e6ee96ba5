//! The rules of this repository that no compiler knows: layers, front pages, lengths, and words that stand for
//! something undone.
//!
//! Each rule is one test. Where it fails it names every place and says what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers: a module of `src/` may use modules of a lower rank only. `docs/ARCHITECTURE.md` has the same table.
const RANKS: [(&str, u8); 19] = [
    ("clock", 0),
    ("budget", 0),
    ("crash", 0),
    ("watched", 0),
    ("clients", 0),
    ("trace", 1),
    ("discovery", 1),
    ("txn", 1),
    ("balance", 1),
    ("plan", 2),
    ("journal", 3),
    ("participant", 3),
    ("coordinator", 4),
    ("recovery", 5),
    ("gateway", 5),
    ("server", 6),
    ("config", 7),
    ("telemetry", 7),
    ("cli", 8),
];

/// Crates that a layer must not see, because what they do is another layer's affair.
const UNSEEN: [(&str, &[&str]); 10] = [
    ("balance", &["tokio", "fastrand", "unanimous_wal", "tracing", "reqwest", "axum"]),
    ("txn", &["tokio", "fastrand", "unanimous_wal", "tracing", "reqwest", "axum"]),
    ("plan", &["tokio", "unanimous_wal", "tracing", "reqwest", "axum"]),
    ("journal", &["reqwest", "axum"]),
    ("participant", &["axum"]),
    ("coordinator", &["reqwest", "axum"]),
    ("recovery", &["reqwest", "axum"]),
    ("gateway", &["unanimous_wal"]),
    ("server", &["unanimous_wal"]),
    ("config", &["unanimous_wal", "axum"]),
];

/// Modules that another must not see although they stand below it.
const STRANGERS: [(&str, &[&str]); 5] = [
    // A prepare, a commit or an abort has to reach its service, whatever is thought of that for other calls.
    ("participant", &["balance"]),
    ("coordinator", &["balance"]),
    ("recovery", &["balance"]),
    ("balance", &["txn", "clock", "crash"]),
    ("gateway", &["txn", "plan", "journal", "participant", "coordinator"]),
];

/// A file of a program reads as one thing; a test file may list more cases of it.
const FILE_LINES_MAX: usize = 400;
const TEST_FILE_LINES_MAX: usize = 600;

/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let mut findings = Vec::new();
    for file in sources(&["src"]) {
        let Some(module) = file.module() else { continue };
        let Some(rank) = rank_of(module) else {
            findings.push(format!(
                "{}: the module `{module}` has no rank; give it one in tests/tidy.rs and docs/ARCHITECTURE.md",
                file.name
            ));
            continue;
        };
        let strangers =
            STRANGERS.iter().find(|(of, _)| *of == module).map_or(&[][..], |(_, strangers)| *strangers);
        for used in used_modules(&file.code()) {
            if strangers.contains(&used.as_str()) {
                findings.push(format!(
                    "{}: `{module}` uses `{used}`, of which it must know nothing; let `server` bring the two together",
                    file.name
                ));
            }
            if used != module && rank_of(&used).is_some_and(|other| other >= rank) {
                findings.push(format!(
                    "{}: `{module}` (rank {rank}) uses `{used}`, which does not stand below it; hand in what is \
                     needed as an argument or a trait, or move it to the lower of the two",
                    file.name
                ));
            }
        }
    }
    expect_none(&findings);
}

#[test]
fn a_layer_does_not_see_the_tools_of_another() {
    let mut findings = Vec::new();
    for file in sources(&["src"]) {
        let unseen =
            UNSEEN.iter().filter(|(module, _)| file.module() == Some(module)).flat_map(|(_, seen)| *seen);
        let code = file.code();
        findings.extend(unseen.filter(|tool| names_crate(&code, tool)).map(|tool| {
            format!("{}: names `{tool}`, which is another layer's; use what that layer offers", file.name)
        }));
    }
    expect_none(&findings);
}

#[test]
fn the_architecture_page_has_the_same_ranks() {
    let page =
        fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md is there");
    let has_row = |module: &str, rank: u8| {
        let is_row = |line: &&str| line.starts_with(&format!("| {rank} | "));
        page.lines().filter(is_row).any(|line| line.contains(&format!("`{module}`")))
    };
    let missing = RANKS.iter().filter(|(module, rank)| !has_row(module, *rank));
    let say = |(module, rank): &(&str, u8)| {
        format!(
            "docs/ARCHITECTURE.md: write a row `| {rank} | ..` that names `{module}`, or correct tests/tidy.rs"
        )
    };
    expect_none(&missing.map(say).collect::<Vec<_>>());
}

#[test]
fn only_the_log_names_sled_and_only_the_codec_names_bincode() {
    let mut findings = Vec::new();
    for file in sources(&["src", "tests", "examples", "benches"]) {
        if names_crate(&file.code(), "sled") {
            findings.push(format!(
                "{}: names sled; use `unanimous_wal`, which knows how to use it safely",
                file.name
            ));
        }
    }
    for file in sources(&["src", "wal", "tests", "examples", "benches"]) {
        if file.name != "src/journal/codec.rs" && names_crate(&file.code(), "bincode") {
            findings.push(format!(
                "{}: names bincode; use `journal::codec`, so that it can be replaced",
                file.name
            ));
        }
    }
    expect_none(&findings);
}

#[test]
fn only_the_command_line_prints() {
    let mut findings = Vec::new();
    let may = |name: &str| name == "src/main.rs" || name.starts_with("src/cli/");
    for file in sources(&["src", "wal/src"]).into_iter().filter(|file| !may(&file.name)) {
        let prints = |line: &str| ["println!(", "print!(", "dbg!("].iter().any(|word| line.contains(word));
        findings.extend(file.lines().filter(|(_, line)| !is_comment(line) && prints(line)).map(
            |(number, _)| {
                format!(
                    "{}:{number}: prints; use `tracing`, or give the text back to the caller in `cli`",
                    file.name
                )
            },
        ));
    }
    expect_none(&findings);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let has_front_page =
        |text: &str| text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    let bare = all().into_iter().filter(|file| !has_front_page(&file.text));
    let say = |file: Source| format!("{}: begin it with a `//!` line that says what it is", file.name);
    expect_none(&bare.map(say).collect::<Vec<_>>());
}

#[test]
fn a_file_is_not_too_long() {
    let mut findings = Vec::new();
    for file in all() {
        let is_test =
            ["tests/", "wal/tests/", "benches/", "wal/benches/"].iter().any(|dir| file.name.starts_with(dir));
        let (lines, max) =
            (file.text.lines().count(), if is_test { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX });
        if lines > max {
            findings.push(format!(
                "{}: {lines} lines, and {max} is the most; move a part that has a name of its own into a file",
                file.name
            ));
        }
    }
    expect_none(&findings);
}

#[test]
fn a_function_fits_a_screen() {
    let mut findings = Vec::new();
    for file in all() {
        let lines: Vec<&str> = file.text.lines().collect();
        let long = functions(&lines).filter(|(_, length)| *length > FUNCTION_LINES_MAX);
        findings.extend(long.map(|(number, length)| {
            format!(
                "{}:{number}: a function of {length} lines, and {FUNCTION_LINES_MAX} is the most; let it decide, \
                 and give what it does to functions with names",
                file.name
            )
        }));
    }
    expect_none(&findings);
}

#[test]
fn nothing_is_left_for_later_and_every_exception_has_a_reason() {
    // Written in parts, so that this file does not hold the words itself.
    let undone =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimple", "mented!("), concat!("to", "do!(")];
    let ignored = concat!("#[ig", "nore");
    let mut findings = Vec::new();
    for file in all() {
        for (number, line) in file.lines() {
            let place = format!("{}:{number}", file.name);
            if let Some(word) = undone.iter().find(|word| line.contains(**word)) {
                findings.push(format!(
                    "{place}: `{word}`; do it now, or open an issue and describe what is there"
                ));
            }
            if line.contains(ignored) {
                findings
                    .push(format!("{place}: a test that is not run; mend it, or remove it with its reason"));
            }
        }
        findings.extend(exceptions_without_reason(&file));
    }
    expect_none(&findings);
}

/// A file and its path from the root of the repository.
struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The module of `src/` that it belongs to; `None` for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let path = self.name.strip_prefix("src/")?;
        let module = path.split_once('/').map_or_else(|| path.trim_end_matches(".rs"), |(module, _)| module);
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The text without its comments.
    fn code(&self) -> String {
        self.text.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
    }
}

fn rank_of(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

/// Every module that stands after `crate::`, alone or in braces.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    let own = code.split("crate::").skip(1).zip(code.split("crate::"));
    // `unanimous_crate::` would be another word.
    for (after, _) in
        own.filter(|(_, before)| !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
    {
        match after.strip_prefix('{') {
            Some(group) => used.extend(members(group)),
            None => used.push(word(after)),
        }
    }
    used
}

/// The first word of each member of `{a, b::{c, d}}`, whose opening brace is gone.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut found, mut is_first) = (0_u32, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            letter if is_first && letter.is_alphabetic() => {
                found.push(word(&group[at..]));
                is_first = false;
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn names_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter))
    })
}

/// Line and length of every function with a body. The code is formatted: a body ends where a brace closes under `fn`.
fn functions<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    starts.filter_map(|(at, line)| {
        let indent = indent_of(line);
        let is_end =
            |line: &&str| indent_of(line) == indent && (line.trim() == "}" || line.trim_end().ends_with(';'));
        let length = lines.iter().skip(at).position(is_end)?;
        (!line.trim_end().ends_with('}')).then_some((at + 1, length + 1))
    })
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace().take_while(|word| *word != "fn");
    let qualifiers =
        ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern", "\"C\"", "safe"];
    line.contains("fn ") && words.all(|word| qualifiers.contains(&word))
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn exceptions_without_reason(file: &Source) -> Vec<String> {
    let words = [concat!("[al", "low("), concat!("[ex", "pect(")];
    let mut findings = Vec::new();
    for (at, _) in words.iter().flat_map(|word| file.text.match_indices(word)) {
        let attribute = file.text[at..].split_once(")]").map_or("", |(attribute, _)| attribute);
        if !attribute.contains("reason = ") {
            let line = file.text[..at].lines().count();
            findings
                .push(format!("{}:{line}: an exception to a lint; say why: `reason = \"..\"`", file.name));
        }
    }
    findings
}

fn all() -> Vec<Source> {
    sources(&["src", "wal", "tests", "benches", "examples", "fuzz"])
}

fn sources(directories: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for directory in directories {
        collect(&root().join(directory), &mut found);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("a directory of the repository can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
            found.push(Source { name, text });
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn expect_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} places:\n  {}\n", findings.len(), findings.join("\n  "));
}

#[test]
fn the_rules_would_see_what_they_are_for() {
    assert_eq!(used_modules("use crate::{txn::{a, b}, clock};\ncrate::wal::x()"), ["txn", "clock", "wal"]);
    assert!(names_crate("use axum::A;", "axum") && !names_crate("use maxum::A; a::axum::A", "axum"));
    let lines = [
        "fn a() {",
        "    b();",
        "}",
        "fn c();",
        "    pub async fn d(",
        "        e: E,",
        "    ) -> F {",
        "    }",
    ];
    assert_eq!(functions(&lines).collect::<Vec<_>>(), [(1, 3), (4, 1), (5, 4)]);
}
