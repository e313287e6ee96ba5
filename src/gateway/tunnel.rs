//! A connection that carries requests no more: client and backend agreed on another protocol (RFC 9110, section 7.8), such as
//! WebSocket, and what either says goes to the other as it comes.
//!
//! Only the backend's 101 opens a tunnel. Until then the client's connection is read as HTTP, whatever was wished for: a gateway
//! that passes on what follows the wish lets requests by that no route has seen (CVE-2026-2833).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::sleep;

use super::backend::Failure;
use super::headers;

/// What a connection becomes when it carries no requests any more. The server puts one into the requests of a connection, and
/// looks into it when that has ended.
#[derive(Clone, Default)]
pub struct Exit(Arc<Mutex<Option<Tunnel>>>);

/// Bytes that go to and fro until both sides have said all, or nothing for too long.
pub type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The client would rather speak another protocol.
pub(super) struct Wish {
    protocols: HeaderValue,
    client: OnUpgrade,
    exit: Exit,
}

impl Exit {
    /// The tunnel, if there is to be one.
    #[must_use]
    pub fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn leads_to(&self, tunnel: Tunnel) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }
}

impl Wish {
    /// The wish of a request. That for HTTP/2 is none: it would be a connection of requests that no route sees. Nor is that of a
    /// request with a body, after which nobody could say where the other protocol begins.
    pub(super) fn of(request: &mut Parts) -> Option<Self> {
        let exit = request.extensions.remove::<Exit>()?;
        let client = request.extensions.remove::<OnUpgrade>()?;
        let headers = &request.headers;
        let protocols = headers.get(UPGRADE).filter(|_| headers.get_all(UPGRADE).iter().count() == 1)?;
        let has_body = headers.contains_key(TRANSFER_ENCODING)
            || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
        let is_wish = request.version == Version::HTTP_11
            && !has_body
            && tokens(headers, &CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade"))
            && tokens(headers, &UPGRADE).all(|name| !is_http(name));
        is_wish.then(|| Self { protocols: protocols.clone(), client, exit })
    }

    /// Passes the wish on.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocols.clone());
    }

    /// What the client is told of a backend's 101, and the tunnel that begins behind it. It keeps `held` to its end.
    pub(super) fn granted(
        self,
        answer: http::Response<Incoming>,
        held: impl Send + 'static,
        idle_max: Duration,
        service: &str,
    ) -> Response {
        let granted: Vec<String> = tokens(answer.headers(), &UPGRADE).map(str::to_owned).collect();
        let wished =
            self.protocols.to_str().unwrap_or_default().split(',').map(str::trim).collect::<Vec<_>>();
        let is_wished = |name: &String| wished.iter().any(|wish| wish.eq_ignore_ascii_case(name));
        if granted.is_empty() || !granted.iter().all(is_wished) {
            return Failure::Broken.problem(service).into_response();
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        headers::from_backend(response.headers_mut());
        let fields = response.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.extend(HeaderValue::from_str(&granted.join(", ")).ok().map(|value| (UPGRADE, value)));
        let Self { client, exit, .. } = self;
        exit.leads_to(Box::pin(async move {
            let _held = held;
            if let (Ok(client), Ok(backend)) = tokio::join!(client, hyper::upgrade::on(answer)) {
                carry(TokioIo::new(client), TokioIo::new(backend), idle_max).await;
            }
        }));
        response
    }
}

/// Carries bytes to and fro until both sides are done, one breaks off, or neither says anything for `idle_max`.
async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    backend: impl AsyncRead + AsyncWrite + Unpin,
    idle_max: Duration,
) {
    let said = Arc::new(AtomicU64::new(0));
    let (mut client, mut backend) = (Counted(client, said.clone()), Counted(backend, said.clone()));
    let mut silence = pin!(async {
        let mut known = u64::MAX;
        while known != said.load(Ordering::Relaxed) {
            known = said.load(Ordering::Relaxed);
            sleep(idle_max).await;
        }
    });
    tokio::select! {
        // How it ended is the affair of the two.
        _ = copy_bidirectional(&mut client, &mut backend) => {}
        () = poll_fn(|context| silence.as_mut().poll(context)) => {}
    }
}

/// One side of a tunnel, and how many bytes the two have said.
struct Counted<T>(T, Arc<AtomicU64>);

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(context, buffer);
        self.1.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The members of a field that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn is_http(protocol: &str) -> bool {
    let protocol = protocol.to_ascii_lowercase();
    protocol == "h2c" || protocol == "h2" || protocol.starts_with("http/")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nobody_speaks_is_closed_and_one_in_which_one_side_does_is_not() {
        let ((mut client, near), (far, mut backend)) = (duplex(64), duplex(64));
        let speaks = async {
            for _ in 0..5 {
                sleep(IDLE / 2).await;
                client.write_all(b"x").await.unwrap();
                backend.read_u8().await.unwrap();
            }
            let spoken = tokio::time::Instant::now();
            assert_eq!(backend.read(&mut [0]).await.unwrap(), 0, "it is closed");
            assert!(spoken.elapsed() >= IDLE && spoken.elapsed() <= IDLE * 2, "{:?}", spoken.elapsed());
        };
        tokio::join!(async { carry(near, far, IDLE).await }, speaks);
    }
}
