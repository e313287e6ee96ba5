//! The rest of a body that nobody wants: read, and thrown away, so that the answer arrives.
//!
//! A connection that is closed with bytes unread is reset, and a reset takes the answer with it that the client has not
//! read yet (RFC 9112, 9.6). So a request that is refused before its body was read, or in the midst of it, would end
//! with "connection reset" where it should end with the reason.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// How long a client may go on sending what nobody wants. Its connection is closed after that.
const PATIENCE: Duration = Duration::from_secs(2);

/// A body whose rest is read to its end when it is dropped before that.
struct Lingering {
    body: Option<Incoming>,
    /// The client sends its body only once it is asked for it, and it was not: there is nothing to wait for.
    is_unasked: bool,
}

/// The same request, with a body that may be dropped at any time.
pub(super) fn lingering(request: Request<Incoming>) -> Request<Body> {
    let is_unasked = request.headers().contains_key(EXPECT);
    request.map(|body| {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Lingering { body: Some(body), is_unasked })
    })
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_unasked = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !self.is_unasked && !body.is_end_stream());
        if let (Some(mut body), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            // Whether it ends, breaks or lasts too long: nobody waits for it.
            runtime.spawn(timeout(PATIENCE, async move { while let Some(Ok(_)) = body.frame().await {} }));
        }
    }
}
