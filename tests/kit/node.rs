//! The real program, `unanimous serve`, as a child process that a test can kill and start again.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::web::{self, Reply};

/// One gateway node with a data directory and ports of its own. It is killed when it is dropped; in a failing test its
/// stderr is printed then.
#[derive(Debug)]
pub struct Node {
    directory: TempDir,
    listen: String,
    admin: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    client: reqwest::Client,
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
        let child = program()
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

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("unanimous.toml")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

/// Asking the node.
impl Node {
    /// The address of `path` for clients.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// The address of `path` for operators.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// `GET` as a client.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, &self.url(path), &[], None).await
    }

    /// `POST` of JSON as a client.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body).await
    }

    /// `POST` of JSON as a client, with headers such as `("Idempotency-Key", "\"k\"")`.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.try_post(path, headers, body).await.expect("the node answers")
    }

    /// The same where the node may be killed meanwhile; `None` where no whole answer came.
    pub async fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Option<Reply> {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        web::send(&self.client, Method::POST, &self.url(path), &headers, Some(body.to_string())).await.ok()
    }

    /// `GET` as an operator.
    pub async fn admin(&self, path: &str) -> Reply {
        self.send(Method::GET, &self.admin_url(path), &[], None).await
    }

    /// `POST` of JSON as an operator.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, &self.admin_url(path), &headers, Some(body.to_string())).await
    }

    /// Any request at all; panics where no whole answer comes.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Reply {
        match web::send(&self.client, method, url, headers, body).await {
            Ok(reply) => reply,
            Err(error) => panic!("no answer from {url}: {error:?}; the node said:\n{}", self.stderr()),
        }
    }

    /// The log, a record an entry, as the admin listener gives it.
    pub async fn log(&self) -> Vec<Value> {
        web::lines(&self.admin("/v1/log").await.expect(200).text)
    }

    /// The names of the records of one transaction, in order: `["begun", "preparing", "decided", "ended"]`.
    pub async fn records(&self, transaction: &str) -> Vec<String> {
        let of_it = |record: &Value| record["transaction"] == transaction;
        let name = |record: Value| record["record"].as_str().unwrap().to_owned();
        self.log().await.into_iter().filter(of_it).map(name).collect()
    }

    /// What is in doubt now, as the admin listener gives it.
    pub async fn in_doubt(&self) -> Vec<Value> {
        web::list(&self.admin("/v1/transactions?in_doubt=true").await.expect(200).text)
    }

    /// Waits until nothing is in doubt.
    pub async fn settled(&self) {
        super::until("nothing is in doubt", async || self.in_doubt().await.is_empty()).await;
    }

    /// `state` of a transaction as the public listener gives it; empty where it does not know it.
    pub async fn state(&self, transaction: &str) -> String {
        let reply = self.get(&format!("/v1/transactions/{transaction}")).await;
        let told: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        told["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the transaction is in this state.
    pub async fn wait_for_state(&self, transaction: &str, state: &str) {
        let what = format!("transaction {transaction} is {state}");
        super::until(&what, async || self.state(transaction).await == state).await;
    }

    /// Waits until an operator has to look at the transaction.
    pub async fn wait_for_parked(&self, transaction: &str) {
        let path = format!("/v1/transactions/{transaction}");
        let what = format!("transaction {transaction} is parked");
        super::until(&what, async || self.get(&path).await.json()["parked"] == true).await;
    }

    /// Runs another command of the program to its end: `node.cli(&["verify", "--data-dir", ..])`.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        program().args(arguments).output().await.unwrap()
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
fn program() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_unanimous")));
    command.kill_on_drop(true).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
