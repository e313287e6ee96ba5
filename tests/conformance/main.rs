//! `unanimous conformance`: right participants break no rule, wrong ones just those that they are made to break, and
//! whatever a participant does the attack ends and says what it saw.
#![allow(unreachable_pub, reason = "the parts of this test are modules of one crate")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../kit/mod.rs"]
mod kit;
mod run;

use kit::Process;
use run::conformance;
use serde_json::json;

/// A process that is killed and started again by a command of the shell, as a user would write it.
struct Restartable {
    directory: tempfile::TempDir,
    url: String,
}

impl Restartable {
    /// `command` is the program with `PORT` and `DIR` in it.
    async fn start(command: &str) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), kit::free_port().to_string());
        let home = directory.path().display().to_string();
        let command = command.replace("PORT", &port).replace("DIR", &home);
        let script = format!(
            "[ -f {home}/pid ] && kill -9 $(cat {home}/pid)\n{command} >/dev/null 2>&1 &\necho $! >{home}/pid\n"
        );
        std::fs::write(directory.path().join("restart"), script).unwrap();
        let it = Self { directory, url: format!("http://127.0.0.1:{port}") };
        assert!(std::process::Command::new("sh").arg(it.script()).status().unwrap().success());
        let client = kit::client();
        kit::until("it listens", async || client.get(&it.url).send().await.is_ok()).await;
        it
    }

    fn script(&self) -> String {
        self.directory.path().join("restart").display().to_string()
    }

    fn restart(&self) -> String {
        format!("sh {}", self.script())
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        let script = format!("kill -9 $(cat {}/pid)", self.directory.path().display());
        let _ = std::process::Command::new("sh").args(["-c", &script]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_of_the_demo_breaks_no_rule() {
    let bank = env!("CARGO_BIN_EXE_unanimous").to_owned();
    let command = format!("{bank} demo-bank --name north --listen 127.0.0.1:PORT --data-dir DIR/bank");
    let bank = Restartable::start(&command).await;
    let run = conformance(&[
        &bank.url,
        "--work=/transfer",
        "--prepare=/tx/prepare",
        "--commit=/tx/commit",
        "--abort=/tx/abort",
        r#"--body={"account":0,"amount":-1}"#,
        r#"--refused-body={"account":0,"amount":-100000}"#,
        "--look=/sum",
        "--restart-command",
        &bank.restart(),
    ])
    .await;
    run.keeps_every_rule();
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_py_breaks_no_rule() {
    if kit::missing("python3", "bank_py_breaks_no_rule") {
        return;
    }
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bank.py");
    let bank = Restartable::start(&format!("python3 {examples} PORT DIR/bank.db")).await;
    let run = conformance(&[
        &bank.url,
        "--work=/debit",
        "--prepare=/tx/prepare",
        "--commit=/tx/commit",
        "--abort=/tx/abort",
        r#"--body={"account":"alice","amount":1}"#,
        r#"--refused-body={"account":"alice","amount":1000}"#,
        "--look=/accounts",
        "--restart-command",
        &bank.restart(),
    ])
    .await;
    run.keeps_every_rule();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_two_systems_breaks_no_rule_that_can_be_judged() {
    let port = kit::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let address = format!("127.0.0.1:{port}");
    let _system = Process::start(&kit::example("two-systems"), &["system1", &address], &url).await;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/two-systems/unanimous.toml");
    let run = conformance(&[
        &url,
        "--config",
        config,
        "--route=transaction",
        "--branch=0",
        r#"--body={"order":17}"#,
        r#"--refused-body={"order":17,"refuse":"system1"}"#,
    ])
    .await;
    run.breaks(&[]);
    run.cannot_judge("prepare-again", "it is asked for no prepare");
    run.cannot_judge("promise-survives", "it is not restarted");
    let work = &run.rule("usual")["exchanges"][0]["request"];
    assert_eq!(work["body"], json!(r#"{"order":17}"#));
}
