//! The command, run, and what it printed.

use std::process::Output;

use serde_json::Value;
use unanimous::cli::conformance::rules::RULES;

use crate::kit;

/// What the command said of a participant, rule by rule.
pub struct Run {
    output: Output,
    rules: Vec<Value>,
}

/// Runs `unanimous conformance --format json` with these arguments.
pub async fn conformance(arguments: &[&str]) -> Run {
    let output = command(&[arguments, &["--format=json"]].concat()).await;
    let rules = kit::lines(&String::from_utf8_lossy(&output.stdout));
    Run { output, rules }
}

/// Runs `unanimous conformance` with these arguments, and nothing on its stdin.
pub async fn command(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_unanimous"));
    command.arg("conformance").args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(kit::PATIENCE * 15, command.output()).await.expect("it ends").unwrap()
}

impl Run {
    /// What was said of a rule.
    #[track_caller]
    pub fn rule(&self, id: &str) -> &Value {
        let found = self.rules.iter().find(|rule| rule["rule"] == id);
        found.unwrap_or_else(|| panic!("nothing was said of `{id}`: {}", self.stderr()))
    }

    /// Panics unless every rule was judged and kept.
    #[track_caller]
    pub fn keeps_every_rule(&self) {
        self.breaks(&[]);
        assert_eq!(self.of("unjudged"), Vec::<String>::new());
        let all = RULES.len();
        assert_eq!(self.of("kept").len(), all, "{}", self.stderr());
    }

    /// Panics unless these rules are broken, no other is, and the exit code says so.
    #[track_caller]
    pub fn breaks(&self, rules: &[&str]) {
        let broken = self.of("broken");
        assert_eq!(broken, rules, "{}", self.told("broken"));
        let code = i32::from(!rules.is_empty());
        assert_eq!(self.output.status.code(), Some(code), "{}", self.stderr());
    }

    /// Panics unless no rule is broken, and the exit code says that not all that was asked for was judged.
    #[track_caller]
    pub fn is_incomplete(&self) {
        assert_eq!(self.of("broken"), Vec::<String>::new(), "{}", self.told("broken"));
        assert_eq!(self.output.status.code(), Some(1), "{}", self.stderr());
    }

    /// Panics unless the rule could not be judged for this reason.
    #[track_caller]
    pub fn cannot_judge(&self, rule: &str, reason: &str) {
        let said = self.rule(rule);
        assert_eq!(said["verdict"], "unjudged", "{said:#}");
        assert!(said["because"].as_str().unwrap().contains(reason), "{said:#}");
    }

    /// The rules with this verdict, in the order of the table.
    pub fn of(&self, verdict: &str) -> Vec<String> {
        let rules = self.rules.iter().filter(|rule| rule["verdict"] == verdict);
        rules.map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
    }

    /// What was said of the rules with this verdict.
    pub fn told(&self, verdict: &str) -> String {
        let rules = self.rules.iter().filter(|rule| rule["verdict"] == verdict);
        rules.map(|rule| format!("  {}: {}", rule["rule"], rule["because"])).collect::<Vec<_>>().join("\n")
    }

    /// What it said beside the report.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}
