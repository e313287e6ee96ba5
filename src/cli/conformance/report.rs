//! What was found, for people and for programs: each rule as soon as it is judged.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::super::check::Format;
use super::super::dump::printable;
use super::finding::{Finding, Verdict};
use super::mend::mend;
use super::rules::Rule;
use super::sender::{Exchange, Heard};

/// How much of a body is printed for people.
const BODY_MAX: usize = 300;

/// How many of what could not be judged are named in the last line.
const NAMED_MAX: usize = 3;

/// Prints findings and counts them.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    format: Format,
    kept: usize,
    broken: Vec<&'static Rule>,
    unjudged: usize,
    /// Whether every rule was asked for by name.
    is_by_name: bool,
    /// What was asked for and could not be judged.
    missed: Vec<&'static str>,
}

impl<'a> Report<'a> {
    pub(super) fn new(format: Format, is_by_name: bool, out: &'a mut dyn Write) -> Self {
        Self { out, format, kept: 0, broken: Vec::new(), unjudged: 0, is_by_name, missed: Vec::new() }
    }

    /// Whether no rule is broken, and all that was asked for could be judged.
    pub(super) fn is_fine(&self) -> bool {
        self.broken.is_empty() && self.missed.is_empty()
    }

    pub(super) fn add(&mut self, finding: &Finding) -> io::Result<()> {
        match finding.verdict {
            Verdict::Kept => self.kept += 1,
            Verdict::Broken(_) => self.broken.push(finding.rule),
            Verdict::Unjudged(_) | Verdict::LeftOut(_) => self.unjudged += 1,
        }
        let is_missed = match finding.verdict {
            Verdict::Unjudged(_) => true,
            Verdict::LeftOut(_) => self.is_by_name,
            Verdict::Kept | Verdict::Broken(_) => false,
        };
        self.missed.extend(is_missed.then_some(finding.rule.id));
        match self.format {
            Format::Json => writeln!(self.out, "{}", json(finding))?,
            Format::Table => self.print(finding)?,
        }
        self.out.flush()
    }

    /// The last lines. `unseen` says why nothing can be said of what the work changes.
    pub(super) fn end(&mut self, unseen: Option<&str>, is_look_asked_for: bool) -> io::Result<()> {
        if unseen.is_some() && is_look_asked_for {
            self.missed.push("--look");
        }
        let (kept, broken, unjudged) = (self.kept, self.broken.len(), self.unjudged);
        let all = kept + broken + unjudged;
        let counts = format!("{all} rules: {kept} kept, {broken} broken, {unjudged} could not be judged.");
        let alone =
            |reason| format!("Judged by its answers alone, not by what it did: {}.", printable(reason));
        let mut rest = [unseen.map(alone), self.first_to_mend(), self.incomplete()].into_iter().flatten();
        match self.format {
            Format::Table => {
                writeln!(self.out, "{counts}")?;
                rest.try_for_each(|line| writeln!(self.out, "{line}"))
            }
            Format::Json => {
                rest.for_each(|line| explain(&line));
                Ok(())
            }
        }
    }

    fn first_to_mend(&self) -> Option<String> {
        // Whoever keeps no books at all is at fault in rules about copies at once as well, and they are harder to mend.
        let one_by_one = self.broken.iter().find(|rule| !rule.is_at_once());
        let first = one_by_one.or(self.broken.first())?.id;
        let broken: Vec<_> = self.broken.iter().map(|rule| rule.id).collect();
        Some(format!(
            "Broken: {}.\nMend `{first}` first: the others often have the same cause. `--rule {first}` tries it alone. All of the \
             protocol is one table in docs/PARTICIPANTS.md.",
            broken.join(", ")
        ))
    }

