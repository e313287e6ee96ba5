//! `unanimous verify`: whether every record of a log is there and makes sense.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::dump::{DumpError, offline};
use crate::journal::inspect::audit;

/// Check every record of a stopped node's log: checksum, sequence, encoding, legal order.
///
/// The directory is not changed. Exit code 0: sound; 1: something is wrong, and named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the log.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Why a log could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be opened.
    #[error(transparent)]
    Log(#[from] DumpError),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Checks the log and prints what was found.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode, VerifyError> {
    let audit = audit(&args.data_dir).map_err(|error| offline(error, "verify"))?;
    let (records, finished, unfinished) = (audit.records, audit.finished, audit.unfinished);
    let found = match audit.high {
        Some(high) => {
            format!(
                "{records} records (up to {high}), {finished} transactions ended, {unfinished} unfinished"
            )
        }
        None if audit.faults.is_empty() => "no records".to_owned(),
        None => "no record can be read".to_owned(),
    };
    writeln!(out, "{}: {found}", args.data_dir.display())?;
    for note in &audit.notes {
        writeln!(out, "note: {note}")?;
    }
    for fault in &audit.faults {
        writeln!(out, "WRONG: {fault}")?;
    }
    if audit.faults.is_empty() {
        writeln!(out, "sound")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(advice) = audit.advice {
        writeln!(out, "next: {advice}")?;
    }
    Ok(ExitCode::FAILURE)
}
