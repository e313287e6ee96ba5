//! The body of a client's request on its way to a backend: streamed, and only held where a retry may need it.
//!
//! A call that was never sent may move to another endpoint, but only while nobody has begun to read the
//! body: what has been read is gone. So the body is lent to each attempt, and the first that reads it
//! has it for good; an attempt that finds it gone fails, for half a body or none must not be sent for the
//! whole (spring-cloud-gateway#580). A small body of a request that may be sent twice is read before it is
//! sent, and every attempt has all of it.
//!
//! Whoever sends more slowly than `pace` allows is cut off.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::headers;
use super::pace::{Pace, Patience};
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
    /// How slowly it may come; `None`: as slowly as it likes.
    pace: Option<Pace>,
    /// Whether the client has to send more of it before anything moves again.
    is_awaited: bool,
    /// Whether all of it has gone out.
    is_over: bool,
    /// When something last moved: the start, or the last chunk.
    moved: Instant,
}

impl Upload {
    /// A body to send; one that is known to be empty is not sent at all.
    pub(super) fn new(body: Body, pace: Option<Pace>) -> Self {
        let has_body = !body.is_end_stream();
        Self::of(State {
            whole: has_body.then_some(body),
            kept: None,
            has_body,
            pace,
            is_awaited: false,
            is_over: !has_body,
            moved: Instant::now(),
        })
    }

    /// The same, and where the body is small, comes soon and `permit` has room, every attempt can have it.
    pub(super) async fn kept(mut body: Body, pace: Option<Pace>, mut permit: Permit) -> Self {
        if body.is_end_stream() || body.size_hint().lower() > KEPT_MAX as u64 {
            return Self::new(body, pace);
        }
        let (mut read, deadline) = (Vec::new(), Instant::now() + KEPT_WITHIN);
        loop {
            match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) if is_kept(&frame, &mut permit) => read.push(Ok(frame)),
                Ok(None) => break,
                Ok(Some(frame)) => {
                    read.push(frame);
                    return Self::new(rest_of(read, body), pace);
                }
                Err(_) => return Self::new(rest_of(read, body), pace),
            }
        }
        let mut bytes = BytesMut::with_capacity(permit.held());
        let chunks = read.into_iter().flatten().filter_map(|frame| frame.into_data().ok());
        chunks.for_each(|chunk| bytes.extend_from_slice(&chunk));
        Self::of(State {
            whole: None,
            kept: Some(permit.hold(bytes.freeze())),
            has_body: true,
            pace: None,
            is_awaited: false,
            is_over: true,
            moved: Instant::now(),
        })
    }

    /// A request without a body.
    pub(super) fn none() -> Self {
        Self::new(Body::empty(), None)
    }

    /// Whether another attempt can have the whole body: nobody has begun to read it, or it is kept.
    pub(super) fn is_still_there(&self) -> bool {
        self.with(|state| !state.has_body || state.whole.is_some() || state.kept.is_some())
    }

    /// Whether there is a body that goes on as it comes.
    pub(super) fn is_streamed(&self) -> bool {
        self.with(|state| state.has_body && state.kept.is_none())
    }

    /// Whether all that the client sends has come.
    pub(super) fn is_over(&self) -> bool {
        self.with(|state| state.is_over)
    }

    /// Whether the client is waited for, and has no right to be.
    pub(super) fn is_awaited(&self) -> bool {
        self.with(|state| state.pace.is_some() && state.is_awaited)
    }

    /// When the body last moved.
    pub(super) fn last_moved(&self) -> Instant {
        self.with(|state| state.moved)
    }

    /// What an attempt sends.
    pub(super) fn lend(&self) -> Body {
        match self.with(|state| (state.has_body, state.kept.clone())) {
            (false, _) => Body::empty(),
            (true, Some(kept)) => Body::from(kept),
            (true, None) => Body::new(self.lent()),
        }
    }

    fn lent(&self) -> Lent {
        let patience = self.with(|state| state.pace).map(Pace::patience);
        Lent { upload: self.clone(), body: None, patience }
    }

    /// Somebody has asked for more of the body, and this came.
    fn moves(&self, polled: &Poll<Option<Result<Frame<Bytes>, axum::Error>>>) {
        self.with(|state| match polled {
            Poll::Pending => state.is_awaited = true,
            Poll::Ready(frame) => {
                state.is_awaited = false;
                state.moved = Instant::now();
                state.is_over |= frame.is_none();
            }
        });
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A body on loan: the attempt that first asks for a part of it has it.
struct Lent {
    upload: Upload,
    body: Option<Body>,
    patience: Option<Patience>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { upload, body, patience } = &mut *self;
        if body.is_none() {
            *body = upload.with(|state| state.whole.take());
        }
        let Some(body) = body else {
            let gone = io::Error::other("the body is with another attempt");
            return Poll::Ready(Some(Err(axum::Error::new(gone))));
        };
        let mut polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::trailers(trailers);
        }
        upload.moves(&polled);
        match (&polled, patience) {
            (Poll::Pending, Some(patience)) => {
                patience.poll_over(context).map(|slow| Some(Err(axum::Error::new(slow))))
            }
            (Poll::Ready(Some(Ok(frame))), Some(patience)) => {
                patience.came(frame.data_ref().map_or(0, Bytes::len));
                polled
            }
            (Poll::Ready(_), _) | (Poll::Pending, None) => polled,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => self.upload.with(|state| state.whole.as_ref().map(Body::size_hint).unwrap_or_default()),
        }
    }
}

