//! The admin listener: probes, metrics, and what an engineer on call needs (contract section 6).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Json, Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::browsers::keep_out;
use super::in_force::InForce;
use super::log_lines::{self, LogQuery};
use super::metrics::Metrics;
use super::public::fate_of;
use super::reload::{Ask, Reloaded};
use super::reply;
use crate::coordinator::{Coordinator, NotDone};
use crate::gateway::Problem;
use crate::participant::Participants;
use crate::plan::TransactionId;
use crate::txn::{Branch, Decision, STATES};

/// Finished transactions that a list shows where they are asked for: the newest.
const FINISHED_MAX: usize = 1_000;

/// All that the admin listener needs. It answers from the moment the node starts; the coordinator
/// comes when the log has been read.
pub struct Admin<P> {
    /// The transactions, once the log has been read.
    pub(super) coordinator: OnceLock<Coordinator<P>>,
    /// What is counted.
    metrics: Arc<Metrics>,
    /// Why the node should get no traffic; empty when it should.
    unready: Unready,
    /// Where to say that the configuration is to be read again.
    reload: mpsc::Sender<Ask>,
    /// Where the services are looked for.
    in_force: Arc<InForce>,
}

impl<P> Admin<P> {
    /// A door behind which nobody knows of transactions yet.
    pub(super) fn new(
        metrics: Arc<Metrics>,
        unready: Unready,
        in_force: Arc<InForce>,
        reload: mpsc::Sender<Ask>,
    ) -> Self {
        Self { coordinator: OnceLock::new(), metrics, unready, in_force, reload }
    }
}

/// Why a node is not ready; `None` when it is.
pub type Unready = tokio::sync::watch::Receiver<Option<&'static str>>;

type Shared<P> = State<Arc<Admin<P>>>;

/// The routes of the admin listener, which is bound to `address`.
pub fn router<P: Participants>(admin: Arc<Admin<P>>, address: SocketAddr) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready::<P>))
        .route("/metrics", get(metrics::<P>))
        .route("/v1/transactions", get(list::<P>))
        .route("/v1/transactions/{id}", get(show::<P>))
        .route("/v1/transactions/{id}/retry", post(retry::<P>))
        .route("/v1/transactions/{id}/resolve", post(resolve::<P>))
        .route("/v1/log", get(log::<P>))
        .route("/v1/reload", post(reload::<P>))
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "the admin listener has no such path")
        })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(address, keep_out))
        .with_state(admin)
}

impl<P: Participants> Admin<P> {
    fn coordinator(&self) -> Result<&Coordinator<P>, Problem> {
        let starting = || Problem::overloaded("the log is still being read; the node has just started");
        self.coordinator.get().ok_or_else(starting)
    }
}

async fn ready<P: Participants>(State(admin): Shared<P>) -> Response {
    let why = admin.unready.borrow().map(str::to_owned);
    let why = why.or_else(|| {
        let missing = admin.in_force.missing().join(", ");
        (!missing.is_empty()).then(|| format!("waiting for where these services are: {missing}"))
    });
    match why {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics<P: Participants>(State(admin): Shared<P>, headers: HeaderMap) -> Response {
    let asked = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, text) = if asked.into_iter().any(|kinds| kinds.contains("application/openmetrics-text")) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", admin.metrics.open_metrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", admin.metrics.text())
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Which transactions are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    state: Option<String>,
    in_doubt: bool,
    limit: Option<usize>,
}