    /// A line about an exit code that no broken rule explains.
    fn incomplete(&self) -> Option<String> {
        if !self.broken.is_empty() || self.missed.is_empty() {
            return None;
        }
        let named = self.missed.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = match self.missed.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "No rule is broken, but not all that was asked for could be judged ({named}{more}), so this ends with exit code 1."
        ))
    }

    fn print(&mut self, finding: &Finding) -> io::Result<()> {
        let Finding { rule, verdict, exchanges } = finding;
        let out = &mut self.out;
        let word = if matches!(verdict, Verdict::Broken(_)) { "BROKEN" } else { verdict.name() };
        writeln!(out, "{word:9} {}: {}", rule.id, rule.says)?;
        if let Some(because) = verdict.because() {
            writeln!(out, "  because {}", printable(because))?;
        }
        match verdict {
            Verdict::Broken(_) => {
                for exchange in exchanges {
                    let (asked, place) = (exchange.operation.name(), place(exchange, exchanges));
                    writeln!(
                        out,
                        "  sent    {asked}{place}, attempt {} -> {}",
                        exchange.attempt,
                        answer(exchange)
                    )?;
                }
            }
            Verdict::Kept | Verdict::Unjudged(_) | Verdict::LeftOut(_) if exchanges.is_empty() => {}
            Verdict::Kept | Verdict::Unjudged(_) | Verdict::LeftOut(_) => {
                writeln!(out, "  sent    {}", short(exchanges))?;
            }
        }
        writeln!(out, "  why     {}", rule.why)?;
        if let (Verdict::Broken(_), Some(mend)) = (verdict, mend(rule)) {
            writeln!(out, "  mend    {mend}")?;
        }
        if let (Verdict::Broken(_), Some(last)) = (verdict, exchanges.last()) {
            writeln!(out, "  the last call was")?;
            writeln!(out, "    {} {}", last.method, printable(&last.url))?;
            for (name, value) in &last.headers {
                writeln!(out, "    {name}: {}", printable(&String::from_utf8_lossy(value.as_bytes())))?;
            }
            writeln!(out, "    {}", said(&String::from_utf8_lossy(&last.body)))?;
        }
        writeln!(out)
    }
}

/// A report for programs has one rule a line; what else there is to say goes to stderr.
#[expect(clippy::print_stderr, reason = "stdout is for programs")]
fn explain(line: &str) {
    eprintln!("{line}");
}

/// `work 200, 8 x commit 200`.
fn short(exchanges: &[Exchange]) -> String {
    let words = exchanges.iter().map(|exchange| {
        let status = exchange.status().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        format!("{}{} {status}", exchange.operation.name(), place(exchange, exchanges))
    });
    let mut runs: Vec<(usize, String)> = Vec::new();
    for word in words {
        match runs.last_mut() {
            Some((count, last)) if *last == word => *count += 1,
            Some(_) | None => runs.push((1, word)),
        }
    }
    let runs =
        runs.into_iter().map(|(count, word)| if count == 1 { word } else { format!("{count} x {word}") });
    runs.collect::<Vec<_>>().join(", ")
}

/// ` of branch 1`, ` of another transaction`: where it is not the first of its rule.
fn place(exchange: &Exchange, all: &[Exchange]) -> String {
    let of = |exchange: &Exchange| exchange.headers.get("transaction-id").cloned();
    if all.first().is_some_and(|first| of(first) != of(exchange)) {
        " of another transaction".to_owned()
    } else if exchange.branch > 0 {
        format!(" of branch {}", exchange.branch)
    } else {
        String::new()
    }
}

fn answer(exchange: &Exchange) -> String {
    match &exchange.heard {
        Heard::Answered(answered) => {
            let flaw =
                answered.flaw.as_ref().map(|flaw| format!(" ({})", printable(flaw))).unwrap_or_default();
            format!("{} {}{flaw}", answered.status, said(&answered.text))
        }
        Heard::NeverSent(reason) => format!("not sent: {}", printable(reason)),
        Heard::Broken(reason) => format!("no answer: {}", printable(reason)),
        Heard::Late => "nothing in time".to_owned(),
    }
}

/// A body on one line, cut where it is long.
pub(super) fn said(text: &str) -> String {
    let mut letters = text.trim().chars();
    let mut said: String = letters.by_ref().take(BODY_MAX).collect();
    if letters.next().is_some() {
        said.push_str(" ..");
    }
    printable(&said)
}

fn json(finding: &Finding) -> Value {
    let Finding { rule, verdict, exchanges } = finding;
    json!({
        "rule": rule.id,
        "verdict": verdict.name(),
        "says": rule.says,
        "why": rule.why,
        "mend": mend(rule),
        "because": verdict.because(),
        "exchanges": exchanges.iter().map(exchange_json).collect::<Vec<_>>(),
    })
}

fn exchange_json(exchange: &Exchange) -> Value {
    let text = |value: &[u8]| Value::from(String::from_utf8_lossy(value));
    let headers = exchange.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let answer = match &exchange.heard {
        Heard::Answered(answered) => {
            json!({ "status": answered.status, "vote": answered.vote, "body": answered.text, "flaw": answered.flaw })
        }
        Heard::NeverSent(reason) => json!({ "none": "never_sent", "reason": reason }),
        Heard::Broken(reason) => json!({ "none": "broken", "reason": reason }),
        Heard::Late => json!({ "none": "late" }),
    };
    json!({
        "operation": exchange.operation.name(),
        "branch": exchange.branch,
        "attempt": exchange.attempt,
        "request": {
            "method": exchange.method.as_str(),
            "url": exchange.url,
            "headers": headers.collect::<Map<_, _>>(),
            "body": text(&exchange.body),
        },
        "answer": answer,
        "took_ms": u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX),
    })
}
