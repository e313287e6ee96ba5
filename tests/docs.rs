//! The documentation is run: console blocks, tables that mirror the code, and names of tests.
//!
//! Blocks marked `console` are run by trycmd. Those marked `console,ignore` need a running node: they are run here, in
//! one session a page, where `…` stands for anything and a command that ends in `&` goes on beside the others.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};
use unanimous::cli::conformance::rules::{RULES, Rule};
use unanimous::recovery::table::{Bytes, Encoding, Finding, Replayed, Sequence, Verdict, verdict};
use unanimous::server::metrics::Metrics;

#[test]
fn every_command_that_needs_no_node_prints_what_the_pages_say() {
    let pages = trycmd::TestCases::new();
    pages.register_bin("unanimous", Path::new(env!("CARGO_BIN_EXE_unanimous")));
    pages.case("README.md").case("docs/*.md").run();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_goes_as_it_is_told() {
    goes_as_it_is_told("README.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_participants_goes_as_it_is_told() {
    goes_as_it_is_told("docs/PARTICIPANTS.md").await;
}

async fn goes_as_it_is_told(name: &str) {
    if kit::missing("python3") || kit::missing("curl") {
        return;
    }
    let mut session = Session::new();
    for (command, expected) in live_commands(&page(name)) {
        session.run(&command, &expected).await;
    }
}

#[test]
fn every_rule_for_participants_is_explained_as_the_command_says_it() {
    let page = page("docs/PARTICIPANTS.md");
    let row = |rule: &Rule| format!("| `{}` | {} | {} |", rule.id, rule.says, rule.why);
    let missing: Vec<_> = RULES.iter().map(row).filter(|row| !page.contains(row)).collect();
    assert!(missing.is_empty(), "docs/PARTICIPANTS.md: write these rows:\n{}", missing.join("\n"));
    let (_, rules) = page.split_once("## The rules").unwrap();
    let rows = rules.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(rows.count(), RULES.len(), "one row a rule");
}

#[test]
fn every_option_of_the_attack_is_explained() {
    let (page, source) = (page("docs/PARTICIPANTS.md"), page("src/cli/conformance/mod.rs"));
    let (_, fields) = source.split_once("pub struct Args {").unwrap();
    let (fields, _) = fields.split_once("\n}").unwrap();
    let names = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    let names = names.map(|(name, _)| match name {
        "headers" => "header".to_owned(),
        "rules" => "rule".to_owned(),
        other => other.replace('_', "-"),
    });
    let missing: Vec<_> =
        names.filter(|name| name != "urls" && !page.contains(&format!("--{name}"))).collect();
    assert!(missing.is_empty(), "docs/PARTICIPANTS.md: explain {missing:?}");
}

#[test]
fn the_table_of_recovery_is_the_one_that_the_code_uses() {
    let page = page("docs/RECOVERY.md");
    let rows: Vec<Vec<&str>> =
        rows(&page).filter(|row| row.len() == 5 && row[0] != "block and frame").collect();
    assert_eq!(rows.len(), 7);
    for finding in findings() {
        let fits = rows.iter().filter(|row| row_fits(row, finding)).collect::<Vec<_>>();
        assert_eq!(fits.len(), 1, "one row of docs/RECOVERY.md for {finding:?}");
        assert_eq!(said(fits[0][4]), verdict(finding), "{finding:?}");
    }
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let (page, source) = (page("docs/OPERATING.md"), page("src/config/env.rs"));
    let keys = keys(&source);
    let missing: Vec<_> = keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/OPERATING.md: add a row for {missing:?}");
    let fields = self::page("src/config/file.rs");
    let (_, node) = fields.split_once("struct NodeFile {").unwrap();
    let (node, _) = node.split_once('}').unwrap();
    for field in node.lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(':')) {
        assert!(
            page.contains(&format!("`node.{}`", field.0)),
            "docs/OPERATING.md: add a row for node.{}",
            field.0
        );
    }
}

/// A key that has no effect is worse than none (CVE-2026-22750). A test that turns one writes it as in the file, as a field of
/// our own, or as a variable, in a file that names its table too. Tests of how the configuration is read do not count.
#[test]
fn every_key_of_the_configuration_is_turned_by_a_test_or_listed_as_not() {
    let (page, source) = (page("docs/SECURITY.md"), page("src/config/env.rs"));
    let mut tests = Vec::new();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let counts = !name.starts_with("config_") && name != "docs.rs";
        tests.extend(counts.then(|| code_of(&format!("tests/{name}"))));
    }
    let is_turned = |key: &&str| {
        let mut parts: Vec<&str> = key.split('.').filter(|part| *part != "*").collect();
        let last = parts.pop().unwrap();
        let table = parts.pop().filter(|table| !["services", "routes"].contains(table)).unwrap_or_default();
        let spelled = [format!("{last} = "), format!("{last}: "), format!("__{}", last.to_uppercase())];
        tests
            .iter()
            .any(|test| spelled.iter().any(|word| test.contains(word)) && test.to_lowercase().contains(table))
    };
    let not_turned: Vec<&str> = keys(&source).into_iter().filter(|key| !is_turned(key)).collect();
    let (_, listed) = page.split_once("no test that turns them: ").unwrap();
    let (listed, _) = listed.split_once(" |").unwrap();
    let listed: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    assert_eq!(not_turned, listed, "docs/SECURITY.md lists the keys that no test turns");
}

