//! The kill test as a program: real processes, a bad network, and as many kills as wanted.
//!
//! ```text
//! cargo run --release --example kills -- --kills 2000
//! cargo run --release --example kills -- --kills 100 --loss 5 --slow 50 --partitions 20 --seed 7
//! ```

#![allow(unreachable_pub, reason = "the attack is a module of two crates, a test and a program")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was found is printed")]

mod attack;
mod progress;
mod verdict;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use attack::Lines;
use attack::proxy::Faults;
use attack::spaces::{self, Spaces};
use clap::Parser;
use progress::Progress;
use unanimous::cli::demo::harness::{self, Event, Extent, Options};
use verdict::{Verdict, sentences};

/// Commands of `unanimous` that this program is itself, for the processes it starts: so that what is tested is what was built.
const OWN: [&str; 3] = ["serve", "demo-bank", "verify"];

/// Transfers for each kill, where no time is given: some hundred milliseconds of traffic.
const TRANSFERS_A_KILL: usize = 40;

/// Kills a gateway and its banks with SIGKILL, loses and delays what they send, cuts them off, and proves that nothing was torn.
///
/// Exit code 1 when a promise was broken; the directory with everything that the processes kept and said is named then.
#[derive(Debug, Parser)]
#[command(name = "kills")]
struct Args {
    /// How often the gateway is killed
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// How often a bank is killed; a quarter of the kills if left out
    #[arg(long)]
    participant_kills: Option<usize>,
    /// How often a bank is cut off from the gateway for 0.2 to 2.5 s; a fiftieth of the kills if left out
    #[arg(long)]
    partitions: Option<usize>,
    /// So many of a hundred calls to banks are lost, come late, hang, or lose their answer
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    loss: f64,
    /// The longest that a call to a bank is held up, in milliseconds
    #[arg(long, default_value_t = 5, value_name = "MS")]
    slow: u64,
    /// How many clients make transfers at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How long; if left out, 40 transfers for each kill
    #[arg(long)]
    seconds: Option<u64>,
    /// Make partitions with a proxy also where network namespaces can be had
    #[arg(long)]
    no_namespaces: bool,
    /// Repeats who pays whom, what is killed when, and what is lost
    #[arg(long)]
    seed: Option<u64>,
    /// An empty directory for everything that is kept; if left out, one that goes when all is well
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|command| OWN.contains(&command.as_str())) {
        return unanimous::cli::main();
    }
    let args = Args::parse();
    let inside = if args.no_namespaces { Err("not wanted".to_owned()) } else { spaces::move_into_one() };
    let spaces = match inside {
        Ok(()) => Spaces::make().map(Some),
        Err(why) => {
            eprintln!("no network namespaces ({why}): a proxy makes the partitions");
            Ok(None)
        }
    };
    let ran = spaces.map_err(Into::into).and_then(|spaces| {
        let runtime = tokio::runtime::Runtime::new()?;
        let ran = runtime.block_on(async {
            tokio::select! {
                ran = run(&args, spaces) => ran,
                _ = tokio::signal::ctrl_c() => Err("interrupted; everything that ran was killed".into()),
            }
        });
        runtime.shutdown_background();
        ran
    });
    ran.unwrap_or_else(|error| {
        eprintln!("kills: {}", sentences(error.as_ref()));
        ExitCode::FAILURE
    })
}

async fn run(args: &Args, spaces: Option<Spaces>) -> Result<ExitCode, Box<dyn Error>> {
    let (options, lines) = prepare(args, spaces).await?;
    let directory = options.data_dir.clone();
    println!("{}\nseed {}; everything is in {}\n", plan(&options, args), options.seed, directory.display());
    let progress = Progress::new(&options);
    let ran = harness::run(&options, &|event: Event<'_>| progress.on(event)).await;
    progress.finish();
    let again = format!("the same choices: --seed {}; look into {}", options.seed, directory.display());
    let report = ran.map_err(|error| format!("{}\n{again}", sentences(&error)))?;
    let verdict = Verdict { report: &report, tally: lines.tally() };
    print!("{verdict}");
    if !verdict.problems().is_empty() {
        println!("{again}");
        return Ok(ExitCode::FAILURE);
    }
    if args.data_dir.is_none() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn prepare(args: &Args, spaces: Option<Spaces>) -> io::Result<(Options, Arc<Lines>)> {
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let faults = Faults { loss: args.loss, slow: Duration::from_millis(args.slow) };
    let lines = Arc::new(Lines::lay(faults, spaces, seed).await?);
    let quiet = Options::new(std::env::current_exe()?, data_dir(args)?, seed);
    let extent = match args.seconds {
        Some(seconds) => Extent::Time(Duration::from_secs(seconds)),
        None => Extent::Transfers((args.kills * TRANSFERS_A_KILL).max(1_000)),
    };
    let options = Options {
        extent,
        clients: args.clients,
        others: 2,
        kills: args.kills,
        bank_kills: args.participant_kills.unwrap_or(args.kills / 4),
        cuts: args.partitions.unwrap_or(args.kills / 50),
        network: lines.clone(),
        ..quiet
    };
    Ok((options, lines))
}

fn plan(options: &Options, args: &Args) -> String {
    let extent = match options.extent {
        Extent::Transfers(transfers) => format!("{transfers} transfers"),
        Extent::Time(time) => format!("{} s", time.as_secs()),
    };
    format!(
        "{extent} by {} clients; {} kills of the gateway, {} of banks, {} partitions; {} % of the calls meet a fault, \
         each is up to {} ms slow",
        options.clients, options.kills, options.bank_kills, options.cuts, args.loss, args.slow
    )
}

/// The directory that was asked for, if it is empty, or a new one.
fn data_dir(args: &Args) -> io::Result<PathBuf> {
    let Some(asked) = &args.data_dir else {
        return Ok(tempfile::Builder::new().prefix("unanimous-kills-").tempdir()?.keep());
    };
    std::fs::create_dir_all(asked)?;
    if std::fs::read_dir(asked)?.next().is_some() {
        return Err(io::Error::other(format!("{} is not empty", asked.display())));
    }
    asked.canonicalize()
}
