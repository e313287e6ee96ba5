//! An answer that is being sent, and whoever looks on, or is kept, until its last byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// What came of asking an answer for more of it.
pub type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

/// The same answer, which keeps `until` to its last byte.
pub fn keeping(answer: Response, until: impl Send + Unpin + 'static) -> Response {
    looking_on(answer, move |_, _| _ = &until)
}

/// The same answer. `look` is told what came of each asking for more of it, and whether that was the end.
pub fn looking_on(answer: Response, look: impl FnMut(&Polled, bool) + Send + Unpin + 'static) -> Response {
    answer.map(|body| Body::new(LookedAt { body, look }))
}

struct LookedAt<F> {
    body: Body,
    look: F,
}

impl<F: FnMut(&Polled, bool) + Unpin> HttpBody for LookedAt<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let is_end = self.body.is_end_stream();
        (self.look)(&polled, is_end);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
