//! `unanimous conformance`: attacks a participant over HTTP, and says which rules of the protocol it keeps.
//!
//! It plays a node, and everything that can happen to a node's calls: repeats, copies at once, calls in a wrong order, calls of
//! a former life, silence, and a restart of the participant. It knows nothing of what the participant does: a rule is
//! judged by what is answered, and, where the participant shows its work (`--look`), by what changed there.
//!
//! ```text
//!  rules ─► script ─► play ─► sender ─────────► participant
//!  (a table)           │        (as a node sends)   │ asks
//!                      ▼                            ▼
//!         report ◄─ finding ◄─ look            coordinator
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`rules`], `table` | every rule: what, why, and the script that tries it |
//! | [`script`] | what a script can do |
//! | `target` | what is attacked, from the command line or a configuration |
//! | `attack` | the order of the rules, and the patience with one call |
//! | `play` | one script under way |
//! | [`sender`] | one call, and what was heard |
//! | `coordinator` | ids, epochs, and who answers when the participant asks |
//! | `look`, `amount` | what the participant shows, as numbers that add up |
//! | `restart` | killing it and starting it again |
//! | `finding` | what was found out about one rule |
//! | `mend` | what to do about a broken one |
//! | `report` | the same, printed |

mod amount;
mod attack;
mod coordinator;
mod finding;
mod look;
mod mend;
mod play;
mod report;
mod restart;
pub mod rules;
pub mod script;
pub mod sender;
mod table;
mod target;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use humantime::Duration as Span;

use super::check::Format;
use crate::config::ConfigError;
use attack::{Attack, Limits};
use coordinator::Coordinator;
use report::Report;
use restart::Restarter;
use rules::{Kind, RULES, Rule};
use sender::Sender;
use target::Target;

/// Attack a participant that you wrote, and see which rules of the protocol it keeps.
///
/// A participant is a service that does its share of a transaction in steps: `work` reserves it and promises, `prepare` (if
/// there is one) asks once more, and then `commit` does it or `abort` lets it go. Calls can be lost, sent twice, late, or in a
/// wrong order, and either side can be killed at any time. This command makes all of that happen, and looks whether the work
/// is still done once or not at all.
///
/// It does real work: some thirty transactions with the work of --body are committed. Use an instance for tests, with which nobody
/// else works meanwhile. Give it --look, --refused-body and --restart-command to have every rule tried. What is broken
/// comes with what was sent and answered, why that matters, and how to mend it; docs/PARTICIPANTS.md teaches the rest.
///
/// Exit code 0: every rule is kept that can be judged with the options given. 1: one is broken, or something that you asked
/// for could not be judged: the usual course, a rule named with --rule, what --look shows, what a restart leaves.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the participant is, such as `http://127.0.0.1:9001`; several where it has several instances.
    #[arg(value_name = "URL", required_unless_present = "config")]
    pub urls: Vec<String>,
    /// Path of the work call.
    #[arg(long, value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    pub work: Option<String>,
    /// Method of the work call.
    #[arg(long, default_value = "POST", conflicts_with = "config")]
    pub method: String,
    /// Path of the prepare call; left out: the answer to the work call is the vote.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub prepare: Option<String>,
    /// Path of the commit call.
    #[arg(long, value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    pub commit: Option<String>,
    /// Path of the abort call.
    #[arg(long, value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    pub abort: Option<String>,
    /// What prepare, commit and abort carry: an envelope, or the body of the work call again.
    #[arg(long, value_enum, default_value_t, conflicts_with = "config")]
    pub carry: Carry,
    /// Take the paths from a route of this configuration; --body is then what a client sends to the route.
    #[arg(long, value_name = "FILE", requires = "route")]
    pub config: Option<PathBuf>,
    /// The id of the route.
    #[arg(long, value_name = "ID", requires = "config")]
    pub route: Option<String>,
    /// Which of its branches, from 0.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "config")]
    pub branch: usize,
    /// Work that it can do some thirty times over: the text itself, or @FILE.
    #[arg(long, value_name = "TEXT", default_value = "{}")]
    pub body: String,
    /// Work that it has to refuse; without it no rule about refusals can be judged.
    #[arg(long, value_name = "TEXT")]
    pub refused_body: Option<String>,
    /// The type of both.
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    pub content_type: String,
    /// A header of the client, which goes with the work: 'Authorization: Bearer x'.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,
    /// A path whose GET shows as JSON what commits have done, such as balances or entries. Without it repeats that are
    /// answered 2xx and done twice go unseen.
    #[arg(long, value_name = "PATH")]
    pub look: Option<String>,
    /// How long what is shown there may lag behind.
    #[arg(long, value_name = "TIME", default_value = "0s", requires = "look")]
    pub look_after: Span,
    /// Kills the participant and starts it again in the background; run by sh. Use kill -9.
    #[arg(long, value_name = "COMMAND", conflicts_with = "ask_restart")]
    pub restart_command: Option<String>,
    /// Ask on the terminal for the restart.
    #[arg(long)]
    pub ask_restart: bool,
    /// The longest each step of a restart may take: the command, then until it answers (502, 503 and 504 say that it is still
    /// coming up), then until --look shows something.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub restart_within: Span,
    /// The longest one call may take; default: 2s, or as configured.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// How long a call is tried again where the answer is 425, 5xx or none.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub patience: Span,
    /// How long a promise has to hold, with nothing else done meanwhile; the run takes so much longer.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub hold: Span,
    /// Where the URL in Transaction-Coordinator is answered. The other node of the rule `another-node` takes any port beside it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How the participant reaches that, where it is on another machine; default: from --listen.
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,
    /// Only this rule, after the usual course; may be given several times. The report begins each rule with its name.
    #[arg(long = "rule", value_name = "RULE", hide_possible_values = true, value_parser = PossibleValuesParser::new(names()))]
    pub rules: Vec<String>,
    /// A report for people, or json: one rule a line, as an object.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