/// Every key of the configuration that is one value; `*` is a name.
fn keys(source: &str) -> Vec<&str> {
    let lines = source.lines();
    let pairs = lines.filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\", Kind::"));
    let keys: Vec<&str> = pairs.map(|(key, _)| key).collect();
    assert!(keys.len() > 30, "the list of keys in src/config/env.rs is where it was");
    keys
}

#[test]
fn every_metric_is_explained() {
    let page = page("docs/OPERATING.md");
    let metrics = Metrics::new();
    let text = metrics.text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names: Vec<&str> = types.map(|(name, _)| name).collect();
    assert!(names.len() > 10, "{text}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "docs/OPERATING.md: add a row for {missing:?}");
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut everything = String::new();
    for directory in ["tests", "wal/tests", "src", "wal/src"] {
        read_all(&root().join(directory), &mut everything);
    }
    let mut missing = Vec::new();
    for name in ["README.md", "docs/GUARANTEES.md", "docs/FORMAT.md", "docs/DIFFERENTIAL.md"] {
        let text = page(name);
        let pieces: Vec<&str> = text.split('`').collect();
        // What the tests are in that a path names: "`path`: `one`, `another`".
        let (mut path, mut place) = (None, None);
        for piece in pieces.chunks_exact(2) {
            let (before, word) = (piece[0], piece[1]);
            place = match before.trim() {
                ":" => path,
                "," => place,
                _ => None,
            };
            let is_path = ["tests/", "wal/", "src/", "fuzz/"].iter().any(|start| word.starts_with(start));
            let is_test = word.matches('_').count() > 3 && !word.contains(['/', '.', '-', '{', '=']);
            path = is_path.then_some(word);
            let is_there = || match place {
                Some(path) => code_of(path).contains(&format!("fn {word}(")),
                None => everything.contains(&format!("fn {word}(")),
            };
            if (is_path && !root().join(word).exists()) || (is_test && !is_there()) {
                missing.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "these are named and not there:\n  {}", missing.join("\n  "));
}

#[test]
fn every_commit_that_the_track_record_names_is_one_of_this_repository() {
    if kit::missing("git") {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).current_dir(root()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    // A shallow clone has not all of them, and an archive none, though it may lie in another repository.
    let known = git(&["rev-parse", "--is-shallow-repository", "--show-prefix"]);
    if known.is_none_or(|known| known.trim() != "false") {
        return;
    }
    let commits = git(&["rev-list", "HEAD"]).unwrap();
    let page = page("README.md");
    let (_, record) = page.split_once("\n## Track record\n").unwrap();
    let record = record.split("\n## ").next().unwrap();
    let named: Vec<_> = rows(record).filter_map(|row| row.get(3).copied()).skip(1).collect();
    assert!(named.len() > 50, "{named:?}");
    let unknown = |commit: &&&str| !commits.lines().any(|known| known.starts_with(**commit));
    let unknown: Vec<_> = named.iter().filter(unknown).collect();
    assert!(unknown.is_empty(), "README.md names commits that are not there: {unknown:?}");
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut broken = Vec::new();
    for name in pages() {
        let text = page(&name);
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, _) = target.split_once('#').unwrap_or((target, ""));
            let file = root().join(&name).parent().unwrap().join(path);
            if !path.is_empty() && !file.exists() {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n  {}", broken.join("\n  "));
}

#[test]
fn the_check_script_runs_the_commands_of_the_readme() {
    let (readme, script) = (page("README.md"), page(".ci/run"));
    assert!(
        readme.contains("\ncargo run --release -- demo ")
            && script.contains("target/release/unanimous demo ")
    );
    let tests = "cargo test --workspace --features otlp";
    assert!(readme.contains(&format!("\n{tests} ")) && script.contains(&format!("{tests}\n")));
}

/// One page's commands, run one after the other on ports of their own.
struct Session {
    directory: tempfile::TempDir,
    ports: Vec<(&'static str, String)>,
    running: Vec<Child>,
}

impl Session {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports = ["8000", "8001", "9001", "9002"].map(|port| (port, kit::free_port().to_string()));
        let session = Self { directory, ports: ports.to_vec(), running: Vec::new() };
        let examples = session.directory.path().join("examples");
        fs::create_dir(&examples).unwrap();
        for name in ["bank.py", "bank.toml"] {
            fs::write(examples.join(name), session.moved(&page(&format!("examples/{name}")))).unwrap();
        }
        session
    }

    async fn run(&mut self, command: &str, expected: &str) {
        if let Some(command) = command.strip_suffix('&') {
            return self.begin(command.trim()).await;
        }
        let output = self.shell(command).output().await.unwrap();
        let (found, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(matches(expected, &found), "$ {command}\nexpected\n{expected}\nfound\n{found}{errors}");
    }

    async fn begin(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        // What begins with a name of a port listens there; the node says itself when it is ready.
        let url = match self.ports.iter().find(|(port, _)| words.contains(port)) {
            Some((_, port)) => format!("http://127.0.0.1:{port}/accounts"),
            None => self.moved("http://127.0.0.1:8001/readyz"),
        };
        let child =
            self.shell(&format!("exec {command}")).kill_on_drop(true).stderr(Stdio::null()).spawn().unwrap();
        self.running.push(child);
        let client = kit::client();
        kit::until(&format!("`{command}` to answer"), async || {
            client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    fn shell(&self, command: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_unanimous")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", &self.moved(command)]).current_dir(self.directory.path()).env("PATH", path);
        shell.stdin(Stdio::null());
        shell
    }

    /// The text with our ports for those of the pages.
    fn moved(&self, text: &str) -> String {
        let marked = self
            .ports
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, &format!("\0{to}")));
        marked.replace('\0', "")
    }
}

/// Commands of the blocks marked `console,ignore`, each with what it prints.
fn live_commands(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => is_inside = line == "```console,ignore",
            Some(command) if is_inside => commands.push((command.to_owned(), String::new())),
            None if is_inside => {
                let (_, expected) = commands.last_mut().expect("a block begins with a command");
                expected.push_str(line);
                expected.push('\n');
            }
            Some(_) | None => {}
        }
    }
    commands
}

/// Whether `text` is `pattern`, where `…` stands for anything and the ends of lines do not count.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.trim(), text.trim());
    let Some((first, pattern)) = pattern.split_once('…') else { return pattern == text };
    let (middle, last) = pattern.rsplit_once('…').unwrap_or(("", pattern));
    let inside = text.strip_prefix(first).and_then(|text| text.strip_suffix(last));
    let rest = inside.and_then(|text| {
        let mut parts = middle.split('…');
        parts.try_fold(text, |rest, part| rest.split_once(part).map(|(_, rest)| rest))
    });
    rest.is_some()
}

fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let tables = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|-"));
    tables.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

fn row_fits(row: &[&str], finding: Finding) -> bool {
    let words = [
        if finding.bytes == Bytes::Whole { "whole" } else { "damaged" },
        if finding.sequence == Sequence::NoGap { "no gap" } else { "gap" },
        if finding.encoding == Encoding::Known { "known" } else { "newer" },
        match finding.replayed {
            Replayed::Undecided => "legal, undecided",
            Replayed::Decided => "legal, decided",
            Replayed::Finished => "legal, finished",
            Replayed::Illegal => "illegal order",
        },
    ];
    row.iter().zip(words).all(|(cell, word)| *cell == "-" || *cell == word)
}

fn said(cell: &str) -> Verdict {
    match cell {
        "log `decided: abort (restarted)`, tell every branch" => Verdict::Abort,
        "tell every branch that has not confirmed" => Verdict::Tell,
        "nothing" => Verdict::Nothing,
        "park it, keep its bytes, tell the operator" => Verdict::Park,
        "refuse to start: a newer program wrote this" => Verdict::RefuseNewer,
        "refuse to start, name the gap" | "the same: it may be the commit that was already sent" => {
            Verdict::RefuseDamage
        }
        other => panic!("no verdict is called `{other}`"),
    }
}

fn findings() -> Vec<Finding> {
    let mut all = Vec::new();
    for bytes in [Bytes::Whole, Bytes::Damaged] {
        for sequence in [Sequence::NoGap, Sequence::Gap] {
            for encoding in [Encoding::Known, Encoding::Newer] {
                for replayed in
                    [Replayed::Undecided, Replayed::Decided, Replayed::Finished, Replayed::Illegal]
                {
                    all.push(Finding { bytes, sequence, encoding, replayed });
                }
            }
        }
    }
    all
}

/// Every page of ours.
fn pages() -> Vec<String> {
    let mut names: Vec<String> =
        ["README.md", "CHANGELOG.md", "examples/README.md", "examples/two-systems/README.md"]
            .map(str::to_owned)
            .to_vec();
    for directory in ["docs", "docs/decisions"] {
        let files = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().file_name());
        let files = files.map(|name| format!("{directory}/{}", name.to_string_lossy()));
        let is_page = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "md");
        names.extend(files.filter(is_page));
    }
    names
}

/// Of a file, or of all in a directory.
fn code_of(path: &str) -> String {
    let mut code = String::new();
    match root().join(path) {
        directory if directory.is_dir() => read_all(&directory, &mut code),
        _ => code = page(path),
    }
    code
}

fn read_all(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn three_dots_stand_for_anything_and_nothing_else_does() {
    assert!(matches("a…b…{…}}\n", "a1b2{x}}}") && matches("a", "a\n") && matches("…", ""));
    assert!(!matches("a…b", "a1bc") && !matches("a", "ab") && !matches("a…x…b", "a1b"));
}
