//! The other processes of a benchmark: the same program, told by its first arguments to be something else.
//!
//! The gateway is the real node, put together as `unanimous serve` does it; only which log it has is
//! open. So both sides of a comparison are one program.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use unanimous::cli::serve::setup;
use unanimous::clock::SystemClock;
use unanimous::journal::{Journal, JournalError, OpenError};
use unanimous::server::node::{self, Stopped};
use unanimous::{config, telemetry};

use super::Failure;
use super::node::{Node, Plan};
use super::nothing::Nothing;
use super::participant::{Control, serve};

/// Which log a gateway has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogKind {
    /// The log of production, on sled.
    Sled,
    /// One that forgets everything at once.
    Nothing,
}

/// A participant in a process of its own. It dies with this value.
pub(crate) struct Participant {
    pub(crate) address: SocketAddr,
    child: Child,
}

/// Plays the role that the arguments name; `false` where they name none.
pub(crate) fn play() -> Result<bool, Failure> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("role:participant"), _) => super::run(participant())?,
        (Some("role:sled"), Some(config)) => gateway(LogKind::Sled, config.as_ref())?,
        (Some("role:nothing"), Some(config)) => gateway(LogKind::Nothing, config.as_ref())?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Starts a gateway on `plan` over a log of this kind.
pub(crate) async fn start(plan: &Plan, log: LogKind) -> Result<Node, Failure> {
    let role = match log {
        LogKind::Sled => "role:sled",
        LogKind::Nothing => "role:nothing",
    };
    let arguments: [&OsStr; 2] = [role.as_ref(), plan.config.as_os_str()];
    let mut node = Node::spawn_as(plan, &std::env::current_exe()?, &arguments)?;
    node.ready().await?;
    Ok(node)
}

impl Participant {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role:participant").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the participant has no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, child })
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn participant() -> Result<(), Failure> {
    end_with_the_parent();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(serve(listener, Arc::<Control>::default()).await?)
}

/// The same runtime and the same node as `unanimous serve`.
fn gateway(log: LogKind, file: &Path) -> Result<(), Failure> {
    end_with_the_parent();
    telemetry::start();
    let setup = setup(config::load(file, std::iter::empty())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (_told, signals) = mpsc::channel(1);
    let node = async {
        match log {
            LogKind::Sled => node::run(setup, signals).await,
            LogKind::Nothing => node::run_over(setup, async |setup| open_nothing(setup).await, signals).await,
        }
    };
    Ok(runtime.block_on(node)?)
}

async fn open_nothing(setup: &node::Setup) -> Result<(Journal, unanimous::journal::replay::Found), Stopped> {
    let failed = |source: JournalError| Stopped::Log { directory: "nowhere".to_owned(), source };
    let store = Arc::new(Nothing::default());
    let log = unanimous_wal::create_in(store, 1, unanimous_wal::Options::default());
    let log = log.map_err(|error| failed(OpenError::Log(error).into()))?;
    Journal::start(log, &setup.log, Arc::new(SystemClock), "bench").await.map_err(failed)
}

/// The parent holds our stdin; it ends when the parent does, however that happens.
fn end_with_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        #[expect(clippy::disallowed_methods, reason = "nothing of this process is to outlive its parent")]
        std::process::exit(0);
    });
}
