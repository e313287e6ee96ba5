//! `unanimous serve`: runs a gateway node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{self, Config, ConfigError};
use crate::server::node::{Setup, Stopped, run as run_node};
use crate::telemetry;

/// Run a gateway node until SIGTERM or Ctrl-C; a second signal stops it at once, and loses nothing.
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
    let mut config = config::load(&args.config, config::process_env())?;
    config.node.data_dir = args.data_dir.unwrap_or(config.node.data_dir);
    config.node.listen = args.listen.unwrap_or(config.node.listen);
    config.node.admin = args.admin.unwrap_or(config.node.admin);
    let signals = signals()?;
    Ok(run_node(setup(config), signals).await?)
}

/// What the configuration says, as the node wants it.
#[must_use]
pub fn setup(config: Config) -> Setup {
    let discovery = Arc::new(config.discovery());
    let participants =
        config.services.into_iter().filter_map(|(name, service)| Some((name, service.transaction?)));
    Setup {
        participants: participants.collect(),
        discovery,
        node: config.node,
        log: config.log,
        coordinator: config.coordinator,
        gateway: config.gateway,
        routes: config.routes,
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
