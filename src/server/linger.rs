//! The rest of a body that nobody wants.
//!
//! A connection that is closed with bytes unread is reset, and a reset takes the answer with it that the client has not
//! read yet (RFC 9112, 9.6): a request that is refused before its body was read would end with "connection reset" where it
//! should end with the reason. So its rest is read and thrown away, for two seconds.
//!
//! And a service may answer before it has read the whole body, as HTTP allows. Whoever has the answer and then neither
//! sends on nor hangs up would hold a connection for ever. So from the answer on the body has to move: one that stands
//! still for five is cut.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use http::header::{EXPECT, HeaderValue};
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{sleep, timeout};

/// How long a client may go on sending what nobody wants. Its connection is closed after that.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a body that somebody wants may stand still once the answer was given.
const STANDSTILL: Duration = Duration::from_secs(5);

/// The same request, with a body that may be dropped at any time, and what watches over that body.
pub(super) fn lingering(request: Request<Incoming>) -> (Request<Body>, Option<Watch>) {
    if request.body().is_end_stream() {
        return (request.map(|_| Body::empty()), None);
    }
    let waits = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let is_unasked = request.version() > Version::HTTP_10 && request.headers().get(EXPECT).is_some_and(waits);
    let (head, body) = request.into_parts();
    let moving = Moving { body, waker: None, has_moved: false };
    let coming = Arc::new(Mutex::new(Coming::Body(moving)));
    let lingering = Lingering { coming: coming.clone(), is_unasked };
    (Request::from_parts(head, Body::new(lingering)), Some(Watch(coming)))
}

/// What still comes from the client.
enum Coming {
    /// This.
    Body(Moving),
    /// Nothing.
    Nothing,
    /// More, but it stood still for too long.
    Cut,
}

struct Moving {
    body: Incoming,
    /// Who waits for it.
    waker: Option<Waker>,
    /// Since the watch has looked.
    has_moved: bool,
}

/// The body of a request whose rest is read to its end when it is dropped before that.
struct Lingering {
    coming: Arc<Mutex<Coming>>,
    /// The client sends its body only once it is asked for it, and it was not: there is nothing to wait for.
    is_unasked: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_unasked = false;
        let mut coming = lock(&self.coming);
        let moving = match &mut *coming {
            Coming::Body(moving) => moving,
            Coming::Nothing => return Poll::Ready(None),
            Coming::Cut => {
                return Poll::Ready(Some(Err("the body stood still for too long after its answer".into())));
            }
        };
        let polled = Pin::new(&mut moving.body).poll_frame(context);
        match &polled {
            Poll::Pending => moving.waker = Some(context.waker().clone()),
            Poll::Ready(Some(Ok(_))) => moving.has_moved = true,
            Poll::Ready(None | Some(Err(_))) => *coming = Coming::Nothing,
        }
        polled.map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        match &*lock(&self.coming) {
            Coming::Body(moving) => moving.body.is_end_stream(),
            Coming::Nothing => true,
            Coming::Cut => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*lock(&self.coming) {
            Coming::Body(moving) => moving.body.size_hint(),
            Coming::Nothing => SizeHint::with_exact(0),
            Coming::Cut => SizeHint::default(),
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let coming = std::mem::replace(&mut *lock(&self.coming), Coming::Nothing);
        if let Coming::Body(Moving { mut body, .. }) = coming
            && !self.is_unasked
            && !body.is_end_stream()
        {
            // Whether it ends, breaks or lasts too long: nobody waits for it.
            spawn(timeout(PATIENCE, async move { while let Some(Ok(_)) = body.frame().await {} }));
        }
    }
}

/// From when it is dropped the body of the request has to move.
pub(super) struct Watch(Arc<Mutex<Coming>>);

impl Watch {
    /// Whether the body has moved since the last look. One that has not is cut.
    fn look(coming: &Mutex<Coming>) -> bool {
        let mut coming = lock(coming);
        let Coming::Body(moving) = &mut *coming else { return false };
        if std::mem::take(&mut moving.has_moved) {
            return true;
        }
        let waker = moving.waker.take();
        *coming = Coming::Cut;
        drop(coming);
        waker.iter().for_each(Waker::wake_by_ref);
        false
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        match &mut *lock(&self.0) {
            Coming::Body(moving) if !moving.body.is_end_stream() => moving.has_moved = false,
            Coming::Body(_) | Coming::Nothing | Coming::Cut => return,
        }
        let coming = self.0.clone();
        spawn(async move {
            sleep(STANDSTILL).await;
            while Self::look(&coming) {
                sleep(STANDSTILL).await;
            }
        });
    }
}

/// The end of the node need not wait for these: it closes the connections that they are about. Where the runtime has gone
/// already, so have they.
fn spawn<F: Future<Output: Send> + Send + 'static>(task: F) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
    }
}

/// No code panics while it holds this lock, and a body is no worse for it.
fn lock(coming: &Mutex<Coming>) -> MutexGuard<'_, Coming> {
    coming.lock().unwrap_or_else(PoisonError::into_inner)
}