const EXAMPLES: &str = r#"Examples:
  the bank of examples/bank.py, by its answers alone
    unanimous conformance http://127.0.0.1:9001 --work /debit --prepare /tx/prepare --commit /tx/commit \
        --abort /tx/abort --body '{"account":"alice","amount":1}'
  and by what it did, what it refuses, and what it remembers when it is killed
    .. --look /accounts --refused-body '{"account":"alice","amount":1000000}' --restart-command ./restart-bank
  a branch of a route, as the gateway would call it
    unanimous conformance --config examples/bank.toml --route transfer --branch 1 \
        --body '{"from":{"account":"alice","amount":1},"to":{"account":"bob","amount":1}}'"#;

/// What prepare, commit and abort carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Carry {
    /// `{"transaction":"<id>","branch":0,"operation":"commit"}`.
    #[default]
    Envelope,
    /// The body of the work call again.
    Request,
}

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The participant could not be reached.
    #[error("the participant cannot be reached at {url} ({reason}): is it running, and is this its address?")]
    Unreachable {
        /// What was called.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It refused the first work of all.
    #[error(
        "the participant refuses the work at {url}: {status} {said}\n  Give it work that it can do some thirty times over \
         (--work, --body, --header); then it can be judged."
    )]
    Refused {
        /// What was called.
        url: String,
        /// The status of the answer.
        status: u16,
        /// Its body.
        said: String,
    },
    /// The address for questions cannot be listened on.
    #[error("cannot listen on {address} (--listen): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made: {0}")]
    Client(#[from] reqwest::Error),
    /// The report could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Attacks the participant and prints what was found to `out`. Failure (1) where a rule is broken, or
/// what was asked for could not be judged.
pub async fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode, ConformanceError> {
    let target = Target::of(args)?;
    let look = args.look.as_deref().map(|path| target.url(path)).transpose()?;
    let sender = Sender::new(target.options.speaks, target.options.timeout)?;
    let coordinator = Coordinator::start(args.listen, args.advertise.as_deref()).await;
    let coordinator =
        coordinator.map_err(|source| ConformanceError::Listen { address: args.listen, source })?;
    let limits = Limits {
        patience: args.patience.into(),
        restart: args.restart_within.into(),
        hold: args.hold.into(),
        lag: args.look_after.into(),
    };
    let wanted = |rule: &&Rule| {
        rule.kind() != Kind::Usual && (args.rules.is_empty() || args.rules.iter().any(|id| id == rule.id))
    };
    let rules: Vec<&Rule> = RULES.iter().filter(wanted).collect();
    warn(&target);
    let mut report = Report::new(args.format, !args.rules.is_empty(), out);
    let attack = Attack::new(target, sender, coordinator, restarter(args), limits, look);
    attack.run(&rules, &mut report).await?;
    Ok(if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "a person is warned before anything happens")]
fn warn(target: &Target) {
    let endpoints: Vec<_> = target.endpoints.iter().map(ToString::to_string).collect();
    eprintln!(
        "This does real work at {}: some thirty transactions are committed. Use an instance for tests.",
        endpoints.join(", ")
    );
}

fn restarter(args: &Args) -> Restarter {
    match &args.restart_command {
        Some(command) => Restarter::Command(command.clone()),
        None if args.ask_restart => Restarter::Person,
        None => Restarter::Nobody,
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.id)
}
