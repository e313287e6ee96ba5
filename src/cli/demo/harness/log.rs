//! The embedded log as its readers see it: JSON lines, turned into one story a transaction.

use std::collections::{BTreeMap, HashMap};

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Decision {
    /// All branches do it.
    #[serde(alias = "commit", alias = "committed")]
    Commit,
    /// No branch does.
    #[serde(alias = "abort", alias = "aborted")]
    Abort,
}

/// How far a transaction that is in doubt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Work calls were under way.
    Working,
    /// Prepare calls were under way.
    Preparing,
    /// To be committed; some branch has not confirmed.
    Committing,
    /// To be aborted; some branch has not confirmed.
    Aborting,
}

/// A transaction that was in doubt when the gateway was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// Which one.
    pub transaction: Uuid,
    /// How far it had come.
    pub stage: Stage,
}

/// Everything that was read of the log so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The newest LSN that was read.
    newest: u64,
    stories: BTreeMap<Uuid, Story>,
    /// Which transaction a key began.
    keys: HashMap<String, Uuid>,
    /// What no log may say.
    pub(super) problems: Vec<String>,
}

/// What the log says of one transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    preparing: bool,
    pub(super) decision: Option<Decision>,
    pub(super) parked: bool,
    /// When every branch had confirmed.
    pub(super) ended: Option<jiff::Timestamp>,
}

/// What a reading has found besides the stories.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// When the node that follows the crash began, by its first `opened` record in these lines.
    pub(super) opened: Option<jiff::Timestamp>,
    /// What was in doubt at that record.
    pub(super) in_doubt: Vec<InDoubt>,
}

#[derive(Debug, Deserialize)]
struct Line {
    lsn: u64,
    #[serde(deserialize_with = "rfc_3339")]
    time: jiff::Timestamp,
    record: String,
    transaction: Option<Uuid>,
    decision: Option<Decision>,
    outcome: Option<Decision>,
    idempotency_key: Option<String>,
}

impl Log {
    /// The LSN to go on reading from.
    pub(super) fn next(&self) -> u64 {
        self.newest + 1
    }

    pub(super) fn story(&self, transaction: Uuid) -> Option<&Story> {
        self.stories.get(&transaction)
    }

    pub(super) fn stories(&self) -> impl Iterator<Item = (Uuid, &Story)> {
        self.stories.iter().map(|(id, story)| (*id, story))
    }

    /// The transaction that began under this key.
    pub(super) fn begun_under(&self, key: &str) -> Option<Uuid> {
        self.keys.get(key).copied()
    }

    /// Reads more lines. What is wrong with them goes to [`Log::problems`].
    pub(super) fn read(&mut self, lines: &str) -> Reading {
        let mut reading = Reading::default();
        for text in lines.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str::<Line>(text) {
                Ok(line) if line.record == "opened" && reading.opened.is_none() => {
                    reading = Reading { opened: Some(line.time), in_doubt: self.in_doubt() };
                    self.follow(line.lsn);
                }
                Ok(line) => self.take(&line),
                Err(error) => self.problems.push(format!("a line of the log is unclear ({error}): {text}")),
            }
        }
        reading
    }

    /// What has begun and not ended.
    pub(super) fn in_doubt(&self) -> Vec<InDoubt> {
        let open = |(id, story): (Uuid, &Story)| {
            story.ended.is_none().then(|| InDoubt { transaction: id, stage: story.stage() })
        };
        self.stories().filter_map(open).collect()
    }

    fn take(&mut self, line: &Line) {
        self.follow(line.lsn);
        let Some(id) = line.transaction else { return };
        if let Some(key) = &line.idempotency_key {
            self.remember(key.trim_matches('"'), id);
        }
        let story = self.stories.entry(id).or_default();
        let problem = story.take(line);
        self.problems.extend(problem.map(|problem| format!("LSN {}, transaction {id}: {problem}", line.lsn)));
    }

    fn follow(&mut self, lsn: u64) {
        if lsn != self.next() {
            self.problems.push(format!("LSN {lsn} comes after LSN {}", self.newest));
        }
        self.newest = lsn;
    }

    fn remember(&mut self, key: &str, id: Uuid) {
        let first = *self.keys.entry(key.to_owned()).or_insert(id);
        if first != id {
            self.problems.push(format!("the key {key} began two transactions, {first} and {id}"));
        }
    }
}

