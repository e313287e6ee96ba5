//! Connections: limits, timeouts, an orderly end.
//!
//! `axum::serve` sets no header timeout and no limit on connections, so the listeners run on
//! hyper-util's builder, with a timer, themselves.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

use super::linger::lingering;
use super::seats::{Guest, Seats};
use super::unread::Answers;
use crate::gateway::{Exit, Seldom, keeping};

/// How long somebody for whom there is no seat may take to say what they want.
const REFUSED_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Until the rest of a preface is looked for that came in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// Requests in flight on one connection of HTTP/2: as many as RFC 9113 (6.5.2) wants at least.
const STREAMS_MAX: u32 = 100;

/// Streams that were reset and not yet forgotten: a client that opens and resets without end (CVE-2023-44487, CVE-2025-8671) is
/// disconnected.
const RESETS_MAX: usize = 20;

/// Bytes of one answer that wait to be sent: without a limit of ours it would be 400 KB for each of a hundred streams.
const SEND_BUFFER: usize = 64 * 1024;

/// A peer that is gone without a word would otherwise hold its seat for ever.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// What one listener lets in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a client may take to send its request line and headers.
    pub header_timeout: Duration,
    /// How long a client may leave its answer unread.
    pub answer_timeout: Duration,
    /// The most bytes of request line and headers.
    pub header_max: usize,
    /// The most connections at once; one more takes the seat of an idle one, or is told 503.
    pub connections_max: usize,
    /// How long connections may take to finish once the listener is closed.
    pub finish: Duration,
}

/// All that the connections of one listener share.
struct Door<A, R> {
    answer: A,
    refuse: R,
    answer_timeout: Duration,
    seats: Arc<Seats>,
    header_timeout: Duration,
    builders: Builders,
    builders_for_refused: Builders,
    closing: CancellationToken,
    /// What the log was told of connections.
    seldom: Seldom,
}

/// Accepts connections until `closing`, then lets those there are finish. Whoever asks for something while everybody who is
/// connected has a request in flight gets what `refuse` says, and is disconnected.
pub async fn serve<A, F, R>(
    listener: TcpListener,
    limits: Limits,
    closing: CancellationToken,
    answer: A,
    refuse: R,
) where
    A: Fn(Request<Body>, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
    R: Fn() -> Response + Send + Sync + 'static,
{
    let (seats, mut tasks) = (Seats::new(limits.connections_max), JoinSet::new());
    let header_timeout = limits.header_timeout.min(REFUSED_HEADER_TIMEOUT);
    let door = Arc::new(Door {
        answer,
        refuse,
        answer_timeout: limits.answer_timeout,
        seats,
        header_timeout: limits.header_timeout,
        builders: Builders::new(&limits),
        builders_for_refused: Builders::new(&Limits { header_timeout, ..limits }),
        closing,
        seldom: Seldom::default(),
    });
    loop {
        let (place, stream, client) = tokio::select! {
            () = door.closing.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            next = next(&door.seats, &listener) => next,
        };
        let door = door.clone();
        tasks.spawn(async move {
            match door.seats.clone().take(door.closing.child_token()).await {
                Some(guest) => {
                    drop(place);
                    door.serve(stream, client, guest).await;
                }
                None => door.turn_away(stream, client).await,
            }
        });
    }
    drop(listener);
    let finished = async { while tasks.join_next().await.is_some() {} };
    if timeout(limits.finish, finished).await.is_err() {
        tracing::warn!("some connections did not finish in {:?}; they are cut", limits.finish);
        // What they hold, the log among it, is let go before this returns.
        tasks.shutdown().await;
    }
}

impl<A, F, R> Door<A, R>
where
    A: Fn(Request<Body>, SocketAddr) -> F,
    F: Future<Output = Response> + Send + 'static,
    R: Fn() -> Response,
{
    async fn serve(&self, stream: TcpStream, client: SocketAddr, guest: Arc<Guest>) {
        let spoken = tokio::select! {
            biased;
            spoken = protocol(&stream, self.header_timeout) => spoken,
            () = guest.is_sent_away() => return,
        };
        match spoken {
            Some(Protocol::Http1) => self.serve_as(Protocol::Http1, stream, client, guest, None).await,
            Some(Protocol::Http2) => {
                let answers = Arc::new(Answers::default());
                tokio::select! {
                    biased;
                    () = self.serve_as(Protocol::Http2, stream, client, guest, Some(answers.clone())) => {}
                    () = answers.one_is_left(self.answer_timeout) => {
                        tracing::debug!(%client, "a client left an answer unread; its connection is cut");
                    }
                }
            }
            None => {}
        }
    }

    /// Serves a connection to its end, or until somebody else needs its seat; `unread` watches over the answers.
    async fn serve_as(
        &self,
        protocol: Protocol,
        stream: TcpStream,
        client: SocketAddr,
        guest: Arc<Guest>,
        unread: Option<Arc<Answers>>,
    ) {
        let exit = Exit::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            let (busy, unread) = (guest.asks(), unread.clone());
            request.extensions_mut().insert(exit.clone());
            let (request, watch) = lingering(request);
            // On the heap for as long as it takes: an idle connection has no room for it.
            let answered = Box::pin((self.answer)(request, client));
            async move {
                let answer = keeping(answered.await, (watch, busy));
                Ok::<_, Infallible>(match unread {
                    Some(answers) => answers.watched(answer),
                    None => answer,
                })
            }
        });
        let builder = self.builders.of(protocol);
        let mut connection = pin!(builder.serve_connection_with_upgrades(self.io(stream), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = guest.is_sent_away() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            // Somebody needs the seat, and of one that has not asked for anything nothing is lost.
            None if !guest.has_asked() && !self.closing.is_cancelled() => return,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        note(ended, client, &self.seldom);
        if let Some(tunnel) = exit.take() {
            let _busy = guest.asks();
            tunnel.await;
        }
    }

    async fn turn_away(&self, stream: TcpStream, client: SocketAddr) {
        let Some(protocol) = protocol(&stream, REFUSED_HEADER_TIMEOUT).await else { return };
        let builder = self.builders_for_refused.of(protocol);
        let service = service_fn(|request: Request<Incoming>| {
            let (request, watch) = lingering(request);
            drop(request);
            let mut answer = (self.refuse)();
            if protocol == Protocol::Http1 {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            async move { Ok::<_, Infallible>(keeping(answer, watch)) }
        });
        let mut connection = pin!(builder.serve_connection(self.io(stream), service));
        if protocol == Protocol::Http2 {
            // Whoever is refused here is not to stay: what has come by then is answered, and nothing more is taken.
            let ended = timeout(REFUSED_HEADER_TIMEOUT, connection.as_mut()).await;
            if let Ok(ended) = ended {
                return note(ended, client, &self.seldom);
            }
            connection.as_mut().graceful_shutdown();
        }
        note(connection.await, client, &self.seldom);
    }

    /// A client that reads nothing would otherwise hold its seat, and a share of what is held for answers, for ever.
    fn io(&self, stream: TcpStream) -> TokioIo<Pin<Box<TimeoutWriter<TcpStream>>>> {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(self.answer_timeout));
        TokioIo::new(Box::pin(stream))
    }
}

/// What a connection comes to that breaks is its client's affair. What hyper refuses by itself, before there is a request,
/// shows nowhere else.
fn note(ended: Result<(), tower::BoxError>, client: SocketAddr, seldom: &Seldom) {
    let Err(error) = ended else { return };
    let kind = error.downcast_ref::<hyper::Error>().and_then(refused);
    if let Some((kind, left_out)) =
        kind.and_then(|kind| Some((kind, seldom.may_say(kind, Instant::now().into_std())?)))
    {
        tracing::info!(kind, left_out, "a client sent what is no request");
    }
    tracing::debug!(%client, %error, "a connection ended early");
}

/// What hyper answers with a bare 400 or 431.
fn refused(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("its head is over a limit")
    } else if error.is_parse() {
        Some("not HTTP")
    } else {
        None
    }
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    /// Without TLS, by prior knowledge (RFC 9113, 3.3).
    Http2,
}

