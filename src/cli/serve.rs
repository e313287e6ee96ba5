//! `unanimous serve`: runs a gateway node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{self, Config, ConfigError};
use crate::server::node::{Setup, Stopped, run as run_node};
use crate::server::reload::Origin;
use crate::telemetry;
use crate::trace::{Exporter, Spans};
use crate::watched::Watched;

/// Run a gateway node until SIGTERM or Ctrl-C; a second signal stops it at once, and loses nothing.
///
/// SIGHUP, a change of the configuration file, and `POST /v1/reload` at the admin listener read the file again: all of it is
/// taken over, without a lost request, or nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The directory of the log, in place of `node.data_dir`.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect, in place of `node.listen`.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where operators connect, in place of `node.admin`.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}

/// Why `serve` ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node.
    #[error(transparent)]
    Node(#[from] Stopped),
    /// Signals could not be listened for.
    #[error("signals cannot be listened for: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs the node.
pub async fn run(args: Args) -> Result<(), ServeError> {
    telemetry::start();
    // Before it is read, so that no change falls in between.
    let file = Watched::new(&args.config);
    let mut setup = read(&args)?;
    let again = move || read(&args).map_err(|error| mistakes(&error));
    setup.origin = Some(Origin { file, read: Arc::new(again), parse });
    let exporter = Exporter::from_environment();
    setup.spans = exporter.spans();
    let ended = run_node(setup, signals()?).await;
    if !matches!(ended, Err(Stopped::AtOnce)) {
        exporter.finish().await;
    }
    Ok(ended?)
}

/// What the file, the environment and the command line say.
fn read(args: &Args) -> Result<Setup, ConfigError> {
    let mut config = config::load(&args.config, config::process_env())?;
    config.node.data_dir = args.data_dir.clone().unwrap_or(config.node.data_dir);
    config.node.listen = args.listen.unwrap_or(config.node.listen);
    config.node.admin = args.admin.unwrap_or(config.node.admin);
    Ok(setup(config))
}

fn parse(name: &str, text: &str) -> Result<Setup, Vec<String>> {
    config::parse(name, text, std::iter::empty()).map(setup).map_err(|error| mistakes(&error))
}

/// One mistake a line.
fn mistakes(error: &ConfigError) -> Vec<String> {
    error.to_string().lines().map(str::to_owned).collect()
}

/// What the configuration says, as the node wants it.
#[must_use]
pub fn setup(config: Config) -> Setup {
    let (sources, policies) = (config.sources(), config.policies());
    let (mut participants, mut sections) = (BTreeMap::new(), BTreeMap::new());
    for (name, service) in config.services {
        if let Some(transaction) = service.transaction {
            participants.insert(name.clone(), transaction);
            sections.insert(name, service.section);
        }
    }
    Setup {
        participants,
        sections,
        sources,
        policies,
        register: config.register,
        node: config.node,
        log: config.log,
        coordinator: config.coordinator,
        gateway: config.gateway,
        routes: config.routes,
        guards: config.guards,
        origin: None,
        spans: Spans::default(),
    }
}

/// One message a SIGTERM or SIGINT.
fn signals() -> std::io::Result<mpsc::Receiver<()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (told, signals) = mpsc::channel(4);
    tokio_util::task::TaskTracker::new().spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(signals)
}