impl Story {
    /// Goes one record further; what is wrong with it, if anything.
    fn take(&mut self, line: &Line) -> Option<String> {
        match line.record.as_str() {
            "preparing" => self.preparing = true,
            "decided" if line.decision.is_none() => return Some("a decision that says nothing".to_owned()),
            "decided" if self.decision.is_some() => return Some("it was decided twice".to_owned()),
            "decided" => self.decision = line.decision,
            "ended" if line.outcome != self.decision => {
                return Some(format!("decided {:?}, ended {:?}", self.decision, line.outcome));
            }
            "ended" if self.ended.is_some() => return Some("it ended twice".to_owned()),
            "ended" => self.ended = Some(line.time),
            "parked" => self.parked = true,
            _ => {}
        }
        None
    }

    fn stage(&self) -> Stage {
        match (self.decision, self.preparing) {
            (Some(Decision::Commit), _) => Stage::Committing,
            (Some(Decision::Abort), _) => Stage::Aborting,
            (None, true) => Stage::Preparing,
            (None, false) => Stage::Working,
        }
    }
}

fn rfc_3339<'de, D: Deserializer<'de>>(from: D) -> Result<jiff::Timestamp, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);

    fn line(lsn: u64, transaction: Uuid, record: &str, more: &str) -> String {
        format!(
            "{{\"lsn\":{lsn},\"time\":\"2026-11-23T10:15:00.250Z\",\"transaction\":\"{transaction}\",\"record\":\"{record}\"{more}}}\n"
        )
    }

    fn opened(lsn: u64) -> String {
        format!(
            r#"{{"lsn":{lsn},"time":"2026-11-23T10:15:01.000Z","record":"opened","epoch":2,"version":"0.1.0"}}"#
        )
    }

    #[test]
    fn what_was_in_doubt_is_what_had_not_ended_when_the_node_opened_again() {
        let mut log = Log::default();
        let text = line(1, A, "begun", r#","idempotency_key":"a""#)
            + &line(2, B, "begun", "")
            + &line(3, A, "decided", r#","decision":"commit""#)
            + &opened(4)
            + "\n"
            + &line(5, A, "ended", r#","outcome":"committed""#);
        let reading = log.read(&text);
        let expected = [(A, Stage::Committing), (B, Stage::Working)];
        assert_eq!(reading.in_doubt, expected.map(|(transaction, stage)| InDoubt { transaction, stage }));
        assert_eq!(log.in_doubt(), [InDoubt { transaction: B, stage: Stage::Working }]);
        assert_eq!((log.next(), log.begun_under("a")), (6, Some(A)));
        assert_eq!(log.problems, [""; 0]);
    }

    #[test]
    fn a_log_that_says_what_no_log_may_say_is_a_problem() {
        let decided = line(2, A, "decided", r#","decision":"commit""#);
        let cases = [
            (line(2, A, "begun", ""), "LSN 2 comes after"),
            (
                line(1, A, "begun", "") + &decided + &line(3, A, "decided", r#","decision":"abort""#),
                "decided twice",
            ),
            (
                line(1, A, "begun", "") + &decided + &line(3, A, "ended", r#","outcome":"aborted""#),
                "decided Some",
            ),
            (
                line(1, A, "begun", r#","idempotency_key":"k""#)
                    + &line(2, B, "begun", r#","idempotency_key":"k""#),
                "two transactions",
            ),
            ("nonsense".to_owned(), "unclear"),
        ];
        for (text, problem) in cases {
            let mut log = Log::default();
            log.read(&text);
            assert!(log.problems.len() == 1 && log.problems[0].contains(problem), "{:?}", log.problems);
        }
    }
}
