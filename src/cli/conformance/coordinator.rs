//! The coordinator that the participant believes it has: ids, epochs, and the URL that answers what became of a transaction.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::script::{Epoch, Share};
use crate::clock::{Clock, SystemClock};
use crate::gateway::Problem;
use crate::participant::wire::Sender;
use crate::plan::{Issuer, TransactionId};
use crate::server::options::NodeOptions;
use crate::txn::Decision;

/// Where the other node's transactions are asked for.
const ANOTHER: &str = "/another-node";

/// A node, and another one beside it.
#[derive(Debug)]
pub(super) struct Coordinator {
    advertise: String,
    epoch: u64,
    node: Issuer,
    another: Issuer,
    fates: Fates,
    /// Ends with this value.
    _serving: JoinSet<()>,
}

/// What was decided of each transaction.
type Fates = Arc<Mutex<HashMap<String, Option<Decision>>>>;

impl Coordinator {
    /// Answers at `listen`; participants are told `advertise`.
    pub(super) async fn start(listen: SocketAddr, advertise: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let advertise = advertise.map(|url| url.trim_end_matches('/').to_owned());
        let advertise =
            NodeOptions { advertise, ..NodeOptions::default() }.advertised(listener.local_addr()?);
        let fates = Fates::default();
        let router = Router::new()
            .route("/v1/transactions/{id}", get(fate))
            .route(&format!("{ANOTHER}/v1/transactions/{{id}}"), get(fate))
            .with_state(fates.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "participants that ask are not answered any more");
            }
        });
        let number = fastrand::u32(..);
        Ok(Self {
            advertise,
            // It grows from run to run, and fits 31 bits as that of a node does for a long time.
            epoch: SystemClock.now().0 / 1000,
            node: Issuer::new(number),
            another: Issuer::new(!number),
            fates,
            _serving: serving,
        })
    }

    /// A new transaction, undecided.
    pub(super) fn begin(&self, is_of_another_node: bool) -> TransactionId {
        let issuer = if is_of_another_node { &self.another } else { &self.node };
        let id = issuer.issue(SystemClock.now(), fastrand::u16(..));
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), None);
        id
    }

    /// From now on whoever asks is told this.
    pub(super) fn decided(&self, id: TransactionId, decision: Decision) {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), Some(decision));
    }

    /// From now on calls come from the node's next life.
    pub(super) fn next_life(&mut self) {
        self.epoch += 1;
    }

    /// What a call says of the node that makes it.
    pub(super) fn sender(&self, share: Share, epoch: Epoch) -> Sender {
        let another = if share.is_of_another_node { ANOTHER } else { "" };
        let epoch = match epoch {
            Epoch::Now => self.epoch,
            Epoch::Next => self.epoch + 1,
            Epoch::First => 1,
        };
        Sender { advertise: format!("{}{another}", self.advertise), epoch }
    }
}

async fn fate(State(fates): State<Fates>, Path(id): Path<String>) -> Response {
    let known = fates.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    let (state, outcome) = match known {
        None => {
            let detail = "this transaction never began here: abort is safe";
            return Problem::new(StatusCode::NOT_FOUND, "never_seen", detail).into_response();
        }
        Some(None) => ("preparing", "undecided"),
        Some(Some(Decision::Commit)) => ("committing", Decision::Commit.outcome()),
        Some(Some(Decision::Abort)) => ("aborting", Decision::Abort.outcome()),
    };
    Json(json!({"id": id, "state": state, "outcome": outcome, "branches": []})).into_response()
}
