//! `unanimous salvage`: rescues what can be of a damaged log into a new one.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::check::Format;
use super::dump::{DumpError, offline, printable};
use crate::clock::{Clock, SystemClock};
use crate::journal::LogPosition;
use crate::journal::salvage::{Copied, Doubt, Missing, Question, Report, SalvageError, Spot, salvage};

/// Rescue every whole record of a stopped node's damaged log into a new directory, and say what is missing and what that leaves in
/// question.
///
/// The damaged directory is not changed. Exit code 0: nothing is missing; 1: something is, and named, or nothing could be
/// rescued; 74: the new log could not be written.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the damaged log.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The directory for the new log: empty, or not there yet.
    #[arg(long, value_name = "NEWDIR")]
    pub to: PathBuf,
    /// What is known of a directory that is a copy, or was restored, as for `log.accept_copy`: `complete` holds everything that
    /// the node ever wrote; otherwise what came later counts as missing.
    #[arg(long, value_enum, default_value_t)]
    pub accept_copy: AcceptCopy,
    /// A table for people, or json: one object a line.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What is known of a copy.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum AcceptCopy {
    /// It holds everything that the node ever wrote, and no other copy is in use.
    Complete,
    /// It may lack what was written since it was made.
    #[default]
    Outdated,
}

/// Why nothing was rescued.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The damaged log could not be opened.
    #[error(transparent)]
    Log(#[from] DumpError),
    /// The new log could not be written; exit code 74.
    #[error("{0}; what is in the new directory, if anything, is not a log")]
    Write(#[source] SalvageError),
    /// Something else stands in the way.
    #[error(transparent)]
    Refused(SalvageError),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// What is left of a gap is listed up to so many places for people; json has all.
const PLACES_MAX: usize = 4;

/// Rescues, and prints what was found.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode, RescueError> {
    let copied = match args.accept_copy {
        AcceptCopy::Complete => Copied::Complete,
        AcceptCopy::Outdated => Copied::Outdated,
    };
    let rescued = salvage(&args.data_dir, &args.to, copied, SystemClock.now());
    if let Err(SalvageError::Unchecked { report, .. }) = &rescued {
        print(report, args, out)?;
    }
    let report = rescued.map_err(|error| match error {
        SalvageError::Look(error) => RescueError::Log(offline(error, "salvage")),
        SalvageError::Make(ref cause) if !cause.is_not_empty() => RescueError::Write(error),
        SalvageError::NotReadBack(_) => RescueError::Write(error),
        SalvageError::Make(_)
        | SalvageError::Unchecked { .. }
        | SalvageError::Newer(..)
        | SalvageError::Identity(_)
        | SalvageError::Inside => RescueError::Refused(error),
    })?;
    print(&report, args, out)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, args: &Args, out: &mut dyn Write) -> io::Result<()> {
    match args.format {
        Format::Json => lines(report, args).into_iter().try_for_each(|line| writeln!(out, "{line}")),
        Format::Table => table(report, args, out),
    }
}

/// Everything that was found, one object each; `found` names its kind.
fn lines(report: &Report, args: &Args) -> Vec<Value> {
    let findings = &report.findings;
    let mut lines: Vec<Value> = findings.missing.iter().map(missing_json).collect();
    if !findings.is_end_witnessed() {
        let next = findings.high.map_or(1, |high| high.get() + 1);
        lines.push(json!({ "found": "end_unknown", "from": next, "copy": findings.moved, "older": findings.is_older }));
    }
    if !findings.is_beginning_known() {
        lines
            .push(json!({ "found": "beginning_unknown", "to": findings.low.map_or(0, |low| low.get() - 1) }));
    }
    lines.extend(
        report.not_records.iter().map(
            |(lsn, error)| json!({ "found": "not_a_record", "lsn": lsn.get(), "why": error.to_string() }),
        ),
    );
    lines.extend(findings.contradictions.iter().map(|contradiction| {
        json!({ "found": "contradiction", "left_out": spot_json(&contradiction.left_out),
                "other": spot_json(&contradiction.other) })
    }));
    lines.extend(
        findings.superseded.iter().map(|spot| json!({ "found": "superseded", "block": spot_json(spot) })),
    );
    lines.extend(
        findings.impossible.iter().map(|spot| json!({ "found": "impossible", "block": spot_json(spot) })),
    );
    lines.extend(findings.newer.iter().map(|spot| json!({ "found": "newer", "block": spot_json(spot) })));
    lines.extend(findings.refused.iter().map(
        |spot| json!({ "found": "unreadable", "file": spot.file, "offset": spot.offset, "length": spot.len }),
    ));
    let refused = findings.refused_files.iter();
    lines.extend(refused.map(|(file, why)| json!({ "found": "unreadable", "file": file, "why": why })));
    lines.extend(findings.is_ring_foreign.then(|| json!({ "found": "foreign_ring", "file": "ring" })));
    lines.extend(report.questions.iter().map(question_json));
    lines.push(json!({
        "found": "rescued", "to": args.to, "records": findings.records,
        "low": findings.low.map(LogPosition::get), "high": findings.high.map(LogPosition::get),
        "finished": report.finished, "to_tell": report.to_tell, "to_abort": report.to_abort,
        "in_question": report.questions.len(), "given_up": report.given_up,
    }));
    lines
}

fn missing_json(missing: &Missing) -> Value {
    let remains: Vec<Value> = missing.remains.iter().map(spot_json).collect();
    json!({ "found": "missing", "from": missing.first.get(), "to": missing.last.get(), "remains": remains })
}

fn spot_json(spot: &Spot) -> Value {
    let records = spot.records.map(|(first, last)| [first.get(), last.get()]);
    json!({ "file": spot.file, "offset": spot.offset, "length": spot.len, "records": records })
}

fn question_json(question: &Question) -> Value {
    let branches = question.plan.as_ref().map(|plan| {
        let branch = |(number, branch): (usize, &crate::plan::PlannedBranch)| {
            json!({ "branch": number, "service": branch.service, "method": branch.method, "work": branch.work })
        };
        plan.branches.iter().enumerate().map(branch).collect::<Vec<_>>()
    });
    let later: Vec<_> =
        question.later.iter().map(|(lsn, says)| json!({ "lsn": lsn.get(), "says": says })).collect();
    let (why, detail) = why(question);
    json!({
        "found": "in_question", "transaction": question.id.to_string(), "why": why, "detail": detail,
        "state": question.stood, "route": question.plan.as_ref().map(|plan| plan.route.clone()),
        "branches": branches, "later": later, "parked": true,
    })
}

/// Why a transaction is in question: a word, and a sentence.
fn why(question: &Question) -> (&'static str, String) {
    match &question.why {
        Doubt::Undecided => ("undecided", "what was decided may be among the missing records".to_owned()),
        Doubt::Disorder(words) => ("disorder", words.clone()),
        Doubt::NoBeginning => ("no_beginning", "who takes part is among the missing records".to_owned()),
    }
}

fn table(report: &Report, args: &Args, out: &mut dyn Write) -> io::Result<()> {
    let findings = &report.findings;
    let high = findings.high.map_or_else(|| "none".to_owned(), |lsn| format!("up to {lsn}"));
    writeln!(
        out,
        "{}: {} records ({high}) rescued into {}",
        args.data_dir.display(),
        findings.records,
        args.to.display()
    )?;
    for line in losses(report) {
        writeln!(out, "MISSING: {line}")?;
    }
    let more = if report.given_up > 0 { " more" } else { "" };
    if report.given_up > 0 {
        let records = report.given_up;
        writeln!(out, "note: {records} records say `gave_up`: what was lost before is missing here as well")?;
    }
    if report.is_whole() {
        writeln!(out, "nothing{more} is missing")?;
    }
    if findings.is_ring_foreign {
        writeln!(out, "left out: the file `ring`, which belongs to another log")?;
    }
    for (blocks, what) in [
        (&findings.superseded, "that a later start wrote over"),
        (&findings.impossible, "with numbers that this log never came to: somebody sent them"),
    ] {
        if let Some(first) = blocks.first() {
            let (count, place) = (blocks.len(), place(first));
            writeln!(out, "left out: {count} blocks {what}, the first {place}; --format json lists them")?;
        }
    }
    writeln!(
        out,
        "transactions: {} ended, {} to be told of their decision, {} to be aborted as undecided, {} in question",
        report.finished,
        report.to_tell,
        report.to_abort,
        report.questions.len()
    )?;
    if !findings.missing.is_empty() || !findings.is_end_witnessed() || !findings.is_beginning_known() {
        writeln!(out, "of transactions that are lost wholly, with every record of them, nobody knows")?;
    }
    if report.questions.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["transaction", "stood at", "route", "look at", "known since", "why"]);
    for question in &report.questions {
        let (route, look_at) =
            question.plan.as_ref().map_or(("-".to_owned(), "every service".to_owned()), |plan| {
                let branches = plan.branches.iter().enumerate();
                let names: Vec<_> =
                    branches.map(|(number, branch)| format!("{number} ({})", branch.service)).collect();
                (plan.route.clone(), names.join(", "))
            });
        let later: Vec<_> = question.later.iter().map(|(lsn, says)| format!("{says} ({lsn})")).collect();
        let (id, stood) = (question.id.to_string(), question.stood.to_owned());
        table.add_row(
            [id, stood, route, look_at, later.join(", "), why(question).1].map(|cell| printable(&cell)),
        );
    }
    writeln!(out, "\n{}", table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

/// What is missing, as sentences.
fn losses(report: &Report) -> Vec<String> {
    let findings = &report.findings;
    let mut losses: Vec<String> = findings.missing.iter().map(missing_words).collect();
    if !findings.is_end_witnessed() {
        let next = findings.high.map_or(1, |high| high.get() + 1);
        let why = match &findings.moved {
            Some(why) => format!(
                "the directory is a copy, or was restored: {why}. {}",
                copied_words(findings.is_older)
            ),
            None => "no witness can be trusted, and nobody knows the end".to_owned(),
        };
        losses.push(format!("perhaps records from {next} on: {why}"));
    }
    if !findings.is_beginning_known() {
        let low = findings.low.map_or_else(|| "the end".to_owned(), |low| low.to_string());
        losses.push(format!("perhaps records before {low}: nobody knows whether they were retired"));
    }
    let not_record = |(lsn, error): &(_, _)| format!("record {lsn}, which is whole: {error}");
    losses.extend(report.not_records.iter().map(not_record));
    losses.extend(findings.contradictions.iter().map(|contradiction| {
        let (out, other) = (place(&contradiction.left_out), place(&contradiction.other));
        format!("a whole block, left out: {out} does not fit to {other}")
    }));
    losses.extend(findings.newer.iter().map(|spot| {
        format!(
            "a block, left out: a newer program wrote {}, or somebody sent it to be in a record",
            place(spot)
        )
    }));
    losses.extend(
        findings.refused.iter().map(|spot| format!("what the disk refuses to read: {}", place(spot))),
    );
    let refused = findings.refused_files.iter();
    losses.extend(
        refused.map(|(file, why)| format!("what the disk refuses to read: {}: {why}", file.display())),
    );
    losses
}

fn copied_words(is_older: bool) -> &'static str {
    if is_older {
        "It has forgotten what was done since, so that no --accept-copy makes it complete: rescue what is newest, if there is anything newer"
    } else {
        "If it has everything that the node ever wrote, say so with --accept-copy complete"
    }
}

fn missing_words(missing: &Missing) -> String {
    let what = if missing.first == missing.last {
        format!("record {}", missing.first)
    } else {
        format!("records {} to {}", missing.first, missing.last)
    };
    let mut places: Vec<_> = missing.remains.iter().take(PLACES_MAX).map(place).collect();
    match missing.remains.len() {
        0 => places.push("nothing is left that says that it held them".to_owned()),
        count if count > PLACES_MAX => places.push(format!("and {} places more", count - PLACES_MAX)),
        _ => {}
    }
    format!("{what}: {}", places.join("; "))
}

fn place(spot: &Spot) -> String {
    let records = match spot.records {
        Some((first, last)) if first == last => format!(" (record {first})"),
        Some((first, last)) => format!(" (records {first} to {last})"),
        None => String::new(),
    };
    format!("{} at byte {}, {} bytes{records}", spot.file.display(), spot.offset, spot.len)
}
