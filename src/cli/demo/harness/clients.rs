//! The clients: they make the transfers, ask again under the same key until they are told an outcome, and keep every
//! answer they got.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use uuid::Uuid;

use super::log::Decision;
use super::plan::Transfer;
use super::{Event, Extent, Options, Watcher};

/// How long a client waits before it asks again.
const PAUSE: Duration = Duration::from_millis(10);

/// So many transfers are made between two faults where a run goes on until all of them have happened.
const APART: usize = 20;

/// What the clients do and have seen.
pub(super) struct Clients<'a> {
    url: String,
    http: reqwest::Client,
    seed: u64,
    began: Instant,
    extent: Extent,
    /// Says when the next transfer may begin, where there are not to be more in a second.
    pace: Option<tokio::sync::Mutex<Interval>>,
    /// One for every transfer that was begun.
    memories: Mutex<Vec<Memory>>,
    settled: watch::Sender<usize>,
    /// Whether new transfers are begun.
    open: watch::Sender<bool>,
    /// So many kinds of faults are not through with their plan. A run that ends with the time goes on until they are.
    faults: watch::Sender<usize>,
    done: watch::Sender<bool>,
    watcher: Watcher<'a>,
}

/// What the client of one transfer was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Every outcome, in the order in which they came.
    pub(super) told: Vec<Told>,
    /// Every transaction id that came with any answer. There must never be two.
    pub(super) transactions: BTreeSet<Uuid>,
    /// How often it asked.
    pub(super) asked: usize,
    /// Answers that contract section 4 does not know.
    pub(super) odd: Vec<String>,
}

/// An answer that says how the transaction ended, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) transaction: Uuid,
    pub(super) decision: Decision,
    /// 202: committed, but not confirmed everywhere yet.
    pub(super) pending: bool,
}

/// What an answer means to a client.
#[derive(Debug, PartialEq)]
enum Meaning {
    Told(Told),
    /// Nothing is known yet; ask again.
    NotYet,
    Odd(String),
}

impl<'a> Clients<'a> {
    pub(super) fn new(gateway_url: &str, options: &Options, faults: usize, watcher: Watcher<'a>) -> Self {
        let pace = options.pace.map(|pace| {
            let mut pace = interval(Duration::from_secs(1) / pace.get());
            // What could not be begun while the gateway was down is not made up for.
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tokio::sync::Mutex::new(pace)
        });
        Self {
            url: format!("{gateway_url}/transfers"),
            http: reqwest::Client::new(),
            seed: options.seed,
            began: Instant::now(),
            extent: options.extent,
            pace,
            memories: Mutex::default(),
            settled: watch::Sender::new(0),
            open: watch::Sender::new(true),
            faults: watch::Sender::new(faults),
            done: watch::Sender::new(false),
            watcher,
        }
    }

