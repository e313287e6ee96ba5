//! The command line: one file a command. Data goes to stdout, all else to stderr.
//!
//! Exit codes: 0 fine; 1 it found something wrong; 2 usage; 74 the log could not be written; 78 bad
//! configuration. They are given out here and nowhere else.

pub mod admin;
pub mod check;
pub mod completions;
pub mod conformance;
pub mod demo;
pub mod dump;
pub mod route;
pub mod salvage;
pub mod serve;
pub mod tx;
pub mod verify;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::admin::AdminError;
use self::check::CheckError;
use self::conformance::ConformanceError;
use self::demo::DemoError;
use self::demo::bank::BankError;
use self::dump::DumpError;
use self::route::RouteError;
use self::serve::ServeError;
use crate::server::node::Stopped;

/// A gateway whose multi-backend writes happen at every backend or at none.
#[derive(Debug, Parser)]
#[command(name = "unanimous", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  unanimous demo                                         see it work, with real kills
  unanimous check --config gateway.toml                  validate a configuration
  unanimous route explain GET /a/7 --config gateway.toml which route a request takes, and why
  unanimous serve --config gateway.toml                  run a node
  unanimous tx list --in-doubt --url http://127.0.0.1:8001   what is in doubt now
  unanimous dump --data-dir ./data                       read the log of a stopped node
  unanimous conformance --help                           test a participant that you wrote";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    /// See the whole story on this machine: real processes, real kills, and a proof at the end.
    Demo(demo::DemoArgs),
    Check(check::Args),
    #[command(subcommand)]
    Route(route::Command),
    Dump(dump::Args),
    Verify(verify::Args),
    Salvage(salvage::Args),
    #[command(subcommand)]
    Tx(tx::Command),
    Conformance(Box<conformance::Args>),
    Completions(completions::Args),
    /// A bank that takes part in the demo.
    #[command(hide = true)]
    DemoBank(demo::bank::BankArgs),
}

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Bank(#[from] BankError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Dump(#[from] DumpError),
    #[error(transparent)]
    Verify(#[from] verify::VerifyError),
    #[error(transparent)]
    Conformance(#[from] ConformanceError),
    #[error(transparent)]
    Salvage(#[from] salvage::RescueError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Output(error)),
    };
    let mut out = ToWhoListens(io::stdout());
    let ended = runtime.block_on(run(command, &mut out));
    // What still runs is either finished by its own end or as safe to cut as by SIGKILL.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(Failure::Dump(DumpError::Output(error))) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

async fn run(command: Command, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(args) => serve::run(args).await?,
        Command::Demo(args) => return Ok(demo::run(&args, out).await?),
        Command::DemoBank(args) => demo::bank::run(args).await?,
        Command::Check(args) => check::run(&args, out, &mut io::stderr())?,
        Command::Route(command) => return Ok(route::run(&command, out)?),
        // Of a log that is followed there is no end to go on to.
        Command::Dump(args) => dump::run(&args, &mut io::stdout()).await?,
        Command::Verify(args) => return Ok(verify::run(&args, out)?),
        Command::Salvage(args) => return Ok(salvage::run(&args, out)?),
        Command::Tx(command) => tx::run(command, out).await?,
        Command::Conformance(args) => return Ok(conformance::run(&args, out).await?),
        Command::Completions(args) => completions::run(&args, &mut Cli::command(), out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells a person what went wrong, if one listens.
fn fail(failure: &Failure) -> ExitCode {
    let mut out = io::stderr();
    let _ = writeln!(out, "unanimous: {failure}");
    let mut cause = failure.source();
    let mut said = failure.to_string();
    while let Some(error) = cause {
        let text = error.to_string();
        // Many sentences already hold their cause.
        if !said.contains(&text) {
            let _ = writeln!(out, "  because: {text}");
        }
        said = text;
        cause = error.source();
    }
    exit_code(failure)
}

fn exit_code(failure: &Failure) -> ExitCode {
    let code = match failure {
        Failure::Serve(ServeError::Config(_))
        | Failure::Check(CheckError::Config(_))
        | Failure::Route(RouteError::Config(_))
        | Failure::Conformance(ConformanceError::Config(_)) => 78,
        Failure::Serve(ServeError::Node(Stopped::Log { .. } | Stopped::LogFailed(_)))
        | Failure::Salvage(salvage::RescueError::Write(_)) => 74,
        Failure::Serve(ServeError::Node(Stopped::AtOnce)) => 130,
        Failure::Dump(DumpError::Usage(_))
        | Failure::Route(RouteError::Usage(_))
        | Failure::Conformance(ConformanceError::Usage(_)) => 2,
        Failure::Serve(_)
        | Failure::Demo(_)
        | Failure::Bank(_)
        | Failure::Check(_)
        | Failure::Route(_)
        | Failure::Dump(_)
        | Failure::Verify(_)
        | Failure::Conformance(_)
        | Failure::Salvage(_)
        | Failure::Admin(_)
        | Failure::Output(_) => 1,
    };
    ExitCode::from(code)
}

/// Data for a reader who may go away: `verify | head` goes on, and ends with the exit code of `verify`.
struct ToWhoListens<W>(W);

impl<W: Write> Write for ToWhoListens<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if is_closed_pipe(&error) => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or_else(|error| if is_closed_pipe(&error) { Ok(()) } else { Err(error) })
    }
}

fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
