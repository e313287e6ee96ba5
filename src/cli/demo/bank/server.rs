//! The HTTP side of a bank: contract section 5, and three pages for the proof.
//!
//! It is strict on purpose: a call whose headers and body do not fit together is answered with 400, so that
//! a coordinator that gets the protocol wrong does not pass the demo.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::book::{Account, Book, BranchKey, Deed, NO_MONEY, Operation, Outcome, Posting, Verdict};
use super::journal::Journal;

/// A book and the journal behind it.
#[derive(Debug)]
pub(super) struct Bank {
    book: Mutex<Book>,
    journal: Journal,
}

/// What is in all accounts together; the answer of `GET /sum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// What is there, held or not.
    pub balance: i64,
    /// What of it is held for transactions that are not decided here.
    pub held: i64,
}

/// What a bank believes of one branch; the answer of `GET /transactions` is a list of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The transaction.
    pub transaction: Uuid,
    /// The branch.
    pub branch: u32,
    /// What became of it.
    pub outcome: Outcome,
}

impl Bank {
    pub(super) fn new(book: Book, journal: Journal) -> Self {
        Self { book: Mutex::new(book), journal }
    }

    fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does the operation; answers when it, and all it rests on, is on stable storage.
    async fn call(&self, of: BranchKey, operation: Operation) -> Response {
        let (verdict, newest) = self.decide(of, operation);
        if let Err(error) = self.journal.synced(newest).await {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
        }
        match verdict {
            Verdict::Do(Deed::Refused) => refusal(StatusCode::CONFLICT, NO_MONEY),
            Verdict::Refuse(reason) => refusal(StatusCode::CONFLICT, reason),
            Verdict::Do(Deed::Held(_) | Deed::Prepared | Deed::Committed | Deed::Aborted)
            | Verdict::Repeat => Json(json!({"status": "success"})).into_response(),
        }
    }

    /// Changes the book and gathers its line under one lock, so that both are in the same order.
    fn decide(&self, of: BranchKey, operation: Operation) -> (Verdict, u64) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = book.decide(of, operation);
        let newest = match verdict {
            Verdict::Do(did) => {
                let entry = super::book::Entry { of, did };
                book.apply(entry).expect("what was decided can be applied");
                self.journal.append(entry)
            }
            Verdict::Repeat | Verdict::Refuse(_) => self.journal.newest(),
        };
        (verdict, newest)
    }
}

pub(super) fn router(bank: Arc<Bank>) -> Router {
    Router::new()
        .route("/transfer", post(work))
        .route("/tx/prepare", post(|bank, headers, body| settle(bank, headers, body, "prepare")))
        .route("/tx/commit", post(|bank, headers, body| settle(bank, headers, body, "commit")))
        .route("/tx/abort", post(|bank, headers, body| settle(bank, headers, body, "abort")))
        .route("/accounts", get(accounts))
        .route("/sum", get(sum))
        .route("/transactions", get(transactions))
        .with_state(bank)
}

async fn work(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    match (branch(&headers, "work"), serde_json::from_slice::<Posting>(&body)) {
        (Ok(of), Ok(posting)) => bank.call(of, Operation::Work(posting)).await,
        (Err(reason), _) => refusal(StatusCode::BAD_REQUEST, &reason),
        (_, Err(error)) => refusal(StatusCode::BAD_REQUEST, &format!("this is no transfer: {error}")),
    }
}

/// Prepare, commit and abort, which differ in one word.
async fn settle(
    State(bank): State<Arc<Bank>>,
    headers: HeaderMap,
    body: Bytes,
    name: &'static str,
) -> Response {
    let operation = match name {
        "prepare" => Operation::Prepare,
        "commit" => Operation::Commit,
        _ => Operation::Abort,
    };
    match branch(&headers, name).and_then(|of| agreed(of, name, &body)) {
        Ok(of) => bank.call(of, operation).await,
        Err(reason) => refusal(StatusCode::BAD_REQUEST, &reason),
    }
}

async fn accounts(State(bank): State<Arc<Bank>>) -> Json<Vec<Account>> {
    Json(bank.read(|book| book.accounts().to_vec()))
}

async fn sum(State(bank): State<Arc<Bank>>) -> Json<Sum> {
    let none = Sum { balance: 0, held: 0 };
    let add = |sum: Sum, account: &Account| Sum {
        balance: sum.balance + account.balance,
        held: sum.held + account.held,
    };
    Json(bank.read(|book| book.accounts().iter().fold(none, add)))
}

async fn transactions(State(bank): State<Arc<Bank>>) -> Json<Vec<Standing>> {
    let standing = |(of, outcome): (BranchKey, Outcome)| Standing {
        transaction: of.transaction,
        branch: of.branch,
        outcome,
    };
    Json(bank.read(|book| book.outcomes().map(standing).collect()))
}

/// Which branch a call is about, or which header is wrong.
fn branch(headers: &HeaderMap, operation: &str) -> Result<BranchKey, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("the header {name} is missing"))
    };
    let transaction = header("transaction-id")?;
    let branch = header("transaction-branch")?;
    let of = BranchKey {
        transaction: transaction.parse().map_err(|_| format!("{transaction} is not a transaction id"))?,
        branch: branch.parse().map_err(|_| format!("{branch} is not a branch number"))?,
    };
    let key = format!("\"{transaction}/{branch}/{operation}\"");
    for (name, expected) in [("transaction-operation", operation), ("idempotency-key", key.as_str())] {
        let found = header(name)?;
        if found != expected {
            return Err(format!("the header {name} is {found} where {expected} was expected"));
        }
    }
    Ok(of)
}

/// The envelope has to say what the headers say.
fn agreed(of: BranchKey, operation: &str, body: &[u8]) -> Result<BranchKey, String> {
    #[derive(Deserialize)]
    struct Envelope {
        transaction: Uuid,
        branch: u32,
        operation: String,
    }
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| format!("this is no envelope: {error}"))?;
    let said = BranchKey { transaction: envelope.transaction, branch: envelope.branch };
    if said != of || envelope.operation != operation {
        return Err("the envelope and the headers do not say the same".to_owned());
    }
    Ok(of)
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"status": "failure", "reason": reason}))).into_response()
}
