//! The coordinator that the participant believes it has: ids, epochs, and the URL that answers what became of a transaction.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::script::{Epoch, Share};
use crate::clock::{Clock, SystemClock};
use crate::gateway::Problem;
use crate::participant::wire::Sender;
use crate::plan::{Issuer, TransactionId};
use crate::server::options::NodeOptions;
use crate::txn::Decision;

/// A node, and another one beside it.
#[derive(Debug)]
pub(super) struct Coordinator {
    node: Node,
    /// It has a port of its own: a participant may tell nodes by the beginning of the URL.
    another: Node,
    /// The epoch of the first one.
    epoch: u64,
    /// How many lives it has had since the beginning.
    lives: u32,
    began: Instant,
    fates: Fates,
    /// Ends with this value.
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct Node {
    advertise: String,
    ids: Issuer,
}

/// What was decided of each transaction.
type Fates = Arc<Mutex<HashMap<String, Option<Decision>>>>;

impl Coordinator {
    /// Answers at `listen`, and for the other node at any port beside it; participants are told `advertise`.
    pub(super) async fn start(listen: SocketAddr, advertise: Option<&str>) -> io::Result<Self> {
        let (listener, beside) =
            (TcpListener::bind(listen).await?, TcpListener::bind((listen.ip(), 0)).await?);
        let advertise = advertise.map(|url| url.trim_end_matches('/').to_owned());
        let another = advertise.as_deref().and_then(|url| at_port(url, beside.local_addr().ok()?.port()));
        let told = |advertise, bound| NodeOptions { advertise, ..NodeOptions::default() }.advertised(bound);
        let number = fastrand::u32(..);
        let node = Node { advertise: told(advertise, listener.local_addr()?), ids: Issuer::new(number) };
        let another = Node { advertise: told(another, beside.local_addr()?), ids: Issuer::new(!number) };
        let fates = Fates::default();
        let mut serving = JoinSet::new();
        for listener in [listener, beside] {
            let router = Router::new().route("/v1/transactions/{id}", get(fate)).with_state(fates.clone());
            serving.spawn(async move {
                if let Err(error) = axum::serve(listener, router).await {
                    tracing::warn!(%error, "participants that ask are not answered any more");
                }
            });
        }
        // It grows from run to run, and fits 31 bits as that of a node does for a long time.
        let epoch = SystemClock.now().0 / 1000;
        Ok(Self { node, another, epoch, lives: 0, began: Instant::now(), fates, _serving: serving })
    }

    /// A new transaction, undecided.
    pub(super) fn begin(&self, is_of_another_node: bool) -> TransactionId {
        let node = if is_of_another_node { &self.another } else { &self.node };
        let id = node.ids.issue(SystemClock.now(), fastrand::u16(..));
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
        self.lives += 1;
    }

    /// Waits until the time has caught up with the epoch: a run straight after this one is no former life.
    pub(super) async fn caught_up(&self) {
        sleep(Duration::from_secs(self.lives.into()).saturating_sub(self.began.elapsed())).await;
    }

    /// What a call says of the node that makes it.
    pub(super) fn sender(&self, share: Share, epoch: Epoch) -> Sender {
        let node = if share.is_of_another_node { &self.another } else { &self.node };
        let epoch = match epoch {
            Epoch::Now => self.epoch,
            Epoch::Next => self.epoch + 1,
            Epoch::First => 1,
        };
        Sender { advertise: node.advertise.clone(), epoch }
    }
}

/// The same host at another port.
fn at_port(url: &str, port: u16) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    Some(format!("{}://{}:{port}", url.scheme_str()?, url.host()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_node_is_advertised_at_the_same_host() {
        assert_eq!(at_port("http://tests.example:9000/behind", 7).unwrap(), "http://tests.example:7");
        assert_eq!(at_port("http://[::1]:9000", 7).unwrap(), "http://[::1]:7");
        assert_eq!(at_port("tests.example:9000", 7), None);
    }
}
