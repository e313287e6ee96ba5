//! `unanimous demo`: the whole story on one machine, with real processes and real kills.
//!
//! Three banks and a gateway are started, money is moved, the gateway and the banks are killed with SIGKILL while transfers
//! are in flight, and at the end it is proved that no money was made or lost and that nobody was lied to.
//! Nothing here is used by a node: it is a client, a set of participants, and an operator.
//!
//! ```text
//!  demo ── progress (stderr, while it runs)
//!    │  └─ story    (stdout, at the end)
//!    └──── harness ── starts and kills ──► gateway, bank, bank, bank
//! ```
pub mod bank;
pub mod harness;

mod progress;
mod story;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use harness::{Extent, HarnessError, Options};

/// Arguments of `demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// How many transfers are made
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub transfers: u32,
    /// How often the gateway is killed; banks are killed half as often
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub kills: u32,
    /// An empty directory for everything that is kept; a new one if left out
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Repeats who pays whom and what is killed when
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Why the demo could not be shown to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The run failed.
    #[error(
        "the run failed; `unanimous demo --seed {seed}` repeats it, and everything it kept is in {data_dir}"
    )]
    Run {
        /// Where its choices came from.
        seed: u64,
        /// Where everything is.
        data_dir: PathBuf,
        /// What failed.
        source: HarnessError,
    },
    /// There is something in the directory.
    #[error("{0} is not empty; the demo needs a directory of its own")]
    NotEmpty(PathBuf),
    /// A directory cannot be used, or the output cannot be written.
    #[error("the demo needs a directory and somewhere to print to")]
    Io(#[from] io::Error),
    /// Ctrl-C.
    #[error("interrupted; everything that ran was killed")]
    Interrupted,
}

/// Runs the demo and prints its story to `out`. Failure (1) where the promise was broken.
pub async fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<ExitCode, DemoError> {
    let data_dir = data_dir(args.data_dir.as_deref())?;
    let options = options(args, data_dir)?;
    let progress = progress::Progress::new(count(args.transfers));
    story::begin(out, args, &options)?;
    let watcher = |event: harness::Event<'_>| progress.on(event);
    let report = tokio::select! {
        report = harness::run(&options, &watcher) => report.map_err(|source| DemoError::Run {
            seed: options.seed,
            data_dir: options.data_dir.clone(),
            source,
        })?,
        _ = tokio::signal::ctrl_c() => return Err(DemoError::Interrupted),
    };
    progress.finish();
    story::end(out, &options, &report)?;
    Ok(if report.proof.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(args: &DemoArgs, data_dir: PathBuf) -> io::Result<Options> {
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    Ok(Options {
        extent: Extent::Transfers(count(args.transfers)),
        kills: count(args.kills),
        bank_kills: count(args.kills / 2),
        ..Options::new(std::env::current_exe()?, data_dir, seed)
    })
}

fn count(number: u32) -> usize {
    usize::try_from(number).expect("we run on machines of 32 bits and more")
}

/// The directory that was asked for, if it is empty, or a new one. It stays when the demo has ended.
fn data_dir(asked: Option<&Path>) -> Result<PathBuf, DemoError> {
    let Some(asked) = asked else {
        return Ok(tempfile::Builder::new().prefix("unanimous-demo-").tempdir()?.keep());
    };
    std::fs::create_dir_all(asked)?;
    if std::fs::read_dir(asked)?.next().is_some() {
        return Err(DemoError::NotEmpty(asked.to_owned()));
    }
    Ok(asked.canonicalize()?)
}
