//! The node under attack and its participants: what it is allowed to hold, and what it was asked and says.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::kit::Failure;
use crate::kit::node::{Node, Plan, free_address, get};
use crate::kit::wire::Wire;

/// Client connections that the node takes: a tenth of the clients that come.
pub(crate) const CONNECTIONS_MAX: usize = 1_000;
pub(crate) const OPEN_MAX: usize = 4_000;
pub(crate) const BODY_MAX: usize = 1024 * 1024;
pub(crate) const BODY_BUDGET: usize = 64 * 1024 * 1024;

/// How long the slow participant takes, and how many calls it may have at once: 400 a second.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_CALLS: usize = 8;

/// What a big answer has.
const BIG: usize = 8 * 1024 * 1024;

/// The most memory that `docs/OPERATING.md` ("How much memory") says of this configuration, in MiB.
pub(crate) fn bound() -> f64 {
    let mib = |bytes: usize| crate::kit::load::count(bytes) / 1024.0 / 1024.0;
    64.0 + mib(CONNECTIONS_MAX * 1024 * 1024) + mib(3 * BODY_BUDGET) + mib(OPEN_MAX * 16 * 1024)
}

/// All participants, in a process of their own. They die with this value.
pub(crate) struct Participants {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Participants {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("role:world").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("they have no stdout")?).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, child })
    }

    /// From now on the moody one confirms, or does not.
    pub(crate) async fn confirm(&self, confirms: bool) -> Result<(), Failure> {
        get(self.address, if confirms { "/moody/on" } else { "/moody/off" }).await.map(drop)
    }
}

impl Drop for Participants {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Plays the participants, where the arguments say so.
pub(crate) fn play() -> Result<bool, Failure> {
    if std::env::args().nth(1).as_deref() != Some("role:world") {
        return Ok(false);
    }
    crate::kit::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        tokio::select! {
            served = participants(listener) => served?,
            // The parent holds it open; whatever becomes of that, we go with it.
            ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])) => drop(ended?),
        }
        Ok(())
    })?;
    Ok(true)
}

/// Writes the configuration of the node.
pub(crate) fn plan(directory: &Path, participant: SocketAddr) -> Result<Plan, Failure> {
    let (listen, admin) = (free_address()?, free_address()?);
    let (data, config) = (directory.join("data"), directory.join("unanimous.toml"));
    let mut text = format!(
        "[node]\ndata_dir = \"{}\"\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nconnections_max = {CONNECTIONS_MAX}\n\
         open_transactions_max = {OPEN_MAX}\nbody_max = {BODY_MAX}\nbody_budget = {BODY_BUDGET}\nanswer_timeout = \"5s\"\n",
        data.display()
    );
    for (name, more) in [
        ("well", "prepare = \"/prepare\"\n".to_owned()),
        ("well2", "prepare = \"/prepare\"\n".to_owned()),
        ("slow", format!("calls_max = {SLOW_CALLS}\n")),
        ("hung", "timeout = \"30s\"\n".to_owned()),
        ("late", String::new()),
        ("bulk", String::new()),
        ("moody", String::new()),
    ] {
        let _ = write!(
            text,
            "[services.{name}]\nendpoints = [\"http://{participant}\"]\n[services.{name}.transaction]\n{more}\
             commit = \"/{name}/commit\"\nabort = \"/{name}/abort\"\n"
        );
    }
    for (id, services, reply_within) in [
        ("well", &["well", "well2"][..], "5s"),
        ("slow", &["slow"], "5s"),
        ("hung", &["hung"], "5s"),
        ("late", &["late"], "1s"),
        ("bulk", &["bulk"], "5s"),
        ("moody", &["moody"], "1ms"),
    ] {
        let branch = |service: &&str| format!("{{ service = \"{service}\", path = \"/{service}/work\" }}");
        let branches: Vec<_> = services.iter().map(branch).collect();
        let _ = write!(
            text,
            "[[routes]]\nid = \"{id}\"\nmatch = {{ methods = [\"POST\"], path = \"/{id}\" }}\n[routes.transaction]\n\
             reply_within = \"{reply_within}\"\nbranches = [{}]\n",
            branches.join(", ")
        );
    }
    text.push_str(
        "[[routes]]\nid = \"big\"\nmatch = { path = \"/big\" }\nforward = { service = \"bulk\" }\n\
         [[routes]]\nid = \"sink\"\nmatch = { path = \"/sink\" }\nforward = { service = \"bulk\" }\n\
         [[routes]]\nid = \"merged\"\nmatch = { path = \"/merged\" }\n[routes.merge]\n\
         parts = [{ service = \"bulk\", path = \"/part\", as = \"one\" }, { service = \"moody\", path = \"/part\", as = \"two\" }]\n",
    );
    fs::write(&config, text)?;
    Ok(Plan { directory: directory.to_owned(), listen, admin, config })
}

/// The participants, all of them at one address, each under its own path.
async fn participants(listener: TcpListener) -> std::io::Result<()> {
    let (tasks, big) = (TaskTracker::new(), Arc::new(vec![b'x'; BIG]));
    let confirms = Arc::new(AtomicBool::new(true));
    loop {
        let (stream, _) = listener.accept().await?;
        let (confirms, big) = (confirms.clone(), big.clone());
        // A connection that breaks is the gateway's affair.
        tasks.spawn(async move { drop(answer(stream, &confirms, &big).await) });
    }
}

async fn answer(stream: TcpStream, confirms: &AtomicBool, big: &[u8]) -> std::io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while wire.read().await? {
        let head = String::from_utf8_lossy(wire.head());
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (mut status, mut body) = ("200 OK", &b"{}"[..]);
        if path.starts_with("/hung/") || path == "/late/commit" {
            std::future::pending::<()>().await;
        } else if path.starts_with("/slow/work") {
            sleep(SLOW).await;
        } else if path == "/moody/commit" && !confirms.load(Relaxed) {
            (status, body) = ("503 Service Unavailable", b"");
        } else if path == "/moody/on" || path == "/moody/off" {
            confirms.store(path == "/moody/on", Relaxed);
        } else if path == "/big" {
            body = big;
        } else if path == "/part" {
            body = big.get(..500_000).unwrap_or_default();
        }
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.stream.write_all(head.as_bytes()).await?;
        wire.stream.write_all(body).await?;
    }
    Ok(())
}

/// How many transactions have been in this phase and left it, how long they took together, and how many took at most a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Phase {
    pub(crate) count: f64,
    pub(crate) seconds: f64,
    pub(crate) within_a_second: f64,
}

impl Phase {
    /// What `/metrics` says of the time from the decision to the end.
    pub(crate) async fn committing(node: &Node) -> Result<Self, Failure> {
        let (_, text) = get(node.plan.admin, "/metrics").await?;
        let number = |name: &str, labels: &str| {
            let start = format!("unanimous_phase_duration_seconds_{name}{{{labels}}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(start.as_str()));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Ok(Self {
            count: number("count", "phase=\"committing\""),
            seconds: number("sum", "phase=\"committing\""),
            within_a_second: number("bucket", "le=\"1.0\",phase=\"committing\""),
        })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count - earlier.count,
            seconds: self.seconds - earlier.seconds,
            within_a_second: self.within_a_second - earlier.within_a_second,
        }
    }
}
