//! The demo's bank as a process: it keeps the participant protocol, also through SIGKILL.

mod kit;

use kit::{Caller, Process};
use serde_json::{Value, json};

struct Bank {
    url: String,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

impl Bank {
    async fn start() -> Self {
        let url = format!("http://127.0.0.1:{}", kit::free_port());
        let mut bank = Self { url, directory: tempfile::tempdir().expect("a directory"), process: None };
        bank.crash().await;
        bank
    }

    /// SIGKILL if it runs, and a new start.
    async fn crash(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
        let listen = self.url.trim_start_matches("http://");
        let directory = self.directory.path().to_str().expect("a plain path");
        let arguments = ["demo-bank", "--name", "north", "--listen", listen, "--data-dir", directory];
        let rest = ["--accounts", "2", "--balance", "100"];
        let program = env!("CARGO_BIN_EXE_unanimous");
        self.process = Some(Process::start(program, &[&arguments[..], &rest].concat(), &self.url).await);
    }

    async fn get(&self, path: &str) -> Value {
        kit::get(&format!("{}{path}", self.url)).await
    }
}

async fn pay(caller: &Caller, amount: i64) -> u16 {
    caller.work("/transfer", &json!({"account": 0, "amount": -amount})).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_held_then_taken_once_and_every_repeat_is_fine() {
    let mut bank = Bank::start().await;
    let caller = Caller::new(&bank.url);
    assert_eq!([pay(&caller, 60).await, pay(&caller, 60).await], [200, 200]);
    assert_eq!([caller.tell("prepare").await, caller.tell("prepare").await], [200, 200]);
    assert_eq!(bank.get("/sum").await, json!({"balance": 200, "held": 60}));
    bank.crash().await;
    assert_eq!([caller.tell("commit").await, caller.tell("commit").await], [200, 200]);
    bank.crash().await;
    assert_eq!([caller.tell("commit").await, pay(&caller, 60).await], [200, 200]);
    assert_eq!(bank.get("/sum").await, json!({"balance": 140, "held": 0}));
    assert_eq!(bank.get("/transactions").await[0]["outcome"], "committed");
    assert_eq!(bank.get("/accounts").await[0], json!({"balance": 40, "held": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_its_abort_is_refused_also_after_a_crash() {
    let mut bank = Bank::start().await;
    let caller = Caller::new(&bank.url);
    assert_eq!([caller.tell("abort").await, caller.tell("abort").await], [200, 200]);
    bank.crash().await;
    assert_eq!(pay(&caller, 60).await, 409);
    assert_eq!(caller.tell("commit").await, 409, "and a commit of it contradicts");
    assert_eq!(bank.get("/transactions").await[0]["outcome"], "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_not_there_is_a_no_and_an_unknown_commit_a_contradiction() {
    let bank = Bank::start().await;
    assert_eq!(pay(&Caller::new(&bank.url), 101).await, 409);
    assert_eq!(Caller::new(&bank.url).tell("commit").await, 409);
    let held = Caller::new(&bank.url);
    assert_eq!([pay(&held, 100).await, pay(&Caller::new(&bank.url), 1).await], [200, 409]);
    assert_eq!(held.tell("abort").await, 200);
    assert_eq!(bank.get("/sum").await, json!({"balance": 200, "held": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_headers_and_body_do_not_agree_is_refused() {
    let bank = Bank::start().await;
    let caller = Caller::new(&bank.url);
    let wrong = caller.call("commit", "/tx/abort", &json!({})).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    let wrong = caller.call("abort", "/tx/abort", &json!({"transaction": "x"})).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_sync_and_none_is_lost_by_a_kill() {
    let mut bank = Bank::start().await;
    let callers: Vec<Caller> = (0..200).map(|_| Caller::new(&bank.url)).collect();
    let credit = json!({"account": 1, "amount": 1});
    let calls = callers.iter().map(|caller| caller.work("/transfer", &credit));
    for reply in futures_util::future::join_all(calls).await {
        reply.expect(200);
    }
    bank.crash().await;
    for told in futures_util::future::join_all(callers.iter().map(|caller| caller.tell("commit"))).await {
        assert_eq!(told, 200);
    }
    assert_eq!(bank.get("/sum").await, json!({"balance": 400, "held": 0}));
}
