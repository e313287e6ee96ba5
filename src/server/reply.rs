//! Results as HTTP: the only file that turns what became of a transaction into a status.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::key::BadKey;
use crate::budget::BufferError;
use crate::coordinator::view::{Standing, contradicting};
use crate::coordinator::{Fate, NotDone, Refused, View};
use crate::gateway::{Members, Problem, member};
use crate::journal::ReadError;
use crate::journal::find::Past;
use crate::journal::line::reason_json;
use crate::journal::record::Kept;
use crate::plan::{Plan, Reply, TransactionId};
use crate::txn::{Branch, Decision, Reason};

/// The header that names the transaction, on every answer about one.
pub const TRANSACTION_ID: HeaderName = HeaderName::from_static("transaction-id");

/// What a client is told of its decided transaction.
pub struct Told<'a> {
    /// The transaction.
    pub id: TransactionId,
    /// Who took part.
    pub plan: &'a Plan,
    /// The decision; it is durable.
    pub decision: Decision,
    /// Why it was an abort.
    pub reason: Option<Reason>,
    /// `committing`, `committed`, `aborting` or `aborted`.
    pub state: &'static str,
    /// Whether an operator has to look.
    pub is_parked: bool,
    /// A branch that went against the decision, and what became of it there, as an operator found.
    pub contradicting: Option<(Branch, Decision)>,
    /// What the branches answered, as far as it is in memory.
    pub live: &'a [Option<Reply>],
    /// What was kept of it in the log.
    pub kept: Option<&'a Kept>,
}

impl<'a> Told<'a> {
    /// What is seen of an open transaction; `None` while it is undecided.
    #[must_use]
    pub fn of(view: &'a View) -> Option<Self> {
        let decision = *view.told.as_ref()?.get();
        Some(Self {
            id: view.id,
            plan: &view.plan,
            decision,
            reason: view.txn.state().reason(),
            state: view.txn.state().name(),
            is_parked: view.is_parked(),
            contradicting: view.contradicting(),
            live: &view.replies,
            kept: view.kept.as_ref(),
        })
    }

    /// What the log says of one that has ended.
    #[must_use]
    pub fn past(id: TransactionId, past: &'a Past) -> Self {
        let Past { plan, decision, reason, kept, resolved, .. } = past;
        let state = decision.outcome();
        Self {
            id,
            plan,
            decision: *decision,
            reason: *reason,
            state,
            is_parked: false,
            contradicting: contradicting(*decision, resolved),
            live: &[],
            kept: kept.as_ref(),
        }
    }

    /// The answer to the client; `is_replay` where its key began the transaction earlier.
    #[must_use]
    pub fn answer(&self, is_replay: bool) -> Response {
        let mut response = json_response(self.status(), self.body().to_json());
        let headers = response.headers_mut();
        set(headers, TRANSACTION_ID, &self.id.to_string());
        if self.status() == StatusCode::ACCEPTED {
            set(headers, LOCATION, &format!("/v1/transactions/{}", self.id));
        }
        if is_replay {
            set(headers, HeaderName::from_static("idempotency-replayed"), "true");
        }
        response
    }