/// What the client of a fresh connection speaks: HTTP/2 begins with a preface that is no request of HTTP/1.1. `None` where it
/// said nothing in time, or hung up.
async fn protocol(stream: &TcpStream, patience: Duration) -> Option<Protocol> {
    let mut first = [0; PREFACE.len()];
    let look = async {
        loop {
            let count = stream.peek(&mut first).await.ok().filter(|count| *count > 0)?;
            let (said, expected) = (first.get(..count)?, PREFACE.get(..count)?);
            if said != expected {
                return Some(Protocol::Http1);
            }
            if count == PREFACE.len() {
                return Some(Protocol::Http2);
            }
            // What has been looked at is still there, so that there is nothing to wait for but time.
            sleep(PREFACE_PAUSE).await;
        }
    };
    timeout(patience, look).await.ok().flatten()
}

/// What serves a connection, for each protocol.
struct Builders {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
}

impl Builders {
    fn new(limits: &Limits) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.header_max)
            .half_close(false);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN);
        Self { http1, http2 }
    }

    fn of(&self, protocol: Protocol) -> &Builder<TokioExecutor> {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }
}

/// The next connection, once it may be accepted. An error here is about one connection or about too many open files: neither
/// is a reason to stop, and the second gets better only with time.
async fn next(seats: &Seats, listener: &TcpListener) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let place = seats.doorstep().await;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Without it an answer can wait 40 ms for an acknowledgement; a socket that refuses the
                // option is slower, not wrong.
                let _ = stream.set_nodelay(true);
                return (place, stream, client);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_does_not_finish_is_cut_and_lets_go_of_what_it_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let second = Duration::from_secs(1);
        let limits = Limits {
            header_timeout: second,
            answer_timeout: second,
            header_max: 8192,
            connections_max: 10,
            finish: Duration::from_millis(50),
        };
        let (closing, asked, held) = (CancellationToken::new(), Arc::new(Notify::new()), Arc::new(()));
        let (notify, holds) = (asked.clone(), held.clone());
        let never = move |_: Request<Body>, _| {
            let (notify, holds) = (notify.clone(), holds.clone());
            async move {
                notify.notify_one();
                std::future::pending::<()>().await;
                drop(holds);
                Response::default()
            }
        };
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let close = async {
            asked.notified().await;
            closing.cancel();
        };
        tokio::join!(serve(listener, limits, closing.clone(), never, Response::default), close);
        assert_eq!(Arc::strong_count(&held), 1, "nobody else holds it");
        assert_eq!(client.read(&mut [0]).await.map_err(|error| error.kind()).unwrap_or(0), 0, "it is cut");
    }
}
