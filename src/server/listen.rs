//! Connections: limits, timeouts, an orderly end.
//!
//! `axum::serve` sets no header timeout and no limit on connections, so the listeners run on
//! hyper-util's builder, with a timer, themselves.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::linger::lingering;

/// What one listener lets in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a client may take to send its request line and headers.
    pub header_timeout: Duration,
    /// The most bytes of request line and headers.
    pub header_max: usize,
    /// The most connections at once; more wait in the accept queue.
    pub connections_max: usize,
    /// How long connections may take to finish once the listener is closed.
    pub finish: Duration,
}

/// Accepts connections until `closing`, then lets those there are finish.
pub async fn serve<A, F>(listener: TcpListener, limits: Limits, closing: CancellationToken, answer: A)
where
    A: Fn(Request<Body>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(limits.connections_max));
    let (graceful, tasks) = (GracefulShutdown::new(), TaskTracker::new());
    let builder = builder(limits);
    loop {
        let seat = tokio::select! {
            () = closing.cancelled() => break,
            seat = seats.clone().acquire_owned() => seat.expect("nothing closes the seats"),
        };
        let (stream, client) = tokio::select! {
            () = closing.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let (builder, watcher, answer) = (builder.clone(), graceful.watcher(), answer.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (request, watch) = lingering(request);
                let answered = answer(request, client);
                async move {
                    let answer = answered.await;
                    Ok::<_, Infallible>(match watch {
                        Some(watch) => watch.until_told(answer),
                        None => answer,
                    })
                }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%client, %error, "a connection ended early");
            }
            drop(seat);
        });
    }
    drop(listener);
    if timeout(limits.finish, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not finish in {:?}; they are cut", limits.finish);
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_max)
        .half_close(false);
    builder
}

/// The next connection. An error here is about one connection or about too many open files: neither
/// is a reason to stop, and the second gets better only with time.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Without it an answer can wait 40 ms for an acknowledgement; a socket that refuses the
                // option is slower, not wrong.
                let _ = stream.set_nodelay(true);
                return (stream, client);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