    fn status(&self) -> StatusCode {
        match (self.decision, self.reason) {
            // Committed, and not everywhere: no success, and nothing that more patience would change.
            (Decision::Commit, _) if self.contradicting.is_some() => StatusCode::CONFLICT,
            (Decision::Commit, _) if self.state == Decision::Commit.outcome() => StatusCode::OK,
            (Decision::Commit, _) => StatusCode::ACCEPTED,
            (Decision::Abort, Some(Reason::Refused(..)) | None) => StatusCode::CONFLICT,
            (Decision::Abort, Some(Reason::Unreachable(..) | Reason::Restarted)) => StatusCode::BAD_GATEWAY,
            (Decision::Abort, Some(Reason::Late(_))) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn body(&self) -> Members {
        let status = match self.status() {
            StatusCode::OK => "success",
            StatusCode::ACCEPTED => "pending",
            _ => "failure",
        };
        let mut transaction = json!({ "id": self.id.to_string(), "state": self.state });
        if let (true, Some(transaction)) = (self.is_parked, transaction.as_object_mut()) {
            transaction.insert("parked".to_owned(), true.into());
        }
        let mut body = Members::default();
        body.push("status", raw(&status));
        body.push("transaction", raw(&transaction));
        let resolved = self.contradicting.map(|(branch, outcome)| {
            let service = &self.plan.branch(branch).service;
            json!({ "kind": "resolved", "service": service, "branch": branch, "as": outcome.outcome() })
        });
        match (self.reason, resolved) {
            (None, None) if self.decision == Decision::Abort => body.push("reason", raw(&lost_reason())),
            (None, None) => {}
            (None, Some(resolved)) => body.push("reason", raw(&resolved)),
            (Some(reason), resolved) => {
                body.push("reason", raw(&reason_json(reason, Some(self.plan))));
                // An abort that one branch did not take part in: a retry would do it there twice.
                if let Some(resolved) = resolved {
                    body.push("but", raw(&resolved));
                }
            }
        }
        match self.replies() {
            Some(replies) => body.push("response", raw(&replies)),
            None => {
                body.push("note", raw(&"the answers of the branches were too large to be kept for a replay"));
            }
        }
        body
    }

    /// One member a branch, in declared order: what was logged with the decision where there is a key
    /// (so that a replay says the same), else what is in memory.
    fn replies(&self) -> Option<Members> {
        let mut members = Members::default();
        let has_live = self.live.iter().any(Option::is_some);
        for (number, _) in self.plan.branches.iter().enumerate() {
            let branch = Branch::new(number).expect("a plan was checked when it was made");
            let reply = match self.kept {
                Some(Kept::TooLarge) if !has_live => return None,
                Some(kept @ Kept::Whole(_)) => kept.reply(branch),
                Some(Kept::TooLarge) | None => self.live.get(number).and_then(Option::as_ref),
            };
            let value = reply.map(|reply| member(reply.content_type.as_deref(), &reply.body));
            members.push(self.plan.label(branch), value.unwrap_or_else(|| RawValue::NULL.to_owned()));
        }
        Some(members)
    }
}

/// A key's transaction that is not decided yet: ask again.
#[must_use]
pub fn undecided(id: TransactionId) -> Response {
    let detail = "the transaction of this Idempotency-Key is not decided yet; send the same request again";
    let problem = Problem::new(StatusCode::CONFLICT, "in_progress", detail)
        .with("transaction", json!({ "id": id.to_string(), "outcome": "undecided" }))
        .with_header(RETRY_AFTER, "1")
        .with_header(TRANSACTION_ID, &id.to_string());
    problem.into_response()
}

/// The node is about to stop, and what became of the transaction is not known to it.
#[must_use]
pub fn unknown(id: TransactionId) -> Response {
    let detail = "the log failed before the outcome was known; ask for it once the node has restarted";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "log_failed", detail)
        .with("transaction", json!({ "id": id.to_string(), "outcome": "undecided" }))
        .with_header(RETRY_AFTER, "5")
        .with_header(LOCATION, &format!("/v1/transactions/{id}"))
        .with_header(TRANSACTION_ID, &id.to_string());
    problem.into_response()
}

/// What became of a transaction, for whoever asks by its id.
pub fn fate(id: TransactionId, fate: &Fate) -> Result<Value, Problem> {
    let problem = |status, code, detail: &str| {
        let problem = Problem::new(status, code, detail).with("transaction", json!({ "id": id.to_string() }));
        Err(problem.with_header(TRANSACTION_ID, &id.to_string()))
    };
    // No answer is the only true one.
    let no_answer = |why| problem(StatusCode::GONE, "expired", why);
    match fate {
        Fate::Open(view) => Ok(view_json(view)),
        Fate::Done(past) => Ok(past_json(id, past)),
        Fate::Unsettled => Ok(json!({ "id": id.to_string(), "state": "working", "outcome": "undecided" })),
        Fate::NeverSeen => problem(
            StatusCode::NOT_FOUND,
            "never_seen",
            "this transaction never began here, or was lost before it asked anybody for anything: abort is safe",
        ),
        Fate::Expired => {
            no_answer("this transaction is older than the log is kept (log.retention), so no answer is given")
        }
        Fate::GivenUp => no_answer(
            "records of the time of this transaction were damaged and given up, its own perhaps among them, so no answer is given",
        ),
        Fate::SettledByHand => no_answer(
            "records of this transaction were damaged, and an operator has settled it by hand, so no answer is given",
        ),
        Fate::OtherNode => problem(
            StatusCode::MISDIRECTED_REQUEST,
            "other_node",
            "another node began this transaction, or this one before it lost its directory: ask the URL in Transaction-Coordinator",
        ),
    }
}

/// An open transaction as JSON, for clients and operators alike.
#[must_use]
pub fn view_json(view: &View) -> Value {
    let outcome = view.told.as_ref().map_or("undecided", |decision| decision.get().outcome());
    let branches =
        view.txn.shape().branches.iter().map(|branch| branch_json(branch, &view.plan, view.standing(branch)));
    let mut json = Map::new();
    json.insert("id".into(), view.id.to_string().into());
    json.insert("state".into(), view.txn.state().name().into());
    json.insert("outcome".into(), outcome.into());
    json.insert("in_doubt".into(), (!view.txn.state().is_final()).into());
    json.insert("parked".into(), view.is_parked().into());
    if let Some(parked) = &view.parked {
        json.insert("parked_reason".into(), parked.clone().into());
    }
    json.insert("route".into(), view.plan.route.clone().into());
    json.insert("begun".into(), view.id.time().to_string().into());
    json.insert("deadline".into(), view.plan.deadline.to_string().into());
    if let Some(reason) = view.txn.state().reason() {
        json.insert("reason".into(), reason_json(reason, Some(&view.plan)));
    }
    json.insert("branches".into(), branches.collect::<Vec<_>>().into());
    Value::Object(json)
}

/// An ended transaction as JSON, with the same members.
#[must_use]
pub fn past_json(id: TransactionId, past: &Past) -> Value {
    let outcome = past.decision.outcome();
    let branches = (0..past.plan.branches.len()).map(|number| {
        let branch = Branch::new(number).expect("a plan was checked when it was made");
        let outcome = past.resolved.iter().find(|(of, _)| *of == branch).map(|(_, outcome)| *outcome);
        let standing = match outcome {
            Some(outcome) => Standing::Resolved(outcome),
            None if past.votes.read_only.has(branch) => Standing::ReadOnly,
            None if past.votes.never_sent.has(branch) => Standing::NeverSent,
            None => Standing::Confirmed,
        };
        branch_json(branch, &past.plan, standing)
    });
    let mut json = Map::new();
    json.insert("id".into(), id.to_string().into());
    json.insert("state".into(), outcome.into());
    json.insert("outcome".into(), outcome.into());
    json.insert("in_doubt".into(), false.into());
    json.insert("parked".into(), false.into());
    json.insert("route".into(), past.plan.route.clone().into());
    json.insert("begun".into(), id.time().to_string().into());
    json.insert("deadline".into(), past.plan.deadline.to_string().into());
    match past.reason {
        Some(reason) => drop(json.insert("reason".into(), reason_json(reason, Some(&past.plan)))),
        None if past.decision == Decision::Abort => drop(json.insert("reason".into(), lost_reason())),
        None => {}
    }
    json.insert("branches".into(), branches.collect::<Vec<_>>().into());
    Value::Object(json)
}

/// The record of an abort says why it was one. In a log that was rescued it can be missing.
fn lost_reason() -> Value {
    json!({ "kind": "lost" })
}

/// `{"branch":1,"service":"ledger","state":"confirmed"}`; what an operator settled has `as` besides.
fn branch_json(branch: Branch, plan: &Plan, standing: Standing) -> Value {
    let service = &plan.branch(branch).service;
    let mut json = json!({ "branch": branch, "service": service, "state": standing.name() });
    if let (Standing::Resolved(outcome), Some(json)) = (standing, json.as_object_mut()) {
        json.insert("as".to_owned(), outcome.outcome().into());
    }
    json
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is known of a transaction, as an answer with 200.
#[must_use]
pub fn of_transaction(id: TransactionId, found: Value) -> Response {
    let mut response = ok(found);
    set(response.headers_mut(), TRANSACTION_ID, &id.to_string());
    response
}

/// A value as an answer with 200.
#[must_use]
pub fn ok(value: Value) -> Response {
    Json(value).into_response()
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Draining => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).with_header(RETRY_AFTER, "5")
            }
            Refused::DiskNearlyFull => Self::new(StatusCode::SERVICE_UNAVAILABLE, "disk_nearly_full", detail)
                .with_header(RETRY_AFTER, "5"),
            Refused::Overloaded(_) | Refused::ServiceOverloaded(..) | Refused::Crowded(_) => {
                Self::overloaded(detail)
            }
            Refused::KeyReused(id) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", detail)
                .with_header(TRANSACTION_ID, &id.to_string()),
            Refused::KeySettled(id) => Self::new(StatusCode::CONFLICT, "settled_by_hand", detail)
                .with_header(TRANSACTION_ID, &id.to_string()),
            Refused::KeyBusy(id) => Self::new(StatusCode::CONFLICT, "in_progress", detail)
                .with_header(RETRY_AFTER, "1")
                .with_header(TRANSACTION_ID, &id.to_string()),
            Refused::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail),
            Refused::Plan(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "bad_plan", detail),
            Refused::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = format!("the log cannot be read ({error}), so no answer is given");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unreadable", detail).with_header(RETRY_AFTER, "5")
    }
}

impl From<NotDone> for Problem {
    fn from(error: NotDone) -> Self {
        let (status, code) = match &error {
            NotDone::NotOpen => (StatusCode::NOT_FOUND, "not_open"),
            NotDone::NotParked(_) => (StatusCode::CONFLICT, "not_parked"),
            NotDone::Damaged => (StatusCode::CONFLICT, "damaged"),
            NotDone::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<BadKey> for Problem {
    fn from(error: BadKey) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_idempotency_key", error.to_string())
    }
}

impl<E> From<BufferError<E>> for Problem {
    fn from(error: BufferError<E>) -> Self {
        match error {
            BufferError::TooLong(bytes_max) => Self::body_too_large(bytes_max),
            BufferError::NoBudget => {
                Self::overloaded("too many bytes of bodies are held already; nothing was begun")
            }
            BufferError::Broken(_) => Self::new(StatusCode::BAD_REQUEST, "body_broken", "the body broke off"),
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::try_from(value).expect("ids and paths are valid header values"));
}

fn raw<T: serde::Serialize>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("values of our own can always be written as JSON")
}