/// Whether a frame may be kept: trailers may not, and nothing for which there is no room.
fn is_kept(frame: &Frame<Bytes>, permit: &mut Permit) -> bool {
    let length = frame.data_ref().map(Bytes::len);
    length.is_some_and(|length| permit.held() + length <= KEPT_MAX && permit.grow(length))
}

/// What was read, and then the rest.
fn rest_of(read: Vec<Result<Frame<Bytes>, axum::Error>>, body: Body) -> Body {
    Body::new(StreamBody::new(stream::iter(read).chain(BodyStream::new(body))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    async fn text(body: Body) -> Result<String, axum::Error> {
        let bytes = body.collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_first_attempt_that_reads_has_the_body_for_good_and_another_has_no_body_but_an_error() {
        let upload = Upload::new(Body::from("abc"), None);
        let (never_read, read) = (upload.lent(), upload.lent());
        drop(never_read);
        assert!(upload.is_still_there() && !upload.is_over());
        assert_eq!(read.collect().await.unwrap().to_bytes(), "abc");
        assert!(!upload.is_still_there() && upload.is_over());
        assert!(upload.lent().collect().await.is_err());
    }

    #[tokio::test]
    async fn trailers_go_along_and_a_body_that_has_some_is_not_kept() {
        let trailers =
            || Frame::trailers([("grpc-status", "0"), ("host", "x")].map(field).into_iter().collect());
        let body = || {
            let frames = [Frame::data(Bytes::from_static(b"abc")), trailers()].map(Ok::<_, io::Error>);
            Body::new(StreamBody::new(stream::iter(frames)))
        };
        for upload in [Upload::new(body(), None), Upload::kept(body(), None, Budget::new(10).permit()).await]
        {
            let sent = upload.lend().collect().await.unwrap();
            assert_eq!(sent.trailers(), Some(&[("grpc-status", "0")].map(field).into_iter().collect()));
            assert_eq!(sent.to_bytes(), "abc");
            assert!(!upload.is_still_there());
        }
    }

    fn field((name, value): (&'static str, &'static str)) -> (http::HeaderName, http::HeaderValue) {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
    }

    #[test]
    fn a_request_without_a_body_can_always_be_tried_again() {
        let upload = Upload::none();
        assert!(upload.lend().is_end_stream());
        assert!(upload.is_still_there() && upload.is_over());
    }

    #[tokio::test]
    async fn a_small_body_that_is_kept_is_there_for_every_attempt_and_counts_meanwhile() {
        let budget = Budget::new(10);
        let upload = Upload::kept(Body::from("abc"), None, budget.permit()).await;
        for _ in 0..3 {
            assert_eq!(text(upload.lend()).await.unwrap(), "abc");
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
            let upload = Upload::kept(body, None, Budget::new(budget).permit()).await;
            assert_eq!(text(upload.lend()).await.unwrap().len(), length);
            assert!(!upload.is_still_there());
            assert!(text(upload.lend()).await.is_err());
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
        let upload = Upload::kept(body, None, Budget::new(10).permit()).await;
        assert_eq!(begun.elapsed(), KEPT_WITHIN);
        assert_eq!(text(upload.lend()).await.unwrap(), "abc");
        assert!(!upload.is_still_there());
    }
}
