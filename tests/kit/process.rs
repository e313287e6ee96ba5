//! Other programs of a test: a bank, a sample. Killed when dropped.

use std::process::Stdio;

use http::Method;
use tokio::process::{Child, Command};

use super::skipped::skipped;
use super::web;

/// A running program that answers HTTP.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the program and waits until anything at all answers at `url`.
    pub async fn start(program: &str, arguments: &[&str], url: &str) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let client = web::client();
        super::until(&format!("{program} {arguments:?} answers at {url}"), async || {
            web::send(&client, Method::GET, url, &[], None).await.is_ok()
        })
        .await;
        Self { child }
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The sample of this name under `examples/`, built now if `cargo test` has not built it.
pub fn example(name: &str) -> String {
    let target = std::path::Path::new(env!("CARGO_BIN_EXE_unanimous")).parent().unwrap();
    let path = target.join("examples").join(name);
    if !path.exists() {
        let built = std::process::Command::new(env!("CARGO")).args(["build", "--example", name]).status();
        assert!(built.unwrap().success(), "cargo build --example {name}");
    }
    path.to_str().unwrap().to_owned()
}

/// Whether a program is not on PATH, after saying clearly that this test has tested nothing.
pub fn missing(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        skipped(&format!("there is no {program} on PATH"));
    }
    !found
}
