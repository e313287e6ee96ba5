//! Child processes that are killed and started again, and that never outlive us.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::HarnessError;

/// Below the range from which the kernel takes the near end of outgoing connections (32768 and up on Linux, 49152
/// on macOS). From that range a port could be gone while its process is down; and a client that tries a closed
/// port of that range can be connected *to itself*.
const PORTS: Range<u16> = 15_000..32_000;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 that nobody listens on, never given twice by this process.
#[must_use]
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = fastrand::u16(PORTS);
        if !given.contains(&port) && nobody_has(port) {
            given.insert(port);
            return port;
        }
    }
}

/// Binds and does not listen: a child of another thread has a copy of every socket of ours until it runs its own
/// program, and a copy that listens would keep the port taken after we closed ours.
fn nobody_has(port: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())
    });
    bound.is_ok()
}

/// How to start a process.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    /// The program and its arguments, perhaps behind another command that becomes it.
    pub(super) command: Vec<OsString>,
    /// Variables of its environment beside ours.
    pub(super) variables: Vec<(String, String)>,
    /// Answers 200 when the process is ready.
    pub(super) ready_url: String,
    /// Where what it says goes.
    pub(super) stderr: PathBuf,
    pub(super) patience: Duration,
}

/// A process, running or not. It dies with this value, and with this program.
#[derive(Debug)]
pub(super) struct Process {
    recipe: Recipe,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Kills the child where we cannot, because we were killed ourselves.
    guard: Child,
}

impl Process {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(recipe: Recipe) -> Result<Self, HarnessError> {
        let mut process = Self { recipe, running: None };
        process.spawn()?;
        process.ready().await?;
        Ok(process)
    }

    pub(super) fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.running.as_ref()?.child.id()
    }

    /// Starts it, and does not wait.
    pub(super) fn spawn(&mut self) -> Result<(), HarnessError> {
        let recipe = &self.recipe;
        let failed = |source| HarnessError::Machine { doing: format!("start {}", recipe.name), source };
        let stderr = File::options().create(true).append(true).open(&recipe.stderr).map_err(failed)?;
        let mut words = recipe.command.iter();
        let program = words.next().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let child = Command::new(program)
            .args(words)
            .envs(recipe.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let guard = guard(&child).map_err(failed)?;
        self.running = Some(Running { child, guard });
        Ok(())
    }

    /// Waits until it answers that it is ready.
    pub(super) async fn ready(&mut self) -> Result<(), HarnessError> {
        // A client of its own: no connection to the process that was killed is used again.
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build();
        let client = client.map_err(|source| HarnessError::Unanswered { url: String::new(), source })?;
        let deadline = Instant::now() + self.recipe.patience;
        while Instant::now() < deadline {
            if let Ok(response) = client.get(&self.recipe.ready_url).send().await
                && response.status().is_success()
            {
                return Ok(());
            }
            self.still_runs()?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let what = format!("{} to be ready", self.recipe.name);
        Err(HarnessError::Stuck { what, patience: self.recipe.patience })
    }

    /// SIGKILL, and waits until it is gone. An error where it had ended before that.
    pub(super) async fn kill(&mut self) -> Result<(), HarnessError> {
        self.still_runs()?;
        let Some(running) = self.running.take() else { return Ok(()) };
        let doing = || format!("kill {}", self.recipe.name);
        running.kill().await.map_err(|source| HarnessError::Machine { doing: doing(), source })
    }

    fn still_runs(&mut self) -> Result<(), HarnessError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        match running.child.try_wait() {
            Ok(Some(status)) => Err(HarnessError::Ended {
                name: self.recipe.name.clone(),
                status: status.to_string(),
                said: tail(&self.recipe.stderr),
            }),
            // Where the system cannot tell, the next thing that is asked of the process will.
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

impl Running {
    async fn kill(mut self) -> io::Result<()> {
        self.child.start_kill()?;
        // Before the child is waited for: from then on its id could be that of another process.
        self.guard.kill().await?;
        self.child.wait().await.map(drop)
    }
}

/// A process that waits for its stdin to end, which only we hold open, and then kills `child`.
fn guard(child: &Child) -> io::Result<Child> {
    let id = child.id().map(|id| id.to_string()).unwrap_or_default();
    Command::new("sh")
        .args(["-c", r#"read -r _; kill -KILL "$0""#, &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// The last lines of what a process has said.
fn tail(path: &Path) -> String {
    let said = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = said.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_free_port_can_be_taken_at_once_also_while_processes_are_started() {
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::process::Command::new("true").status().unwrap();
                    }
                });
            }
            let taken = (0..2_000).filter(|_| {
                std::thread::sleep(Duration::from_micros(50));
                TcpListener::bind(("127.0.0.1", free_port())).is_err()
            });
            let taken = taken.count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(taken, 0, "so many of 2,000 free ports were not");
        });
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!nobody_has(listener.local_addr().unwrap().port()));
    }
}
