//! How the two doors of a node are opened, and what those are told who find no seat behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::listen::{Limits, serve};
use super::metrics::Metrics;
use super::node::Stopped;
use super::options::NodeOptions;
use super::public::Public;
use crate::gateway::Problem;
use crate::participant::Participants;

/// Operators are few. Each of them who follows the log has a thread.
const ADMIN_CONNECTIONS_MAX: usize = 200;

/// Takes the address of a door, which is configured as `key`.
pub(super) async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, Stopped> {
    TcpListener::bind(address).await.map_err(|source| Stopped::Bind { address, key, source })
}

/// Opens the door for operators, until `closing`.
pub(super) fn open_admin(
    router: Router,
    listener: TcpListener,
    limits: Limits,
    closing: CancellationToken,
    tasks: &TaskTracker,
) {
    let answer = move |request, _| {
        let router = router.clone();
        async move { router.oneshot(request).await.into_response() }
    };
    let limits = Limits { connections_max: ADMIN_CONNECTIONS_MAX, ..limits };
    tasks.spawn(serve(listener, limits, closing, answer, no_seat));
}

/// Opens the door for clients, until `closing`.
pub(super) fn open_public<P: Participants>(
    public: Arc<Public<P>>,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    limits: Limits,
    closing: CancellationToken,
    tasks: &TaskTracker,
) -> JoinHandle<()> {
    let answer = move |request, client| public.clone().answer(request, client);
    let refuse = move || {
        metrics.request("", StatusCode::SERVICE_UNAVAILABLE);
        no_seat()
    };
    tasks.spawn(serve(listener, limits, closing, answer, refuse))
}

/// The limits on connections of clients.
pub(super) fn limits(node: &NodeOptions) -> Limits {
    let NodeOptions { header_timeout, answer_timeout, header_max, connections_max, finish, .. } = *node;
    Limits { header_timeout, answer_timeout, header_max, connections_max, finish }
}

fn no_seat() -> Response {
    let detail =
        "everybody who is connected has a request in flight, and no more connections are taken; try again";
    Problem::overloaded(detail).into_response()
}
