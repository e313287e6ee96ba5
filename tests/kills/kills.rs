//! The kill test as a program: real processes, a bad network, and as many kills as wanted.
//!
//! ```text
//! cargo run --release --example kills -- --kills 2000
//! cargo run --release --example kills -- --kills 100 --loss 5 --slow 50 --partitions 20 --seed 7
//! cargo run --release --example kills -- --soak docs --seconds 1800
//! ```

#![allow(unreachable_pub, reason = "the attack is a module of two crates, a test and a program")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was found is printed")]

mod attack;
mod progress;
mod soak;
mod verdict;

use std::error::Error;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use attack::Lines;
use attack::proxy::Faults;
use attack::spaces::{self, Spaces};
use clap::Parser;
use progress::Progress;
use soak::level::Levels;
use soak::{Watch, plot, write_csv};
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
    /// How often the gateway is killed; 100 if left out, and in a soak every 5 s of its first third
    #[arg(long)]
    kills: Option<usize>,
    /// How often a bank is killed; a quarter of that if left out, and in a soak every 20 s
    #[arg(long)]
    participant_kills: Option<usize>,
    /// How often a bank is cut off from the gateway for 0.2 to 2.5 s; a fiftieth of the kills if left out, and in a soak every 30 s
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
    /// How long; if left out, 40 transfers for each kill, and half an hour in a soak
    #[arg(long)]
    seconds: Option<usize>,
    /// The most transfers that are begun in a second; as many as possible if left out, and 100 in a soak
    #[arg(long)]
    rate: Option<NonZero<u32>>,
    /// Look at memory, disk and more all the while, keep it in soak.csv and soak.svg in this directory, and fail where it is
    /// not level. The gateway is killed in the first third only, and its log keeps a minute
    #[arg(long, value_name = "DIR")]
    soak: Option<PathBuf>,
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
    let (progress, watch) = (Progress::new(&options), Watch::new(directory.join("gateway")));
    let watcher = |event: Event<'_>| {
        progress.on(event);
        watch.on(event);
    };
    let ran = tokio::select! {
        ran = harness::run(&options, &watcher) => ran,
        () = watch.take_samples(), if args.soak.is_some() => unreachable!("it never ends"),
    };
    progress.finish();
    let again = format!("the same choices: --seed {}; look into {}", options.seed, directory.display());
    let report = ran.map_err(|error| format!("{}\n{again}", sentences(&error)))?;
    let verdict = Verdict { report: &report, tally: lines.tally() };
    print!("{verdict}");
    let is_level = args.soak.as_deref().map_or(Ok(true), |to| soaked(&watch, to))?;
    if !verdict.problems().is_empty() || !is_level {
        println!("{again}");
        return Ok(ExitCode::FAILURE);
    }
    if args.data_dir.is_none() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps the samples and their picture, and says whether they are level.
fn soaked(watch: &Watch, to: &Path) -> Result<bool, Box<dyn Error>> {
    let samples = watch.samples();
    write_csv(&samples, &to.join("soak.csv"))?;
    plot::draw(&samples, &to.join("soak.svg"))?;
    let levels = Levels::of(&samples)?;
    println!("\n{} samples\n{levels}", samples.len());
    let problems = levels.problems();
    println!("{}", if problems.is_empty() { "All of it is level.".to_owned() } else { problems.join("\n") });
    Ok(problems.is_empty())
}

async fn prepare(args: &Args, spaces: Option<Spaces>) -> io::Result<(Options, Arc<Lines>)> {
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let faults = Faults { loss: args.loss, slow: Duration::from_millis(args.slow) };
    let lines = Arc::new(Lines::lay(faults, spaces, seed).await?);
    let usual = Options {
        seed,
        data_dir: data_dir(args)?,
        clients: args.clients,
        others: 2,
        pace: args.rate,
        network: lines.clone(),
        ..Options::new(std::env::current_exe()?, PathBuf::new(), seed)
    };
    let options = if args.soak.is_some() { soak_options(args, usual) } else { kill_options(args, usual) };
    Ok((options, lines))
}

/// As many kills as quickly as the node recovers.
fn kill_options(args: &Args, usual: Options) -> Options {
    let kills = args.kills.unwrap_or(100);
    let transfers = Extent::AtLeast((kills * TRANSFERS_A_KILL).max(1_000));
    Options {
        extent: args.seconds.map_or(transfers, seconds),
        kills,
        bank_kills: args.participant_kills.unwrap_or(kills / 4),
        cuts: args.partitions.unwrap_or(kills / 50),
        ..usual
    }
}

/// A steady load for a long time, with a log that is shortened all the while.
fn soak_options(args: &Args, usual: Options) -> Options {
    let long = args.seconds.unwrap_or(1_800);
    Options {
        extent: seconds(long),
        pace: args.rate.or(NonZero::new(100)),
        kills: args.kills.unwrap_or(long / 3 / 5),
        parts: 3,
        bank_kills: args.participant_kills.unwrap_or(long / 20),
        cuts: args.partitions.unwrap_or(long / 30),
        retention: Some(Duration::from_mins(1)),
        ..usual
    }
}

fn seconds(seconds: usize) -> Extent {
    Extent::Time(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
}

fn plan(options: &Options, args: &Args) -> String {
    let extent = match options.extent {
        Extent::Transfers(transfers) | Extent::AtLeast(transfers) => format!("{transfers} transfers"),
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