    /// Whether new transfers are begun from now on. Those that were begun go on in any case. It is how traffic waits for
    /// the killer, so that no kill comes when all is done.
    pub(super) fn begin_new(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// How long the run has been going.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many transfers are settled.
    pub(super) fn settled(&self) -> watch::Receiver<usize> {
        self.settled.subscribe()
    }

    /// How far the run has to go for each of so many faults, at the least.
    pub(super) fn room_for(&self, faults: usize) -> usize {
        match self.extent {
            // What is in flight at each kill is settled while nothing new begins, and has to be made up for.
            Extent::AtLeast(_) => faults * APART,
            Extent::Transfers(_) | Extent::Time(_) => 0,
        }
    }

    /// How far the run has come and how far it goes: in transfers, or in milliseconds.
    pub(super) fn position(&self) -> (usize, usize) {
        let millis = |span: Duration| usize::try_from(span.as_millis()).unwrap_or(usize::MAX);
        match self.extent {
            Extent::Transfers(all) | Extent::AtLeast(all) => (*self.settled.borrow(), all),
            Extent::Time(all) => (millis(self.elapsed()), millis(all)),
        }
    }

    /// Waits until the run has come so far.
    pub(super) async fn reach(&self, position: usize) {
        match self.extent {
            Extent::Transfers(_) | Extent::AtLeast(_) => {
                let reached = self.settled().wait_for(|settled| *settled >= position).await.is_ok();
                assert!(reached, "the sender lives as long as we do");
            }
            Extent::Time(_) => {
                let at = Duration::from_millis(u64::try_from(position).unwrap_or(u64::MAX));
                tokio::time::sleep_until(self.began + at).await;
            }
        }
    }

    /// One kind of faults is through with its plan.
    pub(super) fn a_plan_is_done(&self) {
        self.faults.send_modify(|faults| *faults -= 1);
    }

    /// Returns when all transfers are settled.
    pub(super) async fn done(&self) {
        let done = self.done.subscribe().wait_for(|done| *done).await.is_ok();
        assert!(done, "the sender lives as long as we do");
    }

    /// Whether all transfers are settled.
    pub(super) fn is_done(&self) -> bool {
        *self.done.borrow()
    }

    /// What the client of each transfer was told.
    pub(super) fn memories(&self) -> Vec<(Transfer, Memory)> {
        let memories = self.lock().clone();
        (0..).zip(memories).map(|(number, memory)| (Transfer::draw(self.seed, number), memory)).collect()
    }

    /// Makes all transfers, `clients` at a time.
    pub(super) async fn run(&self, clients: usize) {
        futures_util::future::join_all((0..clients).map(|_| self.one_client())).await;
        self.done.send_replace(true);
    }

    /// Asks again under the keys of `count` of the transfers that were settled last, once each.
    pub(super) async fn ask_again(&self, count: usize) {
        let settled = |(number, memory): (usize, &Memory)| (!memory.told.is_empty()).then_some(number);
        let newest: Vec<usize> =
            self.lock().iter().enumerate().rev().filter_map(settled).take(count).collect();
        for number in newest {
            self.ask(number, &Transfer::draw(self.seed, number)).await;
        }
    }

    async fn one_client(&self) {
        let mut open = self.open.subscribe();
        loop {
            let opened = open.wait_for(|open| *open).await.is_ok();
            assert!(opened, "the sender lives as long as we do");
            if let Some(pace) = &self.pace {
                pace.lock().await.tick().await;
            }
            let Some(number) = self.begin() else { return };
            let transfer = Transfer::draw(self.seed, number);
            while !self.ask(number, &transfer).await {
                tokio::time::sleep(PAUSE).await;
            }
            if transfer.asked_again {
                self.ask(number, &transfer).await;
            }
            self.settled.send_modify(|settled| *settled += 1);
            (self.watcher)(Event::Settled(*self.settled.borrow()));
        }
    }

    /// The number of the next transfer; `None` where there is none.
    fn begin(&self) -> Option<usize> {
        let mut memories = self.lock();
        let number = memories.len();
        let is_over = match self.extent {
            Extent::Transfers(all) => number >= all,
            Extent::AtLeast(all) => number >= all && *self.faults.borrow() == 0,
            Extent::Time(all) => self.elapsed() >= all && *self.faults.borrow() == 0,
        };
        (!is_over).then(|| {
            memories.push(Memory::default());
            number
        })
    }

    /// Sends the request of a transfer; true where the answer ended the matter for its client.
    async fn ask(&self, number: usize, transfer: &Transfer) -> bool {
        let answer = self.send(transfer).await;
        let mut memories = self.lock();
        let Some(memory) = memories.get_mut(number) else { return true };
        memory.asked += 1;
        let Some((status, transaction, text)) = answer else { return false };
        memory.transactions.extend(transaction);
        match meaning(status, &text) {
            Meaning::Told(told) => {
                memory.transactions.insert(told.transaction);
                memory.told.push(told);
                true
            }
            Meaning::NotYet => false,
            Meaning::Odd(what) => {
                memory.odd.push(what);
                true
            }
        }
    }

    /// One request; `None` where no whole answer came.
    async fn send(&self, transfer: &Transfer) -> Option<(StatusCode, Option<Uuid>, String)> {
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("\"{}\"", transfer.key))
            .timeout(Duration::from_secs(30))
            .body(transfer.body().to_string());
        let response = request.send().await.ok()?;
        let status = response.status();
        let id = response.headers().get("transaction-id").and_then(|id| id.to_str().ok()?.parse().ok());
        Some((status, id, response.text().await.ok()?))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an answer as contract section 4 has it.
fn meaning(status: StatusCode, text: &str) -> Meaning {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
        transaction: Transaction,
    }
    #[derive(Deserialize)]
    struct Transaction {
        id: Uuid,
        state: String,
    }
    let odd = || Meaning::Odd(format!("{status}: {}", text.chars().take(300).collect::<String>()));
    let Ok(answer) = serde_json::from_str::<Answer>(text) else {
        // Undecided under this key, draining, or not up yet: these carry a problem, not a transaction.
        let not_yet = [StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        return if not_yet { Meaning::NotYet } else { odd() };
    };
    let (decision, pending) =
        match (status.as_u16(), answer.status.as_str(), answer.transaction.state.as_str()) {
            (200, "success", "committed") => (Decision::Commit, false),
            (202, "pending", "committing") => (Decision::Commit, true),
            (409 | 502 | 504, "failure", "aborting" | "aborted") => (Decision::Abort, false),
            _ => return odd(),
        };
    Meaning::Told(Told { transaction: answer.transaction.id, decision, pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn answer(status: u16, said: &str, state: &str) -> Meaning {
        let text = format!(
            r#"{{"status":"{said}","transaction":{{"id":"{ID}","state":"{state}"}},"response":{{}}}}"#
        );
        meaning(StatusCode::from_u16(status).unwrap(), &text)
    }

    #[test]
    fn the_answers_of_the_contract_are_understood() {
        let told = |decision, pending| Meaning::Told(Told { transaction: ID, decision, pending });
        assert_eq!(answer(200, "success", "committed"), told(Decision::Commit, false));
        assert_eq!(answer(202, "pending", "committing"), told(Decision::Commit, true));
        assert_eq!(answer(409, "failure", "aborting"), told(Decision::Abort, false));
        assert_eq!(answer(504, "failure", "aborted"), told(Decision::Abort, false));
    }

    #[test]
    fn an_answer_without_an_outcome_is_asked_for_again() {
        assert_eq!(meaning(StatusCode::CONFLICT, r#"{"code":"in_progress"}"#), Meaning::NotYet);
        assert_eq!(meaning(StatusCode::SERVICE_UNAVAILABLE, ""), Meaning::NotYet);
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_odd() {
        for odd in [
            answer(200, "success", "aborted"),
            answer(200, "failure", "aborted"),
            answer(500, "success", "committed"),
        ] {
            assert!(matches!(odd, Meaning::Odd(_)), "{odd:?}");
        }
        assert!(matches!(meaning(StatusCode::UNPROCESSABLE_ENTITY, "{}"), Meaning::Odd(_)));
    }
}
