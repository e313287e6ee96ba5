//! A gateway as a process of its own, and what the system says of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Failure;
use super::wire::Wire;

/// How long a node may take until it is ready.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a node is set up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) config: PathBuf,
}

/// What the benchmarks vary in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) participant: SocketAddr,
    /// Whether the participants are asked to prepare; otherwise the answer to the work call is the vote.
    pub(crate) asks: bool,
    pub(crate) reply_within: &'a str,
    pub(crate) retention: &'a str,
}

/// A running node. It dies with this value.
pub(crate) struct Node {
    pub(crate) plan: Plan,
    child: Child,
}

impl Plan {
    /// Writes the configuration of a node into `directory`.
    pub(crate) fn new(directory: &Path, choice: &Choice<'_>) -> Result<Self, Failure> {
        let (listen, admin) = (free_address()?, free_address()?);
        let (data, config) = (directory.join("data"), directory.join("unanimous.toml"));
        let Choice { participant, asks, reply_within, retention } = choice;
        let service = |name: &str, prefix: &str| {
            let prepare = if *asks { format!("prepare = \"{prefix}/prepare\"\n") } else { String::new() };
            format!(
                "[services.{name}]\nendpoints = [\"http://{participant}\"]\n[services.{name}.transaction]\n\
                 {prepare}commit = \"{prefix}/commit\"\nabort = \"{prefix}/abort\"\n"
            )
        };
        let services = [service("accounts", ""), service("ledger", ""), service("stuck", "/hold")].concat();
        let route = |id: &str, second: &str| {
            format!(
                "[[routes]]\nid = \"{id}\"\nmatch = {{ methods = [\"POST\"], path = \"/{id}\" }}\n\
                 [routes.transaction]\nreply_within = \"{reply_within}\"\nbranches = [\n\
                 {{ service = \"accounts\", path = \"/debit\" }},\n{{ service = \"{second}\", path = \"/credit\" }}]\n"
            )
        };
        let text = format!(
            "[node]\ndata_dir = \"{}\"\nlisten = \"{listen}\"\nadmin = \"{admin}\"\n\
             [log]\nretention = \"{retention}\"\n{services}{}{}",
            data.display(),
            route("transfers", "ledger"),
            route("stuck", "stuck"),
        );
        fs::write(&config, text)?;
        Ok(Self { directory: directory.to_owned(), listen, admin, config })
    }

    /// The directory of the log.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the node has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.directory.join("stderr")).unwrap_or_default()
    }
}

impl Node {
    /// Starts the program of this package on `plan`, and does not wait.
    pub(crate) fn spawn(plan: &Plan) -> Result<Self, Failure> {
        let config = plan.config.as_os_str();
        Self::spawn_as(
            plan,
            Path::new(env!("CARGO_BIN_EXE_unanimous")),
            &["serve".as_ref(), "--config".as_ref(), config],
        )
    }

    /// Starts some program that is a node, and does not wait.
    pub(crate) fn spawn_as(plan: &Plan, program: &Path, arguments: &[&OsStr]) -> Result<Self, Failure> {
        let stderr = File::create(plan.directory.join("stderr"))?;
        let mut command = Command::new(program);
        // Held open by us, for those programs of ours that end when we do.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        Ok(Self { plan: plan.clone(), child: command.spawn()? })
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok((200, _)) = get(self.plan.admin, "/readyz").await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the node ended with {status}: {}", self.plan.said()).into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err(format!("the node was not ready in {PATIENCE:?}: {}", self.plan.said()).into())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// A number from `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let (_, text) = get(self.plan.admin, "/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = line.ok_or_else(|| format!("/metrics has no {name}"))?;
        Ok(number.trim().parse()?)
    }

    /// A figure of `/proc/PID/status` in MiB: `VmRSS` is memory now, `VmHWM` the most it ever was.
    pub(crate) fn memory(&self, field: &str) -> Result<f64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such field")?;
        Ok(number.trim().parse::<f64>()? / 1024.0)
    }

    /// Seconds of processor time so far, its own and the kernel's for it.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        // USER_HZ, which is 100 on every Linux that Rust runs on.
        Ok(ticks / 100.0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), Failure> {
    let mut wire = Wire::new(TcpStream::connect(address).await?)?;
    wire.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await?;
    if wire.read().await? {
        Ok((wire.status(), String::from_utf8_lossy(wire.body()).into_owned()))
    } else {
        Err("the connection was closed".into())
    }
}

/// Bytes that a directory takes on the disk, holes left out.
pub(crate) fn disk(directory: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What sled has just removed is gone, and takes nothing.
        let Ok(known) = entry.metadata() else { continue };
        sum += if known.is_dir() { disk(&entry.path())? } else { known.blocks() * 512 };
    }
    Ok(sum)
}

/// An address of this machine that nobody listens on, below the range of outgoing connections.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(15_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free".into())
}