async fn list<P: Participants>(
    State(admin): Shared<P>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let coordinator = admin.coordinator()?;
    let limit = query.limit.unwrap_or(usize::MAX);
    // Before the finished ones are read: one that ends meanwhile is seen twice rather than not at all.
    let mut open = coordinator.open_transactions();
    let mut transactions: Vec<Value> = Vec::new();
    if !query.in_doubt {
        let journal = coordinator.journal().clone();
        // The last records of a transaction that has just ended may still be on their way to the disk.
        journal.catch_up().await;
        let reading = tokio::task::spawn_blocking(move || journal.finished(FINISHED_MAX));
        let past = reading.await.expect("looking into the log does not panic")?;
        let ended: HashSet<TransactionId> = past.iter().map(|(id, _)| *id).collect();
        open.retain(|view| !ended.contains(&view.id));
        transactions.extend(past.iter().map(|(id, past)| reply::past_json(*id, past)));
    }
    transactions.extend(open.iter().map(reply::view_json));
    if let Some(wanted) = &query.state {
        if !STATES.contains(&wanted.as_str()) {
            let detail = format!("`{wanted}` is no state; these are: {}", STATES.join(", "));
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail));
        }
        transactions.retain(|transaction| transaction["state"] == wanted.as_str());
    }
    transactions.truncate(limit);
    Ok(reply::ok(json!({ "transactions": transactions })))
}

async fn show<P: Participants>(State(admin): Shared<P>, Path(id): Path<String>) -> Result<Response, Problem> {
    Ok(fate_of(admin.coordinator()?, &id).await)
}

async fn retry<P: Participants>(
    State(admin): Shared<P>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = parse(&id)?;
    admin.coordinator()?.retry(id).await?;
    tracing::info!(transaction = %id, "an operator asked to tell the branches again");
    show::<P>(State(admin), Path(id.to_string())).await
}

/// What an operator says of a parked branch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolution {
    branch: usize,
    #[serde(rename = "as")]
    outcome: Outcome,
    reason: String,
    #[serde(default)]
    actor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Committed,
    Aborted,
}

async fn resolve<P: Participants>(
    State(admin): Shared<P>,
    Path(id): Path<String>,
    wish: Result<Json<Resolution>, JsonRejection>,
) -> Result<Response, Problem> {
    let id = parse(&id)?;
    let Json(wish) = wish.map_err(|error| {
        let shape = r#"send {"branch":0,"as":"committed","reason":"..","actor":".."} as application/json"#;
        Problem::new(StatusCode::BAD_REQUEST, "bad_resolution", format!("{error}; {shape}"))
    })?;
    let branch = Branch::new(wish.branch)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_resolution", error.to_string()))?;
    if wish.reason.trim().is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_resolution", "say why: `reason` is empty"));
    }
    let decision = match wish.outcome {
        Outcome::Committed => Decision::Commit,
        Outcome::Aborted => Decision::Abort,
    };
    let actor = wish.actor.unwrap_or_else(|| "operator".to_owned());
    let view = admin.coordinator()?.resolve(id, branch, decision, actor, wish.reason).await?;
    tracing::info!(transaction = %id, %branch, outcome = decision.outcome(), "an operator settled a parked branch");
    Ok(reply::ok(reply::view_json(&view)))
}

async fn log<P: Participants>(
    State(admin): Shared<P>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let coordinator = admin.coordinator()?.clone();
    // Records that nobody waits for may still be on their way to the disk.
    coordinator.journal().catch_up().await;
    let lines = log_lines::stream(coordinator.journal().clone(), query)?;
    let body = Body::from_stream(lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn reload<P: Participants>(State(admin): Shared<P>) -> Result<Response, Problem> {
    // Before that nothing is there to be replaced, and afterwards nobody listens.
    admin.coordinator()?;
    let (ask, answer) = oneshot::channel();
    let stopping = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "the node is stopping");
    let full = |error| match error {
        TrySendError::Full(_) => {
            Problem::overloaded("the configuration is being read again already; wait for that")
        }
        TrySendError::Closed(_) => stopping(),
    };
    admin.reload.try_send(ask).map_err(full)?;
    let Reloaded { routes, participants } = answer.await.map_err(|_| stopping())??;
    Ok(reply::ok(json!({ "status": "reloaded", "routes": routes, "participants": participants })))
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("this address does not take {method}; Allow says what it takes");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

fn parse(id: &str) -> Result<TransactionId, Problem> {
    id.parse().map_err(|_| NotDone::NotOpen.into())
}

fn bad_query(error: &QueryRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text())
}
