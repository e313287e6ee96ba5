//! `unanimous dump`: prints the log.

use std::io::{self, Write};
use std::path::PathBuf;

use futures_util::TryStreamExt;
use serde_json::{Map, Value};
use tokio::io::AsyncBufReadExt;

use super::admin::{AdminClient, AdminError};
use super::check::Format;
use crate::journal::inspect::{Wanted, records};
use crate::journal::{LogPosition, OpenError, line};
use crate::plan::TransactionId;

/// Print the log: of a stopped node (--data-dir; the directory is not changed) or of a live one (--url).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a stopped node's log.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<PathBuf>,
    /// The admin address of a live node: `http://127.0.0.1:8001`.
    #[arg(long, value_name = "ADMIN")]
    pub url: Option<String>,
    /// Only records of this transaction.
    #[arg(long, value_name = "ID")]
    pub transaction: Option<TransactionId>,
    /// Only records of transactions that have not ended.
    #[arg(long)]
    pub in_doubt: bool,
    /// Only from this record on; they are numbered from 1.
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with new records as they come; needs --url.
    #[arg(long)]
    pub follow: bool,
    /// A table for people, or json: one object a line.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Why a log was not, or not wholly, printed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(&'static str),
    /// A live node works with the directory.
    #[error(
        "{source}: a live node holds it, so ask the node: unanimous dump --url http://ADMIN (node.admin){hint}"
    )]
    Locked {
        /// More to do, for the command that was given.
        hint: &'static str,
        /// What the log said.
        source: OpenError,
    },
    /// The log cannot be read, or not to its end.
    #[error(transparent)]
    Log(OpenError),
    /// The node did not answer.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The node was sending and stopped.
    #[error("the node stopped sending: it went down, or the connection broke ({0})")]
    BrokeOff(#[source] io::Error),
    /// The log could not be printed.
    #[error("the log cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Prints the log to `out`.
pub async fn run(args: &Args, out: &mut dyn Write) -> Result<(), DumpError> {
    let mut printer = Printer { format: args.format, out: io::BufWriter::new(out), lines: 0 };
    match (&args.data_dir, &args.url) {
        (Some(_), _) if args.follow => {
            return Err(DumpError::Usage("--follow reads a live node; give --url instead of --data-dir"));
        }
        (Some(directory), _) => stopped(args, directory, &mut printer)?,
        (None, Some(url)) => live(args, url, &mut printer).await?,
        (None, None) => {
            return Err(DumpError::Usage(
                "give --data-dir DIR (a stopped node's log) or --url ADMIN (a live node)",
            ));
        }
    }
    Ok(printer.out.flush()?)
}

/// What an error in opening the log of a stopped node means to the person at the keyboard.
pub(super) fn offline(error: OpenError, command: &str) -> DumpError {
    let hint = match command {
        "verify" => "; it verified its log when it started",
        "salvage" => "; what it can open needs no salvage",
        _ => "",
    };
    if error.is_locked() { DumpError::Locked { hint, source: error } } else { DumpError::Log(error) }
}

fn stopped(args: &Args, directory: &std::path::Path, printer: &mut Printer<'_>) -> Result<(), DumpError> {
    let from = args.from.and_then(LogPosition::new);
    let wanted = Wanted { from, transaction: args.transaction, in_doubt: args.in_doubt };
    let (mut left, mut result) = (args.limit.unwrap_or(u64::MAX), Ok(()));
    let read = records(directory, wanted, |lsn, entry| {
        if left == 0 || result.is_err() {
            return false;
        }
        left -= 1;
        result = printer.print(&line::json(lsn, entry));
        result.is_ok()
    });
    let ended = result.and_then(|()| printer.out.flush());
    // Also where nobody reads on: `dump | head` of a damaged log is no success.
    read.map_err(|error| offline(error, "dump"))?;
    Ok(ended?)
}

async fn live(args: &Args, url: &str, printer: &mut Printer<'_>) -> Result<(), DumpError> {
    let client = AdminClient::new(url)?;
    let path = query(args);
    let stream = client.stream(&path).await?.bytes_stream().map_err(io::Error::other);
    let mut lines = tokio_util::io::StreamReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(DumpError::BrokeOff)? {
        let value = serde_json::from_str(&line).map_err(|_| AdminError::NotJson { url: url.to_owned() })?;
        printer.print(&value)?;
        if args.follow {
            printer.out.flush()?;
        }
    }
    Ok(())
}

fn query(args: &Args) -> String {
    let Args { in_doubt, follow, .. } = args;
    let from = args.from.unwrap_or(1);
    let limit = args.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
    let only = args.transaction.map(|id| format!("&transaction={id}")).unwrap_or_default();
    format!("/v1/log?from={from}&in_doubt={in_doubt}&follow={follow}{limit}{only}")
}

struct Printer<'a> {
    format: Format,
    out: io::BufWriter<&'a mut dyn Write>,
    lines: u64,
}

impl Printer<'_> {
    fn print(&mut self, line: &Value) -> io::Result<()> {
        if self.format == Format::Json {
            return writeln!(self.out, "{line}");
        }
        if self.lines == 0 {
            writeln!(self.out, "{:>8}  {:24}  {:36}  {:9}  says", "lsn", "time", "transaction", "record")?;
        }
        self.lines += 1;
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        let lsn = line.get("lsn").map(Value::to_string).unwrap_or_default();
        let (time, transaction, record) = (text("time"), text("transaction"), text("record"));
        let said = printable(&line.as_object().map(says).unwrap_or_default());
        writeln!(self.out, "{lsn:>8}  {time:24}  {transaction:36}  {record:9}  {said}")
    }
}

/// What a record says beside the four columns: `decision=abort reason=refused by branch 1 (409)`.
fn says(line: &Map<String, Value>) -> String {
    let rest = line.iter().filter(|(name, value)| {
        !["lsn", "time", "transaction", "record"].contains(&name.as_str()) && !value.is_null()
    });
    let words = rest.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        Value::Array(items) => format!("{name}={}", items.iter().map(short).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let words: Vec<_> =
                members.iter().map(|(name, value)| format!("{name}:{}", short(value))).collect();
            format!("{name}={}", words.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => format!("{name}={value}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What participants and operators said, without what would move the cursor or colour the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A branch is named by its service; everything else is short already.
fn short(value: &Value) -> String {
    match value.get("service").unwrap_or(value) {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_participant_said_can_neither_forge_a_line_nor_colour_the_terminal() {
        let said = printable("409: x\n  7  FAKE \u{1b}[31mred");
        assert_eq!(said, "409: x\u{fffd}  7  FAKE \u{fffd}[31mred");
    }
}
