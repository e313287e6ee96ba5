//! The real program, `unanimous serve`, as a child process that a test can kill and start again.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::web;

/// The program under test.
const BIN: &str = env!("CARGO_BIN_EXE_unanimous");

/// One gateway node with a data directory and ports of its own. It is killed when it is dropped; in a failing test its
/// stderr is printed then.
#[derive(Debug)]
pub struct Node {
    directory: TempDir,
    pub(super) listen: String,
    pub(super) admin: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    file_size_max: Option<u64>,
    open_files_max: Option<u64>,
    has_hosts: bool,
    child: Option<Child>,
    pub(super) client: reqwest::Client,
}

impl Node {
    /// A node that is not running yet. `config` is everything but the `[node]` section, which the kit writes.
    pub fn new(config: &str) -> Self {
        Self::with_section("", config)
    }

    /// The same with more keys for the `[node]` section, such as `drain = "1s"`.
    pub fn with_section(section: &str, config: &str) -> Self {
        let address = || format!("127.0.0.1:{}", super::free_port());
        let node = Self {
            directory: tempfile::tempdir().unwrap(),
            listen: address(),
            admin: address(),
            arguments: Vec::new(),
            environment: Vec::new(),
            file_size_max: None,
            open_files_max: None,
            has_hosts: false,
            child: None,
            client: web::client(),
        };
        node.configure(section, config);
        node
    }

    /// A node with the configuration file of an example: its `[node]` section is replaced by the kit's, and each port of
    /// `ports` by the one beside it.
    pub fn from_file(path: &str, ports: &[(&str, u16)]) -> Self {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let (_, after) = text.split_once("[node]").expect("the file has a [node] section");
        let (_, rest) = after.split_once("\n[").expect("and something after it");
        let with_ports = |text: String, (from, to): &(&str, u16)| {
            text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
        };
        Self::new(&ports.iter().fold(format!("[{rest}"), with_ports))
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, section: &str, config: &str) {
        let text = format!(
            "[node]\ndata_dir = \"{}\"\nlisten = {:?}\nadmin = {:?}\nadvertise = {:?}\n{section}\n{config}\n",
            self.data_dir().display(),
            self.listen,
            self.admin,
            format!("http://{}", self.listen),
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// Sets an environment variable for every start from now on.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes all environment variables of [`Node::env`] back.
    pub fn env_clear(&mut self) -> &mut Self {
        self.environment.clear();
        self
    }

    /// Adds an argument of `serve` for every start from now on.
    pub fn arg(&mut self, argument: &str) -> &mut Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// From the next start on every write beyond this length of a file fails with EFBIG, as on a disk that has no
    /// room; `None` takes it back.
    pub fn file_size_max(&mut self, bytes: Option<u64>) -> &mut Self {
        self.file_size_max = bytes;
        self
    }

    /// From the next start on the process may have no more files open than this.
    pub fn open_files_max(&mut self, files: u64) -> &mut Self {
        self.open_files_max = Some(files);
        self
    }

    /// From the next start on the process reads this in place of `/etc/hosts`. Says so and gives false where the system does not
    /// let it have files of its own.
    pub fn hosts(&mut self, text: &str) -> bool {
        std::fs::write(self.hosts_path(), text).unwrap();
        let can = std::process::Command::new("unshare").args(["-m", "true"]).status();
        self.has_hosts = can.is_ok_and(|status| status.success());
        if !self.has_hosts {
            super::skipped("this user may not give a process an /etc/hosts of its own");
        }
        self.has_hosts
    }

    fn hosts_path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// Starts the process, and waits until it is ready. Panics with its stderr where it ends instead.
    pub async fn start(&mut self) -> &mut Self {
        self.spawn();
        let ready = self.admin_url("/readyz");
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            if let Ok(reply) = web::send(&self.client, Method::GET, &ready, &[], None).await
                && reply.status == 200
            {
                return self;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the node ended at its start, {ended:?}; it said:\n{}", self.stderr());
            assert!(tokio::time::Instant::now() < deadline, "never ready; it said:\n{}", self.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts the process and does not wait: for a start that is to fail. See [`Node::wait`].
    pub fn spawn(&mut self) -> &mut Self {
        assert!(self.child.is_none(), "the node runs already");
        let stderr = std::fs::File::options().create(true).append(true).open(self.stderr_path()).unwrap();
        let child = self
            .program()
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        self.child = Some(child);
        // A connection to the process before this one is no connection to this one.
        self.client = web::client();
        self
    }

    fn program(&self) -> Command {
        // The shell counts in blocks of 512 bytes, and what it ignores its successor ignores: otherwise a signal would end the
        // process before any write had failed.
        let size = self.file_size_max.map(|bytes| format!("trap '' XFSZ; ulimit -f {}", bytes / 512));
        let files = self.open_files_max.map(|files| format!("ulimit -n {files}"));
        let hosts =
            self.has_hosts.then(|| format!("mount --bind '{}' /etc/hosts", self.hosts_path().display()));
        let limits: Vec<String> = size.into_iter().chain(files).chain(hosts).collect();
        if limits.is_empty() { program() } else { limited(&limits, self.has_hosts) }
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().await.unwrap();
    }

    /// SIGTERM, and waits until the process has ended by itself.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.wait().await
    }

    /// Sends a signal, by its name without `SIG`, and does not wait.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
        assert!(sent.unwrap().success(), "sent SIG{name} to {pid}");
    }

    /// Waits until the process ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let ended = tokio::time::timeout(super::PATIENCE, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("the node did not end; it said:\n{}", self.stderr())).unwrap()
    }

    /// SIGKILL, and a new start.
    pub async fn crash(&mut self) -> &mut Self {
        self.kill().await;
        self.start().await
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the node runs")
    }

    /// Whether the process is running.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What the process has said on stderr, over all starts.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.stderr_path()).unwrap_or_default()
    }

    fn stderr_path(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    /// The address of the public listener.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("unanimous.toml")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stderr of the node {}\n{}\n---", self.listen, tail(&self.stderr(), 60));
        }
        // `kill_on_drop` sends SIGKILL when the child goes.
    }
}

/// The program under test, with an environment that does not depend on who runs the test.
pub(super) fn program() -> Command {
    undisturbed(Command::new(BIN))
}

/// The same, with limits of the shell that starts it, and with mounts of its own where it `is_apart`.
fn limited(limits: &[String], is_apart: bool) -> Command {
    let mut command = Command::new(if is_apart { "unshare" } else { "sh" });
    if is_apart {
        command.args(["-m", "sh"]);
    }
    command.arg("-c").arg(format!("{}; exec \"$0\" \"$@\"", limits.join("; "))).arg(BIN);
    undisturbed(command)
}

fn undisturbed(mut command: Command) -> Command {
    command.kill_on_drop(true).stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
        command.env_remove(name);
    }
    command
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
