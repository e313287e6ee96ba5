//! The body of a client's request on its way to a backend: streamed, and only held where a retry may need it.
//!
//! A call that was never sent may move to another endpoint, but only while nobody has begun to read the
//! body: what has been read is gone. So the body is lent to each attempt, and the first that reads it
//! has it for good; an attempt that finds it gone fails, for half a body or none must not be sent for the
//! whole (spring-cloud-gateway#580). A small body of a request that may be sent twice is read before it is
//! sent, and every attempt has all of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::budget::Permit;

/// The most bytes of a body that are kept for a retry, as in linkerd.
const KEPT_MAX: usize = 64 * 1024;

/// A body that takes longer than this to come is streamed, and its request tried once: a client that is slow, or talks
/// with the service while it sends, must not wait for the gateway.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

/// A request body that several attempts can ask for and one can have.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The body, until an attempt begins to read it. `None` from the start: the request has no body.
    whole: Option<Body>,
    /// The body, where it is kept for every attempt.
    kept: Option<Bytes>,
    has_body: bool,
    /// Whether all of it has gone out.
    is_over: bool,
    /// When something last moved: the start, or the last chunk.
    moved: Instant,
}

impl Upload {
    /// A body to send; one that is known to be empty is not sent at all.
    pub(super) fn new(body: Body) -> Self {
        let has_body = !body.is_end_stream();
        Self::of(State {
            whole: has_body.then_some(body),
            kept: None,
            has_body,
            is_over: !has_body,
            moved: Instant::now(),
        })
    }

    /// The same, and where the body is small, comes soon and `permit` has room, every attempt can have it.
    pub(super) async fn kept(body: Body, mut permit: Permit) -> Self {
        if body.is_end_stream() || body.size_hint().lower() > KEPT_MAX as u64 {
            return Self::new(body);
        }
        let (mut chunks, mut read, deadline) =
            (body.into_data_stream(), Vec::new(), Instant::now() + KEPT_WITHIN);
        loop {
            match timeout_at(deadline, chunks.next()).await {
                Ok(Some(Ok(chunk)))
                    if permit.held() + chunk.len() <= KEPT_MAX && permit.grow(chunk.len()) =>
                {
                    read.push(Ok(chunk));
                }
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    read.push(chunk);
                    return Self::new(Body::from_stream(stream::iter(read).chain(chunks)));
                }
                Err(_) => return Self::new(Body::from_stream(stream::iter(read).chain(chunks))),
            }
        }
        let mut bytes = BytesMut::with_capacity(permit.held());
        read.into_iter().flatten().for_each(|chunk| bytes.extend_from_slice(&chunk));
        let kept = Some(permit.hold(bytes.freeze()));
        Self::of(State { whole: None, kept, has_body: true, is_over: true, moved: Instant::now() })
    }

    /// A request without a body.
    pub(super) fn none() -> Self {
        Self::new(Body::empty())
    }

    /// Whether another attempt can have the whole body: nobody has begun to read it, or it is kept.
    pub(super) fn is_still_there(&self) -> bool {
        self.with(|state| !state.has_body || state.whole.is_some() || state.kept.is_some())
    }

    /// Whether all that the client sends has come.
    pub(super) fn is_over(&self) -> bool {
        self.with(|state| state.is_over)
    }

    /// When the body last moved.
    pub(super) fn last_moved(&self) -> Instant {
        self.with(|state| state.moved)
    }

    /// What an attempt sends; `None` where there is no body.
    pub(super) fn lend(&self) -> Option<reqwest::Body> {
        let (has_body, kept) = self.with(|state| (state.has_body, state.kept.clone()));
        let kept = kept.map(reqwest::Body::from);
        kept.or_else(|| has_body.then(|| reqwest::Body::wrap_stream(self.chunks())))
    }

    fn chunks(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + use<> {
        let (taker, watcher, end) = (self.clone(), self.clone(), self.clone());
        let gone =
            || stream::iter([Err(axum::Error::new(io::Error::other("the body is with another attempt")))]);
        stream::once(async move { taker.take() })
            .flat_map(move |body| match body {
                Some(body) => body.left_stream(),
                None => gone().right_stream(),
            })
            .inspect(move |_| watcher.with(|state| state.moved = Instant::now()))
            .chain(stream::poll_fn(move |_| {
                end.with(|state| state.is_over = true);
                Poll::Ready(None)
            }))
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn take(&self) -> Option<BodyDataStream> {
        self.with(|state| state.whole.take()).map(Body::into_data_stream)
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    async fn text(body: reqwest::Body) -> Result<String, reqwest::Error> {
        let bytes = http_body_util::BodyExt::collect(body).await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_first_attempt_that_reads_has_the_body_for_good_and_another_has_no_body_but_an_error() {
        let upload = Upload::new(Body::from("abc"));
        let (never_read, read) = (upload.chunks(), upload.chunks());
        drop(never_read);
        assert!(upload.is_still_there() && !upload.is_over());
        let chunks: Vec<_> = read.collect().await;
        assert_eq!(chunks.len(), 1);
        assert!(!upload.is_still_there() && upload.is_over());
        let again: Vec<_> = upload.chunks().collect().await;
        assert!(again.len() == 1 && again[0].is_err());
    }

    #[test]
    fn a_request_without_a_body_can_always_be_tried_again() {
        let upload = Upload::none();
        assert!(upload.lend().is_none());
        assert!(upload.is_still_there() && upload.is_over());
    }

    #[tokio::test]
    async fn a_small_body_that_is_kept_is_there_for_every_attempt_and_counts_meanwhile() {
        let budget = Budget::new(10);
        let upload = Upload::kept(Body::from("abc"), budget.permit()).await;
        for _ in 0..3 {
            assert_eq!(text(upload.lend().unwrap()).await.unwrap(), "abc");
            assert!(upload.is_still_there());
        }
        assert_eq!(budget.left(), 7);
        drop(upload);
        assert_eq!(budget.left(), 10);
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_or_has_no_room_is_streamed_whole_and_once() {
        let long = "x".repeat(KEPT_MAX + 1);
        let pieces = |text: &str| {
            let pieces: Vec<_> = text.as_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
            Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, io::Error>)))
        };
        let cases = [
            (pieces(&long), 1 << 20, long.len()),
            (pieces("abc"), 2, 3),
            (Body::from(long.clone()), 1 << 20, long.len()),
        ];
        for (body, budget, length) in cases {
            let upload = Upload::kept(body, Budget::new(budget).permit()).await;
            assert_eq!(text(upload.lend().unwrap()).await.unwrap().len(), length);
            assert!(!upload.is_still_there());
            assert!(text(upload.lend().unwrap()).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_soon_is_streamed_as_it_comes() {
        let first = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"ab"))]);
        let later = stream::once(async {
            tokio::time::sleep(3 * KEPT_WITHIN).await;
            Ok(Bytes::from_static(b"c"))
        });
        let (begun, body) = (Instant::now(), Body::from_stream(first.chain(later)));
        let upload = Upload::kept(body, Budget::new(10).permit()).await;
        assert_eq!(begun.elapsed(), KEPT_WITHIN);
        assert_eq!(text(upload.lend().unwrap()).await.unwrap(), "abc");
        assert!(!upload.is_still_there());
    }
}
